"""The inference stage: takes frames out of one slot, puts answered frames into the next.

Frames of several sources may come mixed: each source has a plan of its own, and a filter over time of its own.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rtpsp.arrays import Image
from rtpsp.drawing import Drawing
from rtpsp.engine.base import Engine, Ticket
from rtpsp.errors import SourceError, SourceLost
from rtpsp.fit import FitPlan, MaskSize, plan_fit
from rtpsp.planes import to_planes
from rtpsp.smoothing import Smoother
from rtpsp.stream.beat import Beat
from rtpsp.stream.confidence import drop_unsure
from rtpsp.stream.frame import Drawn, Frame, Segmented, Stamps
from rtpsp.stream.slot import Slot
from rtpsp.timing import Series, now
from rtpsp.upsampling import Scores

_log = logging.getLogger(__name__)


class _Batch(NamedTuple):
    frame: Frame
    image: Image
    plan: FitPlan
    stamps: Stamps
    ticket: Ticket
    drawing: Drawing | None
    seen: Image | None  # as the model sees it, which stays until it is collected; None with device IO


@dataclass
class _Stream:
    """What is kept of one source between its frames."""

    plan: FitPlan | None = None
    smoother: Smoother | None = None
    smoothed: FitPlan | None = None


class Inference:
    """Runs an engine in the thread that calls `run`, with as many frames in flight as the engine's depth.

    Args:
        engine: Not open; `run` enters it.
        frames: What to segment.
        answers: Where it goes; ended when `run` returns, however it does.
        stages: ``preprocess`` gets the time for conversion and fit of each frame; with device IO the engine does the
            latter. ``infer`` gets that from submitting each frame to having its class map, its unknown pixels marked,
            but for ``smooth``, which gets that of filtering its scores.
        min_confidence: Pixels with less become `rtpsp.fit.no_class`, 0..1; `rtpsp.stream.checks` has been asked.
        mask_size: Whether class maps are of the model's size or of each frame's; `check_mask_size` has been called.
            None is the frame's where the engine's device makes them, else the model's.
        smooth: Whether scores are filtered over time before they become class maps; the engine has to give them.
        first_size: (height, width) that frames are expected to have: an engine with device IO warms up on it.
        to_drawing: Called for each frame, in the same thread: what a device is to draw of it.
        on_broken: Called with a frame whose picture its source cannot give after all, and the error; the others go on.
            None raises it.
        limit: Seconds that one frame may take, once the engine is warm, before a watchdog takes the stage for stalled.

    Attributes:
        ready: Set once the engine is open and warm; the other attributes are what they will be from then on.
        ran: Number format of the engine's convolutions.
        device_io: Whether the engine's device resizes the frames, makes their class maps and draws.
        mask_size: Of the class maps that go out.
        beats: Pulses of ``preprocess`` and of ``infer``.
    """

    def __init__(
        self,
        engine: Engine,
        frames: Slot[Frame],
        answers: Slot[Segmented],
        stages: Mapping[str, Series],
        min_confidence: float | None = None,
        mask_size: MaskSize | None = None,
        smooth: bool = False,
        first_size: tuple[int, int] | None = None,
        to_drawing: Callable[[], Drawing | None] = lambda: None,
        on_broken: Callable[[Frame, SourceError | SourceLost], None] | None = None,
        limit: float = math.inf,
    ) -> None:
        self.ready = threading.Event()
        self.ran = ""
        self.device_io = False
        self.mask_size: MaskSize = mask_size or "model"
        self._engine = engine
        self._frames = frames
        self._answers = answers
        self._stages = stages
        self._min_confidence = min_confidence or None
        self._mask_size_asked = mask_size
        self._smooths = smooth
        self._first_size = first_size
        self._to_drawing = to_drawing
        self._on_broken = on_broken
        self.beats = Beat("preprocess", limit), Beat("infer", limit)
        self._streams: defaultdict[int, _Stream] = defaultdict(_Stream)
        self._free: deque[Image] = deque()
        self._in_flight: deque[_Batch] = deque()

    def run(self) -> None:
        """Work until the frames end or nobody takes the answers.

        Raises:
            RtpspError: What the engine raised, or a frame's `to_bgr`.
        """
        try:
            with self._engine as engine:
                try:
                    self._open(engine)
                    self.ready.set()
                    self._run_all()
                finally:
                    self._free.clear()  # the engine's own memory
                    self._end()  # and not after it is closed: nobody waits for a driver that hangs after its failure
        finally:
            self._end()

    def describe(self) -> dict[str, str | int | float]:
        """What segments, for a report."""
        spec, header = self._engine.spec, self._engine.header
        return {
            "model": spec.name,
            "height": spec.height,
            "width": spec.width,
            "classes": len(spec.labels),
            "fit": spec.fit,
            "backend": header.backend,
            "precision": header.precision,
            "ran": self.ran,
            "mask_size": self.mask_size,
            "device_io": self.device_io,
            "smooth": self._smooths,
            **({} if self._min_confidence is None else {"min_confidence": self._min_confidence}),
        }

    def _end(self) -> None:
        self._answers.end()
        self._frames.close()

    def _open(self, engine: Engine) -> None:
        """Settle how frames go in, and run a first one: it pays for lazy set-up in every backend.

        With device IO that is memory by the frame's size, for each batch in flight and one more.
        """
        self.ran = engine.ran
        self.device_io = engine.device_io and self._mask_size_asked != "model" and not self._smooths
        if self.device_io:
            self.mask_size = "frame"
            size = self._first_size or engine.spec.size
            image, plan = np.zeros((*size, 3), np.uint8), plan_fit(size, self._engine.spec)
            for _ in range(engine.depth + 1):
                engine.collect(engine.submit_frame(image, plan, self._to_drawing()))
            return
        if engine.device_io and self._smooths:
            _log.warning("device IO is off: it keeps scores to itself, and --smooth needs them")
        elif engine.device_io:
            _log.warning("device IO is off: it makes class maps of the frame's size, --mask-size model asks for others")
        self._free.extend(engine.frame_buffer() for _ in range(engine.depth))
        engine.infer(self._free[0])

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
        while True:
            try:
                frame = self._frames.get(None if wait else 0)
            except TimeoutError:
                return None
            if frame is None:
                return None
            try:
                return self._submit(frame)
            except _Broken as broken:
                if self._on_broken is None:
                    raise broken.error from None
                self._on_broken(frame, broken.error)

    def _submit(self, frame: Frame) -> _Batch:
        preprocess, infer = self.beats
        stamps = Stamps(frame.captured, dequeued=now())
        with self._stages["preprocess"].timed(), preprocess.busy():
            image = _picture_of(frame)
            planes = to_planes(image, self._engine.spec.planes)
            plan = self._plan_for((image.shape[0], image.shape[1]), self._streams[frame.source])
            buffer = None if self.device_io else self._fitted(planes, plan)
        drawing = None
        with infer.busy():
            if buffer is None:
                drawing = self._to_drawing()
                ticket = self._engine.submit_frame(np.ascontiguousarray(planes), plan, drawing)
            else:
                cells = self._engine.cells if self.mask_size == "frame" else None
                ticket = self._engine.submit(buffer, grid=plan.grid(cells) if cells else None)
        return _Batch(frame, image, plan, stamps, ticket, drawing, None if buffer is None else buffer[0])

    def _fitted(self, image: Image, plan: FitPlan) -> Image:
        """In the buffer that was used longest ago: no batch under way has it."""
        buffer = self._free[0]
        self._free.rotate(-1)
        plan.to_model(image, buffer[0])
        return buffer

    def _plan_for(self, size: tuple[int, int], stream: _Stream) -> FitPlan:
        if stream.plan is None or stream.plan.source_size != size:
            stream.plan = plan_fit(size, self._engine.spec)
        return stream.plan

    def _finish(self, batch: _Batch) -> Segmented:
        filtering = 0.0

        def refine(scores: Scores) -> Scores:
            nonlocal filtering
            begin = now()
            smooth = self._smooth(scores, batch)
            filtering = now() - begin
            return smooth

        with self.beats[1].busy():
            result = self._engine.collect(batch.ticket, refine if self._smooths else None)
        class_map, inferred = result.class_map[0], result.collected
        if self._min_confidence and result.confidence is not None:
            class_map = drop_unsure(class_map, result.confidence[0], self._min_confidence, self._engine.spec)
            inferred = now()
        if self.mask_size == "frame" and not self.device_io:
            class_map = batch.plan.place(class_map)
        drawn = None
        if batch.drawing is not None and result.picture is not None:
            drawn = Drawn(batch.drawing, result.picture[0])
        self._stages["infer"].add(inferred - result.submitted - filtering)
        if self._smooths:
            self._stages["smooth"].add(filtering)
        stamps = replace(batch.stamps, inferred=inferred)
        return Segmented(batch.frame, batch.image, class_map, batch.plan, stamps, drawn)

    def _smooth(self, scores: Scores, batch: _Batch) -> Scores:
        """Filtered over time; a frame of another size is the first of another video, since it lies there otherwise."""
        assert batch.seen is not None
        stream = self._streams[batch.frame.source]
        if stream.smoother is None:
            stream.smoother = Smoother()
        if batch.plan is not stream.smoothed:
            stream.smoother.reset()
            stream.smoothed = batch.plan
        return stream.smoother(scores, batch.seen)


class _Broken(Exception):
    """A source that cannot give a frame's picture, told apart from an engine that raises the like."""

    def __init__(self, error: SourceError | SourceLost) -> None:
        super().__init__()
        self.error = error


def _picture_of(frame: Frame) -> Image:
    try:
        return frame.to_bgr(None)
    except (SourceError, SourceLost) as error:
        raise _Broken(error) from error
