from __future__ import annotations

import json
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.bench import ratios
from rtpsp.bench.ratios import PairRatio, block_length, bootstrap_median


def noise(seed: int, count: int, memory: float) -> NDArray[np.float64]:
    """A series around 0 of which each value remembers a share of the one before it: AR(1), stationary."""
    generator = np.random.default_rng(seed)
    shocks = generator.normal(0, 1, count + 100)
    values = np.zeros(count + 100)
    for place in range(1, count + 100):
        values[place] = memory * values[place - 1] + shocks[place]
    return values[100:]


def coverage(memory: float, count: int = 120, runs: int = 80) -> float:
    """How often the true median lies in the interval."""
    return (
        sum(0.0 in interval for seed in range(runs) if (interval := bootstrap_median(list(noise(seed, count, memory)))))
        / runs
    )


def test_a_ratio_is_of_pairs_and_not_of_medians() -> None:
    # The machine slows down for both in the second half: every pair says 2, the medians of the sides say otherwise.
    second = [0.010] * 5 + [0.100] * 5
    first = [0.020] * 5 + [0.200] * 5
    assert PairRatio.of(first, second).median == pytest.approx(2)
    found = PairRatio.of(first, second)
    assert found.interval is not None and (found.interval.low, found.interval.high) == pytest.approx((2, 2))


def test_one_long_frame_does_not_move_it() -> None:
    first, second = [0.039] * 50, [0.010] * 50
    second[20] = 3.0
    found = PairRatio.of(first, second)
    assert (
        found.median == pytest.approx(3.9) and found.interval is not None and found.interval.low == pytest.approx(3.9)
    )


def test_percentiles_are_given_where_ten_pairs_lie_beyond() -> None:
    values = [1 + 0.01 * place for place in range(100)]
    found = PairRatio.of(values, [1.0] * 100)
    assert found.count == 100 and found.p10 == pytest.approx(1.099) and found.p90 == pytest.approx(1.891)
    few = PairRatio.of(values[:99], [1.0] * 99)
    assert few.p10 is None and few.p90 is None and few.p25 is not None
    fewer = PairRatio.of(values[:39], [1.0] * 39)
    assert fewer.p25 is None and fewer.interval is not None


def test_words_and_json() -> None:
    few = PairRatio.of([3.9, 3.9], [1.0, 1.0])
    assert few.words() == "3.90x" and few.to_dict()["interval"] is None
    generator = random.Random(1)
    many = PairRatio.of([3.9 + generator.uniform(-0.1, 0.1) for _ in range(60)], [1.0] * 60)
    assert many.interval is not None
    assert many.words() == f"{many.median:.2f}x ({many.interval.low:.2f} to {many.interval.high:.2f})"
    told = json.loads(json.dumps(many.to_dict()))
    assert list(told) == ["count", "median", "p10", "p25", "p75", "p90", "interval"]
    assert told["interval"][0] <= told["median"] <= told["interval"][1]


def test_nothing_and_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        PairRatio.of([], [])
    with pytest.raises(ValueError, match="argument 2"):
        PairRatio.of([1.0, 2.0], [1.0])


def test_the_same_seed_gives_the_same_interval() -> None:
    values = list(noise(1, 80, 0.5))
    assert bootstrap_median(values, 3) == bootstrap_median(values, 3)
    assert bootstrap_median(values, 3) != bootstrap_median(values, 4)
    assert bootstrap_median(values[:5]) is None and bootstrap_median(values[:6]) is not None


def test_an_interval_narrows_with_the_root_of_the_samples() -> None:
    few, many = bootstrap_median(list(noise(2, 100, 0.0))), bootstrap_median(list(noise(2, 1600, 0.0)))
    assert few is not None and many is not None
    assert 2.5 < (few.high - few.low) / (many.high - many.low) < 6.5  # 4, but for chance


def test_it_holds_the_truth_where_noise_remembers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratios, "RESAMPLES", 400)  # enough for ends that are off by a tenth of the interval
    assert coverage(memory=0.0) >= 0.9
    assert coverage(memory=0.7) >= 0.85
    monkeypatch.setattr(ratios, "block_length", lambda values: 1)
    assert coverage(memory=0.7) < 0.75, "single values drawn again: what the blocks are for"


def test_blocks_grow_with_memory_and_are_never_more_than_a_quarter() -> None:
    assert block_length(noise(3, 1000, 0.0)) == 10
    assert block_length(noise(3, 1000, 0.5)) < block_length(noise(3, 1000, 0.9)) <= 250
    assert block_length([1.0] * 8) == 2 and block_length(list(range(40))) == 10
