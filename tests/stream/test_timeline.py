"""Time stamps as senders give them, on the way into order: pts rises, captured is true and never of the future."""

from __future__ import annotations

import itertools
import random

import pytest

from rtpsp.stream.clock import CaptureClock
from rtpsp.stream.health import Health
from rtpsp.stream.timeline import STEP, Timeline

FPS = 30
DELAY = 0.02


class Stream:
    """A sender of 30 fps whose frame i is exposed at 500 + i/30 and arrives 20 ms later, unless a test says so."""

    def __init__(self) -> None:
        self.health = Health()
        self.line = Timeline(self.health, CaptureClock())
        self.placed: list[tuple[float, float]] = []

    def give(self, i: float, stamp: float | None, late: float = 0.0) -> tuple[float, float]:
        self.placed.append(self.line.place(stamp, 500 + i / FPS + DELAY + late, 1 / FPS))
        return self.placed[-1]

    def healthy(self, first: int, count: int, origin: float = 0.0) -> None:
        for i in range(first, first + count):
            self.give(i, origin + i / FPS)

    def ages(self) -> list[float]:
        return [500 + i / FPS + DELAY - captured for i, (_, captured) in enumerate(self.placed)]


def test_healthy_stamps_are_left_as_they_are() -> None:
    stream = Stream()
    stream.healthy(0, 90, origin=77.0)
    assert [pts for pts, _ in stream.placed] == pytest.approx([i / FPS for i in range(90)])
    assert max(stream.ages()) < 1e-3
    assert stream.health.stamps == {}


def test_jitter_is_in_neither_time() -> None:
    stream, chance = Stream(), random.Random(1)
    for i in range(300):
        stream.give(i, i / FPS, late=chance.uniform(0, 0.1))
    assert [pts for pts, _ in stream.placed] == pytest.approx([i / FPS for i in range(300)])
    assert max(abs(age) for age in stream.ages()[100:]) < 0.005


def test_a_missing_stamp_is_as_late_as_the_one_before() -> None:
    stream = Stream()
    stream.give(0, 0.0)
    stream.give(1, 1 / FPS, late=0.5)
    pts, captured = stream.give(2, None, late=0.5)
    assert [pts, captured] == pytest.approx([2 / FPS, 500 + 2 / FPS + DELAY], abs=1e-3)
    assert stream.give(3, 3 / FPS, late=0.5)[0] == pytest.approx(3 / FPS, abs=1e-3)
    assert stream.health.stamps == {"missing": 1}


def test_frames_without_stamps_that_arrive_at_once_keep_apart() -> None:
    stream = Stream()
    stream.give(0, 0.0)
    burst = [stream.give(5, None)[0] for _ in range(3)]
    assert burst == pytest.approx([5 / FPS, 5.5 / FPS, 6 / FPS])


@pytest.mark.parametrize("stamp", [None, float("nan"), float("inf")])
def test_a_sender_without_any_stamp_is_timed_by_arrival_and_misses_none(stamp: float | None) -> None:
    stream = Stream()
    for i in range(30):
        assert list(stream.give(i, stamp)) == pytest.approx([i / FPS, 500 + i / FPS + DELAY])
    assert stream.health.stamps == {}
    stream.healthy(30, 30, origin=9.0)  # it begins to
    assert [pts for pts, _ in stream.placed] == pytest.approx([i / FPS for i in range(60)])


def test_duplicates_keep_their_order_and_their_moment() -> None:
    stream = Stream()
    for i in range(60):
        stream.give(i, (i - i % 2) / FPS)
    assert [pts for pts, _ in stream.placed] == pytest.approx([i / FPS for i in range(60)], abs=STEP)
    assert stream.health.stamps == {"duplicate": 30}
    assert max(stream.ages()) < 1e-3


def test_a_sender_whose_clock_stands_does_not_seem_to_grow_old() -> None:
    stream = Stream()
    for i in range(300):
        stream.give(i, 7.0)
    assert max(stream.ages()) < 1e-3
    stream.give(300, 7.0 + 1 / FPS)  # it goes on where it stood: a new time line
    stream.give(301, 7.0 + 2 / FPS)
    assert stream.health.stamps == {"duplicate": 299, "jump": 1}
    assert stream.ages()[-1] < 1e-3
    assert stream.placed[-1][0] == pytest.approx(301 / FPS, abs=2 * STEP)


