"""NVIDIA's own parser and builder take our graphs, on a machine without a GPU, at full width."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.calibration_cache import TensorRange
from rtpsp.errors import ModelError
from rtpsp.graph.editing import add_initializer, set_constant, typed
from rtpsp.graph.lint import lint
from rtpsp.graph.lower import Head, lower
from rtpsp.graph.precision import to_half
from rtpsp.graph.quantize import quantise
from rtpsp.graph.ranges import tensors_of
from rtpsp.spec import ModelSpec
from tests.full_width import full_width
from tests.graph.qdq import quantise as simply_quantised
from tests.graph.rtx import build

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI")  # which has them, or fails
    and any(find_spec(name) is None for name in ("tensorrt_rtx_bindings", "torch", "onnxscript")),
    reason="needs the extras train and tensorrt-rtx",
)


def quantised(model: ir.Model) -> ir.Model:
    """By our own policy, with ranges that nobody measured: the builder does not ask whether they are good."""
    return quantise(model, dict.fromkeys(tensors_of(model), TensorRange(None, None, 5.0)))


HEADS: tuple[Head, ...] = ("plain", "split")
PRECISIONS: dict[str, Callable[[ir.Model], ir.Model]] = {
    "fp32": lambda model: model,
    "fp16": to_half,
    "int8+fp32": quantised,
    "int8+fp16": lambda model: to_half(quantised(model)),
}


@pytest.fixture(scope="module", params=["pspnet18", "pspnet50"])
def lowered(request: pytest.FixtureRequest) -> dict[str, ir.Model]:
    """A network of random weights at full width, with the confidence: the longest tail there is."""
    graph, spec = full_width(request.param)
    return {head: lower(graph, spec, head=head, confidence=True, verify=False) for head in HEADS}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_builder_takes_every_precision(lowered: dict[str, ir.Model], precision: str, head: str) -> None:
    model = PRECISIONS[precision](lowered[head])
    assert lint(model) == []
    built = build(model)
    assert built.inputs == {"frames": "UINT8"}
    assert built.outputs == {"class_map": "UINT8", "confidence": "UINT8"}
    convolutions = sum(one.op_type == "Conv" for one in model.graph)
    assert len(built.convolutions) == convolutions
    assert set(built.convolutions.values()) == {"HALF" if precision.endswith("fp16") else "FLOAT"}
    assert len(built.quantised) == (convolutions - 1 if "int8" in precision else 0)
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    assert len(built.plan) < 1.1 * weights + 10e6, "the plan holds the weights in the type that the graph gives them"


def node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def integer_bias(model: ir.Model) -> None:
    bias = typed("bias", ir.DataType.FLOAT, 8)
    inputs = [add_initializer(model, f"bias/{name}", array) for name, array in BIAS.items()]
    read = ir.node("DequantizeLinear", inputs, {"axis": 0}, outputs=[bias], name="bias")
    model.graph.insert_before(model.graph[0], read)
    node(model, "conv").replace_input_with(2, bias)


def zero_point(model: ir.Model) -> None:
    set_constant(model.graph.initializers["zero"], np.array(3, np.int8))


def missing_cast(model: ir.Model) -> None:
    bias = node(model, "conv").inputs[2]
    assert bias is not None
    set_constant(bias, np.zeros(8, np.float16))


def transpose(model: ir.Model) -> None:
    node(model, "frames/planes").replace_input_with(0, model.graph.inputs[0])


BIAS = {"stored": np.ones(8, np.int32), "scale": np.full(8, 0.1, np.float32)}


@pytest.mark.parametrize(
    ("spoil", "name", "reason"),
    [
        (integer_bias, "bias", "Int32"),
        (zero_point, "image/q", "zero point"),
        (missing_cast, "conv", "type"),
        (transpose, "frames/planes", "UInt8"),
    ],
)
def test_what_the_parser_refuses_the_lint_finds(
    small_model: Callable[..., ir.Model],
    spec: ModelSpec,
    spoil: Callable[[ir.Model], None],
    name: str,
    reason: str,
) -> None:
    model = simply_quantised(lower(small_model(spec, half=False), spec, verify=False))
    assert lint(model) == []
    build(model)
    spoil(model)
    with pytest.raises(ModelError, match=f"{name}.*{reason}"):
        build(model)
    assert lint(model)


@pytest.mark.parametrize(("channels", "planes", "readers"), [("grey", 1, 1), ("rgbx", 4, 2)])
def test_the_builder_takes_frames_of_other_planes(
    small_model: Callable[..., ir.Model], small_spec: Callable[..., ModelSpec], channels: str, planes: int, readers: int
) -> None:
    spec = small_spec(channels=channels, mean=(0.5,) * planes, std=(0.2,) * planes)
    graph = lower(small_model(spec, readers=readers), spec, verify=False)
    built = build(to_half(quantised(graph)))
    assert (built.inputs, built.outputs) == ({"frames": "UINT8"}, {"class_map": "UINT8"})
    assert "conv" in built.quantised and built.convolutions["conv"] == "HALF"
