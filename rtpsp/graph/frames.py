"""The pass that lets camera frames in: ``frames``, uint8 [N, H, W, planes], in place of ``image``.

The bytes that cross the bus are a quarter of the float image's, and every backend normalises alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.errors import ModelError, UsageError
from rtpsp.graph.editing import add_initializer, constant, drop_unused, infer_shapes, only_use, set_constant, typed
from rtpsp.header import FRAMES
from rtpsp.onnx_file import INPUT
from rtpsp.spec import ModelSpec


def to_frames(model: ir.Model, spec: ModelSpec, batch: int = 1) -> ir.Model:
    """Puts cast, layout, channel order and normalisation inside the graph.

    The tensor ``image`` keeps its name but holds a frame's order, BGR or BGRX: the channel order of an RGB network is
    turned inside its first convolution's weights, at no cost. Where the image feeds anything else than one convolution,
    a Gather turns it. Normalisation is one Mul and one Add: folding the scale into the weights too would save nothing
    (runtimes fuse the two) and push small weights below FP16's normal range.

    Args:
        model: A graph with the input ``image``, float32 [1, planes, H, W]; not modified.
        spec: Its size, channel order and normalisation.
        batch: N, the frames of one inference, at least 1.

    Returns:
        A graph with the input ``frames``, uint8 [N, H, W, planes] as `rtpsp.arrays.Image`; all tensor names survive.

    Raises:
        UsageError: `batch` is below 1.
        ModelError: The graph has no input ``image``, or shapes fixed to one image in a way that cannot be changed.
    """
    if batch < 1:
        raise UsageError(f"batch is {batch}, expected at least 1")
    model = model.clone()
    image = next((value for value in model.graph.inputs if value.name == INPUT), None)
    if image is None:
        names = ", ".join(repr(value.name) for value in model.graph.inputs)
        raise ModelError(f"graph inputs are {names}, expected {INPUT!r}: give the graph that rtpsp export wrote")
    order = np.array(spec.frame_order, np.int64)
    mixed = order.tolist() != sorted(order)
    turned = mixed and not _turn_first_conv(image, order)
    mean, std = np.array(spec.mean, np.float64), np.array(spec.std, np.float64)
    scale, shift = 1.0 / (255.0 * std), -mean / std
    if mixed and not turned:
        scale, shift = scale[order], shift[order]

    planes = (batch, spec.planes, *spec.size)
    frames = typed(FRAMES, ir.DataType.UINT8, batch, *spec.frame_shape)
    # TensorRT's parser refuses a uint8 Transpose, so the Cast comes first (facts of TensorRT 10, 11 and RTX)
    values = [
        typed(f"{FRAMES}/float", ir.DataType.FLOAT, batch, *spec.frame_shape),
        typed(f"{FRAMES}/planes", ir.DataType.FLOAT, *planes),
    ]
    nodes = [
        ir.node("Cast", [frames], {"to": ir.DataType.FLOAT}, outputs=[values[0]]),
        ir.node("Transpose", [values[0]], {"perm": [0, 3, 1, 2]}, outputs=[values[1]]),
    ]
    if turned:
        places = add_initializer(model, f"{FRAMES}/order", order)
        values.append(typed(f"{FRAMES}/turned", ir.DataType.FLOAT, *planes))
        nodes.append(ir.node("Gather", [values[1], places], {"axis": 1}, outputs=[values[2]]))
    scaled = typed(f"{FRAMES}/scaled", ir.DataType.FLOAT, *planes)
    normal = typed(INPUT, ir.DataType.FLOAT, *planes)
    factors = add_initializer(model, f"{FRAMES}/scale", _planes(scale))
    offsets = add_initializer(model, f"{FRAMES}/shift", _planes(shift))
    nodes.append(ir.node("Mul", [values[-1], factors], outputs=[scaled]))
    nodes.append(ir.node("Add", [scaled, offsets], outputs=[normal]))
    for node in nodes:
        node.name = node.outputs[0].name

    image.replace_all_uses_with(normal)
    model.graph.inputs[model.graph.inputs.index(image)] = frames
    model.graph.insert_before(model.graph[0], nodes)
    if batch > 1:
        _set_batch(model, batch)
    drop_unused(model)
    return model


def _planes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return values.astype(np.float32).reshape(1, -1, 1, 1)


def _turn_first_conv(image: ir.Value, order: npt.NDArray[np.int64]) -> bool:
    """Reorders the input channels of the only convolution that reads the image; False where that cannot be done."""
    use = only_use(image)
    if use is None or use[1] != 0 or use[0].op_type != "Conv":
        return False
    weight = use[0].inputs[1]
    array = constant(weight)
    if weight is None or array is None or array.shape[1] != len(order) or only_use(weight) is None:
        return False
    set_constant(weight, array[:, order])
    return True


def _set_batch(model: ir.Model, batch: int) -> None:
    """Turns the 1 that an export wrote into Resize sizes and Reshape targets into N, then infers all shapes."""
    for node in model.graph:
        if node.op_type not in ("Resize", "Reshape"):
            continue
        target = node.inputs[-1]
        sizes = constant(target)
        if target is None or sizes is None or sizes.dtype != np.int64:
            continue  # a Resize by scales follows its input
        if sizes.size < 2 or sizes[0] != 1 or "axes" in node.attributes:
            continue
        changed = sizes.copy()
        changed[0] = batch
        if len(target.uses()) == 1:
            set_constant(target, changed)
        else:
            node.replace_input_with(len(node.inputs) - 1, add_initializer(model, f"{node.name}/batched", changed))
    for output in model.graph.outputs:
        assert output.shape is not None
        output.shape = ir.Shape((batch, *output.shape[1:]))
    try:
        infer_shapes(model)
    except Exception as error:  # onnx raises its own kinds for shapes that contradict each other
        raise ModelError(f"the graph cannot take {batch} frames at once ({error}): use batch 1") from error
