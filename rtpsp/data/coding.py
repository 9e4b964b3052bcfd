"""How a label file's ids and colours become class ids, as the label set says; every value must have a meaning there."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap
from rtpsp.errors import DataError
from rtpsp.label_sets import MAX_FILE_ID, distinct_palette, ids_text
from rtpsp.labels import LabelSet

SHOWN = 5  # values in one error message
NEAR = 2  # levels of a channel: so little lies between what was typed and what was meant
MANY = 3  # times the classes: so many unknown colours were made, not chosen


def from_ids(ids: ClassMap, labels: LabelSet, path: Path) -> ClassMap:
    """Class ids of the ids that a label file holds.

    Args:
        ids: uint8 or int32 [H, W], as they are stored.
        labels: Says what they mean: `LabelSet.ids`, `LabelSet.void_ids` and `LabelSet.also_ids`. Without any of these
            the ids are the classes' positions, and none is refused here.
        path: What errors call the file.

    Returns:
        [H, W]: `ids` itself, or a new array, uint8 where that holds every id of the set, else int32.

    Raises:
        DataError: An id that the set does not list.
    """
    if not labels.ids and not labels.void_ids and not labels.also_ids:
        return ids
    table = _id_table(labels)
    found = table[ids]
    if found.min(initial=0) < 0:
        counts = np.bincount(ids[found < 0])
        strange = {str(value): int(counts[value]) for value in np.flatnonzero(counts)}
        expected = ids_text((*(labels.ids or range(len(labels))), *(value for _, value in labels.also_ids)))
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
        labels: Its palette and `LabelSet.also`, and `LabelSet.void` for what is no class.
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
        if labels.palette == distinct_palette(len(labels)) and not labels.also:  # what a list without colours gets
            raise DataError(
                f"label {path} is coloured ({_counted(counts)}), and label set {labels.name!r} gives its classes no "
                f"colours of its own: write each one's into the list, as `{labels.names[0]} #804080`, or save class ids"
            )
        raise DataError(
            f"label {path} has colours {_counted(counts)}, which label set {labels.name!r} has for no class: "
            f"{_colour_hint(counts, labels)}"
        )
    return np.repeat(classes[place], lengths).reshape(picture.shape[:2])


def _colour_hint(counts: Counter[str], labels: LabelSet) -> str:
    """What to do about colours that are no class's."""
    if len(counts) > MANY * len(labels):
        return "so many come of a JPEG or of resizing; export it again, with nearest neighbours"
    known = np.array((*labels.palette, *labels.void, *(colour for _, colour in labels.also)), np.int32)
    names = (*labels.names, *["void"] * len(labels.void), *(labels.names[place] for place, _ in labels.also))
    near: list[str] = []
    others: list[str] = []
    for colour, _ in counts.most_common():
        apart = np.abs(known - np.array(tuple(bytes.fromhex(colour[1:])))).max(axis=1)
        nearest = int(apart.argmin())
        meant = "".join(f"{channel:02X}" for channel in known[nearest])
        if apart[nearest] > NEAR:
            others.append(colour)
        elif len(near) < SHOWN:
            near.append(f"{colour}: {names[nearest]} is #{meant}")
    hints = [f"mend the list or the files where they nearly agree ({', '.join(near)})"] if near else []
    if others:
        hints.append(
            f"use a list that has them too: as classes, of one (`# also: {labels.names[0]} {others[0]}`), or as void "
            f"by a line such as `# void: {others[0]}`"
        )
    return "; ".join(hints)


@lru_cache(maxsize=8)
def _id_table(labels: LabelSet) -> NDArray[np.int32]:
    """Class by stored id; -1 for an id without a meaning."""
    table = np.full(MAX_FILE_ID + 1, -1, np.int32)
    table[list(labels.ids or range(len(labels)))] = np.arange(len(labels))
    for place, value in labels.also_ids:
        table[value] = place
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
    further = [colour for _, colour in labels.also]
    packed = [(r << 16) | (g << 8) | b for r, g, b in (*labels.palette, *labels.void, *further)]
    void, also = [labels.ignore] * len(labels.void), [place for place, _ in labels.also]
    classes = np.array([*range(len(labels)), *void, *also], _dtype(labels))
    order = np.argsort(packed)
    return np.array(packed, np.uint32)[order], classes[order]


def _dtype(labels: LabelSet) -> type[np.integer]:
    return np.uint8 if max(len(labels) - 1, labels.ignore or 0) < 2**8 else np.int32


def _counted(counts: dict[str, int]) -> str:
    first = sorted(counts, key=lambda value: -counts[value])[:SHOWN]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{value} ({counts[value]} pixels)" for value in first) + more
