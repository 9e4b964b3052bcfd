"""Video files by PyAV: their own time stamps, rotation and colours.

Pixels are taken as square, interlaced frames as they are, and brightness beyond 8 bits is cut off, not tone-mapped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from rtpsp.stream.colours import Colours, Orientation  # isort: skip  (imports OpenCV before av: see there)
from av.error import FFmpegError
from av.video.frame import VideoFrame

from rtpsp.errors import SourceError, SourceLost
from rtpsp.stream.container import close_container, decode_all, open_container, time_of
from rtpsp.stream.frame import Frame
from rtpsp.stream.names import shown
from rtpsp.stream.source import Source, SourceInfo, SourceOptions

_log = logging.getLogger(__name__)

_SAME = 1e-6  # seconds within which two times in a file are one: a tenth of the finest common time base, 1/90000 s
_BEYOND = 1e12  # seconds that no file lasts; in microseconds they still are a number that FFmpeg can hold
_NEW_TIME_LINE = 0.5  # seconds that stamps fall back by where recordings were joined; less is one frame's wrong stamp


def open_video(uri: str, options: SourceOptions) -> Source:
    """Open a video file.

    Args:
        uri: Path of the file.
        options: `start`, `end`, `loop` and `decoder_threads` are read.

    Raises:
        SourceError: Not a video, nothing in it can be decoded, or `start` lies beyond its end.
    """
    return VideoSource(uri, options)


class VideoSource(Source):
    """Frames of a video file, in order, with the first at 0 s; `captured` is the moment that a frame was decoded.

    Attributes:
        mended: Time stamps that were missing or did not rise.
    """

    def __init__(self, uri: str, options: SourceOptions) -> None:
        self._path, self._name = uri, shown(uri)
        self._options = options
        self.mended = 0
        self._loss: str | None = None
        self._cut_short = False
        self._colours, self._orientation = Colours(), Orientation()
        self._container, self._stream = open_container(uri, options.decoder_threads)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._interval = 1 / float(rate) if rate else 0.04
        began = self._stream.start_time, self._stream.time_base
        self._zero = 0.0 if began[0] is None or began[1] is None else float(began[0] * began[1])
        self._frames = self._all_passes()
        self._next = next(self._frames, None)
        if self._next is None:
            length = self._length() or 0  # asked first: with the container go its streams
            close_container(self._container)
            reason = "none of its frames can be decoded: it may be damaged; make a copy that plays elsewhere first"
            if options.start > 0:
                reason = f"it has no frame from {options.start:g} s on: it lasts {length:.2f} s, begin earlier"
            raise SourceError(f"{self._name}: {reason}")
        self.info = SourceInfo(
            uri=uri,
            kind="video",
            height=self._next.height,
            width=self._next.width,
            fps=float(rate) if rate else None,
            frames=self._count(),
            detail=f"{self._stream.codec_context.name} {self._stream.codec_context.pix_fmt}",
        )

    def read(self) -> Frame | None:
        """The next frame, or None at the end; a damaged rest of the file ends it with a warning in the log.

        Raises:
            SourceLost: The file went away between two rounds of a loop.
        """
        frame, self._next = self._next, None
        # The first was decoded when the file was opened, however long ago that is.
        return replace(frame, captured=time.monotonic()) if frame else next(self._frames, None)

    def close(self) -> None:
        """Let go of the file; frames already read can still be converted."""
        self._next, self._frames = None, iter(())
        close_container(self._container)
        self._tell_of_loss()

    def _all_passes(self) -> Iterator[Frame]:
        index, start_of_pass, pts = 0, 0.0, 0.0
        while True:
            first_time: float | None = None
            for picture, at in self._one_pass():
                first_time = at if first_time is None else first_time
                pts = start_of_pass + at - first_time
                matrix = self._orientation.of(picture)
                height, width = (picture.width, picture.height) if matrix[0] else (picture.height, picture.width)
                now = time.monotonic()
                yield Frame(
                    index + self.missed, pts, now, height, width, partial(self._colours.to_bgr, picture, matrix)
                )
                index += 1
            if not self._options.loop or first_time is None:
                return
            start_of_pass = pts + self._interval
            self._reopen()

    def _one_pass(self) -> Iterator[tuple[VideoFrame, float]]:
        """Frames from `start` to `end` with their times in seconds from the file's first frame."""
        start, end = self._options.start, self._options.end
        decoded, at = 0, 0.0
        for picture, at in self._from_key_frame(start):
            decoded += 1
            if end is not None and at >= end - _SAME:
                return
            if start == 0 or at >= start - _SAME:
                yield picture, at
        expected = self._stream.frames
        if start == 0 and 0 < decoded < expected - 1 and at + 2 * self._interval < (self._length() or 0.0):
            if not self._cut_short:  # in a loop once, not in every round
                _log.warning("%s ended after %d of %d frames: it may be cut short", self._name, decoded, expected)
            self._cut_short, self._loss = True, None
        elif decoded:
            self._tell_of_loss()

    def _from_key_frame(self, start: float) -> Iterator[tuple[VideoFrame, float]]:
        """Decode from the last key frame at or before `start`, or from the beginning where seeking fails."""
        if start > 0:
            first = None
            try:
                self._container.seek(int(min(self._zero + start, _BEYOND) * 1e6))
                frames = self._timed(decode_all(self._container, self._stream, self._lost))
                first = next(frames, None)
            except FFmpegError as error:
                _log.debug("%s cannot be sought in (%s): decoding from its beginning", self._name, error)
            if first is not None and first[0].pts is not None and first[1] <= start + _SAME:
                yield first
                yield from frames
                return
            self._reopen()
        yield from self._timed(decode_all(self._container, self._stream, self._lost))

    def _reopen(self) -> None:
        """Go back to the beginning: a seek there is not exact, or not possible, in every format."""
        close_container(self._container)
        try:
            self._container, self._stream = open_container(self._path, self._options.decoder_threads)
        except SourceError as error:
            raise SourceLost(f"cannot start again: {error}") from error

    def _timed(self, pictures: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, float]]:
        """Add times that always rise: a missing or wrong one is put in order, and a joined recording follows on."""
        shift, last = -self._zero, -math.inf
        for picture in pictures:
            stamp = time_of(picture)
            if stamp is None:
                at = max(last + self._interval, 0.0)
                self._count_mended("missing")
            elif stamp + shift <= last - _NEW_TIME_LINE:
                at = last + self._interval
                shift = at - stamp
                self._count_mended("starting anew")
            elif stamp + shift <= last:
                # Smaller than any frame's interval, so that the frames after it keep the times that they say.
                at = last + self._interval / 100
                self._count_mended("not rising")
            else:
                at = stamp + shift
            last = at
            yield picture, at

    def _count_mended(self, what: str) -> None:
        if not self.mended:
            _log.warning("%s: a time stamp is %s; such stamps are put in order", self._name, what)
        self.mended += 1

    def _lost(self, error: FFmpegError) -> None:
        if not self.missed:
            self._loss = error.strerror  # said at the end: only then is it known whether the file was cut short there
        self.missed += 1

    def _tell_of_loss(self) -> None:
        if self._loss:
            _log.warning("%s: a part could not be decoded and was passed over (%s)", self._name, self._loss)
            self._loss = None

    def _length(self) -> float | None:
        """Seconds that the container says it lasts."""
        duration, base = self._stream.duration or self._container.duration, self._stream.time_base
        return float(duration * (base if self._stream.duration and base else 1e-6)) if duration else None

    def _count(self) -> int | None:
        """Frames to come: as the container counts them, or by time and rate where only a part is asked for."""
        options, length = self._options, self._length()
        if options.loop:
            return None
        if options.start == 0 and options.end is None:
            return self._stream.frames or None
        end = min(length or math.inf, math.inf if options.end is None else options.end)
        first, beyond = (t / self._interval - 1e-3 for t in (options.start, end))
        return None if end == math.inf else math.ceil(beyond) - math.ceil(first)
