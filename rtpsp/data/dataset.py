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


@dataclass(frozen=True)
class Dataset(Sequence[Sample]):
    """Labelled images, each loaded when it is asked for and then forgotten; a slice is a data set again.

    Attributes:
        source: Path or URI, as the user gave it.
        split: Which part of a folder, e.g. ``val``; None for a list or a simulator, which have no parts.
        entries: What can be loaded, in order.
    """

    source: str
    split: str | None
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        if isinstance(index, slice):
            return replace(self, entries=self.entries[index])
        return self.entries[index].load()

    @property
    def names(self) -> tuple[str, ...]:
        """The samples' names; loads nothing."""
        return tuple(entry.name for entry in self.entries)


def open_dataset(path: str | PathLike[str], split: str = "val") -> Dataset:
    """A set of labelled images, checked for files without a partner but not yet loaded.

    Args:
        path: A folder or a list of pairs (layouts: `rtpsp.data.files`), or a simulator URI such as
            ``sim://street?frames=60&seed=3`` (parameters: `rtpsp.data.simulated`).
        split: Which part of a folder; of no meaning for a list or a simulator.

    Raises:
        DataError: Nothing there, no known layout, or images without labels. Loading a sample raises it too, when a file
            is damaged, holds colours instead of class ids, or differs in size from its partner.
        SourceError: A simulator URI that cannot be understood.
    """
    source = fspath(path)
    if source.startswith(simulated.SCHEME):
        return Dataset(source, None, simulated.find_frames(source))
    root = Path(source)
    return Dataset(source, None if root.is_file() else split, files.find_pairs(root, split))
