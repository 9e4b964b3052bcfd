"""Labelled images behind one door: `open_dataset` takes a folder, a list of pairs or a simulator URI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import overload

from rtpsp.data import files, simulated
from rtpsp.data.sample import Entry
from rtpsp.data.sample import Sample as Sample
from rtpsp.labels import LabelSet
from rtpsp.spec import Planes


@dataclass(frozen=True)
class Dataset(Sequence[Sample]):
    """Labelled images, each loaded when it is asked for and then forgotten; a slice is a data set again.

    Attributes:
        source: Path or URI, as the user gave it.
        split: Which part of a folder, e.g. ``val``; None for a list or a simulator, which have no parts.
        entries: What can be loaded, in order.
        planes: Of the images (`rtpsp.planes`).
    """

    source: str
    split: str | None
    entries: tuple[Entry, ...]
    planes: Planes = 3

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        if isinstance(index, slice):
            return replace(self, entries=self.entries[index])
        return self.entries[index].load(self.planes)

    @property
    def names(self) -> tuple[str, ...]:
        """The samples' names; loads nothing."""
        return tuple(entry.name for entry in self.entries)


def open_dataset(
    path: str | PathLike[str], split: str = "val", *, labels: LabelSet | None = None, planes: Planes = 3
) -> Dataset:
    """A set of labelled images, checked for files without a partner but not yet loaded.

    Args:
        path: A folder or a list of pairs (layouts: `rtpsp.data.files`), or a simulator URI such as
            ``sim://street?frames=60&seed=3`` (parameters: `rtpsp.data.simulated`).
        split: Which part of a folder; of no meaning for a list or a simulator.
        labels: What label files hold: colour-coded ones are read by its palette, exactly, and ids by `LabelSet.ids`
            (`rtpsp.data.class_ids`). None: class ids, taken as they are. The simulator has its own.
        planes: What the model takes (`rtpsp.planes`): images are read so.

    Raises:
        DataError: Nothing there, no known layout, or images without labels. Loading a sample raises it too, when a file
            is damaged, holds colours or ids without a meaning, differs in size from its partner, or lacks a fourth
            plane.
        SourceError: A simulator URI that cannot be understood.
    """
    source = fspath(path)
    if source.startswith(simulated.SCHEME):
        return Dataset(source, None, simulated.find_frames(source), planes)
    root = Path(source)
    pairs = tuple(replace(pair, labels=labels) for pair in files.find_pairs(root, split))
    return Dataset(source, None if root.is_file() else split, pairs, planes)
