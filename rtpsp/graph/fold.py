"""Folds what is constant: FP16-stored weights into FP32 ones, batch norms into the convolutions before them.

A quantiser that meets ``Cast(weight)`` takes it for an activation and gives it one scale a tensor instead of one a
channel; a batch norm between convolution and ReLU hides the pair from it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.graph.editing import add_initializer, constant, drop_unused, only_use, set_constant, typed_like

FloatArray = npt.NDArray[np.float32]


def fold(model: ir.Model) -> ir.Model:
    """`fold_casts`, then `fold_batch_norms`.

    Args:
        model: Any graph; not modified.
    """
    return fold_batch_norms(fold_casts(model))


def fold_casts(model: ir.Model) -> ir.Model:
    """Turns every Cast of an FP16 constant to FP32 into an FP32 constant of the Cast's output name.

    Args:
        model: Any graph; not modified.
    """
    model = model.clone()
    for node in list(model.graph):
        stored = node.inputs[0] if node.op_type == "Cast" else None
        array = constant(stored)
        if array is None or array.dtype != np.float16 or node.attributes["to"].as_int() != ir.DataType.FLOAT:
            continue
        full = node.outputs[0]
        if full.is_graph_output():
            continue
        folded = ir.Value(name=full.name, const_value=ir.tensor(array.astype(np.float32), name=full.name))
        full.replace_all_uses_with(folded)
        model.graph.remove(node, safe=True)
        model.graph.register_initializer(folded)
    drop_unused(model)
    return model


def fold_batch_norms(model: ir.Model) -> ir.Model:
    """Scales the weights of a convolution by the batch norm that alone reads it, and moves its shift into the bias.

    Ioffe and Szegedy, "Batch Normalization", 2015, section 3.1: at inference it is the affine map
    ``y = gamma * (x - mean) / sqrt(var + eps) + beta``. The output of the batch norm keeps its name; the
    convolution's own is gone.

    Args:
        model: Any graph; not modified. Weights that are shared, computed or not FP32 stay as they are.
    """
    model = model.clone()
    for norm in list(model.graph):
        conv = norm.inputs[0].producer() if norm.op_type == "BatchNormalization" and norm.inputs[0] else None
        if conv is None or conv.op_type != "Conv" or not _reads_alone(norm, conv.outputs[0]) or len(norm.outputs) > 1:
            continue
        weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
        array, shift = constant(weight), constant(bias)
        gamma, beta, mean, variance = (constant(value) for value in norm.inputs[1:5])
        if array is None or gamma is None or beta is None or mean is None or variance is None:
            continue
        if array.dtype != np.float32 or only_use(weight) is None or (bias is not None and shift is None):
            continue
        epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
        factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        before = np.zeros(len(factor)) if shift is None else shift.astype(np.float64)
        scaled = (array * factor.reshape(-1, *[1] * (array.ndim - 1))).astype(np.float32)
        moved = ((before - mean) * factor + beta).astype(np.float32)
        _replace(model, conv, norm, scaled, moved)
    drop_unused(model)
    return model


def _reads_alone(node: ir.Node, value: ir.Value) -> bool:
    use = only_use(value)
    return use is not None and use[0] is node


def _replace(model: ir.Model, conv: ir.Node, norm: ir.Node, weight: FloatArray, bias: FloatArray) -> None:
    kernel, result = conv.inputs[1], norm.outputs[0]
    assert kernel is not None
    set_constant(kernel, weight)
    shift = add_initializer(model, f"{kernel.name}/bias", bias)
    fused = ir.node(
        "Conv", [conv.inputs[0], kernel, shift], conv.attributes, outputs=[typed_like(result)], name=conv.name
    )
    model.graph.insert_before(conv, fused)
    ir.convenience.replace_all_uses_with(result, fused.outputs[0], replace_graph_outputs=True)
    model.graph.remove(norm, safe=True)
    model.graph.remove(conv, safe=True)
