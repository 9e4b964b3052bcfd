"""What TensorRT's parser asks of a graph with Q/DQ nodes, and what makes one slow or wrong, as findings a line each.

The rules stand in TensorRT's guide, "Working with quantized types", sections on explicit quantisation and on where to
place Q/DQ nodes; each was seen at work in the parser of TensorRT-RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from rtpsp.graph.editing import Array, constant
from rtpsp.graph.precision import CONVS, MOVES, nodes_before_convs

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_COMMUTE = (*MOVES, "Concat", "MaxPool")
"""Operators through which a scale passes unchanged; TensorRT moves Q and DQ across them."""
_THROUGH = (_Q, _DQ, "Add", "Cast", "Clip", "Identity", "MaxPool", "Relu")
"""What may stand between a residual Add and the convolutions whose outputs it adds."""
_SCALE_OPSET = 19


def lint(model: ir.Model, *, unsigned: bool = False) -> list[str]:
    """Looks for what TensorRT refuses, or would run slowly, in a lowered graph.

    Args:
        model: A lowered graph, with Q/DQ nodes or without.
        unsigned: Allow UINT8 values with zero point 0: CPUs have the products for them, TensorRT has none.

    Returns:
        One line a finding, the node's name first; empty where all is well.
    """
    found: list[str] = []
    before = nodes_before_convs(model)
    last = [node for node in model.graph if node.op_type in CONVS and node not in before]
    for node in model.graph:
        checks: list[Iterator[str]] = [_types(model, node)]
        if node.op_type in (_Q, _DQ):
            checks += [_quantizer(node, unsigned), _requantisation(node)]
        elif node.op_type in CONVS and node not in last:
            checks.append(_convolution(node))
        elif node not in before:
            checks.append(_tail(node))
        if node.op_type == "Add":
            checks.append(_residual(node))
        if node.op_type == "ArgMax":
            checks.append(_classes(node))
        if node.op_type.startswith(("QLinear", "ConvInteger", "MatMulInteger")):
            checks.append(iter([f"is {node.op_type}, an integer operator: quantise with Q/DQ nodes"]))
        found += [f"{node.name or node.op_type}: {finding}" for check in checks for finding in check]
    return found + [f"{value.name}: {finding}" for value in model.graph.inputs for finding in _frames(value)]


def _made_by(value: ir.Value | None, kind: str) -> ir.Node | None:
    producer = None if value is None else value.producer()
    return producer if producer is not None and producer.op_type == kind else None


def _is_quantised(value: ir.Value | None) -> bool:
    """A DequantizeLinear made it, or an operator behind which one may as well stand."""
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type not in _COMMUTE:
        return producer is not None and producer.op_type == _DQ
    return all(map(_is_quantised, producer.inputs if producer.op_type == "Concat" else producer.inputs[:1]))


def _type(value: ir.Value | None) -> ir.DataType | None:
    if value is None:
        return None
    return value.dtype if value.const_value is None else value.const_value.dtype


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _told(scale: Array) -> str:
    return f"{scale.item():g}" if scale.size == 1 else f"of {scale.size} channels"


def _types(model: ir.Model, node: ir.Node) -> Iterator[str]:
    """A strongly typed network has no hidden Casts: one floating-point type a node, but for Cast and Q/DQ."""
    if node.op_type in ("Cast", "Resize"):  # the scales of a Resize are always FP32
        return
    values = [*node.inputs[:2], *node.outputs] if node.op_type in (_Q, _DQ) else [*node.inputs, *node.outputs]
    types = {_type(value) for value in values} & {ir.DataType.FLOAT, ir.DataType.FLOAT16}
    if len(types) > 1:
        told = ", ".join(str(_type(value)) for value in values if value is not None)
        yield f"mixes FP16 and FP32 ({told}): a Cast or a scale of the same type is missing"
    if node.op_type in (_Q, _DQ) and ir.DataType.FLOAT16 in types and model.opset_imports.get("", 0) < _SCALE_OPSET:
        yield f"has an FP16 scale in opset {model.opset_imports.get('', 0)}, which needs {_SCALE_OPSET}"


def _quantizer(node: ir.Node, unsigned: bool) -> Iterator[str]:
    scale, zero = constant(_input(node, 1)), constant(_input(node, 2))
    stored = _type(node.outputs[0] if node.op_type == _Q else node.inputs[0])
    if scale is None:
        yield "its scale is computed, expected a constant"
    elif not (np.isfinite(scale) & (scale > 0)).all():
        yield f"a scale is {scale[~(np.isfinite(scale) & (scale > 0))].flat[0]}, expected a finite number above 0"
    if _input(node, 2) is not None and (zero is None or zero.any()):
        yield "its zero point is not 0: quantise symmetrically"
    if stored == ir.DataType.INT32:
        yield "dequantises INT32: keep the bias in floating point"
    elif stored == ir.DataType.UINT8 and not unsigned:
        yield "stores UINT8, expected INT8"
    elif stored not in (ir.DataType.INT8, ir.DataType.UINT8):
        yield f"stores {stored}, expected INT8"


def _requantisation(node: ir.Node) -> Iterator[str]:
    """A QuantizeLinear behind a DequantizeLinear of another scale is a kernel of its own."""
    if node.op_type != _Q:
        return
    scale, waiting = constant(_input(node, 1)), [node.inputs[0]]
    while waiting:
        value = waiting.pop()
        producer = None if value is None else value.producer()
        if producer is None:
            continue
        if producer.op_type in _COMMUTE:
            waiting += producer.inputs if producer.op_type == "Concat" else producer.inputs[:1]
        elif producer.op_type == _DQ:
            other = constant(_input(producer, 1))
            if scale is not None and other is not None and not np.array_equal(scale, other):
                yield f"requantises {producer.name}: scale {_told(scale)} behind {_told(other)}; share one scale"


def _convolution(node: ir.Node) -> Iterator[str]:
    data, weight = _is_quantised(_input(node, 0)), _made_by(_input(node, 1), _DQ)
    if not data and weight is None:
        return
    if not data or weight is None:
        yield f"has quantised {'data' if data else 'weights'} alone: quantise both or neither"
    if weight is not None:
        yield from _weight(node, weight)
    bias = _input(node, 2)
    if bias is not None and (
        constant(bias) is None or not np.issubdtype(np.asarray(constant(bias)).dtype, np.floating)
    ):
        yield "its bias is not a floating-point constant"


def _weight(node: ir.Node, weight: ir.Node) -> Iterator[str]:
    axis = 0 if node.op_type == "Conv" else 1
    scale = constant(_input(weight, 1))
    told = weight.attributes["axis"].as_int() if "axis" in weight.attributes else 1
    stored = weight.inputs[0]
    quantizer = _made_by(stored, _Q)
    array = constant(stored if quantizer is None else quantizer.inputs[0])
    if array is None:
        yield "its weights are computed, expected a constant"
    elif scale is not None and (scale.size != array.shape[axis] or told != axis):
        what = "one scale for all weights" if scale.size == 1 else f"{scale.size} scales on axis {told}"
        yield f"has {what}, expected one an output channel on axis {axis}"


def _tail(node: ir.Node) -> Iterator[str]:
    """The last convolution and all behind it decide between scores, where a step of INT8 is a wrong class."""
    what = "classifier" if node.op_type in CONVS else node.op_type
    quantised = [value.name for value in node.inputs if value is not None and _is_quantised(value)]
    if quantised:
        yield f"reads {quantised[0]}: the {what} behind the last features stays in floating point"
    if any(use.node.op_type == _Q for value in node.outputs for use in value.uses()):
        yield f"is quantised behind: scores stay in floating point (from the {what} on)"


def _residual(node: ir.Node) -> Iterator[str]:
    """INT8 on the skip input only: the other one is a convolution's output, which stays inside its kernel."""
    if any(constant(value) is not None for value in node.inputs):
        return
    count = sum(map(_is_quantised, node.inputs))
    if count > 1:
        yield "both inputs are quantised: quantise the skip input alone, so that convolution and Add are one kernel"
    convs = [conv for value in node.inputs for conv in _sources(value)]
    if count == 0 and convs and all(conv is not None and _is_quantised(conv.inputs[0]) for conv in convs):
        yield "no input is quantised between quantised convolutions: quantise the skip input"


