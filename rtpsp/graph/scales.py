"""Scales of Q/DQ nodes as numbers of FP16, so that the same pair has the same scale in FP16 and in FP32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtpsp.graph.editing import Array, add_initializer, constant, only_use, set_constant

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")

_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)


def round_scales(model: ir.Model) -> None:
    """Rounds every FP32 scale of a graph, in place, and makes stored INT8 weights fit their new scales.

    Rounding to the nearest moves a scale by at most 2^-11 of itself, less than an eighth of a step at the largest
    level. Below FP16's normal range (2^-14) the relative error grows, so there a scale is rounded up: activations lose
    resolution and are never clipped, weights are quantised again and are off by at most half a step of the new scale.
    A scale above FP16's range stays as it is.
    """
    for node in model.graph:
        scale, stored = node.inputs[:2][::-1] if node.op_type in QUANTIZERS else (None, None)
        before, weight = constant(scale), constant(stored)
        if scale is None or stored is None or before is None or before.dtype != np.float32:
            continue
        after = _rounded(before)
        if weight is not None and weight.dtype == np.int8 and before.min() < _SMALLEST_NORMAL:
            sides = [1] * weight.ndim
            if before.size > 1:
                sides[node.attributes["axis"].as_int() if "axis" in node.attributes else 1] = before.size
            factor = (before.astype(np.float64) / after).reshape(sides)
            _give(model, node, 0, np.rint(weight * factor).astype(np.int8), f"{stored.name}/{scale.name}")
        if np.any(after != before):
            _give(model, node, 1, after, f"{scale.name}/rounded")


def _rounded(scale: Array) -> Array:
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    low = (scale < _SMALLEST_NORMAL) & (half < scale)
    half = np.where(low, np.nextafter(half, np.float16(1)), half)
    rounded: Array = np.where(np.isfinite(half), half, scale).astype(np.float32)
    return rounded


def _give(model: ir.Model, node: ir.Node, position: int, array: Array, name: str) -> None:
    """Changes the constant that a node reads, for this node alone when others read it too."""
    value = node.inputs[position]
    assert value is not None
    if only_use(value) is not None:
        set_constant(value, array)
    elif name in model.graph.initializers:  # made for another reader of the same constant
        node.replace_input_with(position, model.graph.initializers[name])
    else:
        node.replace_input_with(position, add_initializer(model, name, array))
