"""What a peer is given, and what it gives back: ``from peer_job import Job, Loaded``.

A peer's file has one function, ``load(job: Job) -> Loaded``. All that it does is what a user of that library writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Frame: TypeAlias = Any
"""A NumPy array, uint8 [height, width, 3] BGR."""

ClassMap: TypeAlias = Any
"""A NumPy array of class ids, [H, W]."""


@dataclass(frozen=True)
class Job:
    """What is to be segmented, by which weights; paths are absolute.

    Attributes:
        precision: Which of the peer's own precisions, by the names of its ``peer.json``.
        model: The network as an ONNX file: input ``image``, float32 [1, 3, height, width], normalised; output
            ``logits``, float32 [1, classes, h, w].
        weights: The same weights as an ``.npz`` of tensors by the names of the checkpoint.
        arch: Architecture of the checkpoint, such as ``pspnet18``.
        output_stride: Pixels of input a side for one cell of its feature map.
        classes: Number of classes.
        height: Model input height in pixels.
        width: Model input width in pixels.
        mean: Of each plane on a 0..1 scale, in the order of `channels`.
        std: Likewise.
        channels: Order of planes that the network takes: ``rgb`` or ``bgr``.
        average: Frames are shrunk by averages of areas (INTER_AREA); by linear interpolation otherwise.
        palette: uint8 BGR colours, one a class.
        frames: An ``.npy`` of uint8 [count, height, width, 3] BGR, the frames of the race.
        calibration: An ``.npy`` of other frames, for a quantiser.
        video: A video file, for the loop.
        engine: rtpsp's engine file, for rtpsp itself.
        threads: Likewise; 0 takes all.
        folder: Where the peer may write.
    """

    precision: str
    model: str
    weights: str
    arch: str
    output_stride: int
    classes: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str
    average: bool
    palette: list[list[int]]
    frames: str
    calibration: str
    video: str
    engine: str
    threads: int
    folder: str


@dataclass
class Loaded:
    """A peer that is ready.

    Attributes:
        segment: From a frame to its class map; resizing, normalisation and argmax are inside.
        ran: Number format that the convolutions really run in: ``f32``, ``bf16``, ``f16`` or ``i8``.
        threads: How many the library takes by itself; None where it does not tell.
        versions: Of the packages that matter.
        loop: Plays the video once, from its beginning, as far as so many frames, draws each and throws the picture
            away; the time of `time.monotonic` at which each picture was there. None for a peer that only segments.
        close: Called at the end.
    """

    segment: Callable[[Frame], ClassMap]
    ran: str
    threads: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    loop: Callable[[int], list[float]] | None = None
    close: Callable[[], None] = lambda: None


class NotHere(Exception):
    """This machine, or this model, does not suit the peer; the text says why."""
