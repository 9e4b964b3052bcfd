"""The inference stage: takes frames out of one slot, puts answered frames into the next."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rtpsp.arrays import Image
from rtpsp.engine.base import Engine, Ticket
from rtpsp.fit import FitPlan, plan_fit
from rtpsp.stream.frame import Frame, Segmented, Stamps
from rtpsp.stream.slot import Slot
from rtpsp.timing import Series, now


class _Batch(NamedTuple):
    frame: Frame
    image: Image
    plan: FitPlan
    stamps: Stamps
    ticket: Ticket


class Inference:
    """Runs an engine in the thread that calls `run`, with as many frames in flight as the engine's depth.

    Args:
        engine: Not open; `run` enters it.
        frames: What to segment.
        answers: Where it goes; ended when `run` returns, however it does.
        preprocess: Gets the time for BGR conversion and fit of each frame.
        infer: Gets the time from submitting each frame to having its class map.

    Attributes:
        ready: Set once the engine is open and warm.
        ran: Number format of the engine's convolutions, once it is open.
    """

    def __init__(
        self, engine: Engine, frames: Slot[Frame], answers: Slot[Segmented], preprocess: Series, infer: Series
    ) -> None:
        self.ready = threading.Event()
        self.ran = ""
        self._engine = engine
        self._frames = frames
        self._answers = answers
        self._preprocess = preprocess
        self._infer = infer
        self._free: deque[Image] = deque()
        self._in_flight: deque[_Batch] = deque()

    def run(self) -> None:
        """Work until the frames end or nobody takes the answers."""
        try:
            with self._engine as engine:
                shape = (1, *engine.spec.size, 3)
                self._free.extend(np.zeros(shape, np.uint8) for _ in range(engine.depth))
                engine.infer(self._free[0])  # the first batch pays for lazy set-up in every backend
                self.ran = engine.ran
                self.ready.set()
                self._run_all()
        finally:
            self._answers.end()
            self._frames.close()

    def _run_all(self) -> None:
        while True:
            batch = self._next_batch(wait=not self._in_flight)
            if batch is not None:
                self._in_flight.append(batch)
                if len(self._in_flight) < self._engine.depth:
                    continue
            elif not self._in_flight:
                return
            if not self._answers.put(self._finish(self._in_flight.popleft())):
                return

    def _next_batch(self, wait: bool) -> _Batch | None:
        """Submit the next frame; None at the end, or when there is none yet and we need not wait for it."""
        try:
            frame = self._frames.get(None if wait else 0)
        except TimeoutError:
            return None
        if frame is None:
            return None
        stamps = Stamps(frame.captured, dequeued=now())
        buffer = self._free[0]
        self._free.rotate(-1)
        with self._preprocess.timed():
            image = frame.to_bgr(None)
            plan = plan_fit((image.shape[0], image.shape[1]), self._engine.spec)
            plan.to_model(image, buffer[0])
        return _Batch(frame, image, plan, stamps, self._engine.submit(buffer))

    def _finish(self, batch: _Batch) -> Segmented:
        result = self._engine.collect(batch.ticket)
        self._infer.add(result.collected - result.submitted)
        stamps = replace(batch.stamps, inferred=result.collected)
        return Segmented(batch.frame, batch.image, result.class_map[0], batch.plan, stamps)
