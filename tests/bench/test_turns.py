from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rtpsp.bench import turns
from rtpsp.bench.turns import LEAST_FRAMES, LEAST_INFERENCES, SLICES, Turns
from rtpsp.engine.exchange import Result
from rtpsp.stream.frame import Frame, Rendered, Stamps

BATCHES = [np.zeros((1, 2, 2, 3), np.uint8)]
MAP = np.zeros((2, 2), np.uint8)


class Machine:
    """A loop and its engine on a clock of their own.

    Args:
        loop: Seconds from one frame to the next.
        engine: Seconds of an inference.
        waits: Frames that wait between the source and the engine.
    """

    def __init__(self, loop: float, engine: float, waits: int = 4) -> None:
        self.now, self.loop, self.engine, self.waits = 50.0, loop, engine, waits
        self.captured = [self.now] * waits
        self.inferences = 0

    def infer(self, batch: object) -> Result:
        begin = self.now
        self.now += self.engine
        self.inferences += 1
        return Result(MAP[np.newaxis], None, begin, self.now)

    def run(self, sink: Turns, slow_down: Callable[[int], float] = lambda number: 1.0, most: int = 10_000) -> int:
        for number in range(most):
            sink.alone_if_due(self)  # type: ignore[arg-type]
            self.captured.append(self.now)
            captured = self.captured.pop(0)
            self.now += self.loop * slow_down(number)
            frame = Frame(number, 0.0, captured, 2, 2, lambda out: MAP)
            sink.write(Rendered(frame, {}, MAP, Stamps(captured, inferred=self.now - 1e-6)))
            if sink.wants_to_stop:
                return number + 1
        raise AssertionError("it never came to an end")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(loop=0.012, engine=0.010)
    monkeypatch.setattr(turns, "now", lambda: made.now)
    return made


def sink_for(seconds: float = 10.0, warmup: float = 1.0, **rest: Any) -> Turns:
    return Turns(BATCHES, seconds, warmup, rest.get("tell"), rest.get("stopped"))


def test_a_loop_of_12_ms_around_an_engine_of_10_ms_costs_2(machine: Machine) -> None:
    sink = sink_for()
    machine.run(sink)
    assert len(sink.slices) == len(sink.alone) == SLICES and sink.done
    assert sink.costs() == pytest.approx([2.0] * SLICES)
    assert sink.fps == pytest.approx(1 / 0.012)
    assert all(sum(end - begin for begin, end in each) >= 1 - 1e-9 for each in sink.alone)
    assert all(1 - 1e-9 <= each[-1] - each[0] < 1.1 for each in sink.slices)


def test_what_slows_the_machine_down_for_a_while_falls_on_both(machine: Machine) -> None:
    sink = sink_for()
    steady = machine.engine

    def busy(number: int) -> float:
        factor = 3.0 if 300 < number < 360 else 1.0
        machine.engine = steady * factor
        return factor

    machine.run(sink, busy)
    costs = sorted(sink.costs())
    assert costs[len(costs) // 2] == pytest.approx(2.0) and costs[-1] > 4, "the median is what it is on a calm machine"


def test_frames_that_waited_while_the_engine_was_alone_have_no_age(machine: Machine) -> None:
    sink = sink_for()
    machine.run(sink)
    ages = [age for _, age in sink.ages]
    # four wait in front of it in a loop that is never interrupted
    assert max(ages) == pytest.approx((machine.waits + 1) * machine.loop)
    assert len(ages) == sum(len(each) - machine.waits for each in sink.slices)


def test_the_first_inference_of_a_slice_comes_to_cold_caches(machine: Machine) -> None:
    sink = sink_for()
    machine.run(sink)
    assert machine.inferences == sum(len(each) + 1 for each in sink.alone)


def test_warm_up_is_left_out(machine: Machine) -> None:
    sink = sink_for(warmup=3.0)
    machine.run(sink)
    assert sink.alone[0][0][0] >= 50 + 3 and sink.slices[0][0] > sink.alone[0][-1][1]


def test_a_slow_engine_has_fewer_slices_and_whole_ones(machine: Machine) -> None:
    machine.loop, machine.engine = 1.3, 1.0
    sink = sink_for(seconds=4.0)
    machine.run(sink)
    assert len(sink.slices) == 3
    assert all(len(each) >= LEAST_FRAMES for each in sink.slices)
    assert all(len(each) >= LEAST_INFERENCES for each in sink.alone)
    assert sink.costs() == pytest.approx([300.0] * 3)


def test_a_live_source_has_one_slice_and_no_cost(machine: Machine) -> None:
    sink = sink_for(seconds=5.0)
    sink.alternate = False
    frames = machine.run(sink)
    assert machine.inferences == 0 and len(sink.slices) == 1 and sink.costs() == ()
    assert sink.slices[0][-1] - sink.slices[0][0] == pytest.approx(5, abs=0.02)
    assert frames == pytest.approx(6 / 0.012, abs=3)


@pytest.mark.parametrize("at", [50.5, 51.5, 52.5, 55.0])
def test_what_was_measured_until_somebody_ended_it_counts(machine: Machine, at: float) -> None:
    sink = sink_for(stopped=lambda: machine.now > at)
    machine.run(sink)
    sink.close()
    assert not sink.done and len(sink.slices) <= len(sink.alone) <= 3
    assert sink.costs() == pytest.approx([2.0] * len(sink.slices))
    assert (sink.fps is None) == (not sink.slices)


def test_medians_are_told(machine: Machine) -> None:
    told: list[tuple[str, float]] = []
    machine.run(sink_for(tell=lambda what, share: told.append((what, share))))
    assert {what for what, _ in told} == {"engine 10.0 ms, loop 12.0 ms"} and len(told) == SLICES
    assert told[-1][1] == pytest.approx(1.0) and [share for _, share in told] == sorted(share for _, share in told)
