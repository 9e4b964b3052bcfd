from __future__ import annotations

import json
from itertools import pairwise

import pytest

from rtpsp.bench.timeline import SAMPLES_TOLD, Timeline
from rtpsp.timing import is_stable, window_medians


def timeline_of(durations: list[float], gaps: list[float] | None = None) -> Timeline:
    """Inferences that take so long, each beginning so long after the end of the one before it."""
    stamps, at = [], 1000.0
    for number, duration in enumerate(durations):
        at += gaps[number] if gaps else 0.0
        stamps.append((at, at + duration))
        at += duration
    return Timeline.of(stamps)


def test_nine_of_10_ms_and_one_of_110_ms_are_50_fps() -> None:
    # ten ends, and the nine durations between the first end and the last
    assert timeline_of([0.010] * 9 + [0.110]).fps == pytest.approx(9 / 0.190)
    assert timeline_of([7.0] + [0.010] * 9 + [0.110]).fps == pytest.approx(50), "what lies before the first end is none"


def test_the_turns_of_others_are_no_time_of_ours() -> None:
    durations = [0.010, 0.020, 0.030, 0.020]
    alone, in_turn = timeline_of(durations), timeline_of(durations, [0.0, 5.0, 0.0, 9.0])
    assert in_turn.fps == pytest.approx(alone.fps) == pytest.approx(3 / 0.070)
    assert in_turn.summary().median == pytest.approx(20)


def test_bursts_count_by_the_time_they_take() -> None:
    # five at once of 1 ms, then one that waited for something, four times
    durations = ([0.001] * 5 + [0.095]) * 4
    found = timeline_of(durations)
    assert found.fps == pytest.approx(23 / (sum(durations) - 0.001))
    assert found.summary().median == pytest.approx(1) and found.summary().mean == pytest.approx(100 / 6)
    assert found.summary().max == pytest.approx(95)


@pytest.mark.parametrize("durations", [[], [0.01], [0.01, 0.0]])
def test_no_rate_without_time_between_two_ends(durations: list[float]) -> None:
    assert timeline_of(durations).fps is None


def test_a_percentile_needs_ten_samples_beyond_it() -> None:
    assert timeline_of([0.01] * 99).summary().p90 is None
    assert timeline_of([0.01] * 90 + [0.02] * 10).summary().p90 == pytest.approx(10 + 10 * 0.1)
    assert timeline_of([0.01] * 100).summary().p99 is None


def test_one_long_frame_moves_neither_median_nor_windows() -> None:
    calm, hiccup = [0.010] * 100, [0.010] * 95 + [1.0] + [0.010] * 4
    assert timeline_of(hiccup).windows() == pytest.approx(timeline_of(calm).windows())
    assert timeline_of(hiccup).stable is True
    assert timeline_of(hiccup).summary().max == pytest.approx(1000)


def test_windows_are_ten_of_equal_counts_and_leave_out_the_beginning() -> None:
    durations = [9.0] * 7 + [0.001 * (1 + place // 10) for place in range(100)]
    assert timeline_of(durations).windows() == pytest.approx([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert len(window_medians([1.0] * 17)) == 3 and len(window_medians([1.0] * 52)) == 10
    assert window_medians([1.0] * 14) == ()


@pytest.mark.parametrize(
    ("medians", "stable"),
    [
        ([9.0, 10.0, 10.2, 10.5], True),
        ([10.0, 10.0, 10.51], False),
        ([10.51, 10.0, 10.0], False),
        ([20.0, 15.0, 10.0, 10.0, 10.0], True),
        ([10.0, 10.0], None),
    ],
)
def test_stable_is_said_of_the_last_three_windows(medians: list[float], stable: bool | None) -> None:
    assert is_stable(medians) is stable


def test_a_run_that_gets_slower_is_not_stable() -> None:
    assert timeline_of([0.010] * 80 + [0.011] * 10 + [0.012] * 10).stable is False
    assert timeline_of([0.010] * 14).stable is None


def test_samples_stay_in_order_and_are_thinned_evenly() -> None:
    few = timeline_of([0.003, 0.001, 0.002])
    assert few.samples() == [3, 1, 2]
    many = timeline_of([0.001 * place for place in range(10 * SAMPLES_TOLD + 3)]).samples()
    assert len(many) == SAMPLES_TOLD and many == sorted(many)
    steps = {round(after - before) for before, after in pairwise(many)}
    assert steps == {10, 11}


def test_as_json() -> None:
    told = json.loads(json.dumps(timeline_of([0.010] * 30).to_dict()))
    assert told["fps"] == 100 and told["stable"] is True and told["windows_ms"] == [10.0] * 6
    assert told["latency_ms"]["count"] == len(told["samples_ms"]) == 30


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="2 begins and 1 ends"):
        Timeline((1.0, 2.0), (3.0,))
    with pytest.raises(ValueError, match="no inference"):
        Timeline((), ()).summary()
