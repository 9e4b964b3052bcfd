"""One video file: pictures in, H.264 in yuv420p out, on the disk from one picture to the next."""

from __future__ import annotations

import contextlib
import logging
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from rtpsp.arrays import Image
from rtpsp.stream.codecs import Codec, choose_encoding
from rtpsp.stream.names import shown

_log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)
"""Fine enough for the true time of every frame; the clock of MPEG, and what mp4 keeps."""
_LEAST_STEP = 90
"""Ticks between two pictures whose source gives them the same time, or none that grows: a millisecond, mkv's tick."""

SUFFIXES = (".mp4", ".mkv", ".mov")
KEY_SECONDS = 1.0
"""A key frame so often: where players can seek to."""
HD_LINES = 720
"""From so many lines on players take untagged video for BT.709, below it for BT.601."""


class Encoder:
    """A file being recorded. Its times begin at 0, with a key frame.

    Args:
        path: ``.mp4``, ``.mkv`` or ``.mov``; what is there is written over.
        picture: uint8 [height, width, 3] BGR: the first one, whose size is the file's; an odd one is padded to even.
        pts: Its time in seconds.
        fps: Of the source: how long the picture shows that has no other behind it, as long as there is only one.
        crf: Quality, see `rtpsp.stream.codecs.choose_encoding`.
        threads: For encoding and for the conversion of colours.
        codec: What to encode with.

    Attributes:
        path: The same.
        codec: FFmpeg's name of the encoder that was chosen.
        first_size: (height, width) of the first picture.
        start: Its time.

    Raises:
        OSError: The file cannot be written; FFmpeg's errors are among them. So do all methods.
    """

    def __init__(
        self, path: Path, picture: Image, pts: float, fps: float, crf: int, threads: int, codec: Codec = "x264"
    ) -> None:
        self.path, self.start = path, pts
        self.first_size = self._size = (picture.shape[0], picture.shape[1])
        height, width = (size + size % 2 for size in self.first_size)  # yuv420p halves both: odd sizes are padded
        encoding = choose_encoding(codec, height, width, crf)
        self.codec = encoding.name
        # "file:" keeps a colon in a name from being taken for a protocol.
        self._container = av.open(f"file:{path}", "w", options=_muxer_options(path))
        try:
            rate = Fraction(fps).limit_denominator(1001)
            stream = self._container.add_stream(encoding.name, rate=rate, options=encoding.options)
            assert isinstance(stream, VideoStream)  # PyAV's stub knows the names of some encoders only
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = TIME_BASE
            stream.codec_context.thread_count = self._threads = threads
            self._matrix = _tag_colours(stream)
        except BaseException:
            self._container.close()
            raise
        self._stream = stream
        self._last = -_LEAST_STEP
        self._steps = (max(_LEAST_STEP, round(1 / fps / TIME_BASE)),) * 2
        self._whole = 0
        self._torn = False
        self._next_key = 0.0

    @property
    def seconds(self) -> float:
        """The time of its last picture."""
        return float(max(0, self._last) * TIME_BASE)

    @property
    def bytes(self) -> int:
        """On the disk so far."""
        return self.path.stat().st_size

    def write(self, pts: float, picture: Image) -> None:
        """Encode one picture; the one before it is on the disk afterwards, and ends where this one begins."""
        frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="bgr24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            threads=self._threads,  # PyAV's default is one for every core
        )
        tick = max(round((pts - self.start) / TIME_BASE), self._last + _LEAST_STEP)
        if self._last >= 0:
            self._steps = (self._steps[1], tick - self._last)
        self._last = frame.pts = tick
        frame.time_base = TIME_BASE
        # by the clock and not by count: the loop may show far fewer frames than the source has
        if pts - self.start >= self._next_key:
            frame.pict_type = PictureType.I
            self._next_key = pts - self.start + KEY_SECONDS
        self._mux(frame)

    def close(self) -> None:
        """Finish the file."""
        self._mux(None)
        try:
            self._container.close()
        except OSError:
            self._torn = True
            raise

    def abandon(self) -> None:
        """Let go of a file that could not be written; the pictures that are whole by now stay."""
        with contextlib.suppress(Exception):
            self._container.close()
        if self._torn:  # in the midst of a picture, which players show as garbage or refuse
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._whole)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # Until the next one tells: the last of a file has no next. The shorter of two, for a pause is no rate.
            packet.duration = min(self._steps)
            try:
                self._container.mux(packet)
            except OSError:
                self._torn = True
                raise
            self._whole = self.bytes

    def _fitted(self, picture: Image) -> Image:
        """The picture at the recording's size: padded by a row or column of its own, or scaled between bars."""
        height, width = self._stream.height, self._stream.width
        if picture.shape[:2] == self.first_size:
            missing = height - picture.shape[0], width - picture.shape[1]
            if missing == (0, 0):
                return picture
            return np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        if self._size == self.first_size:
            got, first = (f"{size[1]}x{size[0]}" for size in (picture.shape[:2], self.first_size))
            name = shown(self.path)
            _log.warning("%s: a picture of %s follows on %s: such pictures are scaled into it", name, got, first)
        self._size = (picture.shape[0], picture.shape[1])
        return letterbox(picture, height, width)


def letterbox(picture: Image, height: int, width: int) -> Image:
    """The whole picture in its own shape, centred between black bars: uint8 [height, width, 3]."""
    import cv2

    scale = min(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (
        max(1, min(most, round(scale * n))) for n, most in zip(picture.shape, (height, width), strict=False)
    )
    scaled = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if (rows, columns) == (height, width):
        return np.asarray(scaled, np.uint8)
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    out[top : top + rows, left : left + columns] = scaled
    return out


def plays(path: Path) -> bool:
    """Whether there is a picture in a recording that broke off."""
    try:
        with av.open(f"file:{path}") as container:
            return any(True for _ in container.decode(video=0))
    except (FFmpegError, IndexError, OSError):
        return False


def _muxer_options(path: Path) -> dict[str, str]:
    """Each picture goes to the disk when the next one comes: whatever ends the process, the file plays up to there.

    An mp4 or mov has its index at the end, without which nothing plays: until then it is kept in fragments of a picture
    each (100 bytes more a picture), which become an ordinary file when it is closed. An mkv gets a cluster a picture
    (17 bytes more). FFmpeg's limits by time would not do: 250 ms are many seconds where a slow model segments a file.
    """
    # an mkv's cluster ends with the first picture that lies more than so many milliseconds behind its beginning
    every = {"cluster_time_limit": "1"} if path.suffix.lower() == ".mkv" else {}
    return {"flush_packets": "1"} | (every or {"movflags": "hybrid_fragmented+frag_every_frame"})


def _tag_colours(stream: VideoStream) -> Colorspace:
    """Say which matrix the pixels were made with: players guess by size, and a guess shifts the palette."""
    context = stream.codec_context
    context.color_range = ColorRange.MPEG
    if stream.height >= HD_LINES:
        context.colorspace, context.color_primaries = Colorspace.ITU709, ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        return Colorspace.ITU709
    context.colorspace, context.color_primaries = Colorspace.ITU601, ColorPrimaries.SMPTE170M
    context.color_trc = ColorTrc.SMPTE170M
    return Colorspace.ITU601
