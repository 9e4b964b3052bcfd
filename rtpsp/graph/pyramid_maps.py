"""What an upsampling in a graph does, read off the graph itself: unit impulses in, two matrices out.

Exporters write upsampling in many ways (Resize by sizes or scales, five conventions of where a pixel's centre is,
Expand of a single cell, a transposed convolution of fixed weights), and a convention taken for another costs a model
its accuracy in silence. The response to impulses is the operation's own definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import constant, static_shape
from rtpsp.graph.verify import open_session

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Respond = Callable[[FloatArray], FloatArray]

SPATIAL = ("Resize", "Expand", "Tile", "ConvTranspose", "Identity")
"""Operators that may be linear in space and alike for every channel; whether they are is measured."""

SMALL = 4  # a map with a quarter of the full cells or more is a decoder's stage, not a pyramid's
TOLERANCE = 1e-5  # of the largest value: float32 weights of an interpolation, computed from float32 coordinates
_SOURCE, _RESULT = "source", "result"


class Unsuitable(Exception):
    """A map is upsampled, but not by what the rewrite can express; the text is the reason."""


@dataclass(frozen=True)
class Upsampled:
    """A full-size tensor that is ``rows @ source @ columns.T`` in every channel.

    Attributes:
        source: The small map, float32 [N, C, h, w].
        rows: [H, h].
        columns: [W, w].
    """

    source: ir.Value
    rows: Matrix
    columns: Matrix

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the small map."""
        return self.rows.shape[1], self.columns.shape[1]


def read_upsampling(model: ir.Model, full: ir.Value) -> Upsampled | None:
    """How a full-size tensor follows from a small map.

    Args:
        model: The graph that it is part of; gives the operator set.
        full: float32 [N, C, H, W], static.

    Returns:
        None where nothing was upsampled, or from a map that is not small.

    Raises:
        Unsuitable: It comes from a small map, but not by one linear, separable map for all channels.
        MissingError: onnxruntime is not installed.
    """
    shape = static_shape(full)
    source, nodes = _smallest(full)
    small = static_shape(source)
    if not nodes or shape is None or small is None or SMALL * small[2] * small[3] >= shape[2] * shape[3]:
        return None
    respond = run_alone(model, nodes, source, full)
    factors = _separate(_impulses(respond, small))
    if factors is None or not explains(factors, respond, small):
        raise Unsuitable(f"{full.name} follows from {source.name}, but not by one pair of matrices in every channel")
    return Upsampled(source, *factors)


def run_alone(model: ir.Model, nodes: Sequence[ir.Node], source: ir.Value, result: ir.Value) -> Respond:
    """A function that computes a few nodes of a graph and nothing else, by ONNX Runtime.

    Args:
        model: Gives the operator set.
        nodes: In the graph's order; they read `source` and constants.
        source: float32, static.
        result: float32.

    Raises:
        Unsuitable: The nodes read something else, or ONNX Runtime refuses them.
        MissingError: onnxruntime is not installed.
    """
    session = _open(_isolate(model, nodes, source, result))

    def respond(values: FloatArray) -> FloatArray:
        return np.asarray(session.run([_RESULT], {_SOURCE: values})[0], np.float32)

    return respond


