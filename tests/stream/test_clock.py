"""The capture clock shows lateness, follows drift, and never lets a backlog pass for freshness."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rtpsp.stream.clock import DRIFT, CaptureClock


def test_a_frame_without_delay_was_captured_when_it_arrived() -> None:
    clock = CaptureClock()
    for i in range(100):
        assert clock.captured(i / 30, 500 + i / 30) == pytest.approx(500 + i / 30)


def test_a_late_frame_shows_its_lateness() -> None:
    clock = CaptureClock()
    clock.captured(0.0, 500.0)
    assert clock.captured(1.0, 501.25) == pytest.approx(501.0, abs=1.1 * DRIFT)


def test_never_later_than_arrival_whatever_the_stamps_say() -> None:
    chance = random.Random(1)
    clock = CaptureClock()
    for _ in range(2000):
        arrival = chance.uniform(0, 1000)
        assert clock.captured(chance.uniform(-1000, 1000), arrival) <= arrival


def test_jitter_is_measured_from_the_fastest_delivery() -> None:
    chance = random.Random(1)
    clock = CaptureClock()
    errors = []
    for i in range(3000):
        captured = clock.captured(i / 30, 500 + i / 30 + 0.02 + chance.uniform(0, 0.05))
        errors.append(captured - (500 + i / 30))
    # The constant 20 ms cannot be seen; of the random part next to nothing is left.
    assert max(abs(e - 0.02) for e in errors[500:]) < 0.004


def test_a_growing_backlog_is_not_hidden() -> None:
    # 30 s of 30 fps into a FIFO that is read at 8 fps: the last frame read is 22 s old.
    clock = CaptureClock()
    for n in range(240):
        pts, arrival = n / 30, n / 8
        age = arrival - clock.captured(pts, arrival)
        assert age == pytest.approx(arrival - pts, abs=0.002)
    assert age > 21.8


def test_a_standing_backlog_is_hidden_by_no_more_than_the_drift() -> None:
    clock = CaptureClock()
    clock.captured(0.0, 0.0)
    for second in range(1, 3601):
        age = second + 22.0 - clock.captured(float(second), second + 22.0)
    assert age == pytest.approx(22.0 - 3600 * DRIFT, abs=1e-6)


@pytest.mark.parametrize("ppm", [-100, 100])
def test_clocks_that_differ_are_followed(ppm: int) -> None:
    clock = CaptureClock()
    for n in range(0, 3600 * 30, 3):
        arrival = n / 30 * (1 + ppm * 1e-6)
        age = arrival - clock.captured(n / 30, arrival)
        assert age < 0.001


@pytest.mark.parametrize("ppm", [-1000, 1000])
def test_an_even_drift_beyond_any_crystals_is_found(ppm: int) -> None:
    clock, chance = CaptureClock(), random.Random(1)
    for n in range(0, 300 * 10):
        clock.captured(n / 10, n / 10 * (1 + ppm * 1e-6) + chance.uniform(0, 0.02))
    assert clock.drift == pytest.approx(ppm * 1e-6, abs=5e-5)
    clock.restart()
    assert clock.drift == pytest.approx(ppm * 1e-6, abs=5e-5)


@pytest.mark.parametrize(
    "late",
    [lambda t: 0.0, lambda t: 100e-6 * t, lambda t: 22.0 * (t > 1), lambda t: 0.01 * t, lambda t: 0.03 * (t // 40)],
    ids=["none", "a crystal's", "a standing backlog", "a growing one", "in steps"],
)
def test_what_is_no_clock_is_not_taken_for_one(late: Callable[[float], float]) -> None:
    clock = CaptureClock()
    for n in range(0, 300 * 10):
        clock.captured(n / 10, n / 10 + late(n / 10))
        assert clock.drift == 0.0


def test_a_backlog_as_even_as_a_clock_is_let_go_once_it_stands() -> None:
    clock = CaptureClock()
    for n in range(0, 600 * 10):
        clock.captured(n / 10, n / 10 + min(n / 10, 200) * 1e-3)
        assert n / 10 < 100 or n / 10 > 200 or clock.drift > 5e-4
    assert clock.drift == 0.0


def test_a_sender_that_starts_anew_is_a_new_time_line() -> None:
    clock = CaptureClock()
    clock.captured(1000.0, 50.0)
    clock.captured(1000.1, 50.4)
    assert clock.captured(0.0, 52.0) == 52.0
    assert clock.captured(0.1, 52.4) == pytest.approx(52.1, abs=1e-3)


def test_a_leap_ahead_of_arrival_is_a_new_time_line() -> None:
    clock = CaptureClock()
    clock.captured(0.0, 50.0)
    assert clock.captured(1000.0, 50.1) == pytest.approx(50.1)
    assert clock.captured(1000.1, 50.5) == pytest.approx(50.2, abs=1e-3)


def test_two_frames_swapped_are_not_a_new_time_line() -> None:
    clock = CaptureClock()
    clock.captured(0.0, 10.0)
    clock.captured(1.04, 11.04)
    assert clock.captured(1.0, 11.08) == pytest.approx(11.0, abs=1e-3)
