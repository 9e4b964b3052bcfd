"""An engine of a set latency and a set answer: for tests of the live loop, and to measure the loop's own cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.class_mapper import ClassMapper
from rtpsp.engine.base import Answer, Engine, EngineOptions
from rtpsp.fit import FitPlan
from rtpsp.header import CONFIDENCE, EngineHeader
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.timing import now

if TYPE_CHECKING:
    from rtpsp.drawing import Drawing


class FakeEngine(Engine):
    """Answers every batch after `latency` seconds of sleep, one batch at a time like a device would.

    Args:
        spec: The model to pretend to be; a CamVid model of 360x480 by default.
        latency: Seconds a batch.
        answer: Gives the class map [N, H, W] for frames [N, H, W, planes]; the first class everywhere by default.
        options: As for every engine.
        confidence: Gives the confidence, uint8 [N, H, W], for the same frames; without it the engine gives none.
        scores: Gives scores, float32 [N, classes, h, w], for the same frames: the engine `gives_scores`, and its class
            map is theirs.
        cells: (h, w) of those scores.
        can_device_io: Whether it can play a device that takes whole frames; it needs `scores`.
    """

    def __init__(
        self,
        spec: ModelSpec | None = None,
        latency: float = 0.0,
        answer: Callable[[Image], ClassMap] | None = None,
        options: EngineOptions | None = None,
        confidence: Callable[[Image], Image] | None = None,
        scores: Callable[[Image], NDArray[np.float32]] | None = None,
        cells: tuple[int, int] | None = None,
        can_device_io: bool = False,
    ) -> None:
        spec = spec or ModelSpec(name="fake", arch="fake", height=360, width=480, labels=CAMVID)
        told = ({CONFIDENCE: True} if confidence else {}) | ({"tail": "host"} if scores else {})
        super().__init__(EngineHeader(spec, backend="fake", precision="fp32", model_digest="", options=told), options)
        self.latency = latency
        self._answer = answer
        self._confidence = confidence
        self._scores = scores
        self.cells = cells
        self._constant = np.zeros((self.batch, *spec.size), spec.class_dtype)
        self._busy_until = 0.0
        self._can_device_io = can_device_io

    def _open(self) -> str:
        return "f32"

    def _close(self) -> None:
        self._busy_until = 0.0

    def _start(self, frames: Image) -> tuple[float, Answer]:
        self._work()
        if self._scores:
            return self._busy_until, Answer(scores=self._scores(frames))
        class_map = self._answer(frames) if self._answer else self._constant
        return self._busy_until, Answer(class_map, self._confidence(frames) if self._confidence else None)

    def _start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> tuple[float, Answer]:
        from rtpsp.device_reference import draw

        assert self._scores is not None and self.cells is not None
        self._work()
        seen = plan.to_model(image)[np.newaxis]
        class_map = plan.place(ClassMapper(plan.grid(self.cells), self.spec.class_dtype)(self._scores(seen)[0]))
        picture = draw(image, class_map, self.spec.labels, drawing)[np.newaxis] if drawing else None
        return self._busy_until, Answer(class_map[np.newaxis], picture=picture)

    def _work(self) -> None:
        self._busy_until = max(now(), self._busy_until) + self.latency

    def _finish(self, work: tuple[float, Answer]) -> Answer:
        ready, answer = work
        delay = ready - now()
        if delay > 0:
            time.sleep(delay)
        return answer
