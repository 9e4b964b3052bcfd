from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.calibration_cache import METHODS
from rtpsp.errors import UsageError
from rtpsp.graph.histogram import BINS, LEVELS, Histogram


def filled(*arrays: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        assert histogram.add(array.astype(np.float32))
    return histogram


def bell(count: int = 200_000, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


@given(st.lists(st.floats(2**-20, 2**20, width=32), min_size=1, max_size=12))
def test_no_value_is_lost_when_larger_ones_come(peaks: list[float]) -> None:
    """Bins join in pairs: the counts are those of a histogram that knew its end from the start."""
    arrays = [np.linspace(-peak, peak, 101, dtype=np.float32) for peak in peaks]
    histogram = filled(*arrays)
    values = np.abs(np.concatenate(arrays))
    assert histogram.counts.sum() == values.size
    assert histogram.peak == values.max() == histogram.amax("minmax")
    edge = BINS // 3 * histogram.top / BINS
    below = int((values < edge).sum())
    near = int((np.abs(values - edge) <= edge * 1e-5).sum())  # float32 may put a value on an edge into either bin
    assert abs(int(histogram.counts[: BINS // 3].sum()) - below) <= near


@pytest.mark.parametrize("method", METHODS)
def test_order_does_not_matter_much(method: str) -> None:
    small, large = bell(50_000), 3 * bell(50_000, 2)
    one, other = filled(small, large).amax(method), filled(large, small).amax(method)
    assert one == pytest.approx(other, rel=0.06)  # after doubling, half of the bins tell as much


def test_the_mean_squared_error_is_least() -> None:
    """By brute force over the values themselves, not their bins."""
    values = bell()

    def error(amax: float) -> float:
        step = amax / LEVELS
        return float(np.mean(np.square(values - np.clip(np.rint(values / step), -LEVELS, LEVELS) * step)))

    chosen = filled(values).amax("mse")
    candidates = np.linspace(0.3, 1.0, 200) * np.abs(values).max()
    assert error(chosen) <= 1.01 * min(error(float(candidate)) for candidate in candidates)
    assert chosen < 0.98 * np.abs(values).max()  # clipping the tail of a bell pays


def test_a_percentile_counts_all_values() -> None:
    values = np.concatenate([np.zeros(50_000, np.float32), np.linspace(0, 1, 50_001, dtype=np.float32)])
    assert filled(values).amax("percentile") == pytest.approx(1 - 0.0001 * 2, abs=2 / BINS)
    first_zeros = Histogram()
    assert first_zeros.add(np.zeros(50_000, np.float32)) and first_zeros.add(values[50_000:])
    assert first_zeros.amax("percentile") == pytest.approx(filled(values).amax("percentile"), abs=1 / BINS)


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
def test_one_outlier_does_not_decide(method: str) -> None:
    values = np.concatenate([bell(), np.array([100.0], np.float32)])
    histogram = filled(values)
    assert histogram.amax("minmax") == 100.0
    # half of its magnitude is where clipping it costs as much as a coarser step costs the 200,000 others
    assert 1.5 < histogram.amax(method) < (52 if method == "mse" else 30)


@pytest.mark.parametrize("method", METHODS)
def test_levels_that_fit_are_not_clipped(method: str) -> None:
    """Values on 64 steps of equal frequency: clipping any of them would lose more than it could win."""
    values = np.tile(np.arange(-64, 65, dtype=np.float32), 500)
    assert filled(values).amax(method) >= 60


def test_a_dead_tensor_has_no_range() -> None:
    histogram = filled(np.zeros(10, np.float32))
    assert {histogram.amax(method) for method in METHODS} == {0.0} and (histogram.low, histogram.high) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_counted(bad: float) -> None:
    histogram = Histogram()
    assert not histogram.add(np.array([1.0, bad], np.float32))
    assert histogram.counts.sum() == 0


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match="'best': use one of minmax, entropy, percentile, mse"):
        filled(bell(10)).amax("best")
