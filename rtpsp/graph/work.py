"""How much a graph computes: multiply-adds, counted from its own shapes."""

from __future__ import annotations

import math

import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import infer_shapes, static_shape

COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def multiply_adds(model: ir.Model) -> int:
    """Multiply-add operations of all convolutions and matrix products in one inference.

    Products with zeros of the padding count as any other, as is usual in published figures; interpolation, pooling
    by windows and elementwise operations do not count.

    Args:
        model: Any graph of static shapes, quantised or not; not modified.

    Raises:
        ModelError: A shape is unknown or not static.
    """
    nodes = _counted(model)
    if any(static_shape(value) is None for node in nodes for value in (*node.inputs[:2], node.outputs[0])):
        model = model.clone()
        infer_shapes(model)
        nodes = _counted(model)
    return sum(node_multiply_adds(node) for node in nodes)


def node_multiply_adds(node: ir.Node) -> int:
    """Multiply-adds of one node of the kinds in `COUNTED`.

    Raises:
        ModelError: A shape is unknown or not static.
    """
    left, right, result = (_static(node, value) for value in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if node.op_type == "Conv":  # weight [M, C / group, k...]: each output value is a product over all but M
        return math.prod(result) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":  # weight [C, M / group, k...]: each input value meets all but C
        return math.prod(left) * math.prod(right[1:])
    if node.op_type == "Gemm":
        turned = node.attributes["transA"].as_int() if "transA" in node.attributes else 0
        return math.prod(result) * left[0 if turned else 1]
    return math.prod(result) * left[-1]


def _counted(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in COUNTED and not node.domain]


def _static(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    shape = static_shape(value)
    if shape is None:
        name = None if value is None else value.name
        found = None if value is None else value.shape
        raise ModelError(
            f"{node.op_type} {node.name!r}: {name!r} is {found}, expected static sizes: "
            f"export the model with fixed ones"
        )
    return shape
