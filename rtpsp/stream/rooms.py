"""Which sort of source a URI names, and the module that opens it."""

from __future__ import annotations

import difflib
import stat
from dataclasses import dataclass
from pathlib import Path

from rtpsp.errors import SourceError
from rtpsp.stream.names import nothing_at, shown, status_of

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "rtp", "udp", "tcp")
"""Network streams that are tried; which of them the FFmpeg here has, it says itself (and `rtpsp doctor`)."""


@dataclass(frozen=True)
class Room:
    """A sort of source.

    Attributes:
        module: Of `rtpsp.stream`, which opens it.
        opener: Its function, which takes the URI and the options.
        what: Its name in messages.
        options: Those of `rtpsp.stream.source.SourceOptions` that have a meaning for it.
        live: Whether it may be gone now and there later.
    """

    module: str
    opener: str
    what: str
    options: tuple[str, ...]
    live: bool = False


_PART = ("loop", "start", "end")
CAMERA = Room("camera", "open_camera", "a camera", ("camera_size", "camera_fps"), live=True)
VIDEO = Room("video", "open_video", "a video file", _PART)
IMAGES = Room("images", "open_images", "images", _PART)
SIMULATOR = Room("simulated", "open_simulator", "the simulator", _PART)
NETWORK = Room("network", "open_network", "a network stream", (), live=True)


def room_of(uri: str) -> Room:
    """The sort of source that a URI names; looks at files, opens nothing.

    Raises:
        SourceError: Nothing is there, or nothing that could be a source.
    """
    if uri.startswith("sim://"):
        return SIMULATOR
    if "://" in uri:
        scheme = uri.split("://")[0]
        if scheme.lower() in SCHEMES:
            return NETWORK
        raise _no_scheme(scheme)
    if not uri.strip():
        raise SourceError("the source's name is empty: give a video, a folder of images, a camera or sim://street")
    if uri.isascii() and uri.isdigit() and len(uri) < 10:
        return CAMERA
    pattern = any(letter in uri for letter in "*?[")
    try:
        status = status_of(uri)
    except SourceError:
        if not pattern:  # which Windows refuses as a name
            raise
        status = None
    mode = 0 if status is None else status.st_mode
    if status is None and shown(uri) != uri and (not pattern or uri.startswith("/dev/")):  # no camera is called so
        raise nothing_at(uri)
    if uri.startswith("/dev/") and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return CAMERA
    if status is None:
        if uri.startswith("sim:"):
            raise SourceError(f"no file {shown(repr(uri))}: did you mean sim://street?")
        if not pattern:
            raise nothing_at(uri)
        return IMAGES
    if stat.S_ISDIR(mode):
        return IMAGES
    if not stat.S_ISREG(mode):
        kind = "named pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise SourceError(f"{shown(uri)} is a {kind}: give a file, a folder of images or a camera such as /dev/video0")
    return IMAGES if Path(uri).suffix.lower() in IMAGE_SUFFIXES else VIDEO


def _no_scheme(scheme: str) -> SourceError:
    hint = f"use a camera, a file, a folder of images, sim:// or one of {', '.join(f'{known}://' for known in SCHEMES)}"
    near = difflib.get_close_matches(scheme.lower(), ["sim", *SCHEMES], n=1)
    if scheme.lower() == "file":
        hint = "give the path alone"
    elif near:
        hint = f"did you mean {'sim://street' if near == ['sim'] else f'{near[0]}://'}?"
    return SourceError(f"{shown(scheme)}:// sources are not supported: {hint}")
