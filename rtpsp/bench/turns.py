"""Whose turn it is: the loop's, or its engine's alone. `rtpsp.bench.loop` says why."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any

from rtpsp.arrays import ClassMap, Image
from rtpsp.bench.lanes import ROUNDS, Stopped, Tell
from rtpsp.drawing import Drawing
from rtpsp.engine.base import Answer, Engine, Ticket
from rtpsp.fit import FitPlan
from rtpsp.stream.frame import Rendered
from rtpsp.stream.sink import NullSink
from rtpsp.timing import now, quantile
from rtpsp.upsampling import Grid

SLICES = 10
"""Of each kind, as a rule: fewer where the engine is so slow that a slice takes longer than its share."""
LONGEST = 1.5
"""Seconds of a slice at most: what the machine does besides is to fall on neighbouring slices alike."""
LEAST_FRAMES = 7
"""Of a slice of the loop: four of them wait in its slots while the engine is alone, and have no age that counts."""
LEAST_INFERENCES = 3


class Turns(NullSink):
    """Decides whose turn it is, and keeps what counts: a sink of the loop, so that it sees every frame handed over.

    `write` is called in the loop's own thread, `alone_if_due` in the one that infers. A slice of the loop begins with
    the first frame that was inferred after the engine's, and ends when it is long enough; from then until the engine
    has had its slice frames that are still under way count for nothing.

    Args:
        batches: uint8 [1, H, W, planes] of the model's size, for the engine alone.
        seconds: That count, of the loop and of the engine each.
        warmup: Seconds of the loop before the first slice.
        tell: Told the medians after each slice of the loop.
        stopped: Asked often, from both threads.

    Attributes:
        alternate: Whether the engine has turns at all; else the loop is one slice of all the time there is.
        done: Whether all slices are there.
        slices: When the frames of each slice of the loop were handed over.
        alone: When the inferences of each slice of the engine began and ended.
        ages: When a frame was handed over, and seconds since it was captured.
    """

    def __init__(
        self, batches: Sequence[Image], seconds: float, warmup: float, tell: Tell | None, stopped: Stopped | None
    ) -> None:
        self.alternate = True
        self.done = False
        self.slices: list[list[float]] = []
        self.alone: list[list[tuple[float, float]]] = []
        self.ages: list[tuple[float, float]] = []
        self._batches, self._seconds, self._warmup = batches, seconds, warmup
        self._tell, self._stopped = tell, stopped
        self._length = min(LONGEST, seconds / SLICES)
        self._due = threading.Event()
        self._resumed = float("inf")
        self._first: float | None = None
        self._begin = 0.0
        self._current: list[float] = []
        self._numbers = count()
        self._busy = False

    @property
    def wants_to_stop(self) -> bool:
        """Once all slices are there, or a person wants an end."""
        return self.done or self._is_stopped()

    @property
    def fps(self) -> float | None:
        """(n - 1) / (t_last - t_first) over the frames of all slices; None before the second one of any."""
        seconds = sum(each[-1] - each[0] for each in self.slices)
        return sum(len(each) - 1 for each in self.slices) / seconds if seconds > 0 else None

    def costs(self) -> tuple[float, ...]:
        """Milliseconds a frame: each slice's of the loop, less those of the engine before it."""
        costs = []
        for stamps, alone in zip(self.slices, self.alone, strict=False):
            loop = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
            costs.append(1e3 * (loop - sum(end - begin for begin, end in alone) / len(alone)))
        return tuple(costs)

    def write(self, item: Rendered) -> None:
        """Count a frame."""
        handed_over = now()
        if self._first is None:
            self._first = handed_over
        if self._is_warming_up(handed_over) or self._due.is_set() or item.stamps.inferred <= self._resumed:
            return
        self._current.append(handed_over)
        if item.stamps.captured >= self._resumed:  # what waited while the engine was alone is older than it would be
            self.ages.append((handed_over, handed_over - item.stamps.captured))
        length = self._length if self.alternate else self._seconds
        if handed_over - self._current[0] >= length and len(self._current) >= LEAST_FRAMES:
            self.slices.append(self._current)
            self._current = []
            self._say(handed_over)
            self._end_or_go_on(handed_over)

    def close(self) -> None:
        """Keep what there is of a slice that a person has ended, if it says anything."""
        paired = len(self.alone) > len(self.slices) or not self.alternate
        if len(self._current) >= LEAST_FRAMES and paired:
            self.slices.append(self._current)

    def alone_if_due(self, engine: Engine) -> None:
        """The engine's slice, if it is its turn: a first inference that does not count, for it comes to cold caches."""
        if self._busy or not self._due.is_set():
            return
        self._busy = True
        try:
            engine.infer(self._next_batch())
            stamps: list[tuple[float, float]] = []
            begin = now()
            while not self._is_stopped() and (now() - begin < self._length or len(stamps) < LEAST_INFERENCES):
                result = engine.infer(self._next_batch())
                stamps.append((result.submitted, result.collected))
            if len(stamps) >= LEAST_INFERENCES:
                self.alone.append(stamps)
        finally:
            self._busy = False
            self._resumed = now()
            self._due.clear()

    def _next_batch(self) -> Image:
        return self._batches[next(self._numbers) % len(self._batches)]

    def _is_warming_up(self, at: float) -> bool:
        if self._begin:
            return False
        assert self._first is not None
        if at - self._first >= self._warmup:
            self._begin = at
            self._turn_over()
        return True

    def _end_or_go_on(self, at: float) -> None:
        long_enough = at - self._begin >= 2 * self._seconds
        enough = len(self.slices) >= SLICES or (len(self.slices) >= ROUNDS and long_enough)
        if not self.alternate or enough:
            self.done = True
        else:
            self._turn_over()

    def _turn_over(self) -> None:
        """To the engine alone, if it has slices at all."""
        if self.alternate:
            self._due.set()
        else:
            self._resumed = now()

    def _is_stopped(self) -> bool:
        return self._stopped is not None and self._stopped()

    def _say(self, at: float) -> None:
        if self._tell is None:
            return
        gaps = [after - before for each in self.slices for before, after in pairwise(each)]
        told = f"loop {1e3 * quantile(sorted(gaps), 0.5):.1f} ms"
        if self.alone:
            durations = sorted(end - begin for each in self.alone for begin, end in each)
            told = f"engine {1e3 * quantile(durations, 0.5):.1f} ms, {told}"
        spent = max(len(self.slices) / SLICES, (at - self._begin) / (2 * self._seconds)) if self.alternate else 1.0
        self._tell(told, min(1.0, spent))


