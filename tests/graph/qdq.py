"""Q/DQ nodes with made-up ranges, for tests of what is done with a quantised graph: no calibration, no policy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtpsp.graph.editing import add_initializer, constant


def quantise(model: ir.Model, scale: float = 0.05) -> ir.Model:
    """INT8 on every convolution but the last, and on the skip input of every residual Add.

    Args:
        model: A lowered graph; not modified.
        scale: Of all activations.
    """
    model = model.clone()
    pairs: dict[str, ir.Value] = {}
    step = add_initializer(model, "scale", np.array(scale, np.float32))
    zero = add_initializer(model, "zero", np.array(0, np.int8))

    def pair(value: ir.Value) -> ir.Value:
        assert value.name is not None
        if value.name not in pairs:
            stored = ir.Value(name=f"{value.name}/q", shape=value.shape, type=ir.TensorType(ir.DataType.INT8))
            read = ir.Value(name=f"{value.name}/dq", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
            nodes = [
                ir.node("QuantizeLinear", [value, step, zero], outputs=[stored], name=stored.name),
                ir.node("DequantizeLinear", [stored, step, zero], outputs=[read], name=read.name),
            ]
            producer = value.producer()
            assert producer is not None
            model.graph.insert_after(producer, nodes)
            pairs[value.name] = read
        return pairs[value.name]

    convs = [node for node in model.graph if node.op_type == "Conv"]
    for conv in convs[:-1]:
        data = conv.inputs[0]
        assert data is not None
        conv.replace_input_with(0, pair(data))
        _quantise_weight(model, conv)
    for node in [node for node in model.graph if node.op_type == "Add" and constant(node.inputs[1]) is None]:
        skip = node.inputs[1]
        assert skip is not None
        node.replace_input_with(1, pair(skip))
    return model


def _quantise_weight(model: ir.Model, conv: ir.Node) -> None:
    weight = conv.inputs[1]
    array = constant(weight)
    assert weight is not None and array is not None
    scale = np.maximum(np.abs(array).max(axis=(1, 2, 3)) / 127, 1e-9).astype(np.float32)
    levels = np.rint(array / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
    inputs = [
        add_initializer(model, f"{weight.name}/int8", levels),
        add_initializer(model, f"{weight.name}/scale", scale),
        add_initializer(model, f"{weight.name}/zero", np.zeros(len(scale), np.int8)),
    ]
    read = ir.Value(name=f"{weight.name}/dq", shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("DequantizeLinear", inputs, {"axis": 0}, outputs=[read], name=read.name)
    model.graph.insert_before(conv, node)
    conv.replace_input_with(1, read)
