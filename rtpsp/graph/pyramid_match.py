"""Finds the convolutions that fuse a pyramid, and says of the others what they lack."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from rtpsp.errors import ModelError
from rtpsp.graph.editing import constant, infer_shapes, only_use, static_shape
from rtpsp.graph.pyramid_maps import Unsuitable, Upsampled, read_upsampling
from rtpsp.graph.pyramid_products import Window, products_multiply_adds

FloatArray = npt.NDArray[np.float32]


class HeadNotFound(ModelError):
    """No convolution of a graph can be split; the text says what was looked for and what was found."""


@dataclass(frozen=True)
class Head:
    """A convolution behind a concatenation, and what `split_head` does with it.

    Attributes:
        conv: The convolution's name.
        features: Names of the full-size inputs that it goes on reading, in order.
        maps: Small maps that it reads upsampled: name, channels, height and width of each, in order.
        multiply_adds: Of the convolution as it is.
        multiply_adds_split: Of all that takes its place; `multiply_adds` where it is left alone.
        reason: Why it is left alone; empty where it is split.
        notes: Why an upsampled input counts among the features, one text each.
    """

    conv: str
    features: tuple[str, ...] = ()
    maps: tuple[tuple[str, int, int, int], ...] = ()
    multiply_adds: int = 0
    multiply_adds_split: int = 0
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One input of the concatenation.

    Attributes:
        value: The full-size tensor.
        channels: Its place among the convolution's input channels.
        upsampled: How it follows from a small map, if it does.
    """

    value: ir.Value
    channels: slice
    upsampled: Upsampled | None

    @property
    def width(self) -> int:
        """Number of channels."""
        count: int = self.channels.stop - self.channels.start
        return count


@dataclass(frozen=True)
class Match:
    """A convolution that can be split.

    Attributes:
        head: What is told of it.
        conv: Its node.
        window: Its geometry.
        weight: float32 [M, C, kh, kw].
        parts: What it reads, in the order of the channels.
    """

    head: Head
    conv: ir.Node
    window: Window
    weight: FloatArray
    parts: tuple[Part, ...]


def prepared(model: ir.Model) -> ir.Model:
    """A copy whose constants are all initialisers and whose shapes are all known.

    Raises:
        HeadNotFound: The shapes cannot be inferred.
    """
    model = model.clone()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if any(value.shape is None for node in model.graph for value in node.outputs):
        try:
            infer_shapes(model)
        except Exception as error:  # onnx raises its own kinds for shapes that contradict each other
            raise HeadNotFound(
                f"no head to split: the graph's shapes cannot be inferred ({error}): keep the plain head"
            ) from error
    return model


def matches(model: ir.Model) -> list[Match | Head]:
    """Every convolution behind a concatenation: what a split of it needs, or a `Head` that says why there is none.

    Args:
        model: A graph whose constants are initialisers and whose shapes are known; not modified.

    Raises:
        MissingError: onnxruntime is not installed.
    """
    found: list[Match | Head] = []
    for conv in model.graph:
        source = conv.inputs[0].producer() if conv.op_type == "Conv" and conv.inputs[0] is not None else None
        if source is None or source.op_type != "Concat":
            continue
        try:
            found.append(_match(model, conv, source))
        except Unsuitable as reason:
            found.append(Head(conv=name_of(conv), reason=str(reason)))
    return found


def name_of(conv: ir.Node) -> str:
    """The node's name, or that of its result where the exporter gave it none."""
    return conv.name or conv.outputs[0].name or "conv"