def _sources(value: ir.Value | None) -> Iterator[ir.Node | None]:
    """The convolutions whose outputs a sum holds; None for anything else."""
    waiting, seen = [value], set[ir.Node]()
    while waiting:
        one = waiting.pop()
        producer = None if one is None else one.producer()
        if producer is None or producer.op_type not in _THROUGH:
            yield producer if producer is not None and producer.op_type in CONVS else None
        elif producer not in seen:
            seen.add(producer)
            waiting += producer.inputs if producer.op_type == "Add" else producer.inputs[:1]


def _classes(node: ir.Node) -> Iterator[str]:
    index = node.outputs[0]
    kinds = (ir.DataType.UINT8, ir.DataType.INT32)
    casts = [use.node.op_type == "Cast" and _type(use.node.outputs[0]) in kinds for use in index.uses()]
    if index.is_graph_output() or not casts or not all(casts):
        yield "gives INT64 class ids: put a Cast to UINT8 (INT32 above 256 classes) behind it and nothing else"


def _frames(value: ir.Value) -> Iterator[str]:
    if value.dtype != ir.DataType.UINT8:
        return
    others = [use.node for use in value.uses() if use.node.op_type != "Cast"]
    if others:
        yield f"goes into {others[0].op_type} {others[0].name!r} as UINT8: put the Cast before it"
