"""What the encoder's thread does with each picture: a file or a ring of segments, and what follows when one fails."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rtpsp.arrays import Image
from rtpsp.errors import OutputError
from rtpsp.stream.codecs import Codec
from rtpsp.stream.encoder import Encoder, plays
from rtpsp.stream.names import shown
from rtpsp.stream.segments import Segment, SegmentNames
from rtpsp.timing import Series, now

_log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""A live recording in segments that failed is tried again so often."""
SOUND_SECONDS = 2.0
"""So much of the new segment is recorded when the failure counts as over."""
PRUNE_SECONDS = 5.0
"""Between two looks at what the segments take."""


class Picture(NamedTuple):
    """What is recorded.

    Attributes:
        pts: Of the source's time, in seconds.
        picture: uint8 [height, width, 3] BGR.
        put: When it was handed over, in seconds of `time.monotonic`.
        taken: When the scene was seen, in seconds since the epoch.
        absent: It stands for a source that gives no frame.
    """

    pts: float
    picture: Image
    put: float
    taken: float
    absent: bool = False


@dataclass(frozen=True)
class RecorderOptions:
    """How to record.

    Attributes:
        crf: Quality, see `rtpsp.stream.codecs.choose_encoding`.
        threads: For encoding and for the conversion of colours.
        codec: What to encode with.
        fps: Of the source.
        segment: Begin a new file after so long, or at such a size.
        keep: Remove the oldest segments, until all of them hold at most so many bytes.
        retry: Whether to begin a new segment some time after one failed.
        source: A file that must never be removed.
    """

    crf: int
    threads: int
    codec: Codec
    fps: float
    segment: Segment | None = None
    keep: int | None = None
    retry: bool = False
    source: Path | None = None


class Recorder:
    """Records pictures; only one thread calls its methods, any may look at its attributes.

    Args:
        path: The file, or what segments are named after.
        options: How.
        new: Whether the file was not there before: it is removed where nothing comes of it, as segments are.

    Attributes:
        encode: The time of each picture, in seconds; without those that stand for no frame.
        codec: FFmpeg's name of the encoder; empty before the first picture.
        files: How many files are finished, or broke off with something in them that plays.
        failure: Why nothing is recorded; None once a new segment is.
        failures: How many times it failed.
        lost: Pictures that came while it could not write.
    """

    def __init__(self, path: Path, options: RecorderOptions, new: bool = True) -> None:
        self.encode = Series()
        self.codec = ""
        self.files = 0
        self.failure: OutputError | None = None
        self.failures = 0
        self.lost = 0
        self._path, self._options, self._new = path, options, new
        self._name = shown(path)
        self._names = SegmentNames(path) if options.segment else None
        self._encoder: Encoder | None = None
        self._retry_at = self._pruned_at = 0.0

    @property
    def holds_something(self) -> bool:
        """Whether there is anything recorded."""
        return self.files > 0 or self._encoder is not None

    def take(self, item: Picture) -> bool:
        """Record one picture; False when that was the end of it, for the reason in `failure`."""
        if self.failure is not None and self._encoder is None and now() < self._retry_at:
            self.lost += not item.absent
            return True
        try:
            self._record(item)
        except Exception as error:
            self._break_off(error)
            return self._options.retry and self._names is not None
        return True

    def finish(self) -> None:
        """The pictures are over: leaves a whole file, or none where there was no picture."""
        try:
            if self._encoder is not None:
                self._close()
            elif not self.files and self._names is None:
                self._remove_if_new(self._path)
        except Exception as error:
            self._break_off(error)

    def _record(self, item: Picture) -> None:
        if self._encoder is not None and self._is_cut(self._encoder, item):
            self._close()
        with contextlib.nullcontext() if item.absent else self.encode.timed():
            if self._encoder is None:
                self._encoder = self._open(item)
            self._encoder.write(item.pts, item.picture)
        if self.failure is not None and self._encoder.seconds >= SOUND_SECONDS:
            _log.warning("%s: recording goes on, in %s", self._name, shown(self._encoder.path.name))
            self.failure = None
        if now() - self._pruned_at >= PRUNE_SECONDS:
            self._prune()

    def _open(self, item: Picture) -> Encoder:
        path = self._names.create(item.taken) if self._names else self._path
        how = self._options
        try:
            encoder = Encoder(path, item.picture, item.pts, how.fps, how.crf, how.threads, how.codec)
        except BaseException:
            self._remove_if_new(path)
            raise
        self.codec = encoder.codec
        return encoder

    def _close(self) -> None:
        assert self._encoder is not None
        self._encoder.close()
        self._encoder = None
        self.files += 1
        self._prune()

    def _is_cut(self, encoder: Encoder, item: Picture) -> bool:
        """Whether a new segment begins with this picture."""
        segment = self._options.segment
        if segment is None:
            return False
        if segment.seconds is not None and item.pts - encoder.start >= segment.seconds:
            return True
        if segment.bytes is not None and encoder.bytes >= segment.bytes:
            return True
        return not item.absent and item.picture.shape[:2] != encoder.first_size

    def _prune(self) -> None:
        if self._names is None or self._options.keep is None:
            return
        self._pruned_at = now()
        spared = [self._encoder.path] if self._encoder else []
        spared += [self._options.source] if self._options.source else []
        self._names.prune(self._options.keep, spared)

    def _break_off(self, error: Exception) -> None:
        _log.debug("%s: encoder failed", self._name, exc_info=True)
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.abandon()
            if plays(encoder.path):
                self.files += 1
            else:
                self._remove_if_new(encoder.path)
        self._retry_at = now() + RETRY_SECONDS
        self.failures += 1
        reason = getattr(error, "strerror", None) or error
        words = [
            f"{self._name}: {reason}",
            "what was recorded up to here is kept" if self.files else "nothing was recorded",
            "free the disk or give another place with --output" if isinstance(error, OSError) else "",
        ]
        failure = OutputError("; ".join(filter(None, words)))
        failure.__cause__ = error
        self.failure = failure

    def _remove_if_new(self, path: Path) -> None:
        """An empty file would look like a recording."""
        if self._new:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
