"""Video files by PyAV: their own time stamps, rotation and colours.

Pixels are taken as square, interlaced frames as they are, and brightness beyond 8 bits is cut off, not tone-mapped.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2  # isort: skip  (before av: the other order hangs OpenCV's windows, PyAV#1050)
import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from rtpsp.errors import SourceError, SourceLost
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.source import Source, SourceInfo, SourceOptions

_log = logging.getLogger(__name__)

_TAGGED = frozenset({1, 4, 5, 6, 7, 9})
"""AVColorSpace values (ITU-T H.273) of which swscale has the matrix: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020."""

_SAME = 1e-6  # seconds within which two times in a file are one: a tenth of the finest common time base, 1/90000 s
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
        self._path = uri
        self._options = options
        self.mended = 0
        self._colours = _Colours()
        self._container, self._stream = _open(uri, options.decoder_threads)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._interval = 1 / float(rate) if rate else 0.04
        began = self._stream.start_time, self._stream.time_base
        self._zero = 0.0 if began[0] is None or began[1] is None else float(began[0] * began[1])
        self._frames = self._all_passes()
        self._next = next(self._frames, None)
        if self._next is None:
            self._container.close()
            reason = "none of its frames can be decoded: it may be damaged"
            if options.start > 0:
                reason = f"it has no frame from {options.start:g} s on: it lasts {self._length() or 0:.2f} s"
            raise SourceError(f"{uri}: {reason}")
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
        self._container.close()

    def _all_passes(self) -> Iterator[Frame]:
        index, start_of_pass, pts = 0, 0.0, 0.0
        while True:
            first_time: float | None = None
            for picture, at in self._one_pass():
                first_time = at if first_time is None else first_time
                pts = start_of_pass + at - first_time
                matrix = _display_matrix(picture)
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
        if start == 0 and decoded < expected - 1 and at + 2 * self._interval < (self._length() or 0.0):
            _log.warning("%s ended after %d of %d frames: it may be cut short", self._path, decoded, expected)

    def _from_key_frame(self, start: float) -> Iterator[tuple[VideoFrame, float]]:
        """Decode from the last key frame at or before `start`, or from the beginning where seeking fails."""
        if start > 0:
            first = None
            try:
                self._container.seek(int((self._zero + start) * 1e6))
                frames = self._timed(_decode(self._container, self._stream, self._lost))
                first = next(frames, None)
            except FFmpegError as error:
                _log.debug("%s cannot be sought in (%s): decoding from its beginning", self._path, error)
            if first is not None and first[0].pts is not None and first[1] <= start + _SAME:
                yield first
                yield from frames
                return
            self._reopen()
        yield from self._timed(_decode(self._container, self._stream, self._lost))

    def _reopen(self) -> None:
        """Go back to the beginning: a seek there is not exact, or not possible, in every format."""
        self._container.close()
        try:
            self._container, self._stream = _open(self._path, self._options.decoder_threads)
        except SourceError as error:
            raise SourceLost(f"cannot start again: {error}") from error

    def _timed(self, pictures: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, float]]:
        """Add times that always rise: a missing or wrong one is put in order, and a joined recording follows on."""
        shift, last = -self._zero, -math.inf
        for picture in pictures:
            stamp = _time(picture)
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
            _log.warning("%s: a time stamp is %s; such stamps are put in order", self._path, what)
        self.mended += 1

    def _lost(self, error: FFmpegError) -> None:
        if not self.missed:
            _log.warning("%s: a part cannot be decoded and is passed over (%s)", self._path, error.strerror)
        self.missed += 1

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


class _Colours:
    """Turns decoded pictures into BGR by one swscale context, which costs as much to make as a picture to convert."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._lock = threading.Lock()

    def to_bgr(self, picture: VideoFrame, how: tuple[bool, int | None], out: Image | None) -> Image:
        """Convert and turn a picture into `out`, or into a new uint8 [height, width, 3] array."""
        matrix = None
        if picture.colorspace not in _TAGGED and not picture.format.is_rgb:
            # What encoders mean by no tag, and players assume: high definition by the standard made for it.
            matrix = Colorspace.ITU709 if picture.height >= 720 else Colorspace.ITU601
        with self._lock:
            # One thread: swscale's default starts and joins a pool of them in each call, twice as slow at 960x540.
            bgr = self._reformatter.reformat(
                picture, format="bgr24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG, threads=1
            ).to_ndarray()
        transposed, flip = how
        if out is None:
            # A copy even here: swscale hands a raw BGR picture through as it is, and that one is the decoder's.
            out = np.empty((bgr.shape[1], bgr.shape[0], 3) if transposed else bgr.shape, np.uint8)
        if transposed:
            cv2.transpose(bgr, out)
        else:
            np.copyto(out, bgr)
        if flip is not None:
            cv2.flip(out, flip, out)
        return out


def _display_matrix(picture: VideoFrame) -> tuple[bool, int | None]:
    """How to show a picture: whether to transpose it, and then which way to flip it by `cv2.flip`, None for not at all.

    The matrix itself is read, not `VideoFrame.rotation`, which says 180 degrees for a mirrored picture.
    """
    side_data: Any = picture.side_data  # PyAV's stub knows no key but the motion vectors
    try:
        raw = side_data["DISPLAYMATRIX"]
    except KeyError:
        return False, None
    # [a b u; c d v; x y w] maps (p, q) to (a p + c q, b p + d q) (libavutil/display.h).
    a, b, _, c, d = np.frombuffer(bytes(raw), np.int32)[:5].tolist()
    transposed = abs(b) > abs(a)
    mirrored, upside_down = (c < 0, b < 0) if transposed else (a < 0, d < 0)
    return transposed, {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}[
        mirrored, upside_down
    ]


def _time(picture: VideoFrame) -> float | None:
    return None if picture.pts is None or picture.time_base is None else float(picture.pts * picture.time_base)


def _open(path: str, threads: int) -> tuple[InputContainer, VideoStream]:
    try:
        # "file:" keeps a colon in a name from being taken for a protocol; the list keeps a playlist off the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError) as error:
        empty = Path(path).is_file() and Path(path).stat().st_size == 0
        reason = "the file is empty" if empty else str(error.strerror or error)
        raise SourceError(f"{path} is not a video that can be read: {reason}") from error
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    # FFmpeg draws text files as a terminal's screen.
    if not streams or container.format.name == "tty":
        found = "text" if streams else ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        container.close()
        raise SourceError(f"{path} holds {found} and no video: give a video file, a folder of images or a camera")
    stream = streams[0]
    stream.thread_count = max(1, threads)
    stream.thread_type = "AUTO" if threads > 1 else "SLICE"
    return container, stream


def _decode(
    container: InputContainer, stream: VideoStream, lost: Callable[[FFmpegError], None]
) -> Iterator[VideoFrame]:
    """All that can be decoded; `lost` is told of each part that cannot."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            lost(error)
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except FFmpegError as error:
            lost(error)
