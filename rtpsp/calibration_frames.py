"""The calibration set of a source of frames: a video or simulator, which can be read again, or a camera, which cannot.

The data room takes frames from anywhere; here they are taken from `rtpsp.stream.source`.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtpsp.arrays import Image
from rtpsp.data.calibration import (
    CalibrationEntry,
    FileReader,
    Kind,
    Progress,
    Reader,
    SimulatorReader,
    changed,
    sha256_of_pixels,
)
from rtpsp.data.calibration_choice import Description, Reservoir, Thinned, describe
from rtpsp.data.calibration_files import STEP, Survey, choose, limit_of
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, OutputError, SourceError
from rtpsp.labels import LabelSet
from rtpsp.places import CALIB_VARIABLE
from rtpsp.planes import to_planes
from rtpsp.spec import Planes
from rtpsp.stream.source import Source, SourceOptions, open_source

HINT = f"let {CALIB_VARIABLE} name another folder"

CAMERA_INTERVAL = 0.2
"""Seconds at least between two frames of a camera that are looked at: neighbours are alike."""

CAMERA_LOOKS = 2
"""Frames of a camera that are looked at for each that is to be kept: 300 take two minutes."""


@dataclass(frozen=True)
class FrameReader:
    """Reads frames of a source that gives the same ones each time.

    Attributes:
        uri: As `rtpsp.open_source` takes it.
    """

    uri: str

    def images(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Image]:
        """See `rtpsp.data.calibration.Reader`; the source is read once, and no further than to the last entry."""
        try:
            yield from self._read(entries, planes)
        finally:
            # PyAV's container and stream refer to each other: a decoder's 60 MB would stay for many passes
            gc.collect()

    def samples(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Sample]:
        """Refused: these sources bring no labels."""
        raise DataError(f"{self.uri} has no labels: give a labelled folder or a list of image and label pairs")

    def _read(self, entries: Sequence[CalibrationEntry], planes: Planes) -> Iterator[Image]:
        position = 0
        with open_source(self.uri, SourceOptions(planes=planes)) as source:
            for entry in entries:
                what = f"frame {entry.name} of {self.uri}"
                while position < (entry.frame or 0):
                    if not source.skip():
                        raise changed(what)
                    position += 1
                frame, position = source.read(), position + 1
                image = frame.to_bgr(None) if frame else None
                if image is None or sha256_of_pixels(image) != entry.sha256:
                    raise changed(what)
                yield to_planes(image, planes)


def reader_of(kind: Kind, root: str, labels: LabelSet | None = None) -> Reader:
    """What fetches the frames of a set again.

    Args:
        kind: Of the set.
        root: Where the paths of its entries start, or the path or URI of its source.
        labels: What label files hold, as `rtpsp.data.dataset.open_dataset` takes it.
    """
    if kind == "frames":
        return FrameReader(root)
    return SimulatorReader(root) if kind == "simulator" else FileReader(Path(root), labels)


def survey_frames(source: Source, count: int, tell: Progress) -> Survey:
    """Read a source to its end, and choose of its frames.

    Args:
        source: One that ends; it stays open.
        count: How many to choose at most.
        tell: Told of each frame that is looked at; the total is a guess where the source does not say it.
    """
    found: Thinned[tuple[CalibrationEntry, Description]] = Thinned(limit_of(count))
    position, total = 0, source.info.frames or 0
    while True:
        if not found.wants(position):
            if not source.skip():
                break
        else:
            tell(STEP, position, max(total, position + 1))
            frame = source.read()
            if frame is None:
                break
            image = frame.to_bgr(None)
            entry = CalibrationEntry(str(position), sha256_of_pixels(image), position, round(frame.pts, 6))
            found.add((entry, describe(image)))
        position += 1
    return choose(found.items, count)


def record(source: Source, folder: Path, count: int, tell: Progress) -> Survey:
    """Watch a camera, and save the frames that differ most as PNG.

    Args:
        source: It stays open. It may end; else `CAMERA_LOOKS` frames are looked at for each that is to be kept.
        folder: There, and empty; what is in it at the end is the set.
        count: How many to keep at most.
        tell: Told of each frame that is looked at.

    Raises:
        SourceLost: The camera went away.
        SourceError: It ended without a frame.
        OutputError: A frame cannot be saved.
    """
    kept: list[CalibrationEntry] = []
    reservoir = Reservoir(count)
    looks, due = 0, -np.inf
    while looks < CAMERA_LOOKS * count:
        frame = source.read()
        if frame is None:
            break
        if frame.captured < due:
            continue
        due = frame.captured + CAMERA_INTERVAL
        tell("watch the camera", looks, CAMERA_LOOKS * count)
        image = frame.to_bgr(None)
        kept.append(CalibrationEntry(f"{looks:06d}.png", "", pts=round(frame.pts, 6)))
        goes = reservoir.add(describe(image))
        looks += 1
        if goes == len(kept) - 1:
            kept.pop()
            continue
        if goes is not None:
            _forget(folder / kept.pop(goes).name)
        kept[-1] = _saved(kept[-1], image, folder)
    if not kept:
        raise SourceError(f"{source.info.uri} gave no frame ({source.ended}): expected a camera that is running")
    return Survey(tuple(kept), looks)


def _saved(entry: CalibrationEntry, image: Image, folder: Path) -> CalibrationEntry:
    import cv2

    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])  # a camera does not wait
    data = encoded.tobytes()
    path = folder / entry.name
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): {HINT}") from error
    return CalibrationEntry(entry.name, hashlib.sha256(data).hexdigest(), pts=entry.pts)


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
