"""Which frames of a data set follow each other in time, told from their names.

A frame's number says when it was taken: of ``0016E5_07959.png`` and ``0016E5_07961.png`` the last one rises by 2. Two
neighbours belong to one run where their names differ in a single number, which rises by the run's usual step or less;
anything else, such as another drive's name or frames that are left out, begins a new run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rtpsp.errors import DataError


@dataclass(frozen=True)
class Run:
    """Frames that follow each other.

    Attributes:
        start: Place of the first one in the data set.
        stop: Place after the last one.
        step: By how much their number usually rises; 0 for a single frame.
    """

    start: int
    stop: int
    step: int


class _Rise(NamedTuple):
    """From one name to the next: which of its numbers changes, and by how much."""

    place: int
    by: int


def find_runs(names: Sequence[str]) -> tuple[Run, ...]:
    """Split a data set into runs; a frame that has no neighbour is a run of its own.

    Args:
        names: Of all frames, in the data set's order.

    Raises:
        DataError: A frame stands after a later one of its run, or no two frames follow each other.
    """
    pairs = list(pairwise(names))
    rises = [_rise(*pair) for pair in pairs]
    for (before, after), rise in zip(pairs, rises, strict=True):
        if rise is not None and rise.by <= 0:
            raise DataError(
                f"{after} comes after {before}, expected frames in the order of time: list them in this order, or fill "
                "their numbers up with zeros, since a folder is read by name"
            )
    runs: list[Run] = []
    start, place, steps = 0, 0, list[int]()
    for number, rise in enumerate([*rises, None], 1):
        if rise is not None and (not steps or rise.place == place):
            place = rise.place
            steps.append(rise.by)
        else:
            runs += _split(start, steps)
            start, steps = number, []
    if all(run.stop - run.start < 2 for run in runs):
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        raise DataError(
            f"no two of {len(names)} frames ({shown}) follow each other, expected those of a video: names alike but "
            "for one number that rises, such as drive_0017.png and drive_0018.png"
        )
    return tuple(runs)


def _split(start: int, steps: Sequence[int]) -> list[Run]:
    """Frames whose names differ in one and the same number, split where that rises by more than it usually does."""
    counts = Counter(steps)
    usual = min(counts, key=lambda step: (-counts[step], step), default=0)
    edges = [0, *(place for place, step in enumerate(steps, 1) if step > usual), len(steps) + 1]
    return [Run(start + first, start + last, usual if last - first > 1 else 0) for first, last in pairwise(edges)]


def _rise(before: str, after: str) -> _Rise | None:
    """None for names that differ in more than a number, or in several."""
    first, second = (re.split(r"([0-9]+)", name) for name in (before, after))
    if len(first) != len(second) or first[::2] != second[::2]:
        return None
    rises = [int(b) - int(a) for a, b in zip(first[1::2], second[1::2], strict=True)]
    changed = [place for place, by in enumerate(rises) if by]
    if len(changed) > 1:
        return None
    return _Rise(changed[0], rises[changed[0]]) if changed else _Rise(0, 0)
