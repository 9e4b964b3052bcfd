"""What a network's scores mean between its cells, at any size and place: bilinear interpolation, then the largest.

A segmentation network scores cells of some 8x8 pixels. `reference_class_map` defines the class map of finer pixels, of
the model's size or of the frame's own; `rtpsp.class_mapper` gives the same one faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import Image

Scores = NDArray[np.float32]
"""float32 [classes, h, w]: one image's scores, unnormalised."""

_BAND_FLOATS = 1 << 16
"""Scores interpolated at once for a confidence: they stay in the second-level cache."""


@dataclass(frozen=True)
class Axis:
    """Where the pixels of a row or column lie among its cells, evenly spaced.

    Attributes:
        cells: How many cells the scores have, at least 1.
        pixels: How many pixels are wanted, at least 1.
        first: Position of the first pixel's centre in cells; 0.0 is the first cell's centre. What lies before it, or
            beyond the last cell's centre, takes that cell's score.
        step: Cells from one pixel to the next, above 0.
    """

    cells: int
    pixels: int
    first: float
    step: float

    def __post_init__(self) -> None:
        if self.cells < 1 or self.pixels < 1 or not self.step > 0:
            raise ValueError(f"{self.pixels} pixels, one each {self.step:g} of {self.cells} cells: expected 1 or more")

    @classmethod
    def whole(cls, cells: int, pixels: int) -> Axis:
        """The pixels cover the cells: ONNX ``Resize`` with ``half_pixel`` coordinates, PyTorch's ``interpolate``."""
        return cls.part(cells, pixels, 0.0, 1.0)

    @classmethod
    def part(cls, cells: int, pixels: int, start: float, stop: float) -> Axis:
        """The pixels cover a part of the cells, `start` to `stop` of 0..1."""
        step = (stop - start) * cells / pixels
        return cls(cells, pixels, start * cells + step / 2 - 0.5, step)

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """float64 [pixels]: centres of the pixels in cells, -0.5 to cells - 0.5; cells beyond either end repeat."""
        return np.clip(self.first + self.step * np.arange(self.pixels), -0.5, self.cells - 0.5)

    def neighbours(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """The cell before each pixel's centre, the one after it, and the weight of the latter: each [pixels]."""
        gap = np.floor(self.positions)
        before, after = (np.clip(gap + side, 0, self.cells - 1).astype(np.intp) for side in (0, 1))
        return before, after, self.positions - gap

    def matrix(self) -> NDArray[np.float64]:
        """The interpolation as a matrix, float64 [pixels, cells]; rows sum to 1."""
        before, after, weight = self.neighbours()
        matrix, rows = np.zeros((self.pixels, self.cells)), np.arange(self.pixels)
        np.add.at(matrix, (rows, before), 1 - weight)
        np.add.at(matrix, (rows, after), weight)
        return matrix


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a class map lie among the cells of the scores.

    Attributes:
        rows: Down.
        columns: Across.
    """

    rows: Axis
    columns: Axis

    @classmethod
    def whole(cls, cells: tuple[int, int], size: tuple[int, int]) -> Grid:
        """A class map of `size` (height, width) over all cells (h, w)."""
        return cls(*(Axis.whole(count, pixels) for count, pixels in zip(cells, size, strict=True)))

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w) of the scores."""
        return self.rows.cells, self.columns.cells

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the class map."""
        return self.rows.pixels, self.columns.pixels


def upsample(scores: Scores, grid: Grid) -> NDArray[np.float64]:
    """Bilinear interpolation, by definition.

    Args:
        scores: float32 [classes, h, w].
        grid: Of the same h and w.

    Returns:
        float64 [classes, height, width].
    """
    full: NDArray[np.float64] = grid.rows.matrix() @ scores.astype(np.float64) @ grid.columns.matrix().T
    return full


def reference_class_map(scores: Scores, grid: Grid) -> NDArray[np.intp]:
    """The class map by definition: the class of the largest interpolated score; of equal ones the lowest id.

    Args:
        scores: float32 [classes, h, w].
        grid: Of the same h and w.

    Returns:
        intp [height, width].
    """
    class_map: NDArray[np.intp] = upsample(scores, grid).argmax(axis=0)
    return class_map


def confidence_map(scores: Scores, grid: Grid, out: Image | None = None) -> Image:
    """The softmax of the largest interpolated score at every pixel, in steps of 1/255.

    There is no shortcut: every class has its share at every pixel. It is max exp(x) / sum exp(x), as
    1 / sum exp(x - max x), which no score can make overflow.

    Args:
        scores: float32 [classes, h, w].
        grid: Of the same h and w.
        out: uint8 [height, width] to write into.

    Returns:
        `out`, or a new array: 255 p rounded.
    """
    out = np.empty(grid.size, np.uint8) if out is None else out
    # Not as a product of matrices: OpenBLAS would wake its threads, and wait for cores that the runtime beside us has.
    before, after, weight = grid.columns.neighbours()
    wide = scores.take(before, axis=2)
    wide += weight.astype(np.float32) * (scores.take(after, axis=2) - wide)  # [classes, h, width]
    before, after, weight = grid.rows.neighbours()
    lower = weight.astype(np.float32)[:, np.newaxis]
    height, width = grid.size
    band = max(1, _BAND_FLOATS // (len(scores) * width))
    buffers = np.empty((2, len(scores) * min(band, height) * width), np.float32)
    for start in range(0, height, band):
        rows = slice(start, min(start + band, height))
        shape = (len(scores), rows.stop - start, width)
        full, next_row = (buffer[: shape[0] * shape[1] * width].reshape(shape) for buffer in buffers)
        wide.take(before[rows], axis=1, out=full, mode="clip")  # any other mode would copy the output first
        wide.take(after[rows], axis=1, out=next_row, mode="clip")
        next_row -= full
        next_row *= lower[rows]
        full += next_row
        full -= full.max(axis=0)
        np.exp(full, out=full)
        out[rows] = np.rint(np.float32(255) / full.sum(axis=0))
    return out
