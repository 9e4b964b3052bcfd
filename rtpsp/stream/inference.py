"""The inference stage: takes frames out of one slot, puts answered frames into the next."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.drawing import Drawing
from rtpsp.engine.base import Engine, Ticket
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.errors import UsageError
from rtpsp.fit import FitPlan, MaskSize, no_class, plan_fit
from rtpsp.planes import to_planes
from rtpsp.smoothing import Smoother
from rtpsp.spec import ModelSpec
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


class Inference:
    """Runs an engine in the thread that calls `run`, with as many frames in flight as the engine's depth.

    Args:
        engine: Not open; `run` enters it.
        frames: What to segment.
        answers: Where it goes; ended when `run` returns, however it does.
        stages: ``preprocess`` gets the time for conversion and fit of each frame; with device IO the engine does the
            latter. ``infer`` gets that from submitting each frame to having its class map, its unknown pixels marked,
            but for ``smooth``, which gets that of filtering its scores.
        min_confidence: Pixels with less become `rtpsp.fit.no_class`, 0..1; `check_min_confidence` has been called.
        mask_size: Whether class maps are of the model's size or of each frame's; `check_mask_size` has been called.
            None is the frame's where the engine's device makes them, else the model's.
        smooth: Whether scores are filtered over time before they become class maps; the engine has to give them.
        first_size: (height, width) that frames are expected to have: an engine with device IO warms up on it.
        to_drawing: Called for each frame, in the same thread: what a device is to draw of it.

    Attributes:
        ready: Set once the engine is open and warm; the other attributes are what they will be from then on.
        ran: Number format of the engine's convolutions.
        device_io: Whether the engine's device resizes the frames, makes their class maps and draws.
        mask_size: Of the class maps that go out.
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
        self._smoother = Smoother() if smooth else None
        self._smoothed: FitPlan | None = None
        self._first_size = first_size
        self._to_drawing = to_drawing
        self._plan: FitPlan | None = None
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
            "smooth": self._smoother is not None,
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
        self.device_io = engine.device_io and self._mask_size_asked != "model" and self._smoother is None
        if self.device_io:
            self.mask_size = "frame"
            size = self._first_size or engine.spec.size
            image, plan = np.zeros((*size, 3), np.uint8), self._plan_for(size)
            for _ in range(engine.depth + 1):
                engine.collect(engine.submit_frame(image, plan, self._to_drawing()))
            return
        if engine.device_io and self._smoother is not None:
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
        try:
            frame = self._frames.get(None if wait else 0)
        except TimeoutError:
            return None
        if frame is None:
            return None
        stamps = Stamps(frame.captured, dequeued=now())
        with self._stages["preprocess"].timed():
            image = frame.to_bgr(None)
            planes = to_planes(image, self._engine.spec.planes)
            plan = self._plan_for((image.shape[0], image.shape[1]))
            buffer = None if self.device_io else self._fitted(planes, plan)
        drawing = None
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

    def _plan_for(self, size: tuple[int, int]) -> FitPlan:
        if self._plan is None or self._plan.source_size != size:
            self._plan = plan_fit(size, self._engine.spec)
        return self._plan

    def _finish(self, batch: _Batch) -> Segmented:
        filtering = 0.0

        def refine(scores: Scores) -> Scores:
            nonlocal filtering
            begin = now()
            smooth = self._smooth(scores, batch)
            filtering = now() - begin
            return smooth

        result = self._engine.collect(batch.ticket, refine if self._smoother is not None else None)
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
        if self._smoother is not None:
            self._stages["smooth"].add(filtering)
        stamps = replace(batch.stamps, inferred=inferred)
        return Segmented(batch.frame, batch.image, class_map, batch.plan, stamps, drawn)

    def _smooth(self, scores: Scores, batch: _Batch) -> Scores:
        """Filtered over time; a frame of another size is the first of another video, since it lies there otherwise."""
        assert self._smoother is not None and batch.seen is not None
        if batch.plan is not self._smoothed:
            self._smoother.reset()
            self._smoothed = batch.plan
        return self._smoother(scores, batch.seen)


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


def check_device_io(
    choice: DeviceIOChoice, min_confidence: float | None, mask_size: MaskSize | None, smooth: bool = False
) -> None:
    """A device that takes whole frames gives no confidence and no scores, and class maps of the frame's size alone.

    Raises:
        UsageError: It is ``on`` beside options that ask for something else.
    """
    if choice != "on":
        return
    if min_confidence:
        raise UsageError("device IO gives no confidence, which --min-confidence needs: leave it or --device-io on out")
    if mask_size == "model":
        raise UsageError(
            "device IO makes class maps of the frame's size, and --mask-size is model: leave it or --device-io on out"
        )
    if smooth:
        raise UsageError("device IO keeps scores to itself, and --smooth needs them: leave it or --device-io on out")


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
