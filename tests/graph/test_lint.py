"""Each rule of the lint is broken once, and found with the node's name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.graph.editing import add_initializer, constant, set_constant, typed
from rtpsp.graph.lint import lint
from rtpsp.graph.lower import lower
from rtpsp.graph.precision import to_half
from rtpsp.spec import ModelSpec
from tests.graph import qdq

INT8, UINT8, INT32, HALF = ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.FLOAT16


@pytest.fixture
def model(small_model: Callable[..., ir.Model], spec: ModelSpec) -> ir.Model:
    """Quantised: two convolutions ``conv`` and ``twin`` on the image, their ``sum``, and the float ``classifier``."""
    return qdq.quantise(lower(small_model(spec, half=False, readers=2), spec, verify=False))


def node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def dequantise(model: ir.Model, stored: np.ndarray[tuple[int, ...], np.dtype[np.generic]], name: str) -> ir.Value:
    """A constant behind a DequantizeLinear of its own."""
    inputs = [add_initializer(model, f"{name}/stored", stored), model.graph.initializers["scale"]]
    read = ir.node("DequantizeLinear", inputs, outputs=[typed(name, ir.DataType.FLOAT)], name=name)
    model.graph.insert_before(model.graph[0], read)
    return read.outputs[0]


def pair(model: ir.Model, value: ir.Value, name: str, scale: float = 0.05, dtype: ir.DataType = INT8) -> ir.Value:
    """Q/DQ behind a value, which its readers get."""
    producer = value.producer()
    assert producer is not None
    step = add_initializer(model, f"{name}/scale", np.array(scale, np.float32))
    zero = add_initializer(model, f"{name}/zero", np.array(0, dtype.numpy()))
    stored, read = typed(f"{name}/q", dtype), typed(f"{name}/dq", ir.DataType.FLOAT)
    value.replace_all_uses_with(read)
    nodes = [
        ir.node("QuantizeLinear", [value, step, zero], outputs=[stored], name=stored.name),
        ir.node("DequantizeLinear", [stored, step, zero], outputs=[read], name=read.name),
    ]
    model.graph.insert_after(producer, nodes)
    return read


def set_input(
    model: ir.Model, name: str, position: int, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    value = node(model, name).inputs[position]
    assert value is not None
    node(model, name).replace_input_with(position, add_initializer(model, f"{name}/changed", array))


def zero_point(model: ir.Model) -> None:
    set_input(model, "image/q", 2, np.array(3, np.int8))


def unsigned(model: ir.Model) -> None:
    pair(model, node(model, "relu").outputs[0], "relu", dtype=UINT8)


def integer_bias(model: ir.Model) -> None:
    conv = node(model, "conv")
    conv.resize_inputs(3)
    conv.replace_input_with(2, dequantise(model, np.ones(8, np.int32), "bias"))


def per_tensor(model: ir.Model) -> None:
    set_input(model, "conv.weight/dq", 1, np.array(0.1, np.float32))


def other_axis(model: ir.Model) -> None:
    node(model, "conv.weight/dq").attributes["axis"] = ir.AttrInt64("axis", 1)


def float_weight(model: ir.Model) -> None:
    set_input(model, "conv", 1, np.ones((8, 3, 3, 3), np.float32))


def no_skip(model: ir.Model) -> None:
    node(model, "sum").replace_input_with(1, node(model, "twin").outputs[0])


def both_skips(model: ir.Model) -> None:
    pair(model, node(model, "conv").outputs[0], "conv")


def classifier(model: ir.Model) -> None:
    pair(model, node(model, "maps").outputs[0], "maps")


def scores(model: ir.Model) -> None:
    pair(model, node(model, "classifier").outputs[0], "scores")


def transpose(model: ir.Model) -> None:
    cast, planes = node(model, "frames/float"), node(model, "frames/planes")
    planes.replace_input_with(0, cast.inputs[0])


def index(model: ir.Model) -> None:
    model.graph.outputs[0] = node(model, "class_map/index").outputs[0]


def bad_scale(model: ir.Model) -> None:
    set_input(model, "image/q", 1, np.array(np.inf, np.float32))


def mixed(model: ir.Model) -> None:
    set_input(model, "image/dq", 1, np.array(0.05, np.float16))


def behind(model: ir.Model) -> None:
    first = pair(model, node(model, "relu").outputs[0], "relu")
    moved = ir.node(
        "MaxPool", [first], {"kernel_shape": [1, 1]}, outputs=[typed("pool", ir.DataType.FLOAT)], name="pool"
    )
    first.replace_all_uses_with(moved.outputs[0])
    moved.replace_input_with(0, first)
    producer = first.producer()
    assert producer is not None
    model.graph.insert_after(producer, moved)
    pair(model, moved.outputs[0], "pooled", scale=0.06)


def integer_operator(model: ir.Model) -> None:
    model.graph.append(ir.node("ConvInteger", [*node(model, "conv").inputs[:2]], name="integers"))


BROKEN: list[tuple[Callable[[ir.Model], None], str]] = [
    (zero_point, "image/q: its zero point is not 0"),
    (unsigned, "relu/q: stores UINT8, expected INT8"),
    (integer_bias, "bias: dequantises INT32"),
    (integer_bias, "conv: its bias is not a floating-point constant"),
    (per_tensor, "conv: has one scale for all weights, expected one an output channel on axis 0"),
    (other_axis, "conv: has 8 scales on axis 1, expected"),
    (float_weight, "conv: has quantised data alone"),
    (no_skip, "sum: no input is quantised between quantised convolutions"),
    (both_skips, "sum: both inputs are quantised"),
    (classifier, "classifier: reads maps/dq: the classifier behind the last features stays in floating point"),
    (scores, "classifier: is quantised behind: scores stay in floating point"),
    (scores, "resize: reads scores/dq: the Resize"),
    (transpose, "frames: goes into Transpose 'frames/planes' as UINT8"),
    (index, "class_map/index: gives INT64 class ids"),
    (bad_scale, "image/q: a scale is inf, expected a finite number above 0"),
    (mixed, "image/dq: mixes FP16 and FP32"),
    (behind, "pooled/q: requantises relu/dq: scale 0.06"),
    (integer_operator, "integers: is ConvInteger"),
]


def test_a_graph_that_keeps_the_rules_has_no_findings(model: ir.Model) -> None:
    assert lint(model) == []
    assert lint(to_half(model)) == []
    assert lint(to_half(model, keep=["twin"])) == []


def test_a_float_graph_has_no_findings(small_model: Callable[..., ir.Model], spec: ModelSpec) -> None:
    assert lint(lower(small_model(spec), spec, confidence=True, verify=False)) == []


@pytest.mark.parametrize(
    ("spoil", "finding"), BROKEN, ids=[f"{one.__name__}-{text.split(':')[0]}" for one, text in BROKEN]
)
def test_each_rule_is_found_with_its_node(model: ir.Model, spoil: Callable[[ir.Model], None], finding: str) -> None:
    spoil(model)
    assert any(line.startswith(finding) for line in lint(model)), lint(model)


def test_unsigned_values_are_allowed_on_request(model: ir.Model) -> None:
    unsigned(model)
    assert lint(model, unsigned=True) == []
    zero = model.graph.initializers["relu/zero"]
    set_constant(zero, np.array(128, np.uint8))
    assert lint(model, unsigned=True) == [
        f"relu/{kind}: its zero point is not 0: quantise symmetrically" for kind in ("q", "dq")
    ]


def test_a_scale_passes_through_pooling(model: ir.Model) -> None:
    """The skip input of the first residual Add behind a stem is the MaxPool of a dequantised tensor."""
    skip = node(model, "sum").inputs[1]
    assert skip is not None
    pooled = typed("pooled skip", ir.DataType.FLOAT)
    pool = ir.node("MaxPool", [skip], {"kernel_shape": [1, 1]}, outputs=[pooled], name="pool")
    model.graph.insert_before(node(model, "sum"), pool)
    node(model, "sum").replace_input_with(1, pooled)
    assert lint(model) == []


def test_a_residual_add_in_float_is_no_finding(model: ir.Model) -> None:
    """Where the quantiser left a convolution in float, its Add has nothing to gain."""
    no_skip(model)
    twin = node(model, "twin")
    array = constant(model.graph.initializers["conv.weight"])
    assert array is not None
    twin.replace_input_with(0, node(model, "image").outputs[0])
    twin.replace_input_with(1, add_initializer(model, "float", array))
    assert lint(model) == []


def test_fp16_scales_need_their_opset(model: ir.Model) -> None:
    half = to_half(model)
    half.opset_imports[""] = 17
    assert "image/dq: has an FP16 scale in opset 17, which needs 19" in lint(half)
    assert lint(model) == []
