"""Brings any ONNX graph to standard operators, FP32 and an operator set that the passes know."""

from __future__ import annotations

import ast
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from rtpsp.errors import ModelError
from rtpsp.graph.editing import constant, drop_unused
from rtpsp.onnx_file import MIN_OPSET

_log = logging.getLogger(__name__)

OPSET = 19
"""Older graphs are converted to it: the first with FP16 scales of Q/DQ, which INT8 on a GPU needs."""

_STANDARD = ("", "ai.onnx")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "QLinearConv")
_CONVS = ("Conv", "ConvTranspose")


def standardise(model: ir.Model) -> ir.Model:
    """A copy of standard operators alone, in FP32, of opset `OPSET` or later, whose constants are initialisers.

    Functions are inlined; Identity and Dropout, which do nothing at inference, are gone; convolutions are named after
    the module that made them where the exporter says so.

    Args:
        model: Any ONNX graph; not modified.

    Raises:
        ModelError: It is damaged, quantised already, was exported in training mode, holds operators of another domain
            or control flow, or is of an old operator set that ONNX's own converter cannot bring up to date.
    """
    try:
        model = model.clone()
    except RuntimeError as error:  # the cause tells it shorter than the copy, which prints the graph
        raise ModelError("its graph reads a tensor that nothing gives: it is damaged, export it again") from error
    common.InlinePass()(model)
    model.functions.clear()
    check_operators(model)
    model = _converted(model)
    common.RemoveInitializersFromInputsPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _to_single_precision(model)
    _name_convolutions(model)
    common.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    _drop_idle(model)
    drop_unused(model)
    return model


def computes_in_half(model: ir.Model) -> bool:
    """Whether a convolution's weights are used as FP16."""
    weights = (node.inputs[1] for node in model.graph if node.op_type in _CONVS)
    return any(weight is not None and weight.dtype == ir.DataType.FLOAT16 for weight in weights)


def reserve_names(model: ir.Model, reserved: Sequence[str]) -> None:
    """Renames tensors and nodes that bear a name which the passes give, and names what has none; in place."""
    values = [
        *model.graph.inputs, *model.graph.initializers.values(), *(out for node in model.graph for out in node.outputs)
    ]  # fmt: skip
    taken = {value.name for value in values}
    for value in values:
        name = value.name or ""
        if name.split("/", 1)[0] in reserved:
            fresh = f"net/{name}"
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            value.name = fresh
    used = Counter[str]()
    for node in model.graph:
        name = node.name or str(node.outputs[0].name)
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name] - 1}"


def check_operators(model: ir.Model) -> None:
    """Looks for what no pass can take over, at the graph as it was exported.

    Raises:
        ModelError: It is quantised already, was exported in training mode, or holds operators of another domain or
            control flow.
    """
    functions = {(function.domain, function.name) for function in model.functions.values()}
    foreign = Counter(
        f"{node.domain}::{node.op_type}"
        for node in model.graph
        if node.domain not in _STANDARD and (node.domain, node.op_type) not in functions
    )
    if foreign:
        told = ", ".join(f"{count} {name}" for name, count in foreign.most_common(3))
        hint = "export it again with standard operators alone"
        if any(name.startswith(("com.microsoft", "com.ms")) for name in foreign):
            hint = "give the file from before ONNX Runtime optimised it"
        raise ModelError(f"it holds operators that are not ONNX's own ({told}): {hint}")
    kinds = {node.op_type for node in model.graph}
    if quantised := kinds.intersection(_QUANTISED):
        raise ModelError(
            f"the model is quantised already ({', '.join(sorted(quantised))}): give the FP32 model that it was made "
            f"from"
        )
    training = [
        node.name for node in model.graph if node.op_type == "BatchNormalization" and _flag(node, "training_mode")
    ]
    if training:
        raise ModelError(
            f"it was exported in training mode ({len(training)} batch norms that take the statistics of the frame): "
            f"export it again after model.eval()"
        )
    if flow := kinds.intersection(("If", "Loop", "Scan")):
        raise ModelError(
            f"it holds control flow ({', '.join(sorted(flow))}), which the passes cannot see through: export it by "
            f"tracing, with a fixed size"
        )


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and bool(node.attributes[name].as_int())


def _converted(model: ir.Model) -> ir.Model:
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    if opset >= OPSET:
        return model
    try:
        proto = version_converter.convert_version(ir.to_proto(model), OPSET)
        onnx.checker.check_model(proto)
        return ir.from_proto(proto)
    except Exception as error:  # the converter raises RuntimeError and its own kinds, the checker another
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if opset < MIN_OPSET:
            raise ModelError(
                f"it is of opset {opset}, and ONNX's converter cannot bring it to {OPSET} ({first:.160}): export it "
                f"again with opset {MIN_OPSET} or later"
            ) from error
        _log.info("opset %d is kept: %s", opset, first)
        return model


def _to_single_precision(model: ir.Model) -> None:
    """What is FP16 becomes FP32: which parts run in FP16 is decided later, and for every backend."""
    half, full = ir.DataType.FLOAT16, ir.DataType.FLOAT
    for name, value in list(model.graph.initializers.items()):
        array = constant(value)
        if array is not None and array.dtype == np.float16:
            value.const_value, value.type = ir.tensor(array.astype(np.float32), name=name), ir.TensorType(full)
    for node in model.graph:
        for key, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == half:
                node.attributes[key] = ir.AttrTensor(key, ir.tensor(attribute.as_tensor().numpy().astype(np.float32)))
            elif key in ("to", "dtype") and attribute.as_int() == half:
                node.attributes[key] = ir.AttrInt64(key, full)
        for output in node.outputs:
            if output.dtype == half:
                output.type = ir.TensorType(full)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.dtype == half:
            value.type = ir.TensorType(full)


def _name_convolutions(model: ir.Model) -> None:
    """Names them after their modules, as torch's newer exporter notes them: INT8 judges a block at a time by them."""
    used = Counter(node.name for node in model.graph)
    for node in model.graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes") if node.op_type in _CONVS else None
        try:
            modules = [str(name) for name in ast.literal_eval(scopes or "[]")]
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            continue
        name = modules[-2].replace(".", "/") if len(modules) > 1 else ""
        if name and not used[name]:
            used[name] += 1
            node.name = name


def _drop_idle(model: ir.Model) -> None:
    common.IdentityEliminationPass()(model)
    for node in list(model.graph):
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        idle = node.op_type == "Dropout" and not (len(node.inputs) > 2 and _is_true(node.inputs[2]))
        if source is None or not idle or any(output.uses() for output in node.outputs[1:]) or result.is_graph_output():
            continue
        result.replace_all_uses_with(source)
        model.graph.remove(node, safe=True)


def _is_true(value: ir.Value | None) -> bool:
    array = constant(value)
    return value is not None and (array is None or bool(array.any()))
