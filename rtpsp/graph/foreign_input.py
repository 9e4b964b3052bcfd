"""What a foreign graph takes: its layout, and the preprocessing that it brings with it.

Some exporters put the cast of bytes, the turn of NHWC into NCHW, the swap of channels and the normalisation inside the
graph. All of that is one factor and one offset a plane, which are read off the graph by running it, and go into the
spec: so does one convolution meet the image, as in a model of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import constant, drop_unused, infer_shapes, only_use, static_shape, typed
from rtpsp.graph.pyramid_maps import Respond, Unsuitable, run_alone
from rtpsp.onnx_file import INPUT, describe_value

Layout = Literal["NCHW", "NHWC"]
PLANES = (1, 3, 4)
MAX_BYTE = 255.0

_AFFINE = ("Add", "Cast", "Div", "Gather", "Identity", "Mul", "Slice", "Sub", "Transpose")
"""Operators that preprocessing consists of; whether it is a factor and an offset a plane is measured."""
_TOLERANCE = 1e-5  # of the largest value: a few roundings of float32
_DTYPES = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16", ir.DataType.UINT8: "uint8"}


@dataclass(frozen=True)
class Entry:
    """The input of a foreign graph.

    Attributes:
        name: As the file calls it.
        dtype: ``float32``, ``float16`` or ``uint8``.
        layout: Order of its axes.
        planes: 1, 3 or 4.
        size: Height and width in pixels; None where the graph leaves them open.
    """

    name: str
    dtype: str
    layout: Layout
    planes: int
    size: tuple[int | None, int | None]

    def shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Of one image of this size, in the order of the axes."""
        return (1, self.planes, *size) if self.layout == "NCHW" else (1, *size, self.planes)


