"""Which frames of many a calibration set takes: those that differ most from each other.

Ranges of activations are set by what a network sees at its extremes, and a drive is mostly more of the same: taken
evenly by time, frames are dull ones, and a scene of a second is missed. So each candidate is described by some hundred
numbers, and frames are chosen by farthest points among these:

    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985

whose largest distance from any candidate to its nearest chosen one is at most twice the least possible. Descriptions
are whole numbers, so that distances are exact and a choice is the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import Image

Description: TypeAlias = NDArray[np.int16]
"""int16 [DESCRIPTION_LENGTH]: in cells of a grid CIE L*, a*, b* and the strength of edges, in `UNIT`s."""

HOW = "farthest points (Gonzalez 1985) by L*a*b* and edges on a grid of 12x16"
"""In the words of a manifest."""

GRID = (12, 16)  # rows, columns: a car, a tree, a strip of sky
FINE = 8  # pixels a cell in which edges are looked for: 96x128
DESCRIPTION_LENGTH = 4 * GRID[0] * GRID[1]
UNIT = 0.25  # of a just noticeable difference, which is about 1 in L*a*b*
CANDIDATES = 4096
"""Most frames that are described, 6 MB in all; of a longer source every second, fourth, … is."""

_T = TypeVar("_T")


def describe(image: Image) -> Description:
    """A picture in few numbers, such that the distance of two says how different they look.

    Args:
        image: uint8 [H, W, 3] BGR of any size.

    Returns:
        The mean of L*, a* and b* in each cell, and the root mean square of L*'s gradient, per pixel of a picture of
        96x128: how rough a surface is, not only how bright.
    """
    import cv2

    rows, columns = GRID
    fine = cv2.resize(image, (columns * FINE, rows * FINE), interpolation=cv2.INTER_AREA)
    unit = np.asarray(fine, np.float32) / np.float32(255)
    lab = np.asarray(cv2.cvtColor(unit, cv2.COLOR_BGR2LAB), np.float32)
    down, right = np.gradient(lab[..., 0])
    parts = np.dstack([lab, down**2 + right**2]).reshape(rows, FINE, columns, FINE, 4).mean(axis=(1, 3))
    parts[..., 3] = np.sqrt(parts[..., 3])
    return np.asarray(np.rint(parts / UNIT), np.int16).ravel()


def farthest_points(descriptions: Sequence[Description], count: int) -> list[int]:
    """The numbers of the chosen ones, rising.

    The first is the one nearest to the mean; then, each time, the one that is farthest from all that are chosen.

    Args:
        descriptions: Of the candidates.
        count: How many to choose. All are taken if there are no more. Of candidates that are described alike one is
            enough, so that there may be fewer.
    """
    if len(descriptions) <= count:
        return list(range(len(descriptions)))
    points = np.asarray(descriptions, np.int32)
    middle = np.rint(points.mean(axis=0)).astype(np.int32)
    chosen = [int(np.argmin(_squares(points, middle)))]
    nearest = _squares(points, points[chosen[0]])
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(np.argmax(nearest)))
        np.minimum(nearest, _squares(points, points[chosen[-1]]), out=nearest)
    return sorted(chosen)


class Thinned(Generic[_T]):
    """Candidates of a source of unknown length: evenly spaced, and never more than a limit.

    When there are too many, every second is forgotten, and from then on only every second is asked for.

    Attributes:
        stride: Each how many-th frame is a candidate, as far as is known.
        items: The candidates so far.
    """

    def __init__(self, limit: int) -> None:
        self.stride = 1
        self.items: list[_T] = []
        self._limit = limit

    def wants(self, position: int) -> bool:
        """Whether the frame at this place in the source, from 0, is a candidate."""
        return position % self.stride == 0

    def add(self, item: _T) -> None:
        """Take one that is wanted."""
        self.items.append(item)
        if len(self.items) > self._limit:
            self.items = self.items[::2]
            self.stride *= 2


class Reservoir:
    """Farthest points of a source that cannot be read again: what is not kept is lost.

    While it is full, of the two that are nearest to each other the later one goes; so the least distance within it only
    grows, and a rare frame stays. It needs `size`² distances and no frame.
    """

    def __init__(self, size: int) -> None:
        self._points = np.zeros((size + 1, DESCRIPTION_LENGTH), np.int32)
        self._distances = np.full((size + 1, size + 1), np.iinfo(np.int64).max)
        self._order: list[int] = []  # places in the two above, oldest first
        self._free = list(range(size + 1))

    def add(self, description: Description) -> int | None:
        """Take one more, and tell which goes for it: its place among those that are kept; None while there is room.

        They are in the order in which they came, the new one being the last.
        """
        place = self._free.pop()
        self._points[place] = description
        others = np.array(self._order, np.intp)
        self._distances[place] = self._distances[:, place] = np.iinfo(np.int64).max
        if len(others):
            squares = _squares(self._points[others], self._points[place])
            self._distances[place, others] = self._distances[others, place] = squares
        self._order.append(place)
        if self._free:
            return None
        first, second = np.unravel_index(np.argmin(self._distances), self._distances.shape)
        goes = max(self._order.index(int(first)), self._order.index(int(second)))
        gone = self._order.pop(goes)
        self._distances[gone] = self._distances[:, gone] = np.iinfo(np.int64).max
        self._free.append(gone)
        return goes


def _squares(points: NDArray[np.int32], point: NDArray[np.int32]) -> NDArray[np.int64]:
    difference = points - point
    return np.asarray(np.einsum("ij,ij->i", difference, difference, dtype=np.int64))
