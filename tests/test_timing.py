from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest

from rtpsp import timing
from rtpsp.timing import Rate, RecentRate, Series, quantile, summarise


def stamps_of(gaps: list[float], first: float = 1000.0) -> list[float]:
    stamps = [first]
    for gap in gaps:
        stamps.append(stamps[-1] + gap)
    return stamps


def rate_of(stamps: list[float]) -> float | None:
    rate = Rate()
    for stamp in stamps:
        rate.add(stamp)
    return rate.fps


def recent_rate_of(stamps: list[float], window: float = 2.0) -> float | None:
    rate = RecentRate(window)
    for stamp in stamps:
        rate.add(stamp)
    return rate.fps


def test_the_clock_is_the_monotonic_one() -> None:
    assert timing.now is time.monotonic


# --- rates -----------------------------------------------------------------------------------------------------------


def test_nine_gaps_of_10_ms_and_one_of_110_ms_are_50_fps() -> None:
    stamps = stamps_of([0.010] * 9 + [0.110])
    assert rate_of(stamps) == pytest.approx(50)
    assert recent_rate_of(stamps) == pytest.approx(50)


def test_the_order_of_gaps_does_not_matter() -> None:
    gaps = [0.010] * 9 + [0.110]
    for place in range(10):
        gaps[place], gaps[-1] = gaps[-1], gaps[place]
        assert rate_of(stamps_of(gaps)) == pytest.approx(50)


def test_n_events_have_n_minus_one_gaps() -> None:
    assert rate_of(stamps_of([1 / 30] * 30)) == pytest.approx(30)
    assert rate_of([5.0, 5.5]) == pytest.approx(2)


def test_bursts_count_by_the_time_they_take() -> None:
    # Every second ten frames come at once: 11 bursts over 10 s.
    stamps = [1000.0 + second for second in range(11) for _ in range(10)]
    assert rate_of(stamps) == pytest.approx(109 / 10)
    assert recent_rate_of(stamps, 2.0) == pytest.approx(29 / 2)


@pytest.mark.parametrize("stamps", [[], [7.0], [7.0, 7.0, 7.0]])
def test_no_rate_without_time_between_two_events(stamps: list[float]) -> None:
    assert rate_of(stamps) is None
    assert recent_rate_of(stamps) is None


def test_a_rate_knows_its_events_and_the_time_they_took() -> None:
    rate = Rate()
    assert rate.count == 0 and rate.seconds == 0
    for stamp in (1000.0, 1002.0, 1003.5):
        rate.add(stamp)
    assert rate.count == 3 and rate.seconds == 3.5


def test_recent_rate_forgets_what_is_older_than_its_window() -> None:
    stamps = stamps_of([0.1] * 100 + [0.02] * 110)
    assert recent_rate_of(stamps, 2.0) == pytest.approx(50)
    assert recent_rate_of(stamps, 1000.0) == pytest.approx(210 / 12.2)
    assert rate_of(stamps) == pytest.approx(210 / 12.2)


def test_recent_rate_keeps_two_events_across_a_long_gap() -> None:
    assert recent_rate_of([0.0, 0.1, 0.2, 10.2], 2.0) == pytest.approx(0.1)
    assert recent_rate_of([0.0, 0.1, 0.2, 10.2, 10.3], 2.0) == pytest.approx(10)


def test_recent_rate_keeps_no_more_than_its_window() -> None:
    rate = RecentRate(1.0)
    for number in range(10_000):
        rate.add(number * 0.01)
    assert len(rate._stamps) <= 102


# --- quantiles and summaries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101, 1000])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 0.99, 1.0])
def test_quantile_is_numpys_default(count: int, share: float) -> None:
    values = sorted(random.Random(count).expovariate(1) for _ in range(count))
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)))


def test_summary_is_in_milliseconds() -> None:
    summary = summarise([0.004, 0.001, 0.002, 0.010])
    assert summary is not None
    assert summary.count == 4 and summary.min == pytest.approx(1) and summary.max == pytest.approx(10)
    assert summary.mean == pytest.approx(4.25) and summary.median == pytest.approx(3)


