"""The contract of every engine: frames in, class maps out, in the thread that opened it."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.class_mapper import ClassMapper
from rtpsp.engine.checks import check_mask_size as check_mask_size
from rtpsp.engine.checks import check_scores as check_scores
from rtpsp.engine.exchange import Answer as Answer
from rtpsp.engine.exchange import EngineOptions as EngineOptions
from rtpsp.engine.exchange import Result as Result
from rtpsp.engine.exchange import Ticket as Ticket
from rtpsp.engine.payload import check_payload
from rtpsp.errors import InputError, UsageError
from rtpsp.fit import FitPlan
from rtpsp.header import CONFIDENCE, EngineHeader
from rtpsp.spec import ModelSpec
from rtpsp.timing import now
from rtpsp.upsampling import Grid, Scores, confidence_map

if TYPE_CHECKING:
    from rtpsp.drawing import Drawing

_log = logging.getLogger(__name__)

_SIZES_KEPT = 8  # geometries of class maps; a live run has one, a folder of photographs has many


class Engine(ABC):
    """A model on a device. It holds nothing but its header until it is entered, and nothing after it is left.

    A backend adds `_open`, `_close`, `_start` and `_finish`; all of them run in the thread that entered the engine. Its
    constructor takes a header, a payload and options: `rtpsp.engine.load_engine` calls it.
    """

    ran: str = ""
    """Number format of the convolutions as they really run (``f32``, ``bf16``, ``f16``, ``u8``), once it is open."""
    cells: tuple[int, int] | None = None
    """(h, w) of the scores of an engine that `gives_scores`, once it is open."""
    device_io: bool = False
    """Whether it takes whole frames, by `submit_frame`, once it is open."""
    _can_device_io: bool = False
    """Whether the backend has a `_start_frame`; it may still find in `_open` that it has not what that needs."""

    def __init__(self, header: EngineHeader, options: EngineOptions | None = None) -> None:
        self.header = header
        self.options = options or EngineOptions()
        self.batch = int(header.options.get("batch", 1))
        self._thread: int | None = None
        self._in_flight = 0
        self._mapper = lru_cache(_SIZES_KEPT)(partial(ClassMapper, dtype=header.spec.class_dtype))

    @property
    def spec(self) -> ModelSpec:
        """The model's own spec."""
        return self.header.spec

    @property
    def gives_confidence(self) -> bool:
        """Whether results have a `confidence`: the engine was built with it."""
        return bool(self.header.options.get(CONFIDENCE, False))

    @property
    def gives_scores(self) -> bool:
        """Whether results have `scores`: upsampling and argmax are done here, not in the graph, for any size of map."""
        return self.header.options.get("tail") == "host"

    @property
    def depth(self) -> int:
        """How many batches may be in flight."""
        return self.options.depth

    def __enter__(self) -> Engine:
        if self._thread is not None:
            raise UsageError("engine is already open: enter it once, or load it twice for two threads")
        self._thread = threading.get_ident()
        try:
            self.device_io = self._wants_device_io()
            self.ran = self._open()
        except BaseException:
            self._thread, self.device_io = None, False
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._check_thread()
        try:
            self._close()
        finally:
            self._mapper.cache_clear()
            self._thread, self._in_flight, self.device_io = None, 0, False

    def frame_buffer(self) -> Image:
        """Memory for one batch from which a submit costs the least: a GPU reads it without a copy (page-locked).

        Ask for as many as are in flight, once, and write every batch into one of them; any other array does, too.

        Returns:
            uint8 [N, H, W, planes], zeros, as `submit` takes it; valid while the engine is open.

        Raises:
            UsageError: Not open, or open in another thread.
        """
        self._check_thread()
        return self._frame_buffer((self.batch, *self.spec.frame_shape))

    def submit(self, frames: Image, out: ClassMap | None = None, grid: Grid | None = None) -> Ticket:
        """Start one batch.

        Args:
            frames: uint8 [N, H, W, planes] grey, BGR or BGRX, C-contiguous, N and the rest the model's own (`rtpsp.fit`
                brings any frame there). The engine reads it until the ticket is collected: do not write into it before.
            out: [N, H, W] of the spec's `class_dtype`, to write the answer into.
            grid: Where the class map, and the confidence, have their pixels, such as `rtpsp.fit.FitPlan.grid` of this
                engine's `cells`; None is the model's own pixels.

        Raises:
            InputError: Another shape or type.
            UsageError: Not open, open in another thread, `depth` batches are in flight already, or a grid for an
                engine that does not `gives_scores`.
        """
        self._check_thread()
        if grid is not None:
            check_mask_size("frame", self)
        self._check_arrays(frames, out, grid)
        self._check_depth()
        submitted = now()
        work = self._start(frames)
        self._in_flight += 1
        return Ticket(work, out, submitted, grid)

    def submit_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None = None) -> Ticket:
        """Start on one frame of any size, which the device itself brings to the model's; see `device_io`.

        The result's class map is that of the whole frame, int [1, height, width]: the definition is
        `rtpsp.upsampling.reference_class_map` of `FitPlan.grid`, with `rtpsp.fit.no_class` where the model saw nothing.

        Args:
            image: uint8 [height, width, 3] BGR of the plan's `source_size`, C-contiguous. It is not needed any more
                when this returns.
            plan: How the frame meets this engine's model.
            drawing: Gives the result a `picture` of the frame's size; None gives it none.

        Raises:
            InputError: Another shape or type, or a plan for another model.
            UsageError: Not open, open in another thread, `depth` batches are in flight already, or an engine without
                `device_io`.
        """
        self._check_thread()
        if not self.device_io:
            raise UsageError("this engine has no device_io: bring the frame to the model's size and submit that")
        if image.shape != (*plan.source_size, 3) or image.dtype != np.uint8 or not image.flags.c_contiguous:
            order = "" if image.flags.c_contiguous else ", not contiguous"
            expected = [*plan.source_size, 3]
            raise InputError(
                f"frame is {image.dtype} {list(image.shape)}{order}, expected contiguous uint8 {expected} (BGR)"
            )
        if plan.spec is not self.spec and plan.spec != self.spec:
            raise InputError(f"the plan is one for {plan.spec.name}, expected one for the engine's {self.spec.name}")
        self._check_depth()
        submitted = now()
        work = self._start_frame(image, plan, drawing)
        self._in_flight += 1
        return Ticket(work, None, submitted)

    def collect(self, ticket: Ticket, refine: Callable[[Scores], Scores] | None = None) -> Result:
        """Wait for a batch; tickets are collected in the order they were given.

        Args:
            ticket: The oldest one that was not collected.
            refine: Called with each frame's scores, float32 [classes, h, w], the engine's own until it returns. What it
                gives back, as large, takes their place: all of the result is made of it.

        Raises:
            UsageError: Not open, open in another thread, or scores to refine that this batch does not give.
        """
        self._check_thread()
        self._in_flight -= 1
        answer = self._finish(ticket.work)
        if answer.scores is not None:
            scores = answer.scores.copy()
            if refine is not None:
                scores = np.array([refine(one) for one in answer.scores], np.float32)
            return self._to_result(scores, ticket)
        if refine is not None:
            raise UsageError("no scores to refine: expected a batch of the model's size of an engine that gives_scores")
        assert answer.class_map is not None
        class_map = np.empty_like(answer.class_map) if ticket.out is None else ticket.out
        class_map[...] = answer.class_map
        confidence, picture = (None if given is None else given.copy() for given in (answer.confidence, answer.picture))
        return Result(class_map, picture, ticket.submitted, now(), confidence)

    def infer(self, frames: Image, out: ClassMap | None = None, grid: Grid | None = None) -> Result:
        """`submit` and `collect` in one; see there for shapes and errors."""
        return self.collect(self.submit(frames, out, grid))

    def _to_result(self, scores: Scores, ticket: Ticket) -> Result:
        height, width = scores.shape[2:]
        mapper = self._mapper(ticket.grid or Grid.whole((height, width), self.spec.size))
        class_map, confidence = ticket.out, None
        if class_map is None:
            class_map = np.empty((self.batch, *mapper.grid.size), self.spec.class_dtype)
        for one, ids in zip(scores, class_map, strict=True):
            mapper(one, ids)
        if self.gives_confidence:
            confidence = np.stack([confidence_map(one, mapper.grid) for one in scores])
        return Result(class_map, None, ticket.submitted, now(), confidence, scores)

    def _check_thread(self) -> None:
        if self._thread is None:
            raise UsageError("engine is not open: use it inside 'with load_engine(path) as engine:'")
        if self._thread != threading.get_ident():
            raise UsageError("engine is open in another thread: enter it in the thread that uses it")

    def _check_depth(self) -> None:
        if self._in_flight >= self.depth:
            raise UsageError(f"{self._in_flight} batches are in flight and depth is {self.depth}: collect one first")

    def _wants_device_io(self) -> bool:
        if self.options.device_io == "off":
            return False
        reason = ""
        if not self._can_device_io:
            reason = f"backend {self.header.backend} has none: take an engine of TensorRT's"
        elif not self.gives_scores:
            reason = "the engine gives class maps of its own size alone: build it with 'rtpsp build-engine --tail host'"
        elif self.gives_confidence:
            reason = "the engine gives a confidence: build it without --confidence"
        elif self.spec.planes != 3:
            reason = f"the model takes {self.spec.frame_words} frames, the device's kernels BGR: take a model of colour"
        elif self.batch != 1:
            reason = f"the engine takes {self.batch} frames at a time: build it without --batch"
        if reason and self.options.device_io == "on":
            raise UsageError(f"--device-io is on, and {reason}; or leave it at auto")
        if reason and self._can_device_io:
            _log.info("no device_io: %s", reason)
        return not reason

    def _check_arrays(self, frames: Image, out: ClassMap | None, grid: Grid | None) -> None:
        shape = (self.batch, *self.spec.frame_shape)
        if frames.shape != shape or frames.dtype != np.uint8 or not frames.flags.c_contiguous:
            order = "" if frames.flags.c_contiguous else ", not contiguous"
            expected = f"expected contiguous uint8 {list(shape)} ({self.spec.frame_words})"
            raise InputError(f"frames are {frames.dtype} {list(frames.shape)}{order}, {expected}")
        if grid is not None and grid.cells != self.cells:
            raise InputError(f"grid is one of {grid.cells} cells, expected the engine's own: {self.cells}")
        wanted = (self.batch, *(grid.size if grid else self.spec.size))
        if out is not None and (out.shape != wanted or out.dtype != np.dtype(self.spec.class_dtype)):
            raise InputError(f"out is {out.dtype} {list(out.shape)}, expected {self.spec.class_dtype} {list(wanted)}")

    def _check_payload(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """For a backend while it opens: `rtpsp.engine.payload.check_payload`, and the `cells` that it tells."""
        self.cells = check_payload(self.header, inputs, outputs)

    @abstractmethod
    def _open(self) -> str:
        """Take device resources, `_check_payload`, and say in which number format the convolutions run."""

    @abstractmethod
    def _close(self) -> None:
        """Give every device resource back."""

    @abstractmethod
    def _start(self, frames: Image) -> Any:
        """Begin to work on a checked batch; what it returns comes back in `_finish`."""

    @abstractmethod
    def _finish(self, work: Any) -> Answer:
        """Wait for it. The arrays may be the backend's own: they are copied before the next batch starts."""

    def _start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> Any:
        """As `_start` for a checked frame, by a backend that `_can_device_io`."""
        raise NotImplementedError

    def _frame_buffer(self, shape: tuple[int, ...]) -> Image:
        return np.zeros(shape, np.uint8)
