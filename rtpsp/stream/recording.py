"""Recording: pictures to an H.264 file, encoded in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from rtpsp.arrays import Image
from rtpsp.errors import OutputError, UsageError
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Rendered, View
from rtpsp.stream.names import expanded, shown
from rtpsp.stream.sink import Sink
from rtpsp.stream.slot import Slot
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Series, Summary

_log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)
"""Fine enough for the true time of every frame; the clock of MPEG, and what mp4 and mkv both keep."""

SUFFIXES = (".mp4", ".mkv", ".mov")
NOMINAL_FPS = 30
KEY_SECONDS = 1.0
"""A key frame so often: where players can seek to, and what a recording that breaks off loses at most, twice."""
HD_LINES = 720
"""From so many lines on players take untagged video for BT.709, below it for BT.601."""


class VideoFile(Sink):
    """Records what is shown as H.264 in yuv420p, at the source's own times.

    Encoding has a thread of its own, so that the next picture is drawn while this one is encoded; `write` waits only
    when it falls two pictures behind. The size is that of the first picture, an odd one a row or column larger; later
    pictures of another size are scaled into it, between black bars where their shape differs, and a warning in the log
    says so. A recording that breaks off, by a full disk or a killed process, plays but for its last second or two; a
    file of that name is written over when the first picture comes, and not before.

    Args:
        path: ``.mp4``, ``.mkv`` or ``.mov``; a ``~`` is the home.
        view: What to record.
        crf: x264's quality, 0 (lossless) to 51; 20 is hard to tell from the source.
        threads: Encoder threads.
    """

    def __init__(self, path: str | Path, view: View = "overlay", crf: int = 20, threads: int = 1) -> None:
        self._path = Path(expanded(path))
        self._name = shown(self._path)
        if self._path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"cannot record to {shown(repr(self._path.name))}: the name must end in {', '.join(SUFFIXES)}"
            )
        self.view: View = view
        self._crf = crf
        self._threads = threads
        self._pictures: Slot[tuple[float, Image]] = Slot("every")
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._encode = Series()
        self._fps = float(NOMINAL_FPS)
        self._there_before = False
        self._kept = True

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Make sure that the file can be written.

        Raises:
            OutputError: It cannot.
            UsageError: It is the file that the frames come from, or a named pipe.
        """
        del spec
        self._fps = info.fps or NOMINAL_FPS
        try:
            self._there_before = self._path.exists()
            if self._there_before and info.kind == "video" and self._path.samefile(info.uri):
                raise UsageError(f"{self._name} is the source itself and would be lost: give another place to --output")
            # to open it would wait for a reader, and no video can be written without going back
            if self._path.is_fifo():
                raise UsageError(f"{self._name} is a named pipe: give a file to --output")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab"):  # nothing is lost yet: the run may still fail before it has a picture
                pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no path can look like this"
            raise OutputError(f"{self._name}: {reason}; give another place with --output") from error
        self._thread = threading.Thread(target=self._record, name="rtpsp-encode", daemon=True)
        self._thread.start()

    def write(self, item: Rendered) -> None:
        """Queue one picture."""
        if not self._pictures.put((item.frame.pts, item.pictures[self.view])):
            self._raise_failure()

    def close(self) -> None:
        """Encode what is queued and finish the file."""
        if self._thread is not None:
            self._pictures.end()
            self._thread.join()
            self._thread = None
            self._raise_failure()

    def stages(self) -> dict[str, Summary]:
        """The time to encode one picture."""
        encode = self._encode.summary()
        return {"encode": encode} if encode else {}

    @property
    def output(self) -> str | None:
        """The file; None as long as nothing is in it."""
        return str(self._path) if len(self._encode) and self._kept else None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            reason = getattr(failure, "strerror", None) or failure
            kept = "what was recorded up to here is kept" if self._kept else "nothing was recorded"
            cure = "free the disk or give another place with --output" if isinstance(failure, OSError) else ""
            raise OutputError("; ".join(filter(None, (f"{self._name}: {reason}", kept, cure)))) from failure

    def _record(self) -> None:
        try:
            first = self._pictures.get()
            if first is None:
                self._remove_if_new()
                return
            # "file:" keeps a colon in a name from being taken for a protocol.
            with av.open(f"file:{self._path}", "w", options=_muxer_options(self._path)) as container:
                encoder = _Encoder(container, first[1], self._fps, self._crf, self._threads, self._name)
                self._encode_all(encoder, first)
        except Exception as error:
            _log.debug("encoder failed", exc_info=True)
            self._kept = _plays(self._path)
            if not self._kept:
                self._remove_if_new()
            self._failure = error
        finally:
            self._pictures.close()

    def _remove_if_new(self) -> None:
        """An empty file would look like a recording."""
        if not self._there_before:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _encode_all(self, encoder: _Encoder, first: tuple[float, Image]) -> None:
        item: tuple[float, Image] | None = first
        while item is not None:
            with self._encode.timed():
                encoder.encode(*item)
            item = self._pictures.get()
        encoder.flush()


