"""FP16 written into the graph: weights, activations and Q/DQ scales, with FP32 islands where FP16 costs answers.

A strongly typed TensorRT network computes in the types of its tensors and inserts no Cast of its own (TensorRT's guide,
"Strongly typed networks"), so the graph says where FP32 begins and ends. The pass follows each operator's type
constraints in the ONNX schema. Others' converters were tried or read: ONNX Runtime 1.32's, given the same islands, puts
a Cast on every edge, in an order that the ONNX checker refuses, and gives wrong types beside Q/DQ nodes; ModelOpt's
AutoCast takes no quantised graph; onnxconverter-common's clips weights. None looks after scales below FP16's range.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal, get_args

import numpy as np
import onnx
import onnx_ir as ir

from rtpsp.errors import ModelError, UsageError
from rtpsp.graph.editing import add_initializer, constant, drop_unused, infer_shapes, set_constant, typed_like
from rtpsp.graph.scales import QUANTIZERS, round_scales

Island = Literal["input", "pooling", "output"]
ISLANDS: tuple[Island, ...] = ("input", "output")
"""What stays in FP32 by default. On the shipped model these two nearly halve the pixels that change class, for 2 Casts;
pooling adds nothing there (a tenth on random weights) and costs 5, one of them of the largest feature map. Measured by
``bench/half.py``, recorded in ``bench/results/half-*.json``."""

CONVS = ("Conv", "ConvTranspose")
POOLS = ("AveragePool", "GlobalAveragePool", "MatMul", "ReduceMean")
MOVES = ("Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")

_FULL, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_SCALE_OPSET = 19  # the first in which Q/DQ take FP16 scales


def to_half(model: ir.Model, keep: Collection[str] = (), islands: Collection[Island] = ISLANDS) -> ir.Model:
    """Types a graph in FP16.

    Inputs and outputs keep their types, every tensor its name; a Cast ``NAME/half`` or ``NAME/full`` stands where an
    island begins or ends. QuantizeLinear has the type of what it reads, DequantizeLinear that of its reader, so that no
    Cast comes between an INT8 convolution and its Q/DQ. A node stays in FP32, too, when its operator has no FP16 in
    ONNX or when one of its constants would become infinite or all zero.

    Scales are rounded to FP16 in both types, so that a pair of Q and DQ keeps one scale. Below FP16's normal range
    (2^-14) they are rounded up: activations then lose resolution and are never clipped, and stored weights are
    quantised again to the rounded scale, which leaves an error of at most half a step of it.

    Args:
        model: A lowered graph in FP32, with Q/DQ nodes or without; not modified.
        keep: Nodes that stay in FP32, by name or by the first parts of it (``head`` is all of ``head/...``).
        islands: Parts that stay in FP32: ``input``, everything before the first convolution (values up to 255);
            ``pooling``, means over large windows and the products with pooling matrices; ``output``, everything after
            the last convolution (upsampling, argmax, the confidence's sum of powers).

    Raises:
        UsageError: A name in `keep` is no node's; an island has another name.
        ModelError: Q/DQ nodes before opset 19, or control flow.
    """
    model = model.clone()
    _check(model, islands)
    round_scales(model)
    full = _full_nodes(model, keep, islands)
    _retype(model, full)
    drop_unused(model)
    return model


def _check(model: ir.Model, islands: Collection[Island]) -> None:
    unknown = sorted(set(islands) - set(get_args(Island)))
    if unknown:
        raise UsageError(f"island is {unknown[0]!r}, expected one of {', '.join(get_args(Island))}")
    for node in model.graph:
        if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in _attributes(node)):
            raise ModelError(f"{node.name!r} is control flow ({node.op_type}), which has no FP16 form: build fp32")
    opset = model.opset_imports.get("", 0)
    if opset < _SCALE_OPSET and any(node.op_type in QUANTIZERS for node in model.graph):
        raise ModelError(
            f"Q/DQ nodes of opset {opset}, FP16 scales need {_SCALE_OPSET}: quantise a graph of opset {_SCALE_OPSET}"
        )
    if any(value.dtype is None for node in model.graph for value in node.outputs):
        infer_shapes(model)


def _attributes(node: ir.Node) -> Iterator[ir.Attr]:
    return (attribute for attribute in node.attributes.values() if isinstance(attribute, ir.Attr))


def _full_nodes(model: ir.Model, keep: Collection[str], islands: Collection[Island]) -> set[ir.Node]:
    """The nodes that stay in FP32."""
    full = _kept(model, keep) | _island_nodes(model, islands)
    full |= {node for node in model.graph if node.op_type not in QUANTIZERS and not _can_be_half(model, node)}
    for node in list(model.graph):
        if node.op_type == "DequantizeLinear":
            full |= _split(model, node, full)
    for node in model.graph:  # a Cast before one of these would cost and gain nothing
        if node.op_type in MOVES or not _float_outputs(node):
            producers = [value.producer() for value in node.inputs if value is not None and _is_full(value)]
            if any(producer in full for producer in producers):
                full.add(node)
    return full


def _split(model: ir.Model, node: ir.Node, full: set[ir.Node]) -> set[ir.Node]:
    """The DequantizeLinear that FP32 readers get: this one, or its copy where others read FP16."""
    value = node.outputs[0]
    uses = [use for use in value.uses() if use.node.op_type not in QUANTIZERS]
    wide = [use for use in uses if use.node in full]
    if not wide:
        return set()
    if len(wide) == len(uses) and not value.is_graph_output():
        return {node}
    copied = typed_like(value)
    copied.name = f"{value.name}/full"
    copy = ir.node(node.op_type, node.inputs, node.attributes, outputs=[copied], name=copied.name)
    model.graph.insert_after(node, copy)
    for use in wide:
        use.node.replace_input_with(use.idx, copied)
    return {copy}


def _kept(model: ir.Model, keep: Collection[str]) -> set[ir.Node]:
    kept: set[ir.Node] = set()
    for name in keep:
        found = [node for node in model.graph if f"{node.name}/".startswith(f"{name.rstrip('/')}/")]
        if not found:
            raise UsageError(f"no node is called {name!r} or {name.rstrip('/')}/...: rtpsp inspect lists the names")
        kept.update(node for node in found if node.op_type not in QUANTIZERS)  # these have their neighbours' type
    return kept


def _island_nodes(model: ir.Model, islands: Collection[Island]) -> set[ir.Node]:
    nodes = [node for node in model.graph if node.op_type not in (*CONVS, *QUANTIZERS)]
    found: set[ir.Node] = set()
    if "pooling" in islands:
        found.update(node for node in nodes if node.op_type in POOLS)
    if "input" in islands:
        after = nodes_after_convs(model)
        found.update(node for node in nodes if node not in after)
    if "output" in islands:
        before = nodes_before_convs(model)
        found.update(node for node in nodes if node not in before)
    return found


def nodes_after_convs(model: ir.Model) -> set[ir.Node]:
    """The nodes whose inputs come, however far back, from a convolution."""
    after: set[ir.Node] = set()
    for node in model.graph:
        producers = [value.producer() for value in node.inputs if value is not None]
        if any(producer is not None and (producer.op_type in CONVS or producer in after) for producer in producers):
            after.add(node)
    return after


def nodes_before_convs(model: ir.Model) -> set[ir.Node]:
    """The nodes whose outputs go, however far on, into a convolution."""
    before: set[ir.Node] = set()
    for node in reversed(model.graph):
        readers = [use.node for value in node.outputs for use in value.uses()]
        if any(reader.op_type in CONVS or reader in before for reader in readers):
            before.add(node)
    return before


def _can_be_half(model: ir.Model, node: ir.Node) -> bool:
    schema = _schema(model, node)
    if schema is None:
        return False
    if _float_outputs(node) and node.op_type != "Cast" and not any(_is_full(value) for value in node.inputs):
        return False  # an attribute says that it makes FP32
    if not all(_takes_half(schema.outputs, value.index() or 0) for value in _float_outputs(node)):
        return False
    for position, value in enumerate(node.inputs):
        array = constant(value) if _is_full(value) else None
        if array is None or not _takes_half(schema.inputs, position):
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half[np.isfinite(array)]).all() or (array.any() and not half.any()):
            return False
    return True


def _schema(model: ir.Model, node: ir.Node) -> onnx.defs.OpSchema | None:
    opset = model.opset_imports.get(node.domain)
    if opset is None:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None


def _takes_half(parameters: Collection[onnx.defs.OpSchema.FormalParameter], position: int) -> bool:
    formal = list(parameters)[min(position, len(parameters) - 1)]  # the last one may be repeated
    return "tensor(float16)" in formal.types


def _float_outputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if _is_full(value)]


def _is_full(value: ir.Value | None) -> bool:
    return value is not None and _dtype(value) == _FULL


def _dtype(value: ir.Value) -> ir.DataType | None:
    return value.dtype if value.const_value is None else value.const_value.dtype  # a constant may have no other type


def _retype(model: ir.Model, full: set[ir.Node]) -> None:
    """Gives the other nodes FP16 outputs, and every node the inputs that its type asks for."""
    wanted: list[tuple[ir.Node, int, ir.DataType]] = []
    for node in model.graph:
        schema = _schema(model, node)
        for position, value in enumerate(node.inputs):
            if _is_full(value):
                half = node not in full and schema is not None and _takes_half(schema.inputs, position)
                wanted.append((node, position, _HALF if half else _FULL))
    outputs = [(node, value) for node in model.graph if node not in full for value in _float_outputs(node)]
    for node, value in outputs:
        value.type = ir.TensorType(_HALF)
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(_HALF))
    _retype_initializers(model, wanted)
    others: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node, position, dtype in wanted:
        value = node.inputs[position]
        assert value is not None
        if _dtype(value) != dtype:
            if (value, dtype) not in others:
                others[value, dtype] = _cast(model, value, dtype)
            node.replace_input_with(position, others[value, dtype])
    for _, value in outputs:
        if value.is_graph_output():
            _give_output(model, value)


def _retype_initializers(model: ir.Model, wanted: list[tuple[ir.Node, int, ir.DataType]]) -> None:
    """FP16 under the same name where every reader takes it, else a second constant for those that do."""
    readers: dict[ir.Value, list[tuple[ir.Node, int, ir.DataType]]] = {}
    for node, position, dtype in wanted:
        value = node.inputs[position]
        if value is not None and constant(value) is not None:
            readers.setdefault(value, []).append((node, position, dtype))
    for value, uses in readers.items():
        array = constant(value)
        takers = [(node, position) for node, position, dtype in uses if dtype == _HALF]
        if array is None or not takers:
            continue
        half = array.astype(np.float16)
        if len(takers) == len(uses) and not value.is_graph_output():
            value.type = ir.TensorType(_HALF)  # a clone shares its type objects with the original
            set_constant(value, half)
            continue
        second = add_initializer(model, f"{value.name}/half", half)
        for node, position in takers:
            node.replace_input_with(position, second)


def _cast(model: ir.Model, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    producer, other = value.producer(), typed_like(value)
    other.name, other.type = f"{value.name}/{'half' if dtype == _HALF else 'full'}", ir.TensorType(dtype)
    node = ir.node("Cast", [value], {"to": dtype}, outputs=[other], name=other.name)
    if producer is None:
        model.graph.insert_before(model.graph[0], node)
    else:
        model.graph.insert_after(producer, node)
    return other


def _give_output(model: ir.Model, value: ir.Value) -> None:
    """An output keeps name and type behind a last Cast; the tensor before it is ``NAME/half``."""
    output = typed_like(value)
    output.type = ir.TensorType(_FULL)
    value.name = f"{value.name}/half"
    producer = value.producer()
    assert producer is not None
    model.graph.insert_after(
        producer, ir.node("Cast", [value], {"to": _FULL}, outputs=[output], name=f"{output.name}/full")
    )
    model.graph.outputs[model.graph.outputs.index(value)] = output