def _match(model: ir.Model, conv: ir.Node, concat: ir.Node) -> Match:
    window = _window(conv)
    weight = _weight(conv)
    values = _concatenated(concat)
    shapes = [static_shape(value) for value in values]
    size = None if shapes[0] is None else shapes[0][2:]
    if size is None or len(size) != 2 or any(shape is None or shape[2:] != size for shape in shapes):
        raise Unsuitable("the concatenation's shapes are not static")
    parts: list[Part] = []
    notes: list[str] = []
    start = 0
    for value, shape in zip(values, shapes, strict=True):
        assert shape is not None
        try:
            upsampled = read_upsampling(model, value)
        except Unsuitable as reason:
            upsampled = None
            notes.append(str(reason))
        parts.append(Part(value, slice(start, start + shape[1]), upsampled))
        start += shape[1]
    features = tuple(str(part.value.name) for part in parts if part.upsampled is None)
    maps = tuple(
        (str(part.upsampled.source.name), part.width, *part.upsampled.cells)
        for part in parts
        if part.upsampled is not None
    )
    if not maps:
        raise Unsuitable("; ".join(["no input is upsampled from a small map", *notes]))
    if not features:
        raise Unsuitable("every input is upsampled from a small map, there are no features to convolve")
    result = window.output_size((size[0], size[1]))
    each = math.prod(result) * len(weight) * window.taps
    kept = sum(part.width for part in parts if part.upsampled is None)
    before = each * start
    after = each * kept + products_multiply_adds([shape[1:] for shape in maps], window, result, len(weight))
    if after >= before:
        raise Unsuitable(f"nothing is saved, {after} multiply-adds instead of {before}")
    head = Head(name_of(conv), features, maps, before, after, notes=tuple(notes))
    return Match(head, conv, window, weight, tuple(parts))


def _window(conv: ir.Node) -> Window:
    attributes = conv.attributes
    pad = attributes["auto_pad"].as_string() if "auto_pad" in attributes else "NOTSET"
    if pad != "NOTSET":
        raise Unsuitable(f"auto_pad is {pad}, expected explicit pads")
    group = attributes["group"].as_int() if "group" in attributes else 1
    if group != 1:
        raise Unsuitable(f"group is {group}, expected 1")
    strides = tuple(attributes["strides"].as_ints()) if "strides" in attributes else (1, 1)
    if strides != (1, 1):
        raise Unsuitable(f"strides are {list(strides)}, expected [1, 1]")
    kernel = static_shape(conv.inputs[1])
    if kernel is None or len(kernel) != 4:
        raise Unsuitable(f"the kernel is {kernel}, expected two axes of static size")
    dilations = attributes["dilations"].as_ints() if "dilations" in attributes else (1, 1)
    pads = attributes["pads"].as_ints() if "pads" in attributes else (0, 0, 0, 0)
    return Window((kernel[2], kernel[3]), (dilations[0], dilations[1]), (pads[0], pads[1], pads[2], pads[3]))


def _weight(conv: ir.Node) -> FloatArray:
    value = conv.inputs[1]
    array = constant(value)
    cast = None if value is None else value.producer()
    if array is None and cast is not None and cast.op_type == "Cast":  # stored as FP16, see `rtpsp.graph.fold`
        array = constant(cast.inputs[0])
        if array is not None and cast.attributes["to"].as_int() == ir.DataType.FLOAT:
            array = array.astype(np.float32)
    if array is None or array.dtype != np.float32:
        raise Unsuitable(f"the weights are {'computed' if array is None else array.dtype}, expected constant float32")
    return array


def _concatenated(concat: ir.Node) -> list[ir.Value]:
    """Inputs of a concatenation of channels that one node alone reads, those of nested ones in their place."""
    if concat.attributes["axis"].as_int() not in (1, -3):
        raise Unsuitable(f"{concat.name!r} concatenates axis {concat.attributes['axis'].as_int()}, expected channels")
    if only_use(concat.outputs[0]) is None:
        raise Unsuitable(f"the concatenation {concat.name!r} is read by others, too")
    values: list[ir.Value] = []
    for value in concat.inputs:
        assert value is not None
        inner = value.producer()
        nested = inner is not None and inner.op_type == "Concat" and only_use(value) is not None
        try:
            values += _concatenated(inner) if nested and inner is not None else [value]
        except Unsuitable:  # of another axis: a tensor like any other
            values.append(value)
    return values
