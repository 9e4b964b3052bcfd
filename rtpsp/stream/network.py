"""Network streams by PyAV: RTSP, HTTP (MJPEG, HLS, files), RTMP, SRT, RTP, UDP and TCP, as far as FFmpeg has them.

One connection, which ends with the first fault: `rtpsp.stream.reconnecting` makes a source that lasts of many.

Nothing is kept waiting here. A stream is read packet by packet as fast as they come, and where decoding is what keeps
it from that, pictures are left undecoded (`_Lag`). HLS alone is held back to the rate at which it was filmed, since a
segment's pictures all come at once.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from rtpsp.stream.colours import Colours, Orientation  # isort: skip  (imports OpenCV before av: see there)
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtpsp.errors import SourceError, SourceLost
from rtpsp.stream.clock import CaptureClock
from rtpsp.stream.container import close_container, time_of
from rtpsp.stream.frame import Frame
from rtpsp.stream.names import shown
from rtpsp.stream.network_dial import SEGMENTED, STAMPLESS, Dialled, dial
from rtpsp.stream.network_faults import ENDED, NO_PICTURE, SILENT, Fault, fault_of
from rtpsp.stream.network_lag import Lag
from rtpsp.stream.source import Source, SourceInfo, SourceOptions
from rtpsp.stream.timeline import STEP, Timeline
from rtpsp.timing import now

_log = logging.getLogger(__name__)

_FASTEST = 250.0  # frames a second beyond which what a stream says of its rate is the resolution of its clock
_HELD = 10.0  # seconds that no segment's frame waits for its time: a stamp beyond that is a new time line

_PARSED = frozenset({"h264", "hevc"})  # codecs that RTP carries in pieces which tell no end of a picture


def open_network(uri: str, options: SourceOptions) -> Source:
    """Open a network stream, once and without ever opening it anew.

    Args:
        uri: With one of `rtpsp.stream.rooms.SCHEMES`.
        options: `open_timeout`, `read_timeout`, `transport`, `hwaccel` and `decoder_threads` are read.

    Raises:
        SourceError: It is not there, or not a video that can be decoded; `kind` says which fault it is.
    """
    begun = now()
    dialled = dial(uri, options)
    try:
        return NetworkSource(uri, dialled, begun + options.open_timeout)
    except BaseException:
        close_container(dialled.container)
        raise


class NetworkSource(Source):
    """Frames of one connection; a file that a web server has is read like one on disk, from beginning to end.

    Args:
        uri: As it was given; kept redacted alone.
        dialled: The open stream, which becomes the source's own.
        deadline: When the first picture has to be there, in seconds of `time.monotonic`.
        wait: Waits for so many seconds, or until `interrupt`.

    Raises:
        SourceError: It was not.
    """

    def __init__(
        self, uri: str, dialled: Dialled, deadline: float, wait: Callable[[float], object] | None = None
    ) -> None:
        self._name, self._scheme = shown(uri), uri.partition("://")[0].lower()
        self._container, self._video, self._timeout = dialled.container, dialled.video, dialled.read_timeout
        context = self._video.codec_context
        # Guessed last: of H.264 without a rate in its container that is the rate of fields.
        rate = float(self._video.average_rate or context.framerate or self._video.guessed_rate or 0)
        rate = 0.0 if dialled.format in STAMPLESS or rate > _FASTEST else rate
        self._interval = 1 / rate if rate > 0 else 0.04
        self._stamped, self._live = dialled.format not in STAMPLESS, not _is_file(self._scheme, dialled)
        self._paced = self._live and dialled.format in SEGMENTED
        # A picture by RTSP ends for FFmpeg's parser where the next one begins: each comes one interval late, always.
        self._kept = 1 / rate if rate > 0 and dialled.format == "rtsp" and context.name in _PARSED else 0.0
        self._timeline = Timeline(self.health, CaptureClock())
        self.health.hardware = dialled.hardware
        self._lag = Lag(self._interval, self._stamped)
        self._colours, self._orientation = Colours(), Orientation()
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._pictures: deque[tuple[VideoFrame, float]] = deque()
        self._packets: Iterator[Packet[VideoStream]] = self._container.demux()  # type: ignore[assignment]
        self._lost: SourceLost | None = None
        self._closed = False
        self._seen = -math.inf  # when the last packet of a picture came
        self._count, self._pts, self._due = 0, -1.0, 0.0
        self._zero: float | None = None
        self._sender_clock = False
        try:
            self._first = self._next(max(deadline, now() + min(self._timeout, 1.0)))
        except SourceLost as error:
            raise SourceError(str(error), error.kind) from None
        if self._first is None:
            raise SourceError(ENDED.message(self._name), ENDED.kind)
        form = dialled.format.partition(",")[0]
        self.info = SourceInfo(
            uri=self._name,
            kind="network",
            height=self._first.height,
            width=self._first.width,
            fps=rate or None,
            frames=None if self._live else self._video.frames or None,
            live=self._live,
            detail=f"{context.name} {context.pix_fmt or ''}".rstrip()
            + (f" in {form}" if form != self._scheme else "")
            + (", the sender tells its clock" if self._sender_clock else ""),
        )

    def read(self) -> Frame | None:
        """The next frame; None at the end of a file, and once closed.

        Raises:
            SourceLost: Nothing came within the time-out, the connection broke, or a live stream ended.
        """
        if self._closed:
            return None
        first, self._first = self._first, None
        if first is not None:
            return first if self._live else replace(first, captured=now())
        self._lag.back(now())
        try:
            return self._next(now() + self._timeout)
        finally:
            self._lag.away(now())

    def interrupt(self) -> None:
        """End the wait for a segment's frame; one inside FFmpeg ends with its time-out."""
        self._stop.set()

    def close(self) -> None:
        """Hang up; frames already read can still be converted."""
        self._stop.set()
        if not self._closed:
            self._closed, self._first = True, None
            self._pictures.clear()
            self._packets = iter(())
            close_container(self._container)

    def _next(self, deadline: float) -> Frame | None:
        if self._lost is not None:
            raise self._lost
        try:
            while not self._pictures:
                if not self._receive(deadline):
                    return None
            return self._frame(*self._pictures.popleft())
        except SourceLost as error:
            self._lost = error
            raise

    def _receive(self, deadline: float) -> bool:
        """Take one packet and decode it, or let it pass; False at the end of a file."""
        asked = now()
        if asked > deadline:
            # Sound goes on for ever, which the time-out inside FFmpeg takes for life.
            raise self._gone(NO_PICTURE if self._seen > deadline - self._timeout else SILENT)
        try:
            packet = next(self._packets, None)
        except (FFmpegError, OSError) as error:
            raise self._gone(fault_of(error, opening=False, scheme=self._scheme)) from None
        arrival = now()
        if packet is None:
            if self._live:
                raise self._gone(ENDED)
            return False
        if packet.stream_index != self._video.index:
            return True
        self._seen = arrival
        self._note_clock(packet)
        stamp = None if packet.pts is None else float(packet.pts * packet.time_base)
        if packet.size and self._live and not self._paced and self._passes(packet, stamp, arrival, arrival - asked):
            return True
        try:
            pictures = packet.decode()
        except FFmpegError as error:
            _log.debug("%s: a packet cannot be decoded (%s)", self._name, error.strerror)
            self.missed += 1
            return True
        whole = [picture for picture in pictures if not picture.is_corrupt]
        self.missed += len(pictures) - len(whole)
        if self._lag.nonref and packet.size and not pictures:
            self._leave_out()
        self._pictures.extend((picture, arrival) for picture in whole)
        return True

    def _passes(self, packet: Packet[VideoStream], stamp: float | None, arrival: float, waited: float) -> bool:
        """Whether a packet is left undecoded, since decoding has fallen behind."""
        was = self._lag.passing
        leave = self._lag.leaves(stamp, packet.is_keyframe, arrival, waited)
        context = self._video.codec_context
        if was and not leave:
            context.flush_buffers()  # what it holds refers to pictures that it never saw
        if self._lag.passing and not was:
            _log.debug("%s: decoding is too slow, pictures are left out up to a whole one", self._name)
        context.skip_frame = "NONREF" if self._lag.nonref else "DEFAULT"
        if leave:
            self._leave_out()
        return leave

    def _leave_out(self) -> None:
        self.health.late += 1
        self.missed += 1

    def _frame(self, picture: VideoFrame, arrival: float) -> Frame:
        stamp = time_of(picture) if self._stamped else None
        if self._live:
            pts, captured = self._timeline.place(stamp, arrival, self._interval)
            self._lag.seen(stamp, arrival, captured)
            captured -= self._kept
            if self._paced:
                self._hold(pts)
        else:
            if self._zero is None and stamp is not None:
                self._zero = stamp
            at = self._pts + self._interval if stamp is None or self._zero is None else stamp - self._zero
            pts, captured = max(at, self._pts + STEP, 0.0), now()
        self._pts = pts
        matrix = self._orientation.of(picture)
        height, width = (picture.width, picture.height) if matrix[0] else (picture.height, picture.width)
        index, self._count = self._count + self.missed, self._count + 1
        return Frame(index, pts, captured, height, width, partial(self._colours.to_bgr, picture, matrix))

    def _hold(self, pts: float) -> None:
        """Wait until a frame's time; after a gap in what came, the frames after it are shown that much later."""
        wait = self._due + pts - now()
        if self._pts < 0 or not -1.0 <= wait <= _HELD:
            self._due = now() - pts
        elif wait > 0:
            self._wait(wait)

    def _note_clock(self, packet: Packet[VideoStream]) -> None:
        """An RTSP sender's reports (RFC 3550, 6.4.1) tell when by its own clock each picture was taken."""
        if not self._sender_clock and packet.has_sidedata("prft"):
            self._sender_clock = True
            _log.debug("%s tells its clock", self._name)

    def _gone(self, fault: Fault) -> SourceLost:
        what = fault
        if fault is SILENT or fault is NO_PICTURE:
            what = replace(fault, what=f"{fault.what} (for {self._timeout:g} s)")
        return SourceLost(what.message(self._name), fault.kind)


def _is_file(scheme: str, dialled: Dialled) -> bool:
    """A web server's file, or a playlist that has an end: it knows how long it lasts, which nothing live does."""
    return scheme in ("http", "https") and (dialled.container.duration or 0) > 0
