"""The same network at another input size: a PSPNet of ours is convolutional but for three kinds of constants.

Convolutions take any size. What an export wrote down for one size are the pyramid's pooling matrices
(`rtpsp.pooling`), and the sizes that its maps and the logits are resized to. All of them follow from the input size and
the output stride, so that the result is the graph that exporting the checkpoint at the other size would have given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import Array, constant, infer_shapes, set_constant
from rtpsp.onnx_file import check_model
from rtpsp.pooling import pooling_matrix
from rtpsp.spec import SPEC_KEY, ModelSpec

_ANY_SIZE = frozenset({"Add", "BatchNormalization", "Cast", "Concat", "Conv", "Identity", "MaxPool", "Relu", "Split"})
"""What computes alike at every size. Whatever else is there may hold a size where nobody looks for it."""


def resized(model: ir.Model, spec: ModelSpec, size: tuple[int, int]) -> tuple[ir.Model, ModelSpec]:
    """A model file's graph for frames of another size, with the same weights.

    Its accuracy at that size is another one: the network has seen things as large as they were in training.

    Args:
        model: The graph of a model file that ``rtpsp export`` wrote; not modified.
        spec: Of the same file.
        size: Input (height, width) in pixels.

    Returns:
        The graph, and the spec that it carries.

    Raises:
        ModelError: The graph is another than rtpsp's export writes, or `size` cannot be one.
    """
    wanted = replace(spec, height=size[0], width=size[1])
    if size == spec.size:
        return model, spec
    model = model.clone()
    before, after = _features(spec), _features(wanted)
    for node in model.graph:
        if node.op_type == "Resize":
            _resize_to(node, {before: after, spec.size: size})
        elif node.op_type == "MatMul":
            _pool(node, before, after)
        elif node.op_type not in _ANY_SIZE or node.domain:
            raise _foreign(node, f"{node.op_type} may hold a size")
    _set_sides(model.graph.inputs[0], size)
    _set_sides(model.graph.outputs[0], size)
    try:
        infer_shapes(model)
    except Exception as error:  # onnx raises its own kinds for shapes that contradict each other
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{spec.name} at {size[0]}x{size[1]} (HxW) has shapes that contradict each other ({first:.160}): export "
            f"its checkpoint at that size"
        ) from error
    model.metadata_props[SPEC_KEY] = wanted.to_json()
    check_model(model, wanted)
    return model, wanted


def _features(spec: ModelSpec) -> tuple[int, int]:
    """(height, width) of the map that the pyramid pools: each stride of 2 halves, rounding up."""
    height, width = (-(-side // spec.output_stride) for side in spec.size)
    return height, width


def _resize_to(node: ir.Node, sizes: dict[tuple[int, int], tuple[int, int]]) -> None:
    value = node.inputs[3] if len(node.inputs) > 3 else None
    told = constant(value)
    if value is None or told is None or told.size != 4 or (int(told[2]), int(told[3])) not in sizes:
        found = "no constant sizes" if told is None else f"sizes {told.tolist()}"
        raise _foreign(node, f"it has {found}, expected [n, channels, h, w] with one of {list(sizes)}")
    set_constant(value, np.array([*told[:2], *sizes[int(told[2]), int(told[3])]], told.dtype))


def _pool(node: ir.Node, before: tuple[int, int], after: tuple[int, int]) -> None:
    """A pooling over the height has its matrix on the left, the one over the width for all bins on the right."""
    value, rows, columns = node.inputs[0], constant(node.inputs[0]), constant(node.inputs[1])
    if rows is not None and rows.ndim == 2:
        found, expected, fresh = rows, *(pooling_matrix(side[0], len(rows)) for side in (before, after))
    elif columns is not None and columns.ndim == 2:
        value, bins = node.inputs[1], _bins(node)
        found, expected, fresh = columns, *(_columns(side[1], bins) for side in (before, after))
    else:
        raise _foreign(node, "it has no constant matrix")
    # several poolings may share a matrix, which is then another one already
    if value is None or not any(np.array_equal(found, matrix) for matrix in (expected, fresh)):
        raise _foreign(node, f"it is not the pooling of features of {before[0]}x{before[1]}")
    set_constant(value, fresh)


def _bins(node: ir.Node) -> list[int]:
    readers = [use.node for use in node.outputs[0].uses()]
    told = constant(readers[0].inputs[1]) if len(readers) == 1 and readers[0].op_type == "Split" else None
    if told is None:
        raise _foreign(node, "its result is not split into the bins")
    return [int(bins) for bins in told]


def _columns(width: int, bins: list[int]) -> Array:
    return np.concatenate([pooling_matrix(width, count) for count in bins]).T


def _set_sides(value: ir.Value, size: tuple[int, int]) -> None:
    assert value.shape is not None
    value.shape = ir.Shape([*value.shape[:2], *size])


def _foreign(node: ir.Node, why: str) -> ModelError:
    return ModelError(
        f"{node.op_type} {node.name!r}: {why}: only a model as rtpsp export writes it can be given another size; "
        f"export its checkpoint at that size"
    )
