"""The class map of interpolated scores, without interpolating most of them.

Bilinear interpolation is a convex combination of the four cells around a pixel. So,

- where those four share their best class, every pixel between them has it too, and nothing is interpolated;
- elsewhere a class whose four scores all lie below the least of another's four is the largest at no pixel between
  them. Of 150 classes two or three are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap
from rtpsp.upsampling import Axis, Grid, Scores

_BLOCK_FLOATS = 1 << 16
"""Pixels interpolated at once: they stay in the second-level cache, and below the size at which OpenBLAS wakes its
threads (2**18 multiplications), whose cores the runtime beside us needs."""


class ClassMapper:
    """`rtpsp.upsampling.reference_class_map` for one geometry; what does not depend on the scores is worked out once.

    In float32: where two scores differ by rounding alone, either may win. It is for one thread at a time.

    Args:
        grid: Geometry.
        dtype: Of the class map: ``uint8`` or ``int32``.
    """

    def __init__(self, grid: Grid, dtype: str = "uint8") -> None:
        self.grid = grid
        self._dtype = np.dtype(dtype)
        self._rows, self._columns = _Blocks(grid.rows), _Blocks(grid.columns)
        # A block's scores are linear in each direction: a mixture of those at its corners.
        down, across = (np.linspace(0, 1, blocks.longest) for blocks in (self._rows, self._columns))
        corners = ((1 - down, 1 - across), (1 - down, across), (down, 1 - across), (down, across))
        self._mixture = np.array([np.outer(*corner).ravel() for corner in corners], np.float32)
        pixels = self._mixture.shape[1]
        self._at_once = max(1, _BLOCK_FLOATS // pixels)
        shape = (self._at_once, pixels)
        self._best, self._challenger = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._ids, self._change = np.empty(shape, self._dtype), np.empty(shape, self._dtype)
        self._better = np.empty(shape, np.bool_)
        self._whole = all(axis.first == 0 and axis.step == 1 for axis in (grid.rows, grid.columns))

    def __call__(self, scores: Scores, out: ClassMap | None = None) -> ClassMap:
        """The class map of one image.

        Args:
            scores: float32 [classes, h, w], C-contiguous.
            out: [height, width] of the mapper's type to write into.

        Returns:
            `out`, or a new array.

        Raises:
            ValueError: An array has another shape or type.
        """
        out = np.empty(self.grid.size, self._dtype) if out is None else out
        if scores.shape[1:] != self.grid.cells or scores.dtype != np.float32 or not scores.flags.c_contiguous:
            raise ValueError(f"scores are {scores.dtype} {list(scores.shape)}, expected {[-1, *self.grid.cells]}")
        if out.shape != self.grid.size or out.dtype != self._dtype:
            raise ValueError(f"out is {out.dtype} {list(out.shape)}, expected {self._dtype} {list(self.grid.size)}")
        if not out.flags.c_contiguous:
            out[...] = self(scores)
            return out
        winners = _argmax(scores, self._dtype)
        if self._whole and self.grid.cells == self.grid.size:
            out[...] = winners
            return out
        winners = winners[self._rows.cells][
            :, self._columns.cells
        ]  # cells at the edge twice: beyond it nothing changes
        corner = winners[:-1, :-1]
        np.take(corner[:, self._columns.of_pixel], self._rows.of_pixel, axis=0, out=out)
        mixed = (corner != winners[:-1, 1:]) | (corner != winners[1:, :-1]) | (corner != winners[1:, 1:])
        rows, columns = np.nonzero(mixed & self._rows.used[:, np.newaxis] & self._columns.used)
        if not len(rows):
            return out
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # of infinite scores there is no mean, but a map all the same
            self._interpolate(scores, winners, rows, columns, out)
        return out

    def _interpolate(
        self,
        scores: Scores,
        winners: NDArray[Any],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        out: ClassMap,
    ) -> None:
        """Writes the blocks between cells of different winners; `winners` has the cells at the edges twice."""
        flat = scores.reshape(len(scores), -1)
        above, below, left, right = (
            blocks.cells[index + side] for blocks, index in ((self._rows, rows), (self._columns, columns))
            for side in (0, 1)
        )  # fmt: skip
        across = self.grid.cells[1]
        places = np.stack(
            [above * across + left, above * across + right, below * across + left, below * across + right]
        )
        champions = np.stack([winners[rows + down, columns + side] for down in (0, 1) for side in (0, 1)])
        least = flat[champions[:, np.newaxis], places].min(axis=1).max(axis=0)
        flat, classes = self._contenders(flat, least, rows, columns)
        for start in range(0, len(rows), self._at_once):
            some = slice(start, start + self._at_once)
            order, ids = self._decide(
                flat.take(places[:, some], axis=1), classes, least[some], rows[some], columns[some]
            )
            self._write(ids, rows[some][order], columns[some][order], out)

    def _contenders(
        self, flat: NDArray[np.float32], least: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """The classes that reach the least winning score at a corner of some block: their scores, their ids."""
        height, width = self.grid.cells
        needed = np.full((height + 1, width + 1), np.inf, np.float32)
        needed[rows, columns] = least
        lowest = np.minimum(np.minimum(needed[:-1, :-1], needed[:-1, 1:]), np.minimum(needed[1:, :-1], needed[1:, 1:]))
        contends = ~(flat < lowest.ravel()).all(axis=1)
        return flat[contends], np.flatnonzero(contends).astype(self._dtype)

    def _decide(
        self,
        corners: NDArray[np.float32],
        classes: NDArray[Any],
        least: NDArray[np.float32],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
    ) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Class ids of the pixels of some blocks [n, pixels], and in which order the blocks stand there.

        Blocks of many contenders come first, so that those with a second one, a third one, are the first so many.
        """
        contends = ~(corners.max(axis=1) < least)
        counts = contends.sum(axis=0)
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
        block, contender = np.nonzero(contends[:, order].T)  # those of a block one after the other, lower ids first
        first = np.cumsum(counts) - counts
        ends: NDArray[np.float32] = corners[contender, :, order[block]].reshape(-1, 2, 2)
        down = self._rows.weights[rows[order]][block][:, :, np.newaxis]
        across = self._columns.weights[columns[order]][block][:, np.newaxis]
        ends = ends[:, :1] + down * (ends[:, 1:] - ends[:, :1])
        ends = (ends[..., :1] + across * (ends[..., 1:] - ends[..., :1])).reshape(-1, 4)
        ids = classes[contender][:, np.newaxis]
        np.matmul(ends[first], self._mixture, out=self._best[: len(order)])
        self._ids[: len(order)] = ids[first]
        for rank in range(1, int(counts[0])):
            number = int(np.searchsorted(-counts, -rank))
            these = first[:number] + rank
            best, challenger, better = self._best[:number], self._challenger[:number], self._better[:number]
            np.matmul(ends[these], self._mixture, out=challenger)
            np.greater(challenger, best, out=better)
            np.maximum(best, challenger, out=best)
            # Where better, take the challenger's id; by bits that is many times faster than a masked copy.
            change = np.bitwise_xor(self._ids[:number], ids[these], out=self._change[:number])
            np.multiply(change, better, out=change)
            self._ids[:number] ^= change
        return order, self._ids[: len(order)]

    def _write(self, ids: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp], out: ClassMap) -> None:
        """Puts blocks of class ids [n, pixels] where they belong, a run of pixels at a time."""
        tall, wide = self._rows.longest, self._columns.longest
        step = np.arange(tall)
        inside = step < self._rows.counts[rows][:, np.newaxis]
        begin = (self._rows.first[rows][:, np.newaxis] + step) * self.grid.columns.pixels
        begin += self._columns.first[columns][:, np.newaxis]
        lengths = self._columns.counts[columns]
        for length in self._columns.lengths:
            chosen = np.flatnonzero(inside & (lengths == length)[:, np.newaxis])
            target, given = _runs(out, length, 1), _runs(ids, length, wide)
            target[begin.ravel()[chosen]] = given[chosen]