def test_two_frames_swapped_keep_their_moments_but_not_their_pts() -> None:
    stream = Stream()
    stream.healthy(0, 10)
    stream.give(10, 11 / FPS, late=1 / FPS)
    pts, captured = stream.give(11, 10 / FPS)
    assert captured == pytest.approx(500 + 10 / FPS + DELAY, abs=1e-3)
    assert pts == pytest.approx(11 / FPS + STEP)
    assert stream.give(12, 12 / FPS)[0] == pytest.approx(12 / FPS)
    assert stream.health.stamps == {"backwards": 1}


@pytest.mark.parametrize("leap", [3600.0, -3600.0, 5.0, -0.5])
def test_a_senders_leap_is_none_of_ours(leap: float) -> None:
    stream = Stream()
    stream.healthy(0, 100, origin=4000.0)
    stream.healthy(100, 100, origin=4000.0 + leap)
    assert [pts for pts, _ in stream.placed] == pytest.approx([i / FPS for i in range(200)], abs=2 * STEP)
    assert max(stream.ages()) < 1e-3
    assert stream.health.stamps == {"jump": 1}


def test_frames_that_got_lost_are_a_gap_and_no_jump() -> None:
    stream = Stream()
    stream.healthy(0, 30)
    assert stream.give(330, 11.0)[0] == pytest.approx(11.0)
    assert stream.health.stamps == {}


def test_what_a_stall_held_up_comes_late_and_at_its_own_time() -> None:
    stream = Stream()
    stream.healthy(0, 30)
    for i in range(30, 180):
        stream.give(i, i / FPS, late=(180 - i) / FPS)
    stream.healthy(180, 30)
    assert [pts for pts, _ in stream.placed] == pytest.approx([i / FPS for i in range(210)])
    assert [captured for _, captured in stream.placed] == pytest.approx(
        [500 + i / FPS + DELAY for i in range(210)], abs=2e-3
    )
    assert stream.health.stamps == {}


@pytest.mark.parametrize("ppm", [-1000, 1000])
def test_an_hour_of_a_clock_that_is_1000_ppm_off_is_an_hour_and_no_age(ppm: int) -> None:
    stream, chance = Stream(), random.Random(1)
    ages = []
    for i in range(0, 3600 * 10):  # 10 fps, jittered by up to 30 ms
        arrival = 500 + i / 10 + chance.uniform(0, 0.03)
        pts, captured = stream.line.place(i / 10 * (1 - ppm * 1e-6), arrival, 0.1)
        ages.append(500 + i / 10 - captured)
    assert max(ages) < 0.08, "what it may hide before it is found out: 800 ppm of a minute"
    assert max(ages[6000:]) < 0.01
    assert pts == pytest.approx(3600, abs=0.3)
    assert stream.health.stamps == {}


def test_a_backlog_that_grows_evenly_but_faster_than_clocks_differ_is_not_hidden() -> None:
    stream = Stream()
    for i in range(0, 9000):  # 30 fps taken at 29.7
        _, captured = stream.give(i, i / FPS, late=i / FPS / 99)
    late = 8999 / FPS / 99
    age = 500 + 8999 / FPS + DELAY + late - captured
    assert age == pytest.approx(late, abs=0.1)


def test_whatever_the_stamps_pts_rises_and_captured_is_not_of_the_future() -> None:
    chance = random.Random(2)
    for _ in range(40):
        stream, arrival = Stream(), 100.0
        for _ in range(200):
            arrival += chance.choice([0.0, 0.001, 0.04, 2.0])
            stamp = chance.choice([None, 0.0, arrival, -arrival, chance.uniform(-200, 200), 1e9])
            _, captured = placed = stream.line.place(stamp, arrival, 0.04)
            assert captured <= arrival
            stream.placed.append(placed)
        assert all(b - a >= STEP * 0.99 for (a, _), (b, _) in itertools.pairwise(stream.placed))
