"""A small model file made by hand: every kind of node that a PSPNet's export holds, without torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.pooling import pooling_matrix
from rtpsp.spec import SPEC_KEY, ModelSpec

HEIGHT, WIDTH, CELLS = 22, 30, (11, 15)


def labels(count: int) -> LabelSet:
    """A set of `count` classes without meaning."""
    colours = distinct_palette(255) * 2
    return LabelSet("numbers", tuple(f"class{index}" for index in range(count)), colours[:count])


def build_spec(classes: int = 7, **changes: object) -> ModelSpec:
    """The spec of `build_model`."""
    return ModelSpec("small", "pspnet18", HEIGHT, WIDTH, labels(classes), **changes)  # type: ignore[arg-type]


def build_model(spec: ModelSpec, upsampled: bool = True, half: bool = True, readers: int = 1) -> ir.Model:
    """FP16-stored convolution, batch norm, ReLU, pooling by matrix, upsampling, concatenation, classifier, upsampling.

    Args:
        spec: Gives size and classes.
        upsampled: Bring the scores to the input's size, else leave them at half of it.
        half: Store the first weights as FP16 behind a Cast.
        readers: Convolutions that read the image; the second one's result is added.
    """
    random = np.random.default_rng(7)
    constants: list[ir.Value] = []

    def constant(name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        constants.append(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
        return constants[-1]

    def normal(name: str, *shape: int) -> ir.Value:
        return constant(name, random.normal(size=shape).astype(np.float32))

    nodes: list[ir.Node] = []

    def add(kind: str, name: str, inputs: list[ir.Value | None], **attributes: object) -> ir.Value:
        output = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT))
        nodes.append(ir.node(kind, inputs, attributes, outputs=[output], name=name))  # type: ignore[arg-type]
        return output

    def up(name: str, value: ir.Value, channels: int, size: tuple[int, int]) -> ir.Value:
        sizes = constant(f"{name}/sizes", np.array([1, channels, *size], np.int64))
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return add("Resize", name, [value, None, None, sizes], **mode)

    shape = ir.Shape((1, spec.planes, *spec.size))
    image = ir.Value(name="image", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    if half:
        stored = constant("conv.weight.fp16", random.normal(size=(8, spec.planes, 3, 3)).astype(np.float16))
        weight = add("Cast", "conv.weight", [stored], to=ir.DataType.FLOAT)
    else:
        weight = normal("conv.weight", 8, spec.planes, 3, 3)
    steps = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    features = add("Conv", "conv", [image, weight], **steps)
    if readers == 2:
        features = add(
            "Add", "sum", [features, add("Conv", "twin", [image, normal("twin.weight", 8, spec.planes, 3, 3)], **steps)]
        )
    spread = constant("bn.var", random.uniform(0.3, 4.0, 8).astype(np.float32))
    moments = [normal("bn.weight", 8), normal("bn.bias", 8), normal("bn.mean", 8), spread]
    features = add("Relu", "relu", [add("BatchNormalization", "bn", [features, *moments])])
    rows, columns = (pooling_matrix(cells, 3) for cells in CELLS)
    strips = add("MatMul", "strips", [features, constant("columns", columns.T.copy())])
    pooled = add("MatMul", "pooled", [constant("rows", rows), strips])
    maps = add("Concat", "maps", [features, up("spread", pooled, 8, CELLS)], axis=1)
    bias = normal("classifier.bias", len(spec.labels))
    scores = add("Conv", "classifier", [maps, normal("classifier.weight", len(spec.labels), 16, 1, 1), bias])
    logits = up("resize", scores, len(spec.labels), spec.size) if upsampled else scores
    logits.name = "logits"
    logits.shape = ir.Shape((1, len(spec.labels), *(spec.size if upsampled else CELLS)))
    graph = ir.Graph([image], [logits], nodes=nodes, initializers=constants, opset_imports={"": 19}, name="small")
    return ir.Model(graph, ir_version=9, metadata_props={SPEC_KEY: spec.to_json()})


@pytest.fixture
def small_spec() -> Callable[..., ModelSpec]:
    """`build_spec`: tests are loaded by path and cannot import this module."""
    return build_spec


@pytest.fixture
def small_model() -> Callable[..., ir.Model]:
    """`build_model`."""
    return build_model


@pytest.fixture
def spec() -> ModelSpec:
    """Seven classes, everything else as by default."""
    return build_spec()


@pytest.fixture
def model(spec: ModelSpec) -> ir.Model:
    """The small model of `spec`."""
    return build_model(spec)
