"""Calibration sets: the frames that activation ranges are measured on, read one at a time and checked each time.

A set holds no picture. It knows, of each frame, where it lies and the sha256 that it had when it was chosen, and a
`Reader` that fetches it again. Where frames come from that are no files, somebody above this room brings the reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from rtpsp.arrays import Image
from rtpsp.data import simulated
from rtpsp.data.class_ids import read_class_ids
from rtpsp.data.files import FilePair, decode_image, read_bytes
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError
from rtpsp.files import sha256_of
from rtpsp.labels import CAMVID, LabelSet
from rtpsp.planes import to_planes
from rtpsp.spec import Planes

Kind = Literal["images", "pairs", "frames", "simulator", "camera"]
"""Image files; image and label files; frames of a source that can be read again; the simulator's, with their truth;
image files that were saved of a camera."""

LABELLED: tuple[Kind, ...] = ("pairs", "simulator")
HELD_OUT = 5

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told the step, how many frames are done, and of how many; as `rtpsp.build.Progress`."""


@dataclass(frozen=True)
class CalibrationEntry:
    """One frame of a set.

    Attributes:
        name: Path of an image file from the set's root, or what the source calls a frame, such as its number.
        sha256: In hex: of a file's bytes; of a video's or simulator's frame, of its pixels as uint8 [H, W, 3] BGR.
        frame: Place in the source, from 0, in the order in which it gives its frames; None for a file.
        pts: Seconds from the source's first frame; None for a file.
        label: Path of the label file from the set's root; None without.
        label_sha256: Of the label file's bytes; None without.
    """

    name: str
    sha256: str
    frame: int | None = None
    pts: float | None = None
    label: str | None = None
    label_sha256: str | None = None


class Reader(Protocol):
    """Fetches the frames of a set again."""

    def images(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Image]:
        """Each frame as a new uint8 [H, W, planes] of its own size, in order.

        Raises:
            DataError: A frame is gone, is not what it was, or lacks the fourth plane that is asked for.
        """

    def samples(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Sample]:
        """Each frame with its truth; asked only of a set that has it.

        Raises:
            DataError: As `images`, of labels too.
        """