class _Encoder:
    """One x264 stream in an open container."""

    def __init__(
        self, container: av.container.OutputContainer, picture: Image, fps: float, crf: int, threads: int, name: str
    ) -> None:
        self._container, self._name = container, name
        self._first_size = self._size = picture.shape[:2]
        height, width = (size + size % 2 for size in picture.shape[:2])  # yuv420p halves both: odd sizes are padded
        # The encoder shares its cores with inference: superfast takes 5 ms where the usual veryfast takes 13 (960x540,
        # one core) and shows the same picture in a larger file. Without zerolatency x264 holds 40 frames back, which is
        # memory on a file, and seconds of picture that a crash would lose on a live source.
        options = {"preset": "superfast", "tune": "zerolatency", "crf": str(crf)}
        rate = Fraction(fps).limit_denominator(1001)
        stream: VideoStream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        stream.codec_context.thread_count = self._threads = threads
        self._matrix = _tag_colours(stream)
        self._stream = stream
        self._last = -1
        self._next_key = 0.0

    def encode(self, pts: float, picture: Image) -> None:
        frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="bgr24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            threads=self._threads,  # PyAV's default is one for every core
        )
        # Two frames of one time would not be stored; a source that repeats a time stamp moves on by one tick.
        self._last = frame.pts = max(round(pts / TIME_BASE), self._last + 1)
        frame.time_base = TIME_BASE
        if (
            pts >= self._next_key
        ):  # by the clock and not by count: the loop may show far fewer frames than the source has
            frame.pict_type = PictureType.I
            self._next_key = pts + KEY_SECONDS
        self._container.mux(self._stream.encode(frame))

    def flush(self) -> None:
        self._container.mux(self._stream.encode(None))

    def _fitted(self, picture: Image) -> Image:
        """The picture at the recording's size: padded by a row or column of its own, or scaled between bars."""
        height, width = self._stream.height, self._stream.width
        if picture.shape[:2] == self._first_size:
            missing = height - picture.shape[0], width - picture.shape[1]
            if missing == (0, 0):
                return picture
            return np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        if self._size == self._first_size:
            got, first = (f"{size[1]}x{size[0]}" for size in (picture.shape[:2], self._first_size))
            _log.warning("%s: a picture of %s follows on %s: such pictures are scaled into it", self._name, got, first)
        self._size = picture.shape[:2]
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


def _plays(path: Path) -> bool:
    """Whether there is a picture in a recording that broke off."""
    try:
        with av.open(f"file:{path}") as container:
            return any(True for _ in container.decode(video=0))
    except (FFmpegError, IndexError, OSError):
        return False


def _muxer_options(path: Path) -> dict[str, str]:
    """An mp4 or mov has its index at the end, without which nothing plays: until then it is kept in fragments.

    A fragment is one key frame to the next, and goes to the disk at once; so does an mkv's cluster, of 5 s if not told.
    """
    cluster = {"cluster_time_limit": str(round(1000 * KEY_SECONDS))}
    return {"flush_packets": "1"} | (cluster if path.suffix.lower() == ".mkv" else {"movflags": "hybrid_fragmented"})


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
