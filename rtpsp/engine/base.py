"""The contract of every engine: frames in, class maps out, in the thread that opened it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.errors import EngineFileError, InputError, UsageError
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, EngineHeader
from rtpsp.spec import ModelSpec
from rtpsp.timing import now


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


class Answer(NamedTuple):
    """What a backend gives for one batch; both arrays may be its own.

    Attributes:
        class_map: [N, H, W] class ids.
        confidence: uint8 [N, H, W], of an engine that `gives_confidence`; None of any other.
    """

    class_map: ClassMap
    confidence: Image | None = None


@dataclass(frozen=True)
class Result:
    """The answer to one batch.

    Attributes:
        class_map: [N, H, W] class ids; the caller's `out`, or a new array that the caller owns.
        picture: uint8 [N, H, W, 3] BGR, from engines that draw; None from all others.
        submitted: When the batch went in, seconds of `rtpsp.timing.now`.
        collected: When the answer was there, seconds of the same clock.
        confidence: uint8 [N, H, W], the softmax probability of each pixel's class in steps of 1/255, from engines built
            with it; always a new array that the caller owns. None from all others.
    """

    class_map: ClassMap
    picture: Image | None
    submitted: float
    collected: float
    confidence: Image | None = None


class Engine(ABC):
    """A model on a device. It holds nothing but its header until it is entered, and nothing after it is left.

    A backend adds `_open`, `_close`, `_start` and `_finish`; all of them run in the thread that entered the engine. Its
    constructor takes a header, a payload and options: `rtpsp.engine.load_engine` calls it.
    """

    ran: str = ""
    """Number format of the convolutions as they really run (``f32``, ``bf16``, ``f16``), once the engine is open."""

    def __init__(self, header: EngineHeader, options: EngineOptions | None = None) -> None:
        self.header = header
        self.options = options or EngineOptions()
        self.batch = int(header.options.get("batch", 1))
        self._thread: int | None = None
        self._in_flight = 0

    @property
    def spec(self) -> ModelSpec:
        """The model's own spec."""
        return self.header.spec

    @property
    def gives_confidence(self) -> bool:
        """Whether results have a `confidence`: the engine was built with it."""
        return bool(self.header.options.get(CONFIDENCE, False))

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
        self._thread = None
        self._in_flight = 0

    def submit(self, frames: Image, out: ClassMap | None = None) -> Ticket:
        """Start one batch.

        Args:
            frames: uint8 [N, H, W, 3] BGR, C-contiguous, N and size the model's own (`rtpsp.fit` brings any frame
                there). The engine reads it until the ticket is collected: do not write into it before.
            out: [N, H, W] of the spec's `class_dtype`, to write the answer into.

        Raises:
            InputError: Another shape or type.
            UsageError: Not open, open in another thread, or `depth` batches are in flight already.
        """
        self._check_thread()
        self._check_arrays(frames, out)
        if self._in_flight >= self.depth:
            raise UsageError(f"{self._in_flight} batches are in flight and depth is {self.depth}: collect one first")
        submitted = now()
        work = self._start(frames)
        self._in_flight += 1
        return Ticket(work, out, submitted)

    def collect(self, ticket: Ticket) -> Result:
        """Wait for a batch; tickets are collected in the order they were given.

        Raises:
            UsageError: Not open, or open in another thread.
        """
        self._check_thread()
        self._in_flight -= 1
        answer = self._finish(ticket.work)
        class_map = np.empty_like(answer.class_map) if ticket.out is None else ticket.out
        class_map[...] = answer.class_map
        confidence = None if answer.confidence is None else answer.confidence.copy()
        return Result(class_map, None, ticket.submitted, now(), confidence)

    def infer(self, frames: Image, out: ClassMap | None = None) -> Result:
        """`submit` and `collect` in one; see there for shapes and errors."""
        return self.collect(self.submit(frames, out))

    def _check_thread(self) -> None:
        if self._thread is None:
            raise UsageError("engine is not open: use it inside 'with load_engine(path) as engine:'")
        if self._thread != threading.get_ident():
            raise UsageError("engine is open in another thread: enter it in the thread that uses it")

    def _check_arrays(self, frames: Image, out: ClassMap | None) -> None:
        shape = (self.batch, *self.spec.size, 3)
        if frames.shape != shape or frames.dtype != np.uint8 or not frames.flags.c_contiguous:
            order = "" if frames.flags.c_contiguous else ", not contiguous"
            raise InputError(
                f"frames are {frames.dtype} {list(frames.shape)}{order}, expected contiguous uint8 {list(shape)} (BGR)"
            )
        if out is not None and (out.shape != shape[:3] or out.dtype != np.dtype(self.spec.class_dtype)):
            raise InputError(
                f"out is {out.dtype} {list(out.shape)}, expected {self.spec.class_dtype} {list(shape[:3])}"
            )

    def _check_payload(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """For a backend while it opens: a payload takes and gives what its header promises, and nothing else.

        Args:
            inputs: Type and shape by name, such as ``uint8 [1, 360, 480, 3]`` of ``frames``.
            outputs: The same, such as ``uint8 [1, 360, 480]`` of ``class_map``.

        Raises:
            EngineFileError: It does not.
        """
        pixels = [self.batch, *self.spec.size]
        takes, gives = {FRAMES: f"uint8 {[*pixels, 3]}"}, {CLASS_MAP: f"{self.spec.class_dtype} {pixels}"}
        if self.gives_confidence:
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


def _listed(tensors: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {tensors[name]}" for name in sorted(tensors)) or "nothing"
