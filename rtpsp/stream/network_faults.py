"""What is wrong with a network stream, and what to do about it, by the errors of FFmpeg.

RTSP answers with HTTP's status codes (RFC 7826), of which FFmpeg makes the same errors; whether a host of that name is
there, FFmpeg does not tell from any other failure, so that the name is looked up beforehand.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from urllib.request import getproxies

import cv2  # isort: skip  # noqa: F401  (before av: the other order hangs OpenCV's windows, PyAV#1050)
import av
from av import error as of

from rtpsp.errors import SourceError
from rtpsp.stream.health import FaultKind
from rtpsp.stream.names import shown


@dataclass(frozen=True)
class Fault:
    """A classified error.

    Attributes:
        kind: What sort of fault.
        what: In words.
        hint: What to do about it.
    """

    kind: FaultKind
    what: str
    hint: str

    def message(self, name: str) -> str:
        """In one line; `name` is the stream's, without secrets."""
        return f"{name}: {self.what}; {self.hint}"


_CAMERA = "make sure that it is on and streams, and check host and port"
_BROKEN = "check the cable or the wireless link, and the sender's own log"
NO_ANSWER = Fault("time-out", "no answer in time", _CAMERA)
_FAULTS: tuple[tuple[type[BaseException], Fault], ...] = (
    (
        of.HTTPUnauthorizedError,
        Fault(
            "authentication",
            "user name or password is wrong or missing (401)",
            "give them as in {scheme}://USER:PASSWORD@HOST/…, with %40 for @ and the like",
        ),
    ),
    (
        of.HTTPForbiddenError,
        Fault("authentication", "this user may not see it (403)", "give another user, or allow this one on the device"),
    ),
    (
        of.HTTPNotFoundError,
        Fault("not-found", "the host answers, and has no such stream (404)", "check the path in the device's manual"),
    ),
    (
        of.HTTPTooManyRequestsError,
        Fault("server", "it is asked too often (429)", "wait longer between tries, or close other viewers"),
    ),
    (
        of.HTTPServerError,
        Fault("server", "the server has a fault of its own (5xx)", "see its log, close other viewers or restart it"),
    ),
    (
        of.HTTPClientError,
        Fault("protocol", "the server does not take our request (4xx)", "check the URI, or try another transport"),
    ),
    (of.ConnectionRefusedError, Fault("refused", "the host answers, and nothing listens on that port", _CAMERA)),
    (of.ExitError, NO_ANSWER),
    (of.TimeoutError, NO_ANSWER),
    (
        of.ProtocolNotFoundError,
        Fault(
            "codec",
            f"FFmpeg {getattr(av, 'ffmpeg_version_info', '')} here cannot do that protocol",
            "'rtpsp doctor' lists those that it can",
        ),
    ),
    (
        of.DecoderNotFoundError,
        Fault("codec", "this FFmpeg has no decoder for it", "let the sender encode as H.264, H.265 or MJPEG"),
    ),
    (of.ConnectionResetError, Fault("lost", "the connection was reset", _BROKEN)),
    (of.ConnectionAbortedError, Fault("lost", "the connection was aborted", _BROKEN)),
    (of.BrokenPipeError, Fault("lost", "the connection broke", _BROKEN)),
    (of.EOFError, Fault("lost", "the connection was closed without an answer", _CAMERA)),
)
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
NO_VIDEO = Fault("codec", "what comes is not a video that can be read", "open the address in a browser or player")
SILENT = Fault("time-out", "connected, and nothing comes any more", _BROKEN)
NO_PICTURE = Fault("time-out", "it sends, and no whole picture came in time", "give it longer, or more key frames")
ENDED = Fault("ended", "the other side ended the stream", "start it again there")


def fault_of(error: Exception, *, opening: bool, scheme: str) -> Fault:
    """Classify an error that FFmpeg raised.

    Args:
        error: Raised by PyAV.
        opening: Whether the stream was not there yet.
        scheme: Of its URI, in small letters.
    """
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            fault = replace(fault, hint=fault.hint.replace("{scheme}", scheme))
            return fault if opening or fault.kind != "time-out" else SILENT
    if isinstance(error, (of.InvalidDataError, of.ArgumentError, of.PatchWelcomeError)):
        if opening and not scheme.startswith(("rtsp", "rtmp")):
            return NO_VIDEO
        return Fault("protocol", "what it sends breaks the rules of the protocol", "update the sender, or restart it")
    number: int = getattr(error, "errno", None) or 0
    if number in _UNREACHABLE:
        return Fault("unreachable", f"no way to that host ({os.strerror(number).lower()})", "check the network")
    if number == errno.EIO and not opening:  # also what FFmpeg makes of the end of an HTTP MJPEG stream
        return Fault("lost", "the connection broke or was closed", _BROKEN)
    # The library's own text may hold the URI, its number's meaning does not.
    said = os.strerror(number) if number in errno.errorcode else getattr(error, "strerror", None)
    return Fault("lost", shown(said or type(error).__name__).lower(), _CAMERA if opening else _BROKEN)


def look_up(uri: str, limit: float) -> None:
    """Make sure that there is a host of that name.

    The system's resolver cannot be interrupted: it is asked in a thread, which is left behind after `limit` seconds.

    Raises:
        SourceError: No such host, no answer, or no host in the URI at all.
    """
    name, scheme = shown(uri), uri.partition("://")[0]
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:  # brackets or signs in a password, too, and then its words hold that
        host = port = None
    if host is None and scheme in ("udp", "rtp", "tcp"):  # udp://@:1234 listens
        return
    if host is None:
        raise SourceError(
            f"{name} names no host, or no port that can be: give it as in rtsp://HOST:554/STREAM, and write %40 for @, "
            "%5B for [ and the like in what stands before the host"
        )
    if scheme in ("http", "https") and scheme in getproxies():
        return  # it is the proxy that has to know the name
    outcome: list[OSError | UnicodeError | None] = []

    def ask() -> None:
        try:
            socket.getaddrinfo(host, port or 0)
            outcome.append(None)
        except (OSError, UnicodeError) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, name="lookup", daemon=True)
    thread.start()
    thread.join(limit)
    if not outcome:
        fault = Fault("unreachable", f"the name service did not answer within {limit:g} s", "check the network")
    elif outcome[0] is not None:
        fault = Fault("unreachable", f"no host is called {shown(host)}", "check the name, or give its address")
    else:
        return
    raise SourceError(fault.message(name), fault.kind)
