"""What a foreign graph answers: scores, probabilities or class ids, and the scores that stand behind them.

The class map, the confidence and masks of the frame's own size are made of scores. Exporters end a graph with Softmax,
Sigmoid, ArgMax and what moves class ids about. Each output is followed back through these to the scores, and what it
takes to get the same class map from them is kept: an upsampling of class ids by nearest neighbour becomes the same of
the scores, since it commutes with the argmax, and one of probabilities stays where it is, since it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from rtpsp.graph.editing import constant, static_shape

Kind = Literal["scores", "softmax", "log-softmax", "sigmoid", "class map", "threshold"]

_MOVES = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_ACTIVATIONS: dict[str, Kind] = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}
_ASPECT = 0.1  # by how much the scales of height and width may differ: 60 cells of 473 pixels, and the like


@dataclass(frozen=True)
class Answer:
    """An output, and the scores that it follows from.

    Attributes:
        output: As the file calls it.
        kind: What the output is.
        scores: float32 of four axes: what `axes` and `activation` make the scores of.
        axes: Where the batch, the classes, height and width stand among the axes of `scores`.
        activation: What `scores` went through already where it cannot be taken out: ``softmax`` or ``sigmoid`` before
            an upsampling; else empty.
        threshold: Of ``threshold``: above it, a single score means class 1.
        resizes: Upsamplings of class ids by nearest neighbour, in order.
        cells: Height and width of the output.
    """

    output: str
    kind: Kind
    scores: ir.Value
    axes: tuple[int, int, int, int]
    cells: tuple[int, int]
    activation: str = ""
    threshold: float = 0.0
    resizes: tuple[ir.Node, ...] = field(default=())

    @property
    def channels(self) -> int:
        """Scores a cell: the classes, or 1 where one score tells two classes apart."""
        assert self.scores.shape is not None
        return int(self.scores.shape.numpy()[self.axes[1]])

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return max(2, self.channels)

    def same(self, other: Answer) -> bool:
        """Whether both are the same scores, told in two ways."""
        return self.scores is other.scores and self.resizes == other.resizes


def read_answer(output: ir.Value, size: tuple[int, int]) -> Answer | None:
    """What an output of a graph is; None where it is no answer of a segmenter of single images.

    Args:
        output: Of a graph of static shapes.
        size: Height and width of the input.
    """
    return _class_map(output, size) or _scores(output, size)


def _class_map(output: ir.Value, size: tuple[int, int]) -> Answer | None:
    """Follows class ids back to what chose them."""
    value, resizes = output, list[ir.Node]()
    shape = [side for side in static_shape(output) or () if side != 1]
    cells = (shape[0], shape[1]) if len(shape) == 2 else None
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "Resize" and _is_nearest(node):
            resizes.insert(0, node)
        elif node.op_type == "Transpose":
            if [side for side in static_shape(value) or () if side != 1] != shape and not resizes:
                return None
        elif node.op_type not in _MOVES:
            break
        value = node.inputs[0]
    if node is None or cells is None or not _fits(cells, size):
        return None
    if node.op_type in ("Greater", "GreaterOrEqual"):
        return _thresholded(output, node, cells, tuple(resizes), size)
    if node.op_type == "ArgMax" or (node.op_type == "TopK" and value is node.outputs[1] and _takes_one(node)):
        source = node.inputs[0]
        shape = list(static_shape(source) or ())
        if source is None or len(shape) != 4:
            return None
        axis = (node.attributes["axis"].as_int() if "axis" in node.attributes else _usual_axis(node)) % 4
        return _behind(output.name or "", "class map", source, _axes(axis), cells, tuple(resizes))
    return None


def _usual_axis(node: ir.Node) -> int:
    return 0 if node.op_type == "ArgMax" else -1


def _takes_one(node: ir.Node) -> bool:
    count = constant(node.inputs[1])
    largest = node.attributes["largest"].as_int() if "largest" in node.attributes else 1
    return count is not None and count.size == 1 and int(count.flat[0]) == 1 and bool(largest)


def _thresholded(
    output: ir.Value, node: ir.Node, cells: tuple[int, int], resizes: tuple[ir.Node, ...], size: tuple[int, int]
) -> Answer | None:
    """One score a cell, compared with a constant."""
    bound, source = constant(node.inputs[1]), node.inputs[0]
    if source is None or bound is None or bound.size != 1 or node.op_type != "Greater":
        return None
    answer = _scores(source, size)
    if answer is None or answer.channels != 1 or answer.activation:
        return None
    threshold = float(bound.flat[0])
    if answer.kind == "sigmoid":
        import math

        if not 0 < threshold < 1:
            return None
        threshold = math.log(threshold / (1 - threshold))
    return Answer(
        output.name or "", "threshold", answer.scores, answer.axes, cells, threshold=threshold, resizes=resizes
    )


def _scores(output: ir.Value, size: tuple[int, int]) -> Answer | None:
    """Follows scores back through what keeps their order."""
    value = output
    while len(static_shape(value) or ()) == 3:  # [1, H, W] of one score, or [classes, H, W] without the batch
        node = value.producer()
        if node is None or node.op_type not in _MOVES or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    shape = static_shape(value)
    if shape is None or len(shape) != 4 or shape[0] != 1 or value.dtype not in _FLOATS:
        return None
    axis = 1 if _fits((shape[2], shape[3]), size) else 3 if _fits((shape[1], shape[2]), size) else None
    if axis is None:
        return None
    axes = _axes(axis)
    return _behind(output.name or "", "scores", value, axes, (shape[axes[2]], shape[axes[3]]), ())


def _behind(
    name: str,
    kind: Kind,
    value: ir.Value,
    axes: tuple[int, int, int, int],
    cells: tuple[int, int],
    resizes: tuple[ir.Node, ...],
) -> Answer | None:
    """Takes off what does not change which class is largest."""
    activation, found = "", kind
    while (node := value.producer()) is not None and node.inputs and (source := node.inputs[0]) is not None:
        if node.op_type == "Transpose" and "perm" in node.attributes:
            perm = list(node.attributes["perm"].as_ints())
            axes = (perm[axes[0]], perm[axes[1]], perm[axes[2]], perm[axes[3]])
        elif node.op_type in _ACTIVATIONS and _along(node, axes[1]):
            found = _ACTIVATIONS[node.op_type] if kind == "scores" else kind
        elif not (node.op_type == "Identity" or (node.op_type == "Cast" and source.dtype in _FLOATS)):
            break
        value = source
    if found in ("scores", "class map"):
        activation = _before_upsampling(value, axes[1])
        if activation and kind == "scores":
            found = "softmax" if activation == "softmax" else "sigmoid"
    shape = static_shape(value)
    if shape is None or shape[axes[0]] != 1 or value.dtype not in _FLOATS:
        return None
    return Answer(name, found, value, axes, cells, activation, resizes=resizes)


def _before_upsampling(value: ir.Value, axis: int) -> str:
    """The activation of what was upsampled into this value, where it was upsampled as probabilities."""
    node, resized = value.producer(), False
    while node is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in _ACTIVATIONS and node.op_type != "LogSoftmax":
            return _ACTIVATIONS[node.op_type] if resized and _along(node, axis) else ""
        if node.op_type == "Transpose" and "perm" in node.attributes:
            axis = list(node.attributes["perm"].as_ints())[axis]
        elif node.op_type not in ("Resize", "Identity", "Cast"):
            return ""
        resized |= node.op_type == "Resize"
        node = node.inputs[0].producer()
    return ""


def _along(node: ir.Node, axis: int) -> bool:
    """Whether an activation goes over the classes, or over each value alone."""
    over = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    return node.op_type == "Sigmoid" or over % 4 == axis


def _axes(classes: int) -> tuple[int, int, int, int]:
    others = [axis for axis in range(1, 4) if axis != classes]
    return (0, classes, others[0], others[1])


def _fits(cells: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether a map of these cells covers the whole image: by about the same scale down and across, not enlarged.

    A single cell, or a row of them, is a classifier's.
    """
    if min(cells) < min(2, *size) or cells[0] > size[0] or cells[1] > size[1]:
        return False
    down, across = (pixels / count for pixels, count in zip(size, cells, strict=True))
    within = max(_ASPECT * down, down / cells[0], across / cells[1])  # a cell more or less of a small map
    return abs(down - across) <= within


def _is_nearest(node: ir.Node) -> bool:
    return "mode" not in node.attributes or node.attributes["mode"].as_string() == "nearest"
