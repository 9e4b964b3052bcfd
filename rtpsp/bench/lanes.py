"""Several that do the same work, timed in turn on the same frames: A B C, B C A, C A B, ...

Whatever else the machine does falls on all alike, and whoever went first goes last in the next round: what one leaves
behind in the caches, or in the clock of the processor, is handed to each in turn.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from types import TracebackType
from typing import Protocol, TypeAlias

from rtpsp.arrays import ClassMap, Image
from rtpsp.bench.timeline import Timeline
from rtpsp.engine.base import Engine
from rtpsp.errors import RtpspError
from rtpsp.timing import now, quantile

_log = logging.getLogger(__name__)

Tell: TypeAlias = Callable[[str, float], None]
"""Told what is being done, and how much of it is, 0..1."""
Stopped: TypeAlias = Callable[[], bool]
"""Whether a person wants an end of it: what was measured so far is handed back."""

ROUNDS = 3
"""Least rounds that count, however long one takes."""
_LANES_TOLD = 3
_PARTS_RUNS = 20


class Lane(Protocol):
    """Anything that segments one frame and can be timed: an engine of ours, another library's process."""

    @property
    def name(self) -> str:
        """What a table calls it; no two of a race are called alike."""

    def run(self, index: int) -> tuple[float, float]:
        """Segment a frame.

        Args:
            index: Number of the frame, modulo how many there are.

        Returns:
            When it began and when the answer was there, in seconds of `rtpsp.timing.now`.

        Raises:
            RtpspError: It cannot.
        """

    def class_map(self, index: int) -> ClassMap:
        """The answer to a frame, [H, W] class ids, to be held against others'; not timed."""

    def close(self) -> None:
        """Give everything back; may be called twice."""


class Timelines(dict[str, Timeline]):
    """What was measured, by lane.

    Attributes:
        failed: Why a lane was taken out, by its name; it is not among the others.
        first_error: The first of those errors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, str] = {}
        self.first_error: RtpspError | None = None


class EngineLane:
    """An engine of ours, timed from submitting a batch to having its class map: the fit of frames is left out.

    Args:
        name: What a table calls it.
        engine: Not open: entering the lane opens it, in the thread that is to time it.
        batches: uint8 [N, H, W, planes] each, of the model's size (`rtpsp.bench.frames.to_batches`).
    """

    def __init__(self, name: str, engine: Engine, batches: Sequence[Image]) -> None:
        self.name = name
        self.engine = engine
        self._batches = batches
        self._open = False

    def __enter__(self) -> EngineLane:
        self.engine.__enter__()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(self, index: int) -> tuple[float, float]:
        """One inference."""
        result = self.engine.infer(self._batches[index % len(self._batches)])
        return result.submitted, result.collected

    def class_map(self, index: int) -> ClassMap:
        """Of the batch's first frame."""
        answer: ClassMap = self.engine.infer(self._batches[index % len(self._batches)]).class_map[0]
        return answer

    def parts(self, latency: float) -> dict[str, float] | None:
        """What an inference is made of, in milliseconds, where the backend can tell; None where it cannot.

        Args:
            latency: Median milliseconds of an inference. What a GPU does not compute of it is transfers and the host.
        """
        tell = getattr(self.engine, "kernel_times", None)
        if tell is None:
            return None
        compute = median(tell(_PARTS_RUNS))
        return {"compute": round(compute, 4), "transfers and host": round(max(0.0, latency - compute), 4)}

    def close(self) -> None:
        """Close the engine."""
        if self._open:
            self._open = False
            self.engine.__exit__(None, None, None)


def interleave(
    lanes: Sequence[Lane],
    frames: int,
    *,
    seconds: float,
    warmup: float,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> Timelines:
    """Time lanes in turn. Every one has the same number of rounds, on the same frames.

    A lane that fails is taken out, and the others go on.

    Args:
        lanes: Open, of different names.
        frames: How many frames there are; each round takes the next.
        seconds: That count, for each lane in the mean; at least `ROUNDS` rounds are made.
        warmup: Seconds for each lane in the mean before anything counts; at least one round.
        tell: Told the lanes' running medians.
        stopped: Asked after every round.

    Returns:
        A timeline for each lane that did not fail; an empty one where a person wanted an end before the first round.

    Raises:
        RtpspError: The first lane's error, once all have failed.
    """
    found = Timelines()
    taken: dict[str, list[tuple[float, float]]] = {lane.name: [] for lane in lanes}
    if len(taken) != len(lanes):
        raise ValueError(f"lanes are called {[lane.name for lane in lanes]}, expected different names")
    ordered: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    running = list(lanes)
    begin, number, counted = now(), 0, 0
    while running and not (stopped and stopped()):
        warm = counted > 0 or (number > 0 and now() - begin >= warmup * len(running))
        if warm and not counted:
            begin = now()
        elif counted >= ROUNDS and now() - begin >= seconds * len(running):
            break
        for lane in _turns(running, number):
            try:
                stamps = lane.run(number % frames)
            except RtpspError as error:
                _take_out(lane, error, running, found)
                continue
            if warm:
                taken[lane.name].append(stamps)
                insort(ordered[lane.name], stamps[1] - stamps[0])
        number, counted = number + 1, counted + warm
        if tell and warm and running:
            tell(_medians(running, ordered), min(1.0, (now() - begin) / (seconds * len(running) or 1.0)))
    if not running and found.first_error is not None:
        raise found.first_error
    for lane in running:
        found[lane.name] = Timeline.of(taken[lane.name])
    return found


def _turns(lanes: Sequence[Lane], number: int) -> list[Lane]:
    first = number % len(lanes)
    return [*lanes[first:], *lanes[:first]]


def _take_out(lane: Lane, error: RtpspError, running: list[Lane], found: Timelines) -> None:
    _log.info("%s is taken out: %s", lane.name, error)
    running.remove(lane)
    found.failed[lane.name] = str(error)
    found.first_error = found.first_error or error


def _medians(lanes: Iterable[Lane], ordered: dict[str, list[float]]) -> str:
    told = [f"{lane.name} {1e3 * quantile(ordered[lane.name], 0.5):.1f} ms" for lane in lanes if ordered[lane.name]]
    return ", ".join(told[:_LANES_TOLD]) + (", …" if len(told) > _LANES_TOLD else "")
