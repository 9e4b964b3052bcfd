from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rtpsp.arrays import ClassMap
from rtpsp.bench import lanes
from rtpsp.bench.frames import street_pictures, to_batches
from rtpsp.bench.lanes import ROUNDS, EngineLane, interleave
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError, RtpspError


class Clock:
    """Time that passes when somebody works."""

    def __init__(self) -> None:
        self.now = 128.0  # and binary fractions are added to it: their sums are exact

    def __call__(self) -> float:
        return self.now


class Fake:
    """A lane of a set latency, that notes when it had its turn."""

    def __init__(self, name: str, clock: Clock, seconds: float, log: list[tuple[str, int]], fails_at: int = -1) -> None:
        self.name, self._clock, self._seconds, self._log, self._fails_at = name, clock, seconds, log, fails_at
        self._turns = 0

    def run(self, index: int) -> tuple[float, float]:
        self._turns += 1
        if self._turns - 1 == self._fails_at:
            raise MissingError(f"{self.name} fell over")
        self._log.append((self.name, index))
        begin = self._clock.now
        self._clock.now += self._seconds
        return begin, self._clock.now

    def class_map(self, index: int) -> ClassMap:
        return np.full((2, 2), index, np.uint8)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lanes, "now", made)
    return made


def test_turns_rotate_and_each_round_is_of_one_frame(clock: Clock) -> None:
    log: list[tuple[str, int]] = []
    three = [Fake(name, clock, 0.01, log) for name in "abc"]
    interleave(three, 2, seconds=0.0, warmup=0.0)
    assert log[:9] == [
        ("a", 0), ("b", 0), ("c", 0), ("b", 1), ("c", 1), ("a", 1), ("c", 0), ("a", 0), ("b", 0),
    ]  # fmt: skip
    assert len(log) == 3 * (1 + ROUNDS), "one round that does not count, and as many as must"


def test_all_have_as_many_rounds_in_the_time_of_all(clock: Clock) -> None:
    pair = [Fake("slow", clock, 0.375, []), Fake("fast", clock, 0.125, [])]
    found = interleave(pair, 4, seconds=1.25, warmup=0.5)
    assert len(found["slow"]) == len(found["fast"]) == 5, "2.5 s of both together, half a second a round"
    assert found["slow"].summary().median == 375 and found["fast"].fps == 8
    # rotated, so that the one's begins are now before and now behind the other's
    assert (found["slow"].begins[0] < found["fast"].begins[0]) != (found["slow"].begins[1] < found["fast"].begins[1])


def test_warm_up_is_left_out(clock: Clock) -> None:
    log: list[tuple[str, int]] = []
    found = interleave([Fake("a", clock, 0.125, log)], 1, seconds=0.625, warmup=1.0)
    assert len(log) == 8 + 5 and len(found["a"]) == 5 and found["a"].begins[0] == 129


def test_one_that_fails_is_taken_out_and_the_others_go_on(clock: Clock) -> None:
    found = interleave(
        [Fake("a", clock, 0.1, []), Fake("b", clock, 0.1, [], fails_at=3), Fake("c", clock, 0.1, [])], 4,
        seconds=1.0, warmup=0.0,
    )  # fmt: skip
    assert list(found) == ["a", "c"] and found.failed == {"b": "b fell over"}
    assert len(found["a"]) == len(found["c"]) >= 10


def test_the_first_error_is_raised_once_all_have_failed(clock: Clock) -> None:
    with pytest.raises(RtpspError, match="b fell over"):
        interleave(
            [Fake("a", clock, 0.1, [], fails_at=2), Fake("b", clock, 0.1, [], fails_at=1)], 1, seconds=1, warmup=0
        )


def test_what_was_measured_until_somebody_ended_it_is_there(clock: Clock) -> None:
    pair = [Fake("a", clock, 0.125, []), Fake("b", clock, 0.125, [])]
    found = interleave(pair, 1, seconds=100.0, warmup=0.0, stopped=lambda: clock.now >= 129.5)
    assert len(found["a"]) == len(found["b"]) == 5
    assert len(interleave(pair, 1, seconds=1.0, warmup=0.0, stopped=lambda: True)["a"]) == 0


def test_running_medians_are_told(clock: Clock) -> None:
    told: list[tuple[str, float]] = []
    interleave(
        [Fake("a", clock, 0.125, []), Fake("b", clock, 0.375, [])], 1, seconds=1.0, warmup=0.0,
        tell=lambda what, share: told.append((what, share)),
    )  # fmt: skip
    assert {what for what, _ in told} == {"a 125.0 ms, b 375.0 ms"}
    assert [share for _, share in told] == [0.25, 0.5, 0.75, 1.0]


def test_names_differ(clock: Clock) -> None:
    with pytest.raises(ValueError, match="different names"):
        interleave([Fake("a", clock, 0.1, []), Fake("a", clock, 0.1, [])], 1, seconds=1, warmup=0)


def test_a_lane_of_an_engine_of_ours() -> None:
    answered: list[int] = []

    def answer(frames: np.ndarray) -> np.ndarray:
        answered.append(int(frames[0, 0, 0, 0]))
        return np.full((1, 360, 480), len(answered), np.uint8)

    engine = FakeEngine(latency=0.001, answer=answer)
    batches = to_batches(street_pictures(count=2, size=(120, 160)), engine.spec)
    batches[0][0, 0, 0, 0], batches[1][0, 0, 0, 0] = 7, 9
    with EngineLane("fake", engine, batches) as lane:
        begin, end = lane.run(3)
        assert end - begin >= 0.001 and answered == [9]
        assert lane.class_map(0)[0, 0] == 2 and answered == [9, 7]
        assert lane.parts(10.0) is None, "a CPU's engine does not tell its parts"
    lane.close()
    with engine:  # it was closed, so that it can be opened again
        pass


def test_a_gpu_tells_compute_from_the_rest() -> None:
    class Timed(FakeEngine):
        kernel_times: Callable[[int], list[float]] = staticmethod(lambda runs: [2.0] * runs)

    lane = EngineLane("gpu", Timed(), [])
    assert lane.parts(2.5) == {"compute": 2.0, "transfers and host": 0.5}
