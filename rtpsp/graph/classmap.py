"""The pass that lets class ids out: ``class_map``, uint8 [N, H, W], in place of ``logits``.

The bytes that cross the bus are 1/44 of the float scores of eleven classes, and every backend decides ties alike: the
lower id wins. There is no softmax: it does not change which class is largest.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import add_initializer, typed
from rtpsp.onnx_file import OUTPUT
from rtpsp.spec import ModelSpec

CLASS_MAP = "class_map"


def to_class_map(model: ir.Model, spec: ModelSpec) -> ir.Model:
    """Puts upsampling to the input's size, argmax and the cast to class ids inside the graph.

    Args:
        model: A graph with the output ``logits``, float32 [N, classes, h, w]; not modified.
        spec: Its size and classes.

    Returns:
        A graph with the output ``class_map`` [N, H, W]: uint8, or int32 above 256 classes. All tensor names survive.

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
    return model
