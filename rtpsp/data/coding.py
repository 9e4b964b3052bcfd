"""How a label file's ids and colours become class ids, as the label set says; every value must have a meaning there."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap
from rtpsp.errors import DataError
from rtpsp.label_sets import MAX_FILE_ID, ids_text
from rtpsp.labels import LabelSet

SHOWN = 5  # values in one error message
MANY = 3  # times the classes: so many unknown colours were made, not chosen


def from_ids(ids: ClassMap, labels: LabelSet, path: Path) -> ClassMap:
    """Class ids of the ids that a label file holds.

    Args:
        ids: uint8 or int32 [H, W], as they are stored.
        labels: Says what they mean: `LabelSet.ids` and `LabelSet.void_ids`. Without either the ids are the classes'
            positions, and none is refused here.
        path: What errors call the file.

    Returns:
        [H, W]: `ids` itself, or a new array, uint8 where that holds every id of the set, else int32.

    Raises:
        DataError: An id that the set does not list.
    """
    if not labels.ids and not labels.void_ids:
        return ids
    table = _id_table(labels)
    found = table[ids]
    if found.min(initial=0) < 0:
        counts = np.bincount(ids[found < 0])
        strange = {str(value): int(counts[value]) for value in np.flatnonzero(counts)}
        expected = ids_text(labels.ids or tuple(range(len(labels))))
        void = f" and {ids_text(labels.void_ids)} for void" if labels.void_ids else ""
        shifted = labels.ids and str(labels.ignore) in strange
        hint = "are they shifted already? Then use a list without `# ids`" if shifted else "use the set of these files"
        raise DataError(
            f"label {path} holds ids {_counted(strange)}, which are nothing in label set {labels.name!r}: expected "
            f"{expected} for classes{void}, as it says of its files; {hint}"
        )
    return found.astype(_dtype(labels))


def from_colours(picture: NDArray[np.uint8], labels: LabelSet, path: Path) -> ClassMap:
    """Class ids of the colours that a label file holds; a colour is met exactly or not at all.

    Args:
        picture: uint8 [H, W, 3] BGR.
        labels: Its palette, and `LabelSet.void` for what is no class.
        path: What errors call the file.

    Returns:
        [H, W], a new array, uint8 where that holds every id of the set, else int32.

    Raises:
        DataError: A colour that the set does not list, or two classes of one colour.
    """
    import cv2

    colours, classes = _colour_table(labels)
    packed = cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA).view("<u4").reshape(-1) & 0xFFFFFF  # alpha on top is taken off
    # Labels are flat areas: one look-up for each stretch of a colour costs a tenth of one for each pixel.
    starts = np.concatenate(([0], np.flatnonzero(packed[1:] != packed[:-1]) + 1))
    lengths = np.diff(starts, append=packed.size)
    stretches = packed[starts]
    place = np.minimum(np.searchsorted(colours, stretches), colours.size - 1)
    unknown = colours[place] != stretches
    if unknown.any():
        counts: Counter[str] = Counter()
        for value, length in zip(stretches[unknown].tolist(), lengths[unknown].tolist(), strict=True):
            counts[f"#{value:06X}"] += length
        made, commonest = len(counts) > MANY * len(labels), max(counts, key=lambda colour: counts[colour])
        raise DataError(
            f"label {path} has colours {_counted(counts)}, which label set {labels.name!r} has for no class: "
            + ("so many come of a JPEG or of resizing; export it again, with nearest neighbours" if made else
               f"use a list that has them too, as classes or as void by a line such as `# void: {commonest}`")
        )  # fmt: skip
    return np.repeat(classes[place], lengths).reshape(picture.shape[:2])


@lru_cache(maxsize=8)
def _id_table(labels: LabelSet) -> NDArray[np.int32]:
    """Class by stored id; -1 for an id without a meaning."""
    table = np.full(MAX_FILE_ID + 1, -1, np.int32)
    table[list(labels.ids or range(len(labels)))] = np.arange(len(labels))
    ignore = -1 if labels.ignore is None else labels.ignore
    void = [*labels.void_ids, *([ignore] if not labels.ids and 0 <= ignore <= MAX_FILE_ID else [])]
    table[void] = ignore
    return table


@lru_cache(maxsize=8)
def _colour_table(labels: LabelSet) -> tuple[NDArray[np.uint32], NDArray[np.integer]]:
    """Colours as 0xRRGGBB in rising order, and the class of each."""
    counted = Counter(labels.palette)
    if len(counted) < len(labels):
        twins = [name for name, colour in zip(labels.names, labels.palette, strict=True) if counted[colour] > 1]
        raise DataError(
            f"label set {labels.name!r} has {', '.join(twins[:SHOWN])} in one colour, expected one colour a class: "
            "labels in these colours cannot be read; change one, or use labels that hold ids"
        )
    packed = [(r << 16) | (g << 8) | b for r, g, b in (*labels.palette, *labels.void)]
    classes = np.array([*range(len(labels)), *[labels.ignore] * len(labels.void)], _dtype(labels))
    order = np.argsort(packed)
    return np.array(packed, np.uint32)[order], classes[order]


def _dtype(labels: LabelSet) -> type[np.integer]:
    return np.uint8 if max(len(labels) - 1, labels.ignore or 0) < 2**8 else np.int32


def _counted(counts: dict[str, int]) -> str:
    first = sorted(counts, key=lambda value: -counts[value])[:SHOWN]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{value} ({counts[value]} pixels)" for value in first) + more