def _smallest(full: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """The map of the fewest cells among those that `full` follows from by `SPATIAL` alone, and the nodes between."""
    whole = static_shape(full)
    best, value = full, full
    walked: list[ir.Node] = []
    between: list[ir.Node] = []
    while whole is not None and (node := value.producer()) is not None and node.op_type in SPATIAL and not node.domain:
        before = node.inputs[0]
        shape, least = static_shape(before), static_shape(best)
        if before is None or shape is None or least is None or len(shape) != 4 or shape[:2] != whole[:2]:
            break
        walked, value = [node, *walked], before
        if math.prod(shape) < math.prod(least):
            best, between = value, walked
    return best, between


def _isolate(model: ir.Model, nodes: Sequence[ir.Node], source: ir.Value, result: ir.Value) -> ir.Model:
    """A graph of these nodes alone, with the input ``source`` and the output ``result``."""
    made = {source: ir.Value(name=_SOURCE, shape=source.shape, type=ir.TensorType(ir.DataType.FLOAT))}
    constants: list[ir.Value] = []

    def stand_in(node: ir.Node, position: int) -> ir.Value | None:
        value = node.inputs[position]
        if value is None or value in made:
            return None if value is None else made[value]
        array = constant(value)
        array = _follows_from_shape(node, position) if array is None else array
        if array is None:
            raise Unsuitable(f"{node.op_type} {node.name!r} has a computed input {value.name!r}")
        name = f"constant{len(constants)}"
        constants.append(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
        return constants[-1]

    copies: list[ir.Node] = []
    for node in nodes:
        inputs = [stand_in(node, position) for position in range(len(node.inputs))]
        for output in node.outputs:
            name = _RESULT if output is result else f"step{len(made)}"
            made[output] = ir.Value(name=name, shape=output.shape, type=output.type)
        outputs = [made[output] for output in node.outputs]
        copies.append(ir.node(node.op_type, inputs, node.attributes, domain=node.domain, outputs=outputs))
    made[result].dtype = ir.DataType.FLOAT
    opsets = model.opset_imports
    graph = ir.Graph(
        [made[source]], [made[result]], nodes=copies, initializers=constants, opset_imports=opsets, name=_RESULT
    )
    return ir.Model(graph, ir_version=model.ir_version)


def _follows_from_shape(node: ir.Node, position: int) -> npt.NDArray[np.int64] | None:
    """A size that the exporter left to compute at run time although the result's shape is known."""
    shape = static_shape(node.outputs[0])
    role = (node.op_type, position)
    if shape is None or role not in (("Resize", 3), ("Expand", 1)):
        return None
    if "keep_aspect_ratio_policy" in node.attributes or "axes" in node.attributes:
        return None
    return np.array(shape, np.int64)


def _open(model: ir.Model) -> Any:
    try:
        return open_session(model, threads=1)
    except ModelError as error:
        raise Unsuitable(str(error)) from error


def _impulses(respond: Respond, small: tuple[int, ...]) -> FloatArray:
    """Responses to each cell's unit impulse, [h, w, H, W]: as many a run as the map has channels."""
    channels, height, width = small[1:]
    responses: list[FloatArray] = []
    for start in range(0, height * width, channels):
        cells = np.arange(start, min(start + channels, height * width))
        impulses = np.zeros(small, np.float32)
        impulses[0, cells - start, cells // width, cells % width] = 1.0
        responses.append(respond(impulses)[0, : len(cells)])
    found = np.concatenate(responses)
    return found.reshape(height, width, *found.shape[1:])


def _separate(responses: FloatArray) -> tuple[Matrix, Matrix] | None:
    """The factors of ``responses[r, s, y, x] = rows[y, r] * columns[x, s]``, should it have any; None for zeros.

    A matrix of rank one is the product of the row and the column that cross in its largest element.
    """
    r, s, y, x = np.unravel_index(np.abs(responses).argmax(), responses.shape)
    peak = float(responses[r, s, y, x])
    if peak == 0.0 or not np.isfinite(peak):
        return None
    return responses[:, s, :, x].T.astype(np.float64) / peak, responses[r, :, y, :].T.astype(np.float64)


def explains(
    factors: tuple[Matrix, Matrix], respond: Callable[[FloatArray], FloatArray], small: tuple[int, ...]
) -> bool:
    """Whether two matrices give a random map's response: impulses show no constant, and not every channel.

    Args:
        factors: Rows and columns.
        respond: What they should explain.
        small: Shape of what it takes.
    """
    rows, columns = factors
    probe = np.random.default_rng(0).normal(size=small).astype(np.float32)
    expected = rows @ probe.astype(np.float64) @ columns.T
    return bool(np.abs(respond(probe) - expected).max() <= TOLERANCE * np.abs(expected).max())
