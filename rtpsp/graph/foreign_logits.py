"""Ends a graph with ``logits``, whose class map and confidence are those of the answer that it had."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rtpsp.graph.editing import add_initializer, constant, static_shape, typed
from rtpsp.graph.foreign_output import Answer
from rtpsp.onnx_file import OUTPUT

LEAST = 1e-10
"""Least probability of several whose logarithm is taken: far below any that wins."""
LEAST_OF_TWO = 1e-3
"""Least one where the other is 1 - p: float32 rounds that to steps of 6e-8, whose logarithms would be noise below. It
is a quarter of a step of the confidence."""


def add_logits(model: ir.Model, answer: Answer) -> ir.Value:
    """Adds what makes logits of an answer's scores.

    A single score x tells class 1 from class 0: its logits are (-x/2, x/2), whose softmax is the sigmoid of x and whose
    argmax is 1 above 0. Probabilities p that were upsampled get the logarithm: the softmax of log p is p, and its
    argmax that of p. Sigmoids of several classes that were upsampled stay as they are: they are nobody's shares, and
    all of a pixel's may be next to nothing. The scores of class ids that were upsampled by nearest neighbour are
    upsampled so.

    Args:
        model: Changed in place, but for its outputs.
        answer: Of an output of this graph.

    Returns:
        ``logits``, float32 [1, classes, h, w].
    """
    writer = _Writer(model)
    value = answer.scores
    single = answer.channels == 1
    below = value.producer()
    # Before its upsampling, with which it commutes, a single score costs next to nothing; and an upsampling at the end
    # is one that the host can do instead of the graph.
    early = single and not answer.activation and answer.axes == (0, 1, 2, 3) and _is_upsampling(below)
    if early:
        assert below is not None and below.inputs[0] is not None
        value = writer.resize_like(below, writer.pair(below.inputs[0], answer.threshold), answer.scores)
    elif answer.axes != (0, 1, 2, 3):
        shape = static_shape(value)
        assert shape is not None
        turned = tuple(shape[axis] for axis in answer.axes)
        value = writer.add("Transpose", "planes", [value], turned, perm=list(answer.axes))
    if answer.activation == "softmax" or (answer.activation and single):
        value = writer.logarithm(value, single)
    elif single and not early:
        value = writer.pair(value, answer.threshold)
    for node in answer.resizes:
        value = writer.resize_ids(node, value)
    if value.is_graph_input() or value.is_initializer():
        value = writer.add("Identity", "same", [value], value.shape.numpy() if value.shape else ())
    value.name = OUTPUT
    return value


def _is_upsampling(node: ir.Node | None) -> bool:
    coordinates = node.attributes.get_string("coordinate_transformation_mode", "") if node is not None else ""
    return node is not None and node.op_type == "Resize" and coordinates != "tf_crop_and_resize"


class _Writer:
    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._count = 0

    def add(
        self, kind: str, name: str, inputs: list[ir.Value | None], shape: tuple[int, ...], **attributes: int | list[int]
    ) -> ir.Value:
        self._count += 1
        output = typed(f"{OUTPUT}/{name}{self._count}", ir.DataType.FLOAT, *shape)
        self._model.graph.append(ir.node(kind, inputs, attributes, outputs=[output], name=output.name))
        return output

    def keep(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        self._count += 1
        return add_initializer(self._model, f"{OUTPUT}/{name}{self._count}", array)

    def pair(self, value: ir.Value, threshold: float) -> ir.Value:
        """(-x/2, x/2) of the score x above its threshold."""
        shape = static_shape(value)
        assert shape is not None
        if threshold:
            value = self.add("Sub", "above", [value, self.keep("threshold", np.array(threshold, np.float32))], shape)
        halves = self.keep("halves", np.array([-0.5, 0.5], np.float32).reshape(1, 2, 1, 1))
        return self.add("Mul", "pair", [value, halves], (shape[0], 2, *shape[2:]))

    def logarithm(self, value: ir.Value, single: bool) -> ir.Value:
        """Of probabilities; of a single one, of those of both classes."""
        shape = static_shape(value)
        assert shape is not None
        if single:
            shape = (shape[0], 2, *shape[2:])
            signs = self.keep("signs", np.array([-1, 1], np.float32).reshape(1, 2, 1, 1))
            rests = self.keep("rests", np.array([1, 0], np.float32).reshape(1, 2, 1, 1))
            value = self.add("Add", "both", [self.add("Mul", "signed", [value, signs], shape), rests], shape)
        least = self.keep("least", np.array(LEAST_OF_TWO if single else LEAST, np.float32))
        value = self.add("Max", "positive", [value, least], shape)
        return self.add("Log", "log", [value], shape)

    def resize_like(self, node: ir.Node, value: ir.Value, like: ir.Value) -> ir.Value:
        """The same upsampling of more planes."""
        before, after = static_shape(value), static_shape(like)
        assert before is not None and after is not None
        shape = (*before[:2], *after[2:])
        scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        return self._resize(node, value, shape, scales if scales is not None and scales.size == 4 else None)

    def resize_ids(self, node: ir.Node, value: ir.Value) -> ir.Value:
        """What was done to class ids, to the scores behind them."""
        before, after, shape = (static_shape(end) for end in (node.inputs[0], node.outputs[0], value))
        assert before is not None and after is not None and shape is not None
        plane = [axis for axis in range(len(after)) if after[axis] != 1 or before[axis] != 1][-2:]
        plane = plane if len(plane) == 2 else [len(after) - 2, len(after) - 1]
        scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if scales is not None and scales.size:
            axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(len(after))
            by_axis = dict(zip(axes, scales.tolist(), strict=True))
            scales = np.array([1, 1, *(by_axis.get(axis, 1.0) for axis in plane)], np.float32)
        size = (after[plane[0]], after[plane[1]])
        return self._resize(node, value, (*shape[:2], *size), scales)

    def _resize(
        self,
        node: ir.Node,
        value: ir.Value,
        shape: tuple[int, ...],
        scales: np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None,
    ) -> ir.Value:
        """By scales where it was by scales: from these, and not from the sizes, follow the coordinates."""
        if scales is not None and scales.size:
            inputs: list[ir.Value | None] = [value, None, self.keep("scales", scales)]
        else:
            inputs = [value, None, None, self.keep("sizes", np.array(shape, np.int64))]
        output = self.add("Resize", "resize", inputs, shape)
        resize = output.producer()
        assert resize is not None
        for name, attribute in node.attributes.items():
            if name not in ("axes", "keep_aspect_ratio_policy"):
                resize.attributes[name] = attribute
        return output