@dataclass(frozen=True)
class Preprocessing:
    """What the graph does to the image before the network: ``network[c] = scale[c] * image[order[c]] + shift[c]``.

    Attributes:
        scale: One factor a plane of the network.
        shift: One offset a plane.
        order: Which of the image's planes each is.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    order: tuple[int, ...]

    @classmethod
    def nothing(cls, planes: int) -> Preprocessing:
        """The network takes the image as it is."""
        return cls((1.0,) * planes, (0.0,) * planes, tuple(range(planes)))

    @property
    def normalises(self) -> bool:
        """Whether values change."""
        return any(factor != 1.0 for factor in self.scale) or any(offset != 0.0 for offset in self.shift)


def read_entry(model: ir.Model) -> tuple[ir.Value, Entry]:
    """The image among a graph's inputs, and what it looks like.

    Args:
        model: Any graph; constants among its inputs do not count.

    Raises:
        ModelError: There is not one input of 1, 3 or 4 planes, of a type that an image has.
    """
    inputs = [value for value in model.graph.inputs if constant(value) is None]
    told = ", ".join(map(describe_value, inputs)) or "none"
    wanted = "expected one image, [1, planes, H, W] or [1, H, W, planes] of 1, 3 or 4 planes"
    if len(inputs) != 1:
        raise ModelError(f"inputs are {told}, {wanted}: export the network alone")
    image = inputs[0]
    dtype = _DTYPES.get(image.dtype) if image.dtype else None
    if dtype is None:
        raise ModelError(f"input {told}, expected float32, float16 or uint8: export it with a float32 input")
    sides: list[int | None] = [None] * 4
    if image.shape is not None:
        # Paddle and others write -1 or 0 for an open size
        sides = [side if isinstance(side, int) and side > 0 else None for side in image.shape]
    if len(sides) != 4:
        raise ModelError(f"input {told}, {wanted}: export it with four axes")
    layout, planes = _layout(image, sides)
    if planes not in PLANES:
        raise ModelError(f"input {told} has {planes} planes, {wanted}: rtpsp segments images alone")
    if sides[0] not in (None, 1):
        raise ModelError(
            f"input {told} takes {sides[0]} images at once, {wanted}: export it for one, or for any number (a dynamic "
            f"axis); rtpsp build-engine --batch makes an engine of several"
        )
    size = (sides[2], sides[3]) if layout == "NCHW" else (sides[1], sides[2])
    return image, Entry(str(image.name), dtype, layout, planes, size)


def _layout(image: ir.Value, sides: Sequence[int | None]) -> tuple[Layout, int]:
    if sides[1] in PLANES:
        return "NCHW", int(sides[1] or 0)
    if sides[3] in PLANES:
        return "NHWC", int(sides[3] or 0)
    if sides[1] is not None and sides[3] is not None:
        return "NCHW", sides[1]  # neither: the error names what would be the planes
    return "NCHW", _planes_of_first_conv(image)


def _planes_of_first_conv(image: ir.Value) -> int:
    """What the first convolution takes, where the exporter left the number of planes open; 3 if it does not tell."""
    value = image
    while (use := only_use(value)) is not None and use[0].op_type in _AFFINE:
        value = use[0].outputs[0]
    weight = use[0].inputs[1] if use is not None and use[0].op_type == "Conv" else None
    shape = static_shape(weight)
    return 3 if shape is None else shape[1]


def take_image(model: ir.Model, image: ir.Value, entry: Entry) -> Preprocessing:
    """Makes the graph take ``image``, float32 [1, planes, H, W], as the network behind the preprocessing takes it.

    Args:
        model: A `rtpsp.graph.foreign_fold.fix_size`d graph; changed in place.
        image: Its input.
        entry: What it looks like.

    Returns:
        The preprocessing that is no longer in the graph.

    Raises:
        MissingError: onnxruntime is not installed.
    """
    if image.dtype != ir.DataType.FLOAT:
        image.type = ir.TensorType(ir.DataType.FLOAT)  # every byte is a float; a Cast of it then does nothing
        for node in model.graph:
            for output in node.outputs:
                if output.dtype == ir.DataType.UINT8 and not output.is_graph_output():
                    output.type = None
        infer_shapes(model)
    chain = _chain(image)
    while chain:
        done = _measured(model, image, entry, chain)
        if done is not None:
            network = chain[-1].outputs[0]
            _begin_at(model, image, network)
            return done
        chain.pop()
    if entry.layout == "NCHW":
        image.name = INPUT
    else:
        _transpose(model, image)
    return Preprocessing.nothing(entry.planes)


def _chain(image: ir.Value) -> list[ir.Node]:
    """The nodes that the image goes through one after the other, each the only reader of the one before."""
    chain: list[ir.Node] = []
    value = image
    while (use := only_use(value)) is not None and use[0].op_type in _AFFINE and not use[0].domain:
        node = use[0]
        if any(other is not None and other is not value and constant(other) is None for other in node.inputs):
            break
        chain.append(node)
        value = node.outputs[0]
    return chain


def _measured(model: ir.Model, image: ir.Value, entry: Entry, chain: Sequence[ir.Node]) -> Preprocessing | None:
    """What a chain does, if it gives NCHW and is a factor and an offset a plane; None otherwise."""
    result, shape = chain[-1].outputs[0], static_shape(image)
    if shape is None or result.dtype != ir.DataType.FLOAT or result.is_graph_output():
        return None
    height, width = (shape[2], shape[3]) if entry.layout == "NCHW" else (shape[1], shape[2])
    if static_shape(result) != (1, entry.planes, height, width):
        return None
    try:
        respond = run_alone(model, chain, image, result)
    except Unsuitable:
        return None
    return _read(respond, shape, entry)


def _read(respond: Respond, shape: tuple[int, ...], entry: Entry) -> Preprocessing | None:
    axis = 1 if entry.layout == "NCHW" else 3
    dark = respond(np.zeros(shape, np.float32))
    shift = dark[0, :, 0, 0].astype(np.float64)
    matrix = np.zeros((entry.planes, entry.planes))
    for plane in range(entry.planes):
        lit = np.zeros(shape, np.float32)
        np.moveaxis(lit, axis, 0)[plane] = MAX_BYTE
        matrix[:, plane] = (respond(lit)[0, :, 0, 0].astype(np.float64) - shift) / MAX_BYTE
    order = np.abs(matrix).argmax(axis=1)
    scale = matrix[np.arange(entry.planes), order]
    probe = np.random.default_rng(0).uniform(0, MAX_BYTE, shape).astype(np.float32)
    planes = np.moveaxis(probe, axis, 1)[:, order].astype(np.float64)
    expected = planes * scale[:, None, None] + shift[:, None, None]
    error = np.abs(respond(probe) - expected).max()
    swaps = ([*range(entry.planes)], [2, 1, 0, *range(3, entry.planes)][: entry.planes])
    if error > _TOLERANCE * np.abs(expected).max() or not (scale > 0).all() or list(order) not in swaps:
        return None
    return Preprocessing(tuple(map(float, scale)), tuple(map(float, shift)), tuple(map(int, order)))


def _begin_at(model: ir.Model, image: ir.Value, network: ir.Value) -> None:
    shape = static_shape(network)
    assert shape is not None
    begin = typed(INPUT, ir.DataType.FLOAT, *shape)
    network.replace_all_uses_with(begin)
    model.graph.inputs[model.graph.inputs.index(image)] = begin
    drop_unused(model)


def _transpose(model: ir.Model, image: ir.Value) -> None:
    """Gives a graph of NHWC an input of NCHW."""
    shape = static_shape(image)
    assert shape is not None
    begin = typed(INPUT, ir.DataType.FLOAT, 1, shape[3], shape[1], shape[2])
    turned = typed(f"{INPUT}/last", ir.DataType.FLOAT, *shape)
    node = ir.node("Transpose", [begin], {"perm": [0, 2, 3, 1]}, outputs=[turned], name=turned.name)
    image.replace_all_uses_with(turned)
    model.graph.inputs[model.graph.inputs.index(image)] = begin
    model.graph.insert_before(model.graph[0], node)
