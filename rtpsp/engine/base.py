"""The contract of every engine: frames in, class maps out, in the thread that opened it."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.class_mapper import ClassMapper
from rtpsp.errors import EngineFileError, InputError, UsageError
from rtpsp.fit import MaskSize
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, SCORES, EngineHeader
from rtpsp.spec import ModelSpec
from rtpsp.timing import now
from rtpsp.upsampling import Grid, confidence_map

_SIZES_KEPT = 8  # geometries of class maps; a live run has one, a folder of photographs has many


@dataclass(frozen=True)
class EngineOptions:
    """How an engine may use the machine.

    Attributes:
        threads: CPU threads; 0 leaves the number to the backend.
        depth: Batches in flight: 1 for the freshest picture, 2 for throughput.
    """

    threads: int = 0
    depth: int = 1

    def __post_init__(self) -> None:
        if self.threads < 0 or self.depth < 1:
            raise UsageError(f"threads {self.threads} and depth {self.depth}: expected at least 0 and 1")


@dataclass(frozen=True)
class Ticket:
    """A batch on its way; `Engine.collect` takes it. `work` belongs to the backend."""

    work: Any
    out: ClassMap | None
    submitted: float
    grid: Grid | None = None


class Answer(NamedTuple):
    """What a backend gives for one batch, either `scores` or the rest; the arrays may be its own.

    Attributes:
        class_map: [N, H, W] class ids.
        confidence: uint8 [N, H, W], of an engine that `gives_confidence`; None of any other.
        scores: float32 [N, classes, h, w], of an engine that `gives_scores`: the base class makes the rest of them.
    """

    class_map: ClassMap | None = None
    confidence: Image | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Result:
    """The answer to one batch.

    Attributes:
        class_map: [N, H, W] class ids; the caller's `out`, or a new array that the caller owns. H and W are those of
            the model, or of the grid that was submitted.
        picture: uint8 [N, H, W, 3] BGR, from engines that draw; None from all others.
        submitted: When the batch went in, seconds of `rtpsp.timing.now`.
        collected: When the answer was there, seconds of the same clock.
        confidence: uint8 [N, H, W], the softmax probability of each pixel's class in steps of 1/255, from engines built
            with it; always a new array that the caller owns. None from all others.
        scores: float32 [N, classes, h, w] as the network gives them, cells of some 8x8 pixels, from engines that
            `gives_scores`; a new array that the caller owns. None from all others.
    """

    class_map: ClassMap
    picture: Image | None
    submitted: float
    collected: float
    confidence: Image | None = None
    scores: NDArray[np.float32] | None = None


class Engine(ABC):
    """A model on a device. It holds nothing but its header until it is entered, and nothing after it is left.

    A backend adds `_open`, `_close`, `_start` and `_finish`; all of them run in the thread that entered the engine. Its
    constructor takes a header, a payload and options: `rtpsp.engine.load_engine` calls it.
    """

    ran: str = ""
    """Number format of the convolutions as they really run (``f32``, ``bf16``, ``f16``, ``u8``), once it is open."""
    cells: tuple[int, int] | None = None
    """(h, w) of the scores of an engine that `gives_scores`, once it is open."""

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
            self.ran = self._open()
        except BaseException:
            self._thread = None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._check_thread()
        self._close()
        self._mapper.cache_clear()
        self._thread = None
        self._in_flight = 0

    def submit(self, frames: Image, out: ClassMap | None = None, grid: Grid | None = None) -> Ticket:
        """Start one batch.

        Args:
            frames: uint8 [N, H, W, 3] BGR, C-contiguous, N and size the model's own (`rtpsp.fit` brings any frame
                there). The engine reads it until the ticket is collected: do not write into it before.
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
        if self._in_flight >= self.depth:
            raise UsageError(f"{self._in_flight} batches are in flight and depth is {self.depth}: collect one first")
        submitted = now()
        work = self._start(frames)
        self._in_flight += 1
        return Ticket(work, out, submitted, grid)

    def collect(self, ticket: Ticket) -> Result:
        """Wait for a batch; tickets are collected in the order they were given.

        Raises:
            UsageError: Not open, or open in another thread.
        """
        self._check_thread()
        self._in_flight -= 1
        answer = self._finish(ticket.work)
        if answer.scores is not None:
            return self._to_result(answer.scores, ticket)
        assert answer.class_map is not None
        class_map = np.empty_like(answer.class_map) if ticket.out is None else ticket.out
        class_map[...] = answer.class_map
        confidence = None if answer.confidence is None else answer.confidence.copy()
        return Result(class_map, None, ticket.submitted, now(), confidence)

    def infer(self, frames: Image, out: ClassMap | None = None, grid: Grid | None = None) -> Result:
        """`submit` and `collect` in one; see there for shapes and errors."""
        return self.collect(self.submit(frames, out, grid))

    def _to_result(self, scores: NDArray[np.float32], ticket: Ticket) -> Result:
        height, width = scores.shape[2:]
        mapper = self._mapper(ticket.grid or Grid.whole((height, width), self.spec.size))
        class_map, confidence = ticket.out, None
        if class_map is None:
            class_map = np.empty((self.batch, *mapper.grid.size), self.spec.class_dtype)
        for one, ids in zip(scores, class_map, strict=True):
            mapper(one, ids)
        if self.gives_confidence:
            confidence = np.stack([confidence_map(one, mapper.grid) for one in scores])
        return Result(class_map, None, ticket.submitted, now(), confidence, scores.copy())

    def _check_thread(self) -> None:
        if self._thread is None:
            raise UsageError("engine is not open: use it inside 'with load_engine(path) as engine:'")
        if self._thread != threading.get_ident():
            raise UsageError("engine is open in another thread: enter it in the thread that uses it")

    def _check_arrays(self, frames: Image, out: ClassMap | None, grid: Grid | None) -> None:
        shape = (self.batch, *self.spec.size, 3)
        if frames.shape != shape or frames.dtype != np.uint8 or not frames.flags.c_contiguous:
            order = "" if frames.flags.c_contiguous else ", not contiguous"
            raise InputError(
                f"frames are {frames.dtype} {list(frames.shape)}{order}, expected contiguous uint8 {list(shape)} (BGR)"
            )
        if grid is not None and grid.cells != self.cells:
            raise InputError(f"grid is one of {grid.cells} cells, expected the engine's own: {self.cells}")
        wanted = (self.batch, *(grid.size if grid else self.spec.size))
        if out is not None and (out.shape != wanted or out.dtype != np.dtype(self.spec.class_dtype)):
            raise InputError(f"out is {out.dtype} {list(out.shape)}, expected {self.spec.class_dtype} {list(wanted)}")

    def _check_payload(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """For a backend while it opens: a payload takes and gives what its header promises, and nothing else.

        Args:
            inputs: Type and shape by name, such as ``uint8 [1, 360, 480, 3]`` of ``frames``.
            outputs: The same, such as ``uint8 [1, 360, 480]`` of ``class_map``, or ``float32 [1, 11, 45, 60]`` of
                ``scores``.

        Raises:
            EngineFileError: It does not.
        """
        pixels = [self.batch, *self.spec.size]
        takes, gives = {FRAMES: f"uint8 {[*pixels, 3]}"}, {CLASS_MAP: f"{self.spec.class_dtype} {pixels}"}
        if self.gives_scores:
            start = f"float32 [{self.batch}, {len(self.spec.labels)}, "
            told = re.fullmatch(re.escape(start) + r"(\d+), (\d+)\]", outputs.get(SCORES, ""))
            gives = {SCORES: told.string if told else f"{start}h, w]"}
            self.cells = (int(told[1]), int(told[2])) if told else None
        elif self.gives_confidence:
            gives[CONFIDENCE] = f"uint8 {pixels}"
        for verb, found, expected in (("takes", inputs, takes), ("gives", outputs, gives)):
            if dict(found) != expected:
                raise EngineFileError(
                    f"engine {verb} {_listed(found)}, its header promises {_listed(expected)}: build the engine again"
                )

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


def check_mask_size(value: MaskSize, engine: Engine | None = None) -> None:
    """A class map is of the model's size or the frame's, and the latter needs an engine that gives scores.

    Raises:
        UsageError: It is neither, or the engine does not.
    """
    if value not in get_args(MaskSize):
        raise UsageError(f"mask_size is {value!r}, expected one of {', '.join(get_args(MaskSize))}")
    if value == "frame" and engine is not None and not engine.gives_scores:
        raise UsageError(
            f"engine of {engine.spec.name} gives class maps of its own size alone, --mask-size frame needs its scores: "
            f"build it with 'rtpsp build-engine MODEL --tail host'"
        )


def _listed(tensors: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {tensors[name]}" for name in sorted(tensors)) or "nothing"
