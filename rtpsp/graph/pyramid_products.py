"""A convolution of upsampled small maps as products of small matrices.

Tap (i, j) of a convolution reads its input shifted by the tap's offset, zero outside. The input being ``U p V^T``, with
the upsampling's matrices U and V and the small map p of h x w cells, the shift is one of U's and V's rows, and with the
tap's weights W_ij

    conv(U p V^T) = sum over i, j, r, s of  U_i[y, r] V_j[x, s] (W_ij p)[r, s]

The channels are mixed on the few cells, for all taps at once; the sums over (j, s) and then over (i, r) are two matrix
products. Their order, and channels last throughout, are what OpenVINO runs fastest: it takes the result into the other
convolution as a sum, without a copy. One product by the Kronecker matrix of both would need fewer nodes but ten
times the arithmetic and a constant of 20 MB for maps of 90x120.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.graph.pyramid_maps import Matrix, Upsampled
from rtpsp.graph.pyramid_nodes import Nodes

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution of stride 1.

    Attributes:
        kernel: Taps (down, across).
        dilations: Cells between taps.
        pads: Rows and columns of zeros before and after: (top, left, bottom, right), as in ONNX.
    """

    kernel: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def taps(self) -> int:
        """Taps in all."""
        return math.prod(self.kernel)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the result for an input of `size`."""
        height, width = (
            size[axis] + self.pads[axis] + self.pads[axis + 2] - self.dilations[axis] * (self.kernel[axis] - 1)
            for axis in (0, 1)
        )
        return height, width

    def shifted(self, matrix: Matrix, axis: int) -> Matrix:
        """What each tap sees of an upsampled axis.

        Args:
            matrix: [size, cells].
            axis: 0 down, 1 across.

        Returns:
            [taps, output size, cells]; rows in the padding are zero.
        """
        size = matrix.shape[0]
        length = self.output_size((size, size))[axis]
        views = np.zeros((self.kernel[axis], length, matrix.shape[1]))
        for tap, view in enumerate(views):
            start = tap * self.dilations[axis] - self.pads[axis]
            first, last = max(0, -start), min(length, size - start)
            if first < last:
                view[first:last] = matrix[first + start : last + start]
        return views


@dataclass(frozen=True)
class Branch:
    """An upsampled map and the slice of the convolution's weights that reads it.

    Attributes:
        upsampled: Source and matrices.
        weight: [M, C, kh, kw].
    """

    upsampled: Upsampled
    weight: FloatArray


def products_multiply_adds(
    cells: Sequence[tuple[int, int, int]], window: Window, size: tuple[int, int], out: int
) -> int:
    """Multiply-adds of what `add_products` makes.

    Args:
        cells: Channels, height and width of each small map.
        window: Of the convolution.
        size: Height and width of its result.
        out: Its output channels.
    """
    mixed = sum(math.prod(cell) for cell in cells) * window.taps
    strips = sum(window.kernel[0] * height for _, height, _ in cells)
    longest = max(window.kernel[1] * width for *_, width in cells)
    return out * (mixed + strips * size[1] * longest + size[0] * strips * size[1])


def add_products(nodes: Nodes, branches: Sequence[Branch], window: Window) -> ir.Value:
    """Adds the nodes that compute the convolution of all branches together, without bias.

    Args:
        nodes: Take what is added.
        branches: At least one; maps of one batch and full size.
        window: Of the convolution.

    Returns:
        float32 [N, M, H, W].
    """
    source = branches[0].upsampled.source
    assert source.shape is not None
    batch, out = int(source.shape.numpy()[0]), len(branches[0].weight)
    height, width = window.output_size((len(branches[0].upsampled.rows), len(branches[0].upsampled.columns)))
    mixed = []
    for index, branch in enumerate(branches):
        (rows, columns), channels = branch.upsampled.cells, branch.weight.shape[1]
        cells, mixes, name = rows * columns, window.taps * out, f"map{index}"
        shape = (batch, rows, columns, channels)
        last = nodes.add("Transpose", f"{name}/last", [branch.upsampled.source], shape, perm=[0, 2, 3, 1])
        listed = nodes.reshape(f"{name}/cells", last, batch, cells, channels)
        weight = nodes.keep(f"{name}/weight", branch.weight.transpose(1, 2, 3, 0).reshape(channels, mixes))
        mix = nodes.add("MatMul", f"{name}/mixed", [listed, weight], (batch, cells, mixes))
        mixed.append(nodes.reshape(f"{name}/taps", mix, batch, cells * window.taps, out))
    order, columns_of, rows_of = _layout(branches, window)
    strips, longest = order.shape
    total = sum(math.prod(branch.upsampled.cells) for branch in branches) * window.taps
    taps = nodes.add("Concat", "taps", mixed, (batch, total, out), axis=1) if len(mixed) > 1 else mixed[0]
    places = nodes.keep("order", order)
    gathered = nodes.add("Gather", "gathered", [taps, places], (batch, strips, longest, out), axis=1)
    across = nodes.add("MatMul", "across", [nodes.keep("columns", columns_of), gathered], (batch, strips, width, out))
    joined = nodes.reshape("strips", across, batch, strips, width * out)
    down = nodes.add("MatMul", "down", [nodes.keep("rows", rows_of), joined], (batch, height, width * out))
    pixels = nodes.reshape("pixels", down, batch, height, width, out)
    return nodes.add("Transpose", "planes", [pixels], (batch, out, height, width), perm=[0, 3, 1, 2])


def _layout(branches: Sequence[Branch], window: Window) -> tuple[npt.NDArray[np.int64], Matrix, Matrix]:
    """Which mixed cell each term of the sums takes, and with what weight.

    Returns:
        Positions in the list of mixed cells (branch, r, s, i, j), [K, L], K = sum of kh h, L = max of kw w: a line
        holds the (j, s) of one (branch, i, r), short ones are filled up with a cell whose weight is zero. The weights
        across, [K, W, L], and down, [H, K].
    """
    down, across = window.kernel
    longest = max(across * branch.upsampled.cells[1] for branch in branches)
    lines, weights, rows_of = [], [], []
    base = 0
    for branch in branches:
        rows, columns = branch.upsampled.cells
        count = rows * columns * window.taps
        places = np.arange(base, base + count, dtype=np.int64).reshape(rows, columns, down, across)
        order = places.transpose(2, 0, 3, 1).reshape(down * rows, across * columns)
        fill = longest - order.shape[1]
        lines.append(np.pad(order, ((0, 0), (0, fill)), mode="edge"))
        seen = window.shifted(branch.upsampled.columns, 1).transpose(1, 0, 2).reshape(-1, across * columns)
        weights.append(np.repeat(np.pad(seen, ((0, 0), (0, fill)))[None], down * rows, axis=0))
        rows_of.append(window.shifted(branch.upsampled.rows, 0).transpose(1, 0, 2).reshape(-1, down * rows))
        base += count
    return np.concatenate(lines), np.concatenate(weights), np.concatenate(rows_of, axis=1)
