"""What goes into an engine and what comes out of it: options, tickets, answers, results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.errors import UsageError
from rtpsp.upsampling import Grid

DeviceIOChoice = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class EngineOptions:
    """How an engine may use the machine.

    Attributes:
        threads: CPU threads; 0 leaves the number to the backend.
        depth: Batches in flight: 1 for the freshest picture, 2 for throughput.
        device_io: Whether a device resizes frames and makes class maps and pictures of the frame's own size
            (`rtpsp.engine.base.Engine.submit_frame`): ``auto`` where it can, ``on`` or an error, ``off``.
        cuda_graph: Launch a whole inference as one CUDA graph where it can be captured; engines of a GPU alone.
        spin: Wait for a GPU by asking it without a pause: the answer is seen sooner, and a CPU core is busy.
    """

    threads: int = 0
    depth: int = 1
    device_io: DeviceIOChoice = "auto"
    cuda_graph: bool = True
    spin: bool = False

    def __post_init__(self) -> None:
        if self.threads < 0 or self.depth < 1:
            raise UsageError(f"threads {self.threads} and depth {self.depth}: expected at least 0 and 1")
        if self.device_io not in get_args(DeviceIOChoice):
            raise UsageError(f"device_io is {self.device_io!r}, expected one of {', '.join(get_args(DeviceIOChoice))}")


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
        picture: uint8 [N, H, W, 3] BGR, of a frame that was submitted with a drawing.
    """

    class_map: ClassMap | None = None
    confidence: Image | None = None
    scores: NDArray[np.float32] | None = None
    picture: Image | None = None


@dataclass(frozen=True)
class Result:
    """The answer to one batch.

    Attributes:
        class_map: [N, H, W] class ids; the caller's `out`, or a new array that the caller owns. H and W are those of
            the model, of the grid that was submitted, or of the frame that was.
        picture: uint8 [N, H, W, 3] BGR, of a frame that was submitted with a drawing; a new array that the caller owns.
            None of all others.
        submitted: When the batch went in, seconds of `rtpsp.timing.now`.
        collected: When the answer was there, seconds of the same clock.
        confidence: uint8 [N, H, W], the softmax probability of each pixel's class in steps of 1/255, from engines built
            with it; always a new array that the caller owns. None from all others.
        scores: float32 [N, classes, h, w] as the network gives them, or refined (`Engine.collect`), cells of some 8x8
            pixels, from engines that `gives_scores`; a new array that the caller owns. None from all others.
    """

    class_map: ClassMap
    picture: Image | None
    submitted: float
    collected: float
    confidence: Image | None = None
    scores: NDArray[np.float32] | None = None
