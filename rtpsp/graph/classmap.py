"""The pass that lets class ids out: ``class_map``, uint8 [N, H, W], in place of ``logits``.

The bytes that cross the bus are 1/44 of the float scores of eleven classes, and every backend decides ties alike: the
lower id wins. A softmax would not change which class is largest; on request the largest one's probability is a second
output, ``confidence``.

Where the scores need not cross a bus, the graph may as well give them as the network does, of cells of some 8x8 pixels:
``scores``, float32 [N, classes, h, w]. `rtpsp.upsampling` makes the class map of them, of any size, in less time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import add_initializer, constant, drop_unused, infer_shapes, typed
from rtpsp.header import CLASS_MAP, CONFIDENCE, SCORES
from rtpsp.onnx_file import OUTPUT
from rtpsp.spec import ModelSpec

Winner = Literal["argmax", "topk", "topk-sorted"]
"""How the graph finds the largest score: TensorRT takes ArgMax and makes a TopK of it, other runtimes differ in which
is faster (``bench/tail.py``). Of equal scores each of them takes the lower id."""

_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")  # they differ where the target is one pixel


def to_class_map(model: ir.Model, spec: ModelSpec, confidence: bool = False, winner: Winner = "argmax") -> ir.Model:
    """Puts upsampling to the input's size, argmax and the cast to class ids inside the graph.

    Args:
        model: A graph with the output ``logits``, float32 [N, classes, h, w]; not modified.
        spec: Its size and classes.
        confidence: Give the probability of the winning class, too.
        winner: The operator that finds it.

    Returns:
        A graph with the output ``class_map`` [N, H, W]: uint8, or int32 above 256 classes. With `confidence` a second
        one, ``confidence``, uint8 [N, H, W]: 255 p rounded, p being the softmax of the scores that the argmax sees, at
        the winning class. All tensor names survive.

    Raises:
        ModelError: The graph has no output ``logits`` of four static sizes.
    """
    model = model.clone()
    logits, (batch, classes, *size) = _logits(model)
    height, width = spec.size
    scores = logits
    if (*size,) != spec.size:
        sizes = add_initializer(model, f"{OUTPUT}/sizes", np.array([batch, classes, height, width], np.int64))
        scores = typed(f"{OUTPUT}/full", ir.DataType.FLOAT, batch, classes, height, width)
        attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        model.graph.append(
            ir.node("Resize", [logits, None, None, sizes], attributes, outputs=[scores], name=scores.name)
        )
    index = typed(f"{CLASS_MAP}/index", ir.DataType.INT64, batch, height, width)
    dtype = ir.DataType.UINT8 if spec.class_dtype == "uint8" else ir.DataType.INT32
    class_map = typed(CLASS_MAP, dtype, batch, height, width)
    if winner == "argmax":
        model.graph.append(ir.node("ArgMax", [scores], {"axis": 1, "keepdims": 0}, outputs=[index], name=index.name))
    else:
        _add_topk(model, scores, index, winner == "topk-sorted")
    model.graph.append(ir.node("Cast", [index], {"to": dtype}, outputs=[class_map], name=class_map.name))
    model.graph.outputs[model.graph.outputs.index(logits)] = class_map
    if confidence:
        model.graph.outputs.append(_add_confidence(model, scores, (batch, classes, height, width)))
    return model


def to_scores(model: ir.Model, spec: ModelSpec) -> ir.Model:
    """Takes the last upsampling out of the graph: scores as the network gives them, for `rtpsp.upsampling`.

    Args:
        model: A graph with the output ``logits``, float32 [N, classes, h, w]; not modified.
        spec: Its size and classes.

    Returns:
        A graph with the output ``scores``, float32 [N, classes, h, w], whose bilinear interpolation to the input's size
        are the logits. h and w are those of the logits where these come from anything else than a bilinear Resize of
        half-pixel coordinates. All other tensor names survive.

    Raises:
        ModelError: The graph has no output ``logits`` of four static sizes.
    """
    model = model.clone()
    infer_shapes(model)
    logits, _ = _logits(model)
    coarse = _upsampled(logits, spec) or logits
    assert coarse.shape is not None
    scores = typed(SCORES, ir.DataType.FLOAT, *coarse.shape.numpy())
    model.graph.append(ir.node("Identity", [coarse], outputs=[scores], name=scores.name))
    model.graph.outputs[model.graph.outputs.index(logits)] = scores
    drop_unused(model)
    return model


def _logits(model: ir.Model) -> tuple[ir.Value, tuple[int, ...]]:
    logits = next((value for value in model.graph.outputs if value.name == OUTPUT), None)
    if logits is None or logits.shape is None or not logits.shape.is_static() or len(logits.shape) != 4:
        found = ", ".join(f"{value.name!r} {value.shape}" for value in model.graph.outputs)
        raise ModelError(
            f"graph outputs are {found}, expected {OUTPUT!r} [N, classes, h, w] of static size: "
            f"give the graph that rtpsp export wrote"
        )
    return logits, logits.shape.numpy()


def _upsampled(logits: ir.Value, spec: ModelSpec) -> ir.Value | None:
    """What `Grid.whole` of `rtpsp.upsampling` makes these logits of; None where they come from anything else."""
    node = logits.producer()
    if node is None or node.op_type != "Resize":
        return None
    coarse = node.inputs[0]
    if coarse is None or coarse.shape is None or not coarse.shape.is_static() or logits.shape is None:
        return None
    before, after = coarse.shape.numpy(), logits.shape.numpy()
    mode = node.attributes.get_string("mode", "nearest")
    coordinates = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    # An antialiased Resize that enlarges is a plain one, and one by scales is where these are exact.
    exact = mode == "linear" and coordinates in _HALF_PIXEL and after[2:] == spec.size and before[:2] == after[:2]
    scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is not None and scales.size:
        exact &= all(float(scale) * old == new for scale, old, new in zip(scales, before, after, strict=True))
    return coarse if exact and before[2] <= after[2] and before[3] <= after[3] else None


def _add_topk(model: ir.Model, scores: ir.Value, index: ir.Value, in_order: bool) -> None:
    """ONNX: "Given two equivalent values, this operator uses the indices along the axis as a tiebreaker"."""
    assert index.shape is not None
    batch, height, width = index.shape.numpy()
    one = add_initializer(model, f"{CLASS_MAP}/one", np.array([1], np.int64))
    best = typed(f"{CLASS_MAP}/best", ir.DataType.FLOAT, batch, 1, height, width)
    where = typed(f"{CLASS_MAP}/where", ir.DataType.INT64, batch, 1, height, width)
    attributes = {"axis": 1, "largest": 1, "sorted": int(in_order)}
    model.graph.append(ir.node("TopK", [scores, one], attributes, outputs=[best, where], name=where.name))
    model.graph.append(ir.node("Squeeze", [where, one], outputs=[index], name=index.name))


def _add_confidence(model: ir.Model, scores: ir.Value, shape: tuple[int, int, int, int]) -> ir.Value:
    """The winner's softmax is max exp(x) / sum exp(x) = 1 / sum exp(x - max x), which no score can make overflow.

    A Softmax node is a little faster in OpenVINO for eleven classes, slower for 150, and many times slower in ONNX
    Runtime. TensorRT turns float into uint8 by cutting off, others may round: the value is whole before the cast.
    """
    batch, _, height, width = shape
    pixels = (batch, height, width)

    def add(
        kind: str, name: str, inputs: list[ir.Value], sizes: tuple[int, ...], **attributes: int | Sequence[int]
    ) -> ir.Value:
        output = typed(f"{CONFIDENCE}/{name}", ir.DataType.FLOAT, *sizes)
        model.graph.append(ir.node(kind, inputs, attributes, outputs=[output], name=output.name))
        return output

    # ReduceMax has its axes as an attribute up to opset 17, as an input from 18 on; ReduceSum as an input from 13 on.
    axis = add_initializer(model, f"{CONFIDENCE}/axis", np.array([1], np.int64))
    if model.opset_imports.get("", 0) >= 18:
        best = add("ReduceMax", "max", [scores, axis], (batch, 1, height, width), keepdims=1)
    else:
        best = add("ReduceMax", "max", [scores], (batch, 1, height, width), axes=[1], keepdims=1)
    below = add("Sub", "below", [scores, best], shape)
    powers = add("Exp", "powers", [below], shape)
    total = add("ReduceSum", "total", [powers, axis], pixels, keepdims=0)
    steps = add_initializer(model, f"{CONFIDENCE}/steps", np.array(255, np.float32))
    rounded = add("Round", "rounded", [add("Div", "share", [steps, total], pixels)], pixels)
    confidence = typed(CONFIDENCE, ir.DataType.UINT8, *pixels)
    model.graph.append(
        ir.node("Cast", [rounded], {"to": ir.DataType.UINT8}, outputs=[confidence], name=confidence.name)
    )
    return confidence