class Alternating(Engine):
    """The loop's engine, which is asked between two frames whether it is to be timed alone.

    Args:
        inner: The engine, not open; it is this one that is entered, which opens the other's device.
        turns: Asked before every submit.
    """

    def __init__(self, inner: Engine, turns: Turns) -> None:
        super().__init__(inner.header, inner.options)
        self._inner, self._turns = inner, turns
        self._can_device_io = inner._can_device_io

    def submit(self, frames: Image, out: ClassMap | None = None, grid: Grid | None = None) -> Ticket:
        self._turns.alone_if_due(self)
        return super().submit(frames, out, grid)

    def submit_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None = None) -> Ticket:
        self._turns.alone_if_due(self)
        return super().submit_frame(image, plan, drawing)

    def _open(self) -> str:
        self._inner.device_io = self.device_io
        ran = self._inner._open()
        self.device_io, self.cells = self._inner.device_io, self._inner.cells
        return ran

    def _close(self) -> None:
        self._inner._close()

    def _start(self, frames: Image) -> Any:
        return self._inner._start(frames)

    def _start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> Any:
        return self._inner._start_frame(image, plan, drawing)

    def _finish(self, work: Any) -> Answer:
        return self._inner._finish(work)

    def _frame_buffer(self, shape: tuple[int, ...]) -> Image:
        return self._inner._frame_buffer(shape)
