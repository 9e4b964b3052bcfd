"""The pass that lets class ids out: ``class_map``, uint8 [N, H, W], in place of ``logits``.

The bytes that cross the bus are 1/44 of the float scores of eleven classes, and every backend decides ties alike: the
lower id wins. A softmax would not change which class is largest; on request the largest one's probability is a second
output, ``confidence``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import add_initializer, typed
from rtpsp.header import CLASS_MAP, CONFIDENCE
from rtpsp.onnx_file import OUTPUT
from rtpsp.spec import ModelSpec


def to_class_map(model: ir.Model, spec: ModelSpec, confidence: bool = False) -> ir.Model:
    """Puts upsampling to the input's size, argmax and the cast to class ids inside the graph.

    Args:
        model: A graph with the output ``logits``, float32 [N, classes, h, w]; not modified.
        spec: Its size and classes.
        confidence: Give the probability of the winning class, too.

    Returns:
        A graph with the output ``class_map`` [N, H, W]: uint8, or int32 above 256 classes. With `confidence` a second
        one, ``confidence``, uint8 [N, H, W]: 255 p rounded, p being the softmax of the scores that the argmax sees, at
        the winning class. All tensor names survive.

    Raises:
        ModelError: The graph has no output ``logits`` of four static sizes.
    """
    model = model.clone()
    logits = next((value for value in model.graph.outputs if value.name == OUTPUT), None)
    if logits is None or logits.shape is None or not logits.shape.is_static() or len(logits.shape) != 4:
        found = ", ".join(f"{value.name!r} {value.shape}" for value in model.graph.outputs)
        raise ModelError(
            f"graph outputs are {found}, expected {OUTPUT!r} [N, classes, h, w] of static size: "
            f"give the graph that rtpsp export wrote"
        )
    batch, classes, *size = logits.shape.numpy()
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
    model.graph.append(ir.node("ArgMax", [scores], {"axis": 1, "keepdims": 0}, outputs=[index], name=index.name))
    model.graph.append(ir.node("Cast", [index], {"to": dtype}, outputs=[class_map], name=class_map.name))
    model.graph.outputs[model.graph.outputs.index(logits)] = class_map
    if confidence:
        model.graph.outputs.append(_add_confidence(model, scores, (batch, classes, height, width)))
    return model


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
