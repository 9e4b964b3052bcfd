"""What a label set says of label files has to give each of their colours and ids one meaning."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rtpsp.errors import InputError
from rtpsp.label_sets import MAX_FILE_ID

if TYPE_CHECKING:
    from rtpsp.labels import LabelSet


def check_files(labels: LabelSet) -> None:
    """Make sure of it.

    Raises:
        InputError: A colour or an id of two meanings or out of range, or void without an id of its own.
    """
    name, classes = f"label set {labels.name!r}", len(labels.names)
    if (labels.void or labels.void_ids) and labels.ignore is None:
        raise InputError(f"{name} has void, but no id for it: say which, as `# ignore: 255`")
    both = [colour for colour in labels.void if colour in labels.palette]
    if both:
        what = labels.names[labels.palette.index(both[0])]
        raise InputError(f"{name} has colour {both[0]} for void and for {what!r}: leave one out")
    if labels.ids and len(labels.ids) != classes:
        raise InputError(f"{name}: {len(labels.ids)} ids for {classes} classes: give one a class")
    absent = [place for place, _ in (*labels.also, *labels.also_ids) if not 0 <= place < classes]
    if absent:
        raise InputError(f"{name} has further colours or ids of class {absent[0]}, expected 0 to {classes - 1}")
    further = [colour for _, colour in labels.also]
    beyond = [colour for colour in further if not all(0 <= channel <= 255 for channel in colour)]
    if beyond:
        raise InputError(f"{name} has colour {beyond[0]}, expected red, green, blue of 0 to 255")
    once = {*labels.palette, *labels.void}
    for colour in further:
        if colour in once:
            raise InputError(f"{name} gives colour {colour} two meanings: leave one out")
        once.add(colour)
    _check_ids(labels, name)


def _check_ids(labels: LabelSet, name: str) -> None:
    further = [value for _, value in labels.also_ids]
    strange = [value for value in (*labels.ids, *labels.void_ids, *further) if not 0 <= value <= MAX_FILE_ID]
    if strange:
        raise InputError(f"{name} has id {strange[0]} in files, expected 0 to {MAX_FILE_ID}")
    counted = Counter((*(labels.ids or range(len(labels.names))), *labels.void_ids, *further))
    if not labels.ids and labels.ignore in further:
        counted[labels.ignore] += 1  # which is void there
    several = [str(value) for value, count in counted.items() if count > 1]
    if several:
        raise InputError(f"{name} gives id {', '.join(several[:5])} two meanings: leave one out")
