"""What crosses a thread in the live flow: frames and their stamps, frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from rtpsp.arrays import ClassMap as ClassMap
from rtpsp.arrays import Image as Image
from rtpsp.drawing import Drawing
from rtpsp.fit import FitPlan

View = Literal["overlay", "mask", "side-by-side", "frame"]
VIEWS: tuple[View, ...] = ("overlay", "mask", "side-by-side", "frame")


@dataclass(frozen=True)
class Frame:
    """One frame as a source delivers it: known, but not yet turned into pixels.

    Attributes:
        index: Number in the source from 0, counting frames that were lost or passed over.
        pts: Presentation time in seconds from the source's first frame.
        captured: When the scene was seen, in seconds of `time.monotonic`; not when the frame was read.
        height: Pixels of the picture that `to_bgr` gives.
        width: Pixels of the picture that `to_bgr` gives.
        to_bgr: Decodes into uint8 [height, width, 3] BGR, or with the other planes that its source says
            (`rtpsp.stream.source.SourceInfo`). It writes into the array it is given and returns it, or makes one when
            given None. The consumer calls it, at most once, so that a dropped frame costs no conversion.
        name: File name, for a source of single images; with a number before it where it is not the only one so called.
        truth: The scene's own class ids, uint8 [height, width], for a source that knows them.
        source: Number of its source in the run, from 0.
    """

    index: int
    pts: float
    captured: float
    height: int
    width: int
    to_bgr: Callable[[Image | None], Image]
    name: str | None = None
    truth: Callable[[], Image] | None = None
    source: int = 0


@dataclass(frozen=True)
class Stamps:
    """When a frame passed each station, in seconds of `time.monotonic`; 0.0 where it has not been yet.

    Attributes:
        captured: The scene was seen.
        dequeued: The inference thread took the frame.
        inferred: Its class map was there.
        rendered: Its picture was drawn.
        handed_over: Every sink had it; age is `handed_over` minus `captured`.
    """

    captured: float
    dequeued: float = 0.0
    inferred: float = 0.0
    rendered: float = 0.0
    handed_over: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """A picture that an engine's device drew.

    Attributes:
        drawing: What it shows.
        picture: uint8 [height, width, 3] BGR at the source's size; the receiver's own.
    """

    drawing: Drawing
    picture: Image


@dataclass(frozen=True)
class Segmented:
    """A frame with its answer, on its way from the inference thread to rendering.

    Attributes:
        frame: What the source delivered.
        image: uint8 [height, width, 3] BGR at the source's size, or of the source's other planes; the receiver's own.
        class_map: Class ids [H, W] at the model's size, or at the frame's with ``mask_size`` so; the receiver's own.
        plan: How the two lie over each other.
        stamps: Up to `inferred`.
        drawn: The picture, where the device drew one.
    """

    frame: Frame
    image: Image
    class_map: ClassMap
    plan: FitPlan
    stamps: Stamps
    drawn: Drawn | None = None


@dataclass(frozen=True)
class Rendered:
    """What a sink gets.

    Attributes:
        frame: What the source delivered.
        pictures: uint8 [h, w, 3] BGR for each view that a sink wants: the source's size, twice its width side by side.
        class_map: Class ids [height, width] at the source's size.
        stamps: Up to `rendered`.
    """

    frame: Frame
    pictures: Mapping[View, Image]
    class_map: ClassMap
    stamps: Stamps


@dataclass(frozen=True)
class Absent:
    """What a sink gets, a few times a second, while no frame comes from a source.

    Attributes:
        source: Its number in the run, from 0.
        pts: Presentation time of this moment, on the time line of the source's frames: seconds from its first one.
        picture: uint8 [height, width, 3] BGR: the last picture, darkened, and in words what is wrong.
        words: The same words.
    """

    source: int
    pts: float
    picture: Image
    words: str
