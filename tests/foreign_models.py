"""ONNX segmenters as other programs write them: small, of one convolution pair, with any input and any end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = (24, 32)
Array = npt.NDArray[Any]


@dataclass
class Writer:
    """Collects nodes and constants; each method returns the name of a tensor."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        outputs = ["", name] if kind == "TopK" else [name]
        if kind == "TopK":
            outputs[0] = f"{name}_values"
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return name

    def keep(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name


End = Callable[[Writer, str], str]
"""Puts what follows the scores [1, classes, h, w] of half the input's size; returns the output."""


def save(
    path: Path,
    end: End,
    output: Sequence[int | str | None],
    *,
    image: Sequence[int | str] = (1, 3, *SIZE),
    before: End = lambda writer, image: image,
    classes: int = 5,
    planes: int = 3,
    dtype: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
    half: bool = False,
    opset: int = 17,
    more: dict[str, tuple[End, Sequence[int]]] | None = None,
    scale: float = 1.0,
) -> Path:
    """Writes such a model: image, what is `before` the network, the network, and its `end`.

    Args:
        path: Where.
        end: What follows the scores.
        output: Shape of the output ``y``.
        image: Shape of the input ``x``.
        before: From the image to NCHW floats.
        classes: Of the scores.
        planes: Of the network.
        dtype: Of the input.
        result: Of the output.
        half: The network is of FP16.
        opset: Of the graph.
        more: Further outputs by name: what they are of the scores, and their shapes.
        scale: Factor of the first weights: small for an image of 0..255.
    """
    random, writer = np.random.default_rng(5), Writer()
    of = np.float16 if half else np.float32
    network = before(writer, "x")
    first = writer.keep(scale * random.normal(size=(8, planes, 3, 3)), of)
    features = writer.add("Relu", writer.add("Conv", network, first, pads=[1, 1, 1, 1], strides=[2, 2]))
    second = writer.keep(random.normal(size=(classes, 8, 3, 3)), of)
    scores = writer.add("Conv", features, second, writer.keep(random.normal(size=classes), of), pads=[1, 1, 1, 1])
    ends = {"y": (end, output, result)} | {name: (*one, TensorProto.FLOAT) for name, one in (more or {}).items()}
    outputs = []
    for name, (make, shape, kind) in ends.items():
        writer.nodes.append(helper.make_node("Identity", [make(writer, scores)], [name]))
        outputs.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph(
        writer.nodes, "g", [helper.make_tensor_value_info("x", dtype, image)], outputs, writer.constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def as_it_is(writer: Writer, scores: str) -> str:
    return scores


def resized(mode: str = "linear", coordinates: str = "half_pixel", channels: int = 5) -> End:
    """To the input's size by sizes."""

    def end(writer: Writer, scores: str) -> str:
        sizes = writer.keep([1, channels, *SIZE], np.int64)
        attributes = {"nearest_mode": "floor"} if mode == "nearest" else {}
        return writer.add(
            "Resize", scores, "", "", sizes, mode=mode, coordinate_transformation_mode=coordinates, **attributes
        )

    return end


def chain(*ends: End) -> End:
    def end(writer: Writer, scores: str) -> str:
        for one in ends:
            scores = one(writer, scores)
        return scores

    return end


def node(kind: str, *constants: tuple[Any, Any], **attributes: Any) -> End:
    """One node, which reads constants of these values and types behind the tensor."""
    return lambda writer, tensor: writer.add(
        kind, tensor, *(writer.keep(values, dtype) for values, dtype in constants), **attributes
    )


def cast(to: int) -> End:
    return node("Cast", to=to)