def test_no_samples_no_summary() -> None:
    assert summarise([]) is None and Series().summary() is None and len(Series()) == 0


@pytest.mark.parametrize(("name", "share", "least"), [("p90", 0.9, 100), ("p95", 0.95, 200), ("p99", 0.99, 1000)])
def test_a_percentile_needs_ten_samples_beyond_it(name: str, share: float, least: int) -> None:
    values = [0.001 * (number + 1) for number in range(least)]
    enough, short = summarise(values), summarise(values[1:])
    assert enough is not None and short is not None
    assert getattr(enough, name) == pytest.approx(1e3 * float(np.quantile(values, share)))
    assert sum(value * 1e3 > getattr(enough, name) for value in values) == 10
    assert getattr(short, name) is None


def test_report_is_json_rounded_to_a_microsecond_with_null_for_unknown_percentiles() -> None:
    summary = summarise([0.0012345678] * 100)
    assert summary is not None
    report = json.loads(json.dumps(summary.to_dict()))
    ms = 1.235
    assert report == {
        "count": 100, "min": ms, "mean": ms, "median": ms, "max": ms, "p90": ms, "p95": None, "p99": None
    }  # fmt: skip


# --- series ----------------------------------------------------------------------------------------------------------


def test_timed_counts_a_block_also_when_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.25, 5.0, 5.75])
    monkeypatch.setattr(timing, "now", lambda: next(clock))
    series = Series()
    with series.timed():
        pass
    with pytest.raises(KeyError), series.timed():
        raise KeyError
    summary = series.summary()
    assert summary is not None and len(series) == 2
    assert (summary.min, summary.max) == (250, 750)


def test_a_summary_does_not_end_a_series() -> None:
    series = Series()
    series.add(0.003)
    assert series.summary() == summarise([0.003])
    series.add(0.001)
    assert series.summary() == summarise([0.003, 0.001])


def test_quantiles_are_exact_while_the_reservoir_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "RESERVOIR", 2000)
    values = [random.Random(1).random() for _ in range(2000)]
    summary = summarise(values)
    assert summary is not None
    for share, found in ((0.5, summary.median), (0.9, summary.p90), (0.95, summary.p95), (0.99, summary.p99)):
        assert found == pytest.approx(1e3 * float(np.quantile(values, share)))


def test_reservoir_is_bounded_and_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rising values: a reservoir that favours old or new samples shifts every quantile. Five sigma of tolerance."""
    size, count = 1000, 50_000
    monkeypatch.setattr(timing, "RESERVOIR", size)
    series = Series()
    for number in range(count):
        series.add(number / count)
    assert len(series._samples) == size and len(series) == count
    summary = series.summary()
    assert summary is not None and summary.p90 is not None
    assert summary.count == count and summary.min == 0 and summary.max == pytest.approx(1e3 * (1 - 1 / count))
    assert summary.mean == pytest.approx(1e3 * (count - 1) / 2 / count)
    for share, found in ((0.5, summary.median), (0.9, summary.p90)):
        sigma = (share * (1 - share) / size) ** 0.5
        assert abs(found / 1e3 - share) < 5 * sigma
    counts, _ = np.histogram(series._samples, bins=10, range=(0, 1))
    expected = size / 10
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 33.7  # 9 degrees of freedom, p = 0.0001


def test_the_reservoir_of_a_long_run_takes_half_a_megabyte() -> None:
    assert timing.RESERVOIR * Series()._samples.itemsize == 512 * 1024


def test_a_histogram_counts_each_duration_in_the_bucket_of_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "RESERVOIR", 4)  # it forgets samples, the buckets none
    series = Series()
    values = [0.0, 0.001, 0.0011, 0.03, 30.0, 31.0, 0.03, 0.2]
    for value in values:
        series.add(value)
    histogram = series.histogram()
    assert histogram.counts[:-1] == tuple(sum(value <= bound for value in values) for bound in timing.BOUNDS)
    assert histogram.counts[-1] == len(series) == 8
    assert histogram.sum == pytest.approx(sum(values))
    assert Series().histogram() == timing.Histogram((0,) * (len(timing.BOUNDS) + 1), 0.0)
