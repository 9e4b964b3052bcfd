"""Pooling and upsampling matrices against PyTorch's own operations."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.pooling import bilinear_matrix, pooling_matrix


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooling_equals_adaptive_average_for_every_size(bins: int) -> None:
    torch = pytest.importorskip("torch")
    for size in [*range(1, 70), 89, 90, 120, 128, 179]:
        values = np.random.default_rng(size).normal(size=(1, 1, size)).astype(np.float32)
        expected = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(values), bins).numpy()
        np.testing.assert_allclose(values @ pooling_matrix(size, bins).T, expected, atol=1e-6, err_msg=f"size {size}")


@pytest.mark.parametrize(
    ("size", "target"), [(1, 45), (2, 45), (3, 60), (6, 64), (6, 90), (45, 360), (90, 713), (7, 3)]
)
def test_bilinear_equals_interpolate(size: int, target: int) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(size).normal(size=(1, 1, size)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(values), target, mode="linear").numpy()
    np.testing.assert_allclose(
        values @ bilinear_matrix(size, target).T, expected, atol=3e-5
    )  # PyTorch places the samples in float32


def test_rows_are_averages() -> None:
    for size, bins in [(45, 6), (90, 6), (5, 6), (64, 3)]:
        np.testing.assert_allclose(pooling_matrix(size, bins).sum(axis=1), 1.0, rtol=1e-6)
        assert np.count_nonzero(pooling_matrix(size, bins).sum(axis=0)) == size


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 0)])
def test_refuses_nothing(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        pooling_matrix(size, count)
    with pytest.raises(ValueError, match="at least 1"):
        bilinear_matrix(size, count)