@dataclass(frozen=True)
class CalibrationSet:
    """Frames to calibrate with, in the order of their source; a slice is a set again, though without a manifest.

    Attributes:
        source: Where they are from, for people: a path or URI, without credentials.
        kind: What sort of source.
        split: Which part of a labelled folder; None where there are no parts.
        entries: The frames.
        reader: Fetches them.
        manifest: The file that lists them.
    """

    source: str
    kind: Kind
    split: str | None
    entries: tuple[CalibrationEntry, ...]
    reader: Reader
    manifest: Path | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, part: slice) -> CalibrationSet:
        if part.step is not None and part.step < 0:  # a video is read forwards
            raise ValueError(f"a calibration set keeps its source's order: got step {part.step}, expected 1 or more")
        return replace(self, entries=self.entries[part], manifest=None)

    @property
    def labelled(self) -> bool:
        """Whether `samples` can be asked for."""
        return self.kind in LABELLED

    @property
    def names(self) -> tuple[str, ...]:
        """The frames' names; reads nothing."""
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, over the frames' sha256s in order: the same wherever the frames lie. Labels do not count."""
        return digest_of(self.entries)

    def images(self, planes: Planes = 3) -> Iterator[Image]:
        """The frames, one at a time, each uint8 [H, W, planes] of its own size and the caller's own.

        Args:
            planes: What the model takes (`rtpsp.planes`).

        Raises:
            DataError: A frame is gone, is not what it was when it was chosen, or lacks a fourth plane.
            SourceError: The video or simulator cannot be opened any more, or has no fourth plane.
        """
        return self.reader.images(self.entries, planes)

    def samples(self, planes: Planes = 3) -> Iterator[Sample]:
        """The frames with their ground truth, one at a time.

        Args:
            planes: As for `images`.

        Raises:
            DataError: The set has no labels; or as `images`, of labels too.
        """
        if not self.labelled:
            raise DataError(
                f"calibration set {self.source} has no labels, and accuracy needs some: give a labelled folder or a "
                "list of image and label pairs"
            )
        return self.reader.samples(self.entries, planes)

    def hold_out(self, every: int = HELD_OUT) -> tuple[CalibrationSet, CalibrationSet]:
        """A part to fit ranges on, and one frame in `every` to measure on.

        Held out are the frames at regular places in the source's order, beginning in the middle of the first `every`
        (systematic sampling): both parts go over the whole source, so the held-out one looks like the rest of it, and
        the extremes that the choice went for are shared out between the two.

        Raises:
            DataError: The set has fewer than two frames.
        """
        if every < 2:
            raise ValueError(f"one frame in {every} is to be held out, expected one in 2 or more")
        self._check_divisible()
        held = set(range(min(every // 2, len(self) - 1), len(self), every))
        return self._part(lambda place: place not in held), self._part(lambda place: place in held)

    def halves(self) -> tuple[CalibrationSet, CalibrationSet]:
        """Two parts, frame by frame in turn: one to choose on, one to report on, alike for the reason of `hold_out`.

        Raises:
            DataError: The set has fewer than two frames.
        """
        self._check_divisible()
        return self[::2], self[1::2]

    def _part(self, wanted: Callable[[int], bool]) -> CalibrationSet:
        kept = tuple(entry for place, entry in enumerate(self.entries) if wanted(place))
        return replace(self, entries=kept, manifest=None)

    def _check_divisible(self) -> None:
        if len(self) < 2:
            raise DataError(
                f"calibration set {self.source} has {len(self)} frame(s), which cannot be divided into a part to fit "
                "and a part to measure: give more"
            )


@dataclass(frozen=True)
class FileReader:
    """Reads image files, and label files beside them.

    Attributes:
        root: Where the entries' paths start.
        labels: What colours and ids of label files mean (`rtpsp.data.class_ids`); None: they hold class ids.
    """

    root: Path
    labels: LabelSet | None = None

    def images(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Image]:
        """See `Reader`."""
        for entry in entries:
            yield self._image(entry, planes)

    def samples(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Sample]:
        """See `Reader`."""
        for entry in entries:
            image, label = self._image(entry, planes), self.root / (entry.label or "")
            truth = read_class_ids(label, self.labels)
            if sha256_of(label) != entry.label_sha256:
                raise changed(f"label {label}")
            FilePair(entry.name, self.root / entry.name, label).check_size(image, truth)
            yield Sample(entry.name, image, truth)

    def _image(self, entry: CalibrationEntry, planes: Planes) -> Image:
        path = self.root / entry.name
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise changed(f"image {path}")
        return decode_image(data, path, planes)


@dataclass(frozen=True)
class SimulatorReader:
    """Draws frames of the simulator and their truth.

    Attributes:
        uri: As `rtpsp.data.simulated` reads it.
    """

    uri: str

    def images(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Image]:
        """See `Reader`."""
        return (to_planes(image, planes) for _, image in self._drawn(entries))

    def samples(self, entries: Sequence[CalibrationEntry], planes: Planes = 3) -> Iterator[Sample]:
        """See `Reader`."""
        for frame, image in self._drawn(entries):
            yield Sample(frame.name, to_planes(image, planes), frame.drive.scene.truth(frame.index), CAMVID)

    def _drawn(self, entries: Sequence[CalibrationEntry]) -> Iterator[tuple[simulated.SimulatedFrame, Image]]:
        frames = simulated.find_frames(self.uri)
        for entry in entries:
            if entry.frame is None or entry.frame >= len(frames):
                raise changed(f"frame {entry.name} of {self.uri}")
            frame = frames[entry.frame]
            image = frame.drive.scene.draw(frame.index)
            if sha256_of_pixels(image) != entry.sha256:
                raise changed(f"frame {entry.name} of {self.uri}")
            yield frame, image


def digest_of(entries: Sequence[CalibrationEntry]) -> str:
    """See `CalibrationSet.digest`."""
    return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


def sha256_of_pixels(image: Image) -> str:
    """sha256, in hex, of an image's pixels as uint8 [H, W, 3] BGR, row by row."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def changed(what: str) -> DataError:
    """The error for a frame that is not what it was when it was chosen."""
    return DataError(
        f"{what} is not what it was when it was chosen for calibration (its sha256 differs): put it back as it was, or "
        "make the set again by giving its source to --calib"
    )
