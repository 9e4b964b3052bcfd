"""Small tools that every pass uses; each changes the graph that it is given, which a pass has copied before."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

Array = npt.NDArray[Any]


def constant(value: ir.Value | None) -> Array | None:
    """What an initialiser holds; None for anything that is computed or missing."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()


def add_initializer(model: ir.Model, name: str, array: Array) -> ir.Value:
    """A new constant of the graph under a name that is not taken."""
    value = ir.Value(name=name, const_value=ir.tensor(np.require(array, requirements="C"), name=name))
    model.graph.register_initializer(value)
    return value


def set_constant(value: ir.Value, array: Array) -> None:
    """Gives an initialiser other contents under the same name."""
    tensor = ir.tensor(np.require(array, requirements="C"), name=value.name)  # ascontiguousarray makes scalars vectors
    value.const_value, value.shape = tensor, ir.Shape(array.shape)
    value.type = ir.TensorType(tensor.dtype)  # not value.dtype, which changes a type that a copy's original shares


def only_use(value: ir.Value | None) -> tuple[ir.Node, int] | None:
    """The one use (node, input position) of a value; None when there are others or it is an output."""
    uses = () if value is None or value.is_graph_output() else tuple(value.uses())
    return (uses[0].node, uses[0].idx) if len(uses) == 1 else None


def typed(name: str, dtype: ir.DataType, *shape: int) -> ir.Value:
    """A value of static shape."""
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def typed_like(value: ir.Value) -> ir.Value:
    """A value of the same name, type and shape, to stand in its place."""
    return ir.Value(name=value.name, shape=value.shape, type=value.type)


def drop_unused(model: ir.Model) -> None:
    """Removes nodes and constants that nothing reads."""
    common.RemoveUnusedNodesPass()(model)


def infer_shapes(model: ir.Model) -> None:
    """Computes every intermediate shape anew from the inputs'."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    common.ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """A value's sizes; None where they are unknown or one of them is not a number."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()
