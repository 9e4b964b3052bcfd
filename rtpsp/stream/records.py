"""Records of a run as JSON lines, one a frame: run-length codes of the masks; shares of the frame, class by class."""

from __future__ import annotations

import contextlib
import errno
import glob
import importlib.util
import io
import json
import os
import stat
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap
from rtpsp.errors import MissingError, OutputError, UsageError
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Rendered
from rtpsp.stream.names import expanded, shown
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import IMAGE_SUFFIXES, SourceInfo
from rtpsp.stream.told_apart import told_apart
from rtpsp.timing import now

RLE_FORMAT = "rtpsp.rle"
RLE_VERSION = 1


class _JsonLines(Sink):
    """A file that gains one whole line a frame: a run that is killed leaves lines that can all be read.

    A file of that name is written over when the first frame comes, and not before. A named pipe needs its reader first.

    Args:
        path: The file; its folder is made if it is not there. A ``~`` is the home.
    """

    _option: ClassVar[str]

    def __init__(self, path: str | Path) -> None:
        self._path = Path(expanded(path))
        self._name = shown(self._path)
        self._file: io.RawIOBase | None = None
        self._there_before = False
        self._lines = 0
        self._size = 0
        self._sources: list[str] = []

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Make sure that the file can be written.

        Raises:
            OutputError: It cannot.
            UsageError: It is the file, or one of the images, that the frames come from.
        """
        self._uri, self._spec = info.uri, spec
        try:
            self._there_before = os.path.exists(self._path)
            self._spare(info)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # appending: nothing is lost yet
            self._file = open(self._path, "ab", buffering=0, opener=_open_now)  # noqa: SIM115
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no path can look like this"
            if isinstance(error, OSError) and error.errno == errno.ENXIO and self._path.is_fifo():
                reason = "a named pipe that nobody reads; start its reader first"
            raise OutputError(f"{self._name}: {reason}; give another place with {self._option}") from error

    def open_all(self, infos: Sequence[SourceInfo], spec: ModelSpec) -> None:
        """As `open`; of several sources each line says which one its frame is of.

        Raises:
            OutputError: The file cannot be written.
            UsageError: It is a source itself.
        """
        self.open(infos[0], spec)
        for info in infos[1:]:
            self._spare(info)
        self._sources = told_apart(info.uri for info in infos) if len(infos) > 1 else []

    def write(self, item: Rendered) -> None:
        """Write one line."""
        assert self._file is not None
        values: dict[str, Any] = {"source": self._sources[item.frame.source]} if self._sources else {}
        values |= {"frame": item.frame.index, "pts": round(item.frame.pts, 6)}
        record = values | ({"name": item.frame.name} if item.frame.name else {}) | self._record(item)
        data = _line(record)
        try:
            if not self._lines:
                if self._is_regular():
                    self._file.truncate(0)
                data = self._header() + data
            # not through a buffer: a line that is handed over whole is whole in the file, whatever ends the process
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self._cut()
            raise OutputError(
                f"{self._name}: {error.strerror}; the {self._lines} frames up to here are kept; "
                f"{'' if error.errno == errno.EPIPE else 'free the disk or '}give another place with {self._option}"
            ) from error
        self._lines += 1
        self._size += len(data)

    def close(self) -> None:
        """Close the file; one that was made for this run and has no frame is taken away."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
            if not self._lines and not self._there_before:
                self._path.unlink(missing_ok=True)
        except OSError as error:  # some file systems tell only now that there was no room
            raise OutputError(
                f"{self._name}: {error.strerror}; frames may be missing in it; free the disk or give another place "
                f"with {self._option}"
            ) from error

    @property
    def output(self) -> str | None:
        """The file; None as long as nothing is in it."""
        return str(self._path) if self._lines else None

    @abstractmethod
    def _record(self, item: Rendered) -> dict[str, Any]:
        """What the line has beside the frame's number, time and name."""

    def _spare(self, info: SourceInfo) -> None:
        if self._there_before and any(_is_same(self._path, file) for file in _source_files(info)):
            raise UsageError(
                f"{self._name} is the source itself and would be lost: give another place with {self._option}"
            )

    def _header(self) -> bytes:
        return b""

    def _is_regular(self) -> bool:
        assert self._file is not None
        return stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def _cut(self) -> None:
        """Take away the half of a line that a full disk let through."""
        with contextlib.suppress(OSError):
            if self._file is not None and self._is_regular():
                self._file.truncate(self._size)


