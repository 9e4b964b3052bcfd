"""A look at every label of a data set before it is learnt from: what is wrong is said once, and at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtpsp.data.dataset import Dataset
from rtpsp.data.files import SHOWN, FilePair
from rtpsp.data.sample import Entry
from rtpsp.data.simulated import SimulatedFrame
from rtpsp.errors import DataError
from rtpsp.labels import CAMVID, LabelSet
from rtpsp.spec import Planes

STEP = "look at the labels"
_THREADS = 4  # decoding and counting release Python's lock


@dataclass(frozen=True, eq=False)
class Survey:
    """What a data set holds.

    Attributes:
        pixels: int64 [classes], labelled pixels of each class.
        images_with: int64 [classes], images that show each class.
        void: Pixels that are no class.
        images: How many images there are.
        sizes: How many images there are of each (rows, columns).
    """

    pixels: NDArray[np.int64]
    images_with: NDArray[np.int64]
    void: int
    images: int
    sizes: Counter[tuple[int, int]]


@dataclass(frozen=True)
class _Look:
    """One sample: its label's counts by id, or what is wrong with it."""

    size: tuple[int, int] = (0, 0)
    counts: tuple[tuple[int, int], ...] = ()
    misfit: str = ""
    unreadable: str = ""


def survey(dataset: Dataset, labels: LabelSet, tell: Callable[[str, int, int], None] | None = None) -> Survey:
    """Reads every label, and of every image its size.

    Args:
        dataset: Opened with the same `labels`, if its files hold colours or other ids than the classes' positions.
        labels: The classes.
        tell: Told the step, how many samples are done, and of how many.

    Raises:
        DataError: Samples cannot be read, differ in size from their labels, or have ids that are no class: all that is
            wrong, with the first files of each kind. Or the data set is empty, has void alone, or is the simulator's
            and of other classes. An image that is damaged behind its head is not found.
    """
    looks = _look_at_all(dataset, labels, tell or (lambda step, done, total: None))
    strange = {name: _strange(look, labels) for name, look in zip(dataset.names, looks, strict=True)}
    _check(dataset, labels, looks, {name: ids for name, ids in strange.items() if ids})
    pixels, images_with = (np.zeros(len(labels), np.int64) for _ in range(2))
    void = 0
    for look in looks:
        for value, count in look.counts:
            if value == labels.ignore:
                void += count
            else:
                pixels[value] += count
                images_with[value] += 1
    if not pixels.any():
        raise DataError(
            f"all {len(looks)} labels of {_where(dataset)} are void (id {labels.ignore}) throughout, expected pixels "
            f"of classes: is {labels.name!r} the label set that they were made with?"
        )
    return Survey(pixels, images_with, void, len(looks), Counter(look.size for look in looks))


def _look_at_all(dataset: Dataset, labels: LabelSet, tell: Callable[[str, int, int], None]) -> list[_Look]:
    total = len(dataset)
    if not total:
        raise DataError(f"{dataset.source} has no samples, expected one at least: name another folder or split")
    simulated = any(isinstance(entry, SimulatedFrame) for entry in dataset.entries)
    if simulated and [name.casefold() for name in labels.names] != [name.casefold() for name in CAMVID.names]:
        raise DataError(
            f"{dataset.source} has the {len(CAMVID)} classes of 'camvid', the label set is {labels.name!r} with "
            f"{len(labels)}: an id means something else in each; leave the simulator out"
        )
    looks: list[_Look] = []
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for look in pool.map(lambda entry: _look(entry, dataset.planes), dataset.entries):
                looks.append(look)
                tell(STEP, len(looks), total)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
            raise
    return looks


def _look(entry: Entry, planes: Planes) -> _Look:
    try:
        if isinstance(entry, FilePair):
            truth = entry.read_truth()
            size = entry.read_size(planes)
        elif isinstance(entry, SimulatedFrame):
            truth = entry.read_truth()
            size = (entry.drive.height, entry.drive.width)
        else:
            sample = entry.load(planes)
            truth, size = sample.truth, (sample.image.shape[0], sample.image.shape[1])
    except DataError as error:
        return _Look(unreadable=str(error))
    if truth.shape != size:
        return _Look(misfit=f"{entry.name} (label {_shape(truth.shape)}, image {_shape(size)})")
    counts = np.bincount(truth.ravel())
    return _Look(size, tuple((int(value), int(counts[value])) for value in np.flatnonzero(counts)))


def _strange(look: _Look, labels: LabelSet) -> dict[int, int]:
    return {value: count for value, count in look.counts if value >= len(labels) and value != labels.ignore}


def _check(dataset: Dataset, labels: LabelSet, looks: Sequence[_Look], strange: dict[str, dict[int, int]]) -> None:
    """Say all that is wrong in one line."""
    unreadable = {name: look.unreadable for name, look in zip(dataset.names, looks, strict=True) if look.unreadable}
    misfits = [look.misfit for look in looks if look.misfit]
    parts: list[str] = []
    if strange:
        ids = Counter[int]()
        for counts in strange.values():
            ids.update(counts)
        void = "no id for void" if labels.ignore is None else f"{labels.ignore} for void"
        found = [f"{name} ({_ids(counts)})" for name, counts in strange.items()]
        parts.append(
            f"class ids {_ids(ids)} in {_files(found)}, where label set {labels.name!r} has 0 to {len(labels) - 1} and "
            f"{void}{_counting_hint(labels, ids, looks)}"
        )
    if misfits:
        parts.append(f"label and image differ in size (HxW) in {_files(misfits)}")
    if unreadable:
        parts.append(f"{_files(list(unreadable))} cannot be read, the first since {next(iter(unreadable.values()))}")
    if parts:
        count = len(strange) + len(misfits) + len(unreadable)
        raise DataError(
            f"{count} of {len(looks)} samples of {_where(dataset)} do not fit: {'; '.join(parts)}; mend these files, "
            "take them out, or name the label set that they were made with"
        )


def _where(dataset: Dataset) -> str:
    return f"{dataset.source}, split {dataset.split}" if dataset.split else dataset.source


def _counting_hint(labels: LabelSet, ids: Counter[int], looks: Sequence[_Look]) -> str:
    """The likeliest mistake, where the strange ids are those behind the classes': ids from 1, or too short a list."""
    found = {value for look in looks for value, _ in look.counts if value != labels.ignore}
    beyond = max(ids)
    if beyond - len(labels) >= len(ids):
        return ""
    if len(ids) == 1 and 0 not in found:
        return f" (do they count from 1? Give a list with `# ids: 1-{len(labels)}`)"
    if len(found) > len(labels):
        missing = "a class is missing from the list" if len(ids) == 1 else f"{len(ids)} classes are missing from it"
        return f" ({len(found)} ids, {len(labels)} names: {missing}, or an id is void: `# ignore: {beyond}`)"
    return ""


def _ids(counts: dict[int, int]) -> str:
    first = ", ".join(map(str, sorted(counts)[:SHOWN]))
    return f"{first} and {len(counts) - SHOWN} more" if len(counts) > SHOWN else first


def _files(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
