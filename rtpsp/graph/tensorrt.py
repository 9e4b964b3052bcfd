"""The last pass before TensorRT's parser: bytes are made of floats.

TensorRT has UINT8 for inputs and outputs alone, "convertible only to and from FP32 and FP16" (its `DataType`), and its
ArgMax is a TopK of integers. TensorRT-RTX 1.7 takes a cast of integers to bytes all the same; TensorRT need not.
"""

from __future__ import annotations

import onnx_ir as ir

from rtpsp.graph.editing import infer_shapes, typed_like

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def to_tensorrt(model: ir.Model) -> ir.Model:
    """Puts a Cast to FP32 before every Cast of integers to UINT8.

    Nothing is lost: a class id that a byte holds is a whole number below 2**24, which FP32 holds exactly.

    Args:
        model: A lowered graph in the types that are to be built, with Q/DQ nodes or without; not modified.

    Returns:
        The graph with the same inputs, outputs and tensor names; each new tensor is ``NAME/full``.
    """
    model = model.clone()
    if any(value.dtype is None for node in model.graph for value in node.outputs):
        infer_shapes(model)
    for node in list(model.graph):
        value = node.inputs[0] if node.op_type == "Cast" else None
        if value is None or value.dtype in _FLOATS or node.outputs[0].dtype != ir.DataType.UINT8:
            continue
        full = typed_like(value)
        full.name, full.type = f"{value.name}/full", ir.TensorType(ir.DataType.FLOAT)
        cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, outputs=[full], name=full.name)
        model.graph.insert_before(node, cast)
        node.replace_input_with(0, full)
    return model
