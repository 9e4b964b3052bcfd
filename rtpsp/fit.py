"""How a frame of any shape meets a model of one shape, and how the answer finds its way back.

One definition serves the live loop, evaluation, calibration and training. A frame of `source` size and the model's
input share one rectangle each, with whole-pixel edges: `source_box` of the frame fills `model_box` of the input.

    stretch     the whole frame fills the whole input; the aspect ratio is lost
    letterbox   the whole frame fills a centred box of the input; the rest is padded with the mean colour
    crop        a centred box of the frame fills the whole input; the rest of the frame gets no class
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.errors import InputError
from rtpsp.spec import ModelSpec
from rtpsp.upsampling import Axis, Grid

MaskSize = Literal["model", "frame"]
"""Where a class map has its pixels: ``model`` decides at the model's size and lets pixels of the frame take the nearest
one's class; ``frame`` interpolates the scores at the frame's own pixels."""

NO_CLASS = 255
"""Class id of pixels that the model never saw (``fit=crop``) or was not sure of, in maps of up to 255 classes; see
`no_class`."""


def no_class(classes: int) -> int:
    """The id that stands for *no answer* in a class map of that many classes: 255, or -1 where 255 is a class."""
    return NO_CLASS if classes < NO_CLASS + 1 else -1


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels: rows ``top`` to ``top + height``, columns ``left`` to ``left + width``."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index an array [H, W, ...]."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class FitPlan:
    """The geometry between frames of one size and a model's input; made by `plan_fit`.

    Attributes:
        source_size: (height, width) of the frame.
        spec: The model.
        source_box: Part of the frame that the model sees.
        model_box: Part of the input that shows it.
    """

    source_size: tuple[int, int]
    spec: ModelSpec
    source_box: Box
    model_box: Box

    def to_model(self, image: Image, out: Image | None = None) -> Image:
        """Bring a frame to the model's size.

        Args:
            image: uint8 [height, width, planes] of `source_size`, with the model's planes (`rtpsp.planes` brings any
                picture there).
            out: uint8 [H, W, planes] of the model's size to write into.

        Returns:
            `out`, or a new array, of the model's size.

        Raises:
            InputError: The frame, or `out`, has another size or type.
        """
        import cv2

        spec = self.spec
        if image.shape != (*self.source_size, spec.planes) or image.dtype != np.uint8:
            expected = f"expected uint8 {[*self.source_size, spec.planes]} ({spec.frame_words})"
            raise InputError(f"frame is {image.dtype} {list(image.shape)}, {expected}")
        if out is None:
            out = np.empty(spec.frame_shape, np.uint8)
        elif out.shape != spec.frame_shape or out.dtype != np.uint8:  # OpenCV would leave it unwritten
            raise InputError(f"out is {out.dtype} {list(out.shape)}, expected uint8 {list(spec.frame_shape)}")
        if self.model_box.height != spec.height or self.model_box.width != spec.width:
            out[:] = padding_bgr(spec)
        seen = image[self.source_box.slices]
        target = out[self.model_box.slices]
        size = (self.model_box.width, self.model_box.height)
        if seen.shape == target.shape:
            target[:] = seen
        else:
            cv2.resize(seen, size, dst=target, interpolation=cv2.INTER_AREA if self.averages else cv2.INTER_LINEAR)
        return out

    def to_source(self, class_map: ClassMap) -> ClassMap:
        """Bring a class map back to the frame's size.

        Every pixel of the frame takes the class of the model's pixel that its centre falls into.

        Args:
            class_map: [H, W] of the model's size.

        Returns:
            [height, width] of `source_size`; `no_class` where the model saw nothing. Same type, but int32 for -1.

        Raises:
            InputError: The class map has another size.
        """
        if class_map.shape != self.spec.size:
            raise InputError(f"class map is {list(class_map.shape)}, expected {list(self.spec.size)}: the model's size")
        box = self.source_box
        return self.place(nearest(class_map[self.model_box.slices], (box.height, box.width)))

    def grid(self, cells: tuple[int, int]) -> Grid:
        """Where the frame's pixels lie among the cells of the model's scores, for a class map of the frame's own size.

        The centre of pixel y of `source_box` is at ``model_box.top + (y + 1/2) * model_box.height / source_box.height``
        of the model's input, which is ``h / H`` of that in cells; the same goes for columns.

        Args:
            cells: (h, w) of the scores; they cover the whole input of the model.

        Returns:
            A grid of `source_box`; `place` puts the class map that it gives into the frame.
        """
        boxes = zip(
            cells, self.spec.size,
            ((self.model_box.top, self.model_box.height, self.source_box.height),
             (self.model_box.left, self.model_box.width, self.source_box.width)),
            strict=True,
        )  # fmt: skip
        return Grid(
            *(Axis.part(cell, pixels, at / side, (at + seen) / side) for cell, side, (at, seen, pixels) in boxes)
        )

    def place(self, class_map: ClassMap) -> ClassMap:
        """Put the class map of `source_box` into one of the whole frame.

        Args:
            class_map: [height, width] of `source_box`.

        Returns:
            [height, width] of `source_size`: `class_map` itself where the model saw the whole frame, else a new array
            with `no_class` around it. Same type, but int32 for -1.

        Raises:
            InputError: The class map has another size.
        """
        box = self.source_box
        if class_map.shape != (box.height, box.width):
            raise InputError(f"class map is {list(class_map.shape)}, expected {[box.height, box.width]}: what was seen")
        if class_map.shape == self.source_size:
            return class_map
        unseen = no_class(len(self.spec.labels))
        whole = np.full(self.source_size, unseen, class_map.dtype if unseen >= 0 else np.int32)
        whole[box.slices] = class_map
        return whole

    @property
    def averages(self) -> bool:
        """Whether a frame comes to the model's size by averages of areas; by linear interpolation otherwise.

        OpenCV's INTER_AREA is an average only when it shrinks; where a side grows it falls back to blocks.
        """
        shrinks = self.source_box.height >= self.model_box.height and self.source_box.width >= self.model_box.width
        return self.spec.resize == "area" and shrinks


def nearest(ids: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Class ids [h, w] at another (height, width): every pixel takes the id that its centre falls into; a new array.

    In whole numbers, floor((x + 1/2) * w / W) = (2x + 1) * w // 2W, so that a centre on a border falls to the same side
    on every machine; OpenCV's INTER_NEAREST_EXACT leaves that open.
    """
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(ids.shape, size, strict=True))
    mapped: NDArray[Any] = ids.take(columns, axis=1).take(rows, axis=0)
    return mapped


