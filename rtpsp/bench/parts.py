"""What the nodes of a lowered graph are in a PSPNet's own terms, and how much each multiplies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from rtpsp.errors import EngineFileError
from rtpsp.graph.editing import infer_shapes, static_shape
from rtpsp.graph.work import COUNTED, node_multiply_adds

PARTS = ("input", "stem", "layer1", "layer2", "layer3", "layer4", "pyramid", "head", "tail", "other")
"""In the order of the data's flow. *input* brings a frame to what the network takes; *pyramid* is the pooling, the
branches and, in a split head, their share of the head's convolution; *tail* makes classes of scores."""

_RULES = (
    (re.compile(r"layer([1-4])(?!\d)"), ""),
    (re.compile(r"^/?(?:frames|image)(?:$|/)"), "input"),
    (re.compile(r"layer0|stem|maxpool|(?:^|[/.])(?:backbone|encoder)[/.](?:conv|bn|relu)|^/?(?:conv|bn)1"), "stem"),
    (re.compile(r"(?:^|[/._])(?:pyramid|pools?|split|ppm|psp)(?:$|[/._])"), "pyramid"),
    (re.compile(r"^(?:class_map|confidence|logits/full)"), "tail"),
    (re.compile(r"head|bottleneck|decoder|classifier|cls|fuse|^scores|^logits"), "head"),
)
"""By names as ours, hszhao's, mmsegmentation's, segmentation_models_pytorch's and torchvision's exports have them; the
first that fits. Those of segmentation_models_pytorch and mmsegmentation say ``decoder.psp`` and
``decode_head.psp_modules`` of the pyramid."""

_THROUGH = frozenset(
    {"Identity", "Relu", "Clip", "Cast", "Add", "Mul", "BatchNormalization", "QuantizeLinear", "DequantizeLinear"}
)
"""Operators that runtimes fuse into the product before them, which may then be called by their names."""


@dataclass(frozen=True)
class GraphNode:
    """One node of a graph.

    Attributes:
        name: As the graph has it.
        kind: Its operator.
        part: One of `PARTS`; empty where its name does not tell.
        macs: Multiply-adds; 0 of what is neither convolution nor matrix product.
        what: What it does, in words.
        weights: How many values its constant factor has; 0 where both factors are computed.
    """

    name: str
    kind: str
    part: str
    macs: int
    what: str
    weights: int


class GraphNodes:
    """The nodes of an engine's graph, by the names that a runtime may give to what it makes of them.

    Args:
        payload: ONNX, as CPU engines have it.

    Raises:
        EngineFileError: It is no ONNX graph of static shapes.
    """

    def __init__(self, payload: bytes) -> None:
        try:
            model = ir.from_proto(onnx.ModelProto.FromString(payload))
            infer_shapes(model)
            self._nodes = {node.name or "": _told(node) for node in model.graph}
        except Exception as error:  # protobuf's, onnx_ir's and onnx's kinds
            raise EngineFileError(
                f"the engine's payload is no ONNX graph of static shapes ({error}): build it again"
            ) from error
        made = {value.name or "": node for node in model.graph for value in node.outputs}
        self._makers = made | {node.name or "": node for node in model.graph}  # a node's own name before a value's

    @property
    def macs(self) -> int:
        """Multiply-adds of all nodes."""
        return sum(node.macs for node in self._nodes.values())

    def named(self, names: Iterable[str]) -> list[GraphNode]:
        """The nodes of these names, or that make values of them; names that are not the graph's count for nothing."""
        found: list[GraphNode] = []
        for name in names:
            maker = self._makers.get(name)
            if maker is not None and (node := self._nodes[maker.name or ""]) not in found:
                found.append(node)
        return found

    def product_before(self, names: Iterable[str]) -> GraphNode | None:
        """The convolution or matrix product whose result reaches a node or value of one of these names by way of
        nodes that runtimes fuse into it.
        """
        for name in names:
            maker: ir.Node | None = self._makers.get(name)
            while maker is not None and maker.op_type in _THROUGH:
                given = maker.inputs[0]
                maker = given.producer() if given is not None else None
            if maker is not None and self._nodes[maker.name or ""].macs:
                return self._nodes[maker.name or ""]
        return None


def part_of(name: str) -> str:
    """One of `PARTS` by the name of a node; empty where it does not tell."""
    for pattern, part in _RULES:
        if match := pattern.search(name):
            return part or f"layer{match[1]}"
    return ""


def _told(node: ir.Node) -> GraphNode:
    name = node.name or ""
    if node.op_type not in COUNTED or node.domain:
        return GraphNode(name, node.op_type, part_of(name), 0, node.op_type, 0)
    what, weights = _product(node)
    return GraphNode(name, node.op_type, part_of(name), node_multiply_adds(node), what, weights)


def _product(node: ir.Node) -> tuple[str, int]:
    left, right, result = (static_shape(value) or () for value in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if node.op_type != "Conv" or len(right) != 4:
        sides = ["x".join(map(str, shape)) for shape in (left, right)]
        return f"product of {sides[0]} and {sides[1]}", max(map(_values, node.inputs[:2]))
    stride = _first(node, "strides")
    dilation = _first(node, "dilations")
    extra = f", stride {stride}" * (stride > 1) + f", dilation {dilation}" * (dilation > 1)
    size = f"{result[2]}x{result[3]}"
    channels = f"{left[1]} to {right[0]} channels"
    return f"{right[2]}x{right[3]} convolution, {channels} at {size}{extra}", _values(node.inputs[1])


def _first(node: ir.Node, name: str) -> int:
    values = node.attributes[name].as_ints() if name in node.attributes else ()
    return values[0] if values else 1


def _values(value: ir.Value | None) -> int:
    """How many values a constant has, also behind the node that makes floats of its integers."""
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type in ("DequantizeLinear", "Cast", "Identity"):
        value = maker.inputs[0]
    if value is None or value.const_value is None:
        return 0
    return value.const_value.size
