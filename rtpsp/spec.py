"""What a model knows of itself.

The spec is written once, at export, and travels with the graph: in the ONNX file under the metadata key `SPEC_KEY`, in
an engine file inside its header (`rtpsp.header`). Nothing else in rtpsp repeats an input size, a normalisation or a
class name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal, cast, get_args

from rtpsp.errors import InputError, ModelError
from rtpsp.labels import LabelSet

SPEC_KEY = "rtpsp.spec"
SPEC_VERSION = 1

Fit = Literal["stretch", "letterbox", "crop"]
Resize = Literal["area", "bilinear"]
Channels = Literal["rgb", "bgr", "grey", "rgbx", "bgrx"]
"""What a network's input planes are, in its order: colour, one grey, or colour and a fourth plane of anything."""

Planes = Literal[1, 3, 4]

_FRAMES: dict[Channels, tuple[int, ...]] = {
    "grey": (0,), "bgr": (0, 1, 2), "rgb": (2, 1, 0), "bgrx": (0, 1, 2, 3), "rgbx": (2, 1, 0, 3)
}  # fmt: skip
"""For each plane of a frame its place among the channels."""

_FRAME_WORDS = {1: "grey", 3: "BGR", 4: "BGRX"}
_VALUES = {1: "one value", 3: "three values", 4: "four values"}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_UINT8_CLASSES = 256  # beyond it a class map is int32: TensorRT has no uint16
MAX_SIDE = 1 << 15  # a larger number in a file is damage, and would be taken for an order to reserve memory
MAX_CLASSES = (1 << 16) - 1  # what a 16-bit PNG holds


@dataclass(frozen=True)
class ModelSpec:
    """How frames meet a model, and what its answers mean.

    Attributes:
        name: Short name for file names and reports, e.g. ``pspnet18-camvid``.
        arch: Architecture, e.g. ``pspnet18``.
        height: Model input height in pixels.
        width: Model input width in pixels.
        labels: Classes in id order.
        output_stride: Pixels of input a side for one of the feature map that the pyramid pools.
        mean: Per-channel mean on a 0..1 scale, in the order of `channels`; as many values as planes.
        std: Per-channel standard deviation on a 0..1 scale, in the order of `channels`; as many.
        channels: Channel order that the network was trained with: ``rgb``, ``bgr``, ``grey``, or ``rgbx`` and ``bgrx``
            with a fourth plane of anything, such as a thermal camera's. Frames are always grey, BGR or BGRX; the graph
            reorders.
        fit: How a frame of another shape meets the model's: ``stretch`` ignores the aspect ratio, ``letterbox`` keeps
            it and pads with the mean colour, ``crop`` keeps it and cuts the middle out.
        resize: Interpolation of that step.
        licence: Licence of the weights in one line; not that of the code.
    """

    name: str
    arch: str
    height: int
    width: int
    labels: LabelSet
    output_stride: int = 8
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Channels = "rgb"
    fit: Fit = "stretch"
    resize: Resize = "area"
    licence: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (("fit", Fit), ("resize", Resize), ("channels", Channels)):
            value = getattr(self, name)
            if value not in get_args(allowed):
                raise ModelError(f"spec: {name} is {value!r}, expected one of {', '.join(get_args(allowed))}")
        for name in ("name", "arch", "licence"):
            if not is_text(getattr(self, name)):
                raise ModelError(f"spec: {name} is {getattr(self, name)!r}, expected text")
        if not self.name.isprintable() or not set(self.name).isdisjoint("/\\") or not self.name:
            raise ModelError(
                f"spec: name is {self.name!r}, expected one without slashes and control characters: engines' files "
                f"are named after it"
            )
        for name in ("height", "width", "output_stride"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_SIDE:
                raise ModelError(f"spec: {name} is {value!r:.40}, expected a whole number from 1 to {MAX_SIDE}")
        if len(self.labels) > MAX_CLASSES:
            raise ModelError(f"spec: {len(self.labels)} classes, expected {MAX_CLASSES} at most")
        finite = all(isfinite(value) for value in (*self.mean, *self.std))
        planes = len(self.frame_order)
        if not len(self.mean) == len(self.std) == planes or not finite or not all(value > 0 for value in self.std):
            raise ModelError(
                f"spec: mean {self.mean} and std {self.std} must hold {_VALUES[planes]}, for channels "
                f"{self.channels}, finite, std above zero"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Model input size as (height, width) in pixels."""
        return self.height, self.width

    @property
    def planes(self) -> Planes:
        """Planes of the network's input, and of a frame: 1, 3 or 4."""
        return cast(Planes, len(self.mean))

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """A frame of the model's size, (height, width, planes)."""
        return self.height, self.width, self.planes

    @property
    def frame_order(self) -> tuple[int, ...]:
        """For each plane of a frame its place among `channels`; and the other way round, for it is its own inverse."""
        return _FRAMES[self.channels]

    @property
    def frame_words(self) -> str:
        """The planes of a frame in order, for people: ``grey``, ``BGR`` or ``BGRX``."""
        return _FRAME_WORDS[self.planes]

    @property
    def class_dtype(self) -> Literal["uint8", "int32"]:
        """Type of a class id in this model's class maps."""
        return "uint8" if len(self.labels) <= MAX_UINT8_CLASSES else "int32"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with the version of this layout."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "labels"}
        return {"version": SPEC_VERSION, **values, "labels": self.labels.to_dict()}

    def to_json(self) -> str:
        """The text stored under `SPEC_KEY`."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_dict`.

        Raises:
            ModelError: A field is missing or of the wrong kind, or the layout is newer than this program.
        """
        version = values.get("version")
        if version != SPEC_VERSION:
            raise ModelError(
                f"spec version is {version!r}, this rtpsp reads {SPEC_VERSION}: upgrade rtpsp or export again"
            )
        known = {f.name for f in fields(cls)}
        try:
            given = {key: value for key, value in values.items() if key in known}
            given["labels"] = LabelSet.from_dict(given["labels"])
            if not all(is_text(name) for name in (given["labels"].name, *given["labels"].names)):
                raise ValueError("a class has a name that is no text")
            given["mean"] = tuple(float(value) for value in given["mean"])
            given["std"] = tuple(float(value) for value in given["std"])
            return cls(**given)
        except ModelError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, InputError) as error:
            raise ModelError(f"spec cannot be read ({error}): export the model again") from error

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """The inverse of `to_json`.

        Raises:
            ModelError: The text is not a spec.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"spec is not JSON ({error}): export the model again") from error
        if not isinstance(values, dict):
            raise ModelError(f"spec is a {type(values).__name__}, expected an object: export the model again")
        return cls.from_dict(values)


def is_text(value: object) -> bool:
    """Whether a value from a file is text that can be printed and written again: JSON can hold half characters."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