def padding_bgr(spec: ModelSpec) -> Image:
    """The model's mean colour, uint8 [planes], BGR where it is one, in the order of a frame.

    After normalisation it is as close to zero as a byte can be.
    """
    mean = np.array([spec.mean[plane] for plane in spec.frame_order])
    colour: Image = np.rint(mean * 255).astype(np.uint8)
    return colour


def plan_fit(source_size: tuple[int, int], spec: ModelSpec) -> FitPlan:
    """Geometry between frames of `source_size` (height, width) and the model's input.

    Raises:
        InputError: The size is not positive.
    """
    height, width = source_size
    if height < 1 or width < 1:
        raise InputError(f"frame size is {height}x{width}, expected at least 1x1")
    whole_source = Box(0, 0, height, width)
    whole_model = Box(0, 0, spec.height, spec.width)
    if spec.fit == "letterbox":
        scale = min(spec.height / height, spec.width / width)
        return FitPlan(source_size, spec, whole_source, _centred(spec.size, height * scale, width * scale))
    if spec.fit == "crop":
        scale = min(height / spec.height, width / spec.width)
        return FitPlan(source_size, spec, _centred(source_size, spec.height * scale, spec.width * scale), whole_model)
    return FitPlan(source_size, spec, whole_source, whole_model)


def _centred(outer: tuple[int, int], height: float, width: float) -> Box:
    rows = min(outer[0], max(1, round(height)))
    columns = min(outer[1], max(1, round(width)))
    return Box((outer[0] - rows) // 2, (outer[1] - columns) // 2, rows, columns)