class RleFile(_JsonLines):
    """Class maps as COCO's compressed run-length codes, which ``pycocotools.mask.decode`` reads.

    The first line is a header: ``format``, ``version``, ``model``, ``source`` (``sources`` where there are several),
    and ``labels`` as in `rtpsp.labels.LabelSet.to_dict`. Each further line is a frame: ``source`` where there are
    several, ``frame``, ``pts`` in seconds, ``name`` where the
    source gives one, ``height``, ``width``, and ``segments``, one for each class in the frame, in id order:
    ``class_id``, ``class``, ``area`` in pixels and ``rle`` with ``size`` [height, width] and ``counts``. Segments
    do not overlap; pixels that no class was found for are in none.

    Args:
        path: The file; its folder is made if it is not there.
    """

    _option = "--rle"

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Make sure that the file can be written.

        Raises:
            MissingError: The package pycocotools is missing.
            OutputError: The file cannot be written.
            UsageError: It is the source itself.
        """
        if importlib.util.find_spec("pycocotools") is None:
            raise MissingError(f"{self._option} needs the package pycocotools: pip install pycocotools")
        super().open(info, spec)

    def _header(self) -> bytes:
        labels = self._spec.labels.to_dict()
        source = {"sources": self._sources} if self._sources else {"source": self._uri}
        header = {"format": RLE_FORMAT, "version": RLE_VERSION, "model": self._spec.name, **source}
        return _line({**header, "labels": labels})

    def _record(self, item: Rendered) -> dict[str, Any]:
        height, width = item.class_map.shape
        segments = [
            {"class_id": label, "class": self._spec.labels.names[label], "area": area, "rle": rle}
            for label, area, rle in encode_classes(item.class_map, len(self._spec.labels))
        ]
        return {"height": height, "width": width, "segments": segments}


class StatsFile(_JsonLines):
    """How much of each frame every class fills, and how old the frame was when it was drawn.

    A line is a frame: ``source`` where there are several, ``frame``, ``pts`` in seconds, ``name`` where the source
    gives one, ``latency_ms`` from the time that the scene was seen to the time that its picture was drawn, ``age_ms``
    to the time that this line was made, when the sinks before this one have the frame too, ``shares`` of the frame's
    pixels by class name, for every class, and ``unknown``, the share that no class was found for. Shares and unknown
    add up to 1, but for the rounding to 9 digits.

    Args:
        path: The file; its folder is made if it is not there.
    """

    _option = "--stats"

    def _record(self, item: Rendered) -> dict[str, Any]:
        labels = self._spec.labels
        areas = class_areas(item.class_map, len(labels))
        pixels = item.class_map.size
        shares = np.round(areas / pixels, 9).tolist()
        return {
            "latency_ms": round((item.stamps.rendered - item.stamps.captured) * 1e3, 3),
            "age_ms": round((now() - item.stamps.captured) * 1e3, 3),
            "shares": dict(zip(labels.names, shares, strict=True)),
            "unknown": round(1 - int(areas.sum()) / pixels, 9),
        }


def class_areas(class_map: ClassMap, classes: int) -> NDArray[np.int64]:
    """Pixels of each class, int64 [classes]; ids that are no class are counted nowhere."""
    ids = class_map.ravel()
    if class_map.dtype != np.uint8:
        ids = ids[(ids >= 0) & (ids < classes)]
    areas: NDArray[np.int64] = np.bincount(ids, minlength=classes)[:classes].astype(np.int64)
    return areas


def encode_classes(class_map: ClassMap, classes: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Each class of a map as a run-length code, found in one pass over the map instead of one a class.

    Args:
        class_map: Class ids [H, W]; ids that are no class are passed over.
        classes: How many classes there are.

    Yields:
        Class id, its area in pixels, and its code: ``size`` [H, W] and ``counts``, as JSON takes them.
    """
    from pycocotools import mask  # type: ignore[import-not-found,import-untyped,unused-ignore]

    columns = class_map.T.ravel()  # COCO's codes go down the columns
    ends = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    ends = np.append(ends, columns.size)
    starts = np.concatenate([[0], ends[:-1]])
    ids = columns[starts]
    height, width = class_map.shape
    for label in np.unique(ids).tolist():
        if not 0 <= label < classes:
            continue
        runs = ids == label
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=columns.size)  # gaps and runs in turn, a gap first
        if not counts[-1]:
            counts = counts[:-1]
        code = mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
        yield label, int(counts[1::2].sum()), {"size": [height, width], "counts": code["counts"].decode("ascii")}


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def _open_now(path: str, flags: int) -> int:
    """Opens without waiting: a named pipe would keep us until somebody reads it, and no signal would end that."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    if hasattr(os, "set_blocking"):  # once it is open, a slow reader is waited for
        os.set_blocking(descriptor, True)
    return descriptor


def _source_files(info: SourceInfo) -> Iterator[Path]:
    """Files that the frames come from."""
    if info.kind not in ("video", "images"):
        return
    if os.path.isdir(info.uri):
        yield from (file for file in Path(info.uri).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    elif os.path.exists(info.uri):
        yield Path(info.uri)
    else:
        yield from map(Path, glob.iglob(info.uri))


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of the two went away
        return False
