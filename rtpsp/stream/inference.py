"""The inference stage: takes frames out of one slot, puts answered frames into the next."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.engine.base import Engine, Ticket
from rtpsp.errors import UsageError
from rtpsp.fit import FitPlan, MaskSize, no_class, plan_fit
from rtpsp.spec import ModelSpec
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
        infer: Gets the time from submitting each frame to having its class map, its unknown pixels marked.
        min_confidence: Pixels with less become `rtpsp.fit.no_class`, 0..1; `check_min_confidence` has been called.
        mask_size: Whether class maps are of the model's size or of each frame's; `check_mask_size` has been called.

    Attributes:
        ready: Set once the engine is open and warm.
        ran: Number format of the engine's convolutions, once it is open.
    """

    def __init__(
        self,
        engine: Engine,
        frames: Slot[Frame],
        answers: Slot[Segmented],
        preprocess: Series,
        infer: Series,
        min_confidence: float | None = None,
        mask_size: MaskSize = "model",
    ) -> None:
        self.ready = threading.Event()
        self.ran = ""
        self._engine = engine
        self._frames = frames
        self._answers = answers
        self._preprocess = preprocess
        self._infer = infer
        self._min_confidence = min_confidence
        self._mask_size = mask_size
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
        cells = self._engine.cells if self._mask_size == "frame" else None
        ticket = self._engine.submit(buffer, grid=plan.grid(cells) if cells else None)
        return _Batch(frame, image, plan, stamps, ticket)

    def _finish(self, batch: _Batch) -> Segmented:
        result = self._engine.collect(batch.ticket)
        class_map, inferred = result.class_map[0], result.collected
        if self._min_confidence and result.confidence is not None:
            class_map = drop_unsure(class_map, result.confidence[0], self._min_confidence, self._engine.spec)
            inferred = now()
        if self._mask_size == "frame":
            class_map = batch.plan.place(class_map)
        self._infer.add(inferred - result.submitted)
        stamps = replace(batch.stamps, inferred=inferred)
        return Segmented(batch.frame, batch.image, class_map, batch.plan, stamps)


def check_min_confidence(value: float | None, engine: Engine | None = None) -> None:
    """A threshold is a probability, and one above 0 needs an engine that tells its own.

    Raises:
        UsageError: It is not, or the engine does not.
    """
    if value is None:
        return
    if not 0 <= value <= 1:
        raise UsageError(f"min_confidence is {value}, expected 0 (every pixel keeps its class) to 1")
    if value and engine is not None and not engine.gives_confidence:
        raise UsageError(
            f"engine of {engine.spec.name} gives no confidence, --min-confidence needs it: build it with "
            f"'rtpsp build-engine MODEL --confidence'"
        )


def drop_unsure(class_map: ClassMap, confidence: Image, least: float, spec: ModelSpec) -> ClassMap:
    """Takes their class from the pixels that an engine is less sure of than asked for.

    Args:
        class_map: Class ids [H, W]; written into, where its type can hold the id.
        confidence: uint8 [H, W] in steps of 1/255.
        least: A pixel keeps its class where confidence / 255 >= `least`.
        spec: Gives the number of classes.

    Returns:
        `class_map`, or an int32 array in its place, with `rtpsp.fit.no_class` at those pixels.
    """
    unknown = no_class(len(spec.labels))
    if unknown < 0:
        class_map = class_map.astype(np.int32, copy=False)
    step = sum(value / 255 < least for value in range(256))  # ceil(255 least) can be one too many: it is rounded
    # 255 in a byte and -1 have every bit set: or-ing them in takes a thirtieth of the time of an indexed write.
    class_map |= (confidence < step) * class_map.dtype.type(unknown)
    return class_map
