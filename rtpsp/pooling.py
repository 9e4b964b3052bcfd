"""Adaptive average pooling and bilinear upsampling as constant matrices, exact for every size.

Both operations are linear and separable, so for a static size each is one small matrix a spatial axis:
``pooled = P_h @ features @ P_w.T``. Exporters refuse or approximate the feature maps that the pyramid's bins do not
divide; as matrices every size is the same case.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pooling_matrix(size: int, bins: int) -> npt.NDArray[np.float32]:
    """The matrix that averages an axis of `size` cells into `bins` cells.

    Bin ``i`` covers the cells ``floor(i * size / bins)`` up to but not including ``ceil((i + 1) * size / bins)``, as in
    PyTorch's ``adaptive_avg_pool2d`` (``aten/src/ATen/native/AdaptivePooling.h``); neighbours overlap by a cell where
    the bins do not divide the axis.

    Args:
        size: Cells of the axis, at least 1.
        bins: Cells to average them into, at least 1; may exceed `size`.

    Returns:
        float32 [bins, size]; each row sums to 1.

    Raises:
        ValueError: `size` or `bins` is below 1.
    """
    if size < 1 or bins < 1:
        raise ValueError(f"pooling of {size} cells into {bins} bins: both must be at least 1")
    matrix = np.zeros((bins, size), np.float32)
    for row in range(bins):
        start, stop = row * size // bins, -(-(row + 1) * size // bins)
        matrix[row, start:stop] = 1.0 / (stop - start)
    return matrix


def bilinear_matrix(size: int, target: int) -> npt.NDArray[np.float32]:
    """The matrix that interpolates an axis of `size` cells to `target` cells, half-pixel centres.

    Output cell ``i`` samples the input at ``(i + 0.5) * size / target - 0.5``, clamped to the first and last centre:
    ONNX ``Resize`` with ``mode=linear``, ``coordinate_transformation_mode=half_pixel``, and PyTorch's ``interpolate``
    with ``align_corners=False``.

    Args:
        size: Cells of the axis, at least 1.
        target: Cells wanted, at least 1.

    Returns:
        float32 [target, size]; each row sums to 1.

    Raises:
        ValueError: `size` or `target` is below 1.
    """
    if size < 1 or target < 1:
        raise ValueError(f"interpolation of {size} cells to {target}: both must be at least 1")
    position = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    left = np.floor(position).astype(np.int64)
    right = np.minimum(left + 1, size - 1)
    weight = position - left
    matrix = np.zeros((target, size), np.float64)
    rows = np.arange(target)
    np.add.at(matrix, (rows, left), 1.0 - weight)
    np.add.at(matrix, (rows, right), weight)
    return matrix.astype(np.float32)