class _Blocks:
    """The pixels of an axis by the gap between two cells that they lie in; before the first cell and after the last,
    too, where both cells are the same one."""

    def __init__(self, axis: Axis) -> None:
        self.cells = np.clip(np.arange(-1, axis.cells + 1), 0, axis.cells - 1)  # around each gap: this one and the next
        self.of_pixel = np.floor(axis.positions).astype(np.intp) + 1
        self.counts = np.bincount(self.of_pixel, minlength=axis.cells + 1)
        self.used = self.counts > 0
        self.first = np.cumsum(self.counts) - self.counts
        self.lengths = [int(length) for length in np.unique(self.counts) if length]
        self.longest = self.lengths[-1]
        # Weights of the latter cell at the first pixel, and at the last of the longest block: shorter ones overhang.
        start = axis.first + axis.step * self.first - (np.arange(axis.cells + 1) - 1)
        self.weights = np.stack([start, start + axis.step * (self.longest - 1)], axis=1).astype(np.float32)


def _argmax(scores: Scores, dtype: np.dtype[Any]) -> NDArray[Any]:
    """argmax over the classes [h, w], several times faster than NumPy's along an axis that is not the last."""
    top = 255 if len(scores) < 256 else 65535
    rank = (top - np.arange(len(scores))).astype(np.min_scalar_type(top))
    largest = (scores == scores.max(axis=0)).view(np.uint8) * rank[:, np.newaxis, np.newaxis]
    winners: NDArray[Any] = np.minimum(top - largest.max(axis=0), len(scores) - 1)  # among NaNs none is the largest
    return winners.astype(dtype)


def _runs(pixels: NDArray[Any], length: int, step: int) -> NDArray[np.void]:
    """Every `step`-th pixel of an array as a run of `length` of them, to be moved as one element; they may overlap."""
    size = pixels.itemsize
    count = (pixels.size - length) // step + 1
    return np.ndarray((count,), f"V{length * size}", pixels, 0, (step * size,))
