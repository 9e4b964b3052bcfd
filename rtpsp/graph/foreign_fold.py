"""Fixes the size of a graph's input and folds all that it decides.

Exporters leave to compute at run time what a fixed size would decide: the targets of every upsampling and reshape, as
``Shape`` and a dozen integer operators behind it. Passes, quantiser and TensorRT want them as constants.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import Array, add_initializer, constant, drop_unused, infer_shapes, static_shape
from rtpsp.graph.verify import open_session

MAX_ROUNDS = 30
"""Each round of folding makes the shapes known that the next one folds; real graphs take three to five."""

_CHANCE = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


def fix_size(model: ir.Model, image: ir.Value, shape: Sequence[int]) -> None:
    """Gives the input its sizes, and folds all that they decide.

    Args:
        model: A `standardise`d graph; changed in place.
        image: Its input.
        shape: All of its sizes.

    Raises:
        ModelError: The graph cannot take this size, or shapes remain that depend on what is in the image.
    """
    image.shape = ir.Shape(shape)
    told = "x".join(map(str, shape))
    with _quiet():
        for _ in range(MAX_ROUNDS):
            for output in model.graph.outputs:
                output.shape = None  # the exporter's own may have names for sizes
            infer_shapes(model)
            if not _fold_shapes(model) + _fold_constants(model):
                break
    unknown = next((value for node in model.graph for value in node.outputs if static_shape(value) is None), None)
    if unknown is not None:
        contradiction = _contradiction(model)
        if contradiction:
            raise ModelError(
                f"the graph cannot take an input of {told} ({contradiction:.160}): give a size that it was exported for"
            )
        node = unknown.producer()
        assert node is not None
        raise ModelError(
            f"{node.op_type} {node.name!r} gives {unknown.name!r} of a size that an input of {told} does not decide: "
            f"export the model with a fixed size, without pre- or post-processing"
        )
    drop_unused(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnx_ir's pass logs what it cannot infer, with a traceback; here that becomes an error of its own."""
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _contradiction(model: ir.Model) -> str:
    """What ONNX's own inference says against the shapes, on one line; nothing where it has no objection."""
    try:
        onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx raises its own kinds for shapes that contradict each other
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _fold_shapes(model: ir.Model) -> int:
    folded = 0
    for node in list(model.graph):
        shape = static_shape(node.inputs[0]) if node.op_type in ("Shape", "Size") and node.inputs else None
        if shape is None or node.outputs[0].is_graph_output():
            continue
        array = np.array(shape, np.int64)
        if node.op_type == "Size":
            array = np.array(array.prod(), np.int64)
        else:
            bounds = [node.attributes[name].as_int() if name in node.attributes else None for name in ("start", "end")]
            array = array[slice(*bounds)]
        _replace(model, node, [array])
        folded += 1
    return folded


def _fold_constants(model: ir.Model) -> int:
    """Computes every node whose inputs are all constants, all in one run."""
    known: set[ir.Value] = set()
    nodes: list[ir.Node] = []
    for node in model.graph:
        follows = all(value is None or value in known or constant(value) is not None for value in node.inputs)
        if not follows or node.op_type in _CHANCE or any(output.is_graph_output() for output in node.outputs):
            continue
        nodes.append(node)
        known.update(node.outputs)
    inner = set(nodes)
    wanted = [out for node in nodes for out in node.outputs if any(use.node not in inner for use in out.uses())]
    if not wanted:
        return 0
    arrays = dict(zip(wanted, _computed(model, nodes, wanted), strict=True))
    for node in reversed(nodes):  # what reads a constant is gone before the constant is
        _replace(model, node, [arrays.get(output) for output in node.outputs])
    return len(nodes)


def _computed(model: ir.Model, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[Array]:
    made: dict[ir.Value, ir.Value] = {}
    constants: list[ir.Value] = []

    def stand_in(value: ir.Value | None) -> ir.Value | None:
        if value is not None and value not in made:
            name = f"constant{len(constants)}"
            array = constant(value)
            assert array is not None
            constants.append(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
            made[value] = constants[-1]
        return None if value is None else made[value]

    copies: list[ir.Node] = []
    for node in nodes:
        inputs = [stand_in(value) for value in node.inputs]
        for output in node.outputs:
            made[output] = ir.Value(name=f"step{len(made)}", type=output.type, shape=output.shape)
        outputs = [made[output] for output in node.outputs]
        copies.append(ir.node(node.op_type, inputs, node.attributes, outputs=outputs))
    results = [made[value] for value in wanted]
    graph = ir.Graph(
        [], results, nodes=copies, initializers=constants, opset_imports=model.opset_imports, name="constants"
    )
    session = open_session(ir.Model(graph, ir_version=model.ir_version), threads=1)
    answers: list[Array] = session.run([value.name for value in results], {})
    return answers


def _replace(model: ir.Model, node: ir.Node, arrays: Sequence[Array | None]) -> None:
    for output, array in zip(node.outputs, arrays, strict=True):
        if array is not None:
            output.name, name = f"{output.name}/folded", str(output.name)
            output.replace_all_uses_with(add_initializer(model, name, array))
    model.graph.remove(node, safe=True)
