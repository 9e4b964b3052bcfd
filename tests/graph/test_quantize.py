from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rtpsp.calibration_cache import TensorRange
from rtpsp.errors import DataError
from rtpsp.graph.editing import constant, infer_shapes
from rtpsp.graph.groups import groups
from rtpsp.graph.lint import lint
from rtpsp.graph.lower import lower
from rtpsp.graph.quantize import IntegerFormat, not_negative, quantisable, quantise
from rtpsp.graph.ranges import canonical, collect, to_ranges
from rtpsp.graph.verify import compare, run, sample_frames
from rtpsp.labels import CAMVID
from rtpsp.model.export import to_onnx
from rtpsp.model.pspnet import ARCHS, build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.spec import SPEC_KEY, ModelSpec

SIGNED, UNSIGNED, SEVEN = IntegerFormat(), IntegerFormat(unsigned=True), IntegerFormat(unsigned=True, weight_bits=7)
FORMATS = {"signed": SIGNED, "unsigned": UNSIGNED, "seven bits": SEVEN}
Ranges = dict[str, TensorRange]


@pytest.fixture(scope="module", params=["pspnet18", "pspnet50"])
def network(request: pytest.FixtureRequest) -> tuple[ir.Model, ModelSpec, Ranges]:
    """A narrow PSPNet with its ranges; bottlenecks and deep stem in the second."""
    torch.manual_seed(3)
    model = build(ARCHS[request.param].narrowed(8), len(CAMVID))
    randomise_statistics(model)
    spec = ModelSpec("narrow", model.arch.name, 64, 80, CAMVID)
    graph = to_onnx(model, spec)
    plain = canonical(graph)
    frames = sample_frames(spec, count=4)
    ranges = to_ranges(collect(plain, spec, (frame[None] for frame in frames), 1), "minmax")
    return graph, spec, ranges


@pytest.mark.parametrize("head", ["plain", "split"])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_the_rules_of_the_parser_hold(
    network: tuple[ir.Model, ModelSpec, Ranges], head: str, fmt: IntegerFormat
) -> None:
    graph, spec, ranges = network
    lowered = lower(graph, spec, head="split" if head == "split" else "plain", verify=False)
    before = [value.name for node in lowered.graph for value in node.outputs]
    model = quantise(lowered, ranges, fmt)
    assert lint(model, unsigned=fmt.unsigned) == []
    names = {value.name for node in model.graph for value in node.outputs}
    assert names.issuperset(before) and [v.name for node in lowered.graph for v in node.outputs] == before
    convs = [node for node in model.graph if node.op_type == "Conv"]
    floats = [node.name for node in convs if _op(node.inputs[1]) != "DequantizeLinear"]
    assert floats == ["head/classifier"]
    stored = [value for value in model.graph.initializers.values() if value.name and value.name.endswith("/int8")]
    assert len(stored) == len(convs) - 1
    top = 64 if fmt.weight_bits == 7 else 127
    for value in stored:
        array = constant(value)
        assert array is not None and array.dtype == np.int8
        assert np.abs(array.reshape(len(array), -1).astype(int)).max(axis=1).min() == top, "each channel uses it all"
    adds = [
        node
        for node in model.graph
        if node.op_type == "Add" and node.name and node.name.startswith("backbone") and "layer" in node.name
    ]
    assert adds
    for add in adds:
        kinds = sorted(_op(value) for value in add.inputs)
        # the first block's skip is the pooled stem, which is in whole steps before the pool already
        assert kinds in (["Conv", "DequantizeLinear"], ["Conv", "MaxPool"] if fmt.unsigned else [])


def _op(value: ir.Value | None) -> str:
    producer = None if value is None else value.producer()
    return "" if producer is None else producer.op_type


@pytest.mark.parametrize("head", ["plain", "split"])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_it_computes_nearly_the_same(
    network: tuple[ir.Model, ModelSpec, Ranges], head: str, fmt: IntegerFormat
) -> None:
    graph, spec, ranges = network
    lowered = lower(graph, spec, head="split" if head == "split" else "plain", tail="host", verify=False)
    found = compare(lowered, quantise(lowered, ranges, fmt), spec, sample_frames(spec, count=2, seed=9), 1)
    assert found.max_error_relative is not None
    assert 1e-4 < found.max_error_relative < (0.25 if fmt.weight_bits == 8 else 0.4)
    assert found.class_agreement > 0.85


def test_unsigned_data_is_finer(network: tuple[ir.Model, ModelSpec, Ranges]) -> None:
    graph, spec, ranges = network
    lowered = lower(graph, spec, tail="host", verify=False)
    frames = sample_frames(spec, count=2, seed=9)
    wanted = run(lowered, spec, frames, 1).logits
    assert wanted is not None
    errors = []
    for fmt in (SIGNED, UNSIGNED):
        answer = run(quantise(lowered, ranges, fmt), spec, frames, 1).logits
        assert answer is not None
        errors.append(float(np.square(answer - wanted).mean()))
    assert errors[1] < errors[0]


def test_what_is_kept_stays_float(network: tuple[ir.Model, ModelSpec, Ranges]) -> None:
    graph, _, ranges = network
    plain = canonical(graph)
    parted = groups(plain)
    keep = parted["backbone/layer2/0"]
    model = quantise(plain, ranges, UNSIGNED, keep)
    for node in model.graph:
        if node.op_type == "Conv" and node.name in keep:
            assert _op(node.inputs[1]) == "" and _op(node.inputs[0]) != "DequantizeLinear"
        if node.name == "backbone/layer2/0/add":
            assert "DequantizeLinear" not in [_op(value) for value in node.inputs]
    everything = [name for names in parted.values() for name in names]
    untouched = quantise(plain, ranges, UNSIGNED, everything)
    assert [node.op_type for node in untouched.graph] == [node.op_type for node in plain.graph]


def test_groups_are_blocks_and_branches(network: tuple[ir.Model, ModelSpec, Ranges]) -> None:
    graph, _, _ = network
    plain = canonical(graph)
    parted = groups(plain)
    names = [node.name for node in quantisable(plain)]
    assert [name for convs in parted.values() for name in convs] == names and "head/classifier" not in names
    assert {"backbone", "backbone/layer1/0", "backbone/layer4/1", "pyramid/0", "pyramid/3", "head"} <= set(parted)
    assert {"backbone/layer2/0/conv1", "backbone/layer2/0/downsample/0"} <= set(parted["backbone/layer2/0"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("/encoder/layer1/layer1.0/conv1/Conv", "/encoder/layer1/layer1.0/conv2/Conv"), ["encoder/layer1/layer1.0"]),
        (("Conv_0", "Conv_1"), ["Conv_0", "Conv_1"]),
        (("conv", "twin"), ["conv", "twin"]),
    ],
)
def test_groups_of_other_exporters(model: ir.Model, names: tuple[str, str], expected: list[str]) -> None:
    plain = canonical(model)
    first = next(node for node in plain.graph if node.op_type == "Conv")
    first.name = names[0]
    second = ir.node("Conv", [first.inputs[0], first.inputs[1]], first.attributes, name=names[1])
    total = ir.node("Add", [first.outputs[0], second.outputs[0]])
    plain.graph.insert_after(first, [second, total])
    for use in list(first.outputs[0].uses()):
        if use.node is not total:
            use.node.replace_input_with(use.idx, total.outputs[0])
    assert list(groups(plain)) == expected


def test_a_tensor_without_a_range(network: tuple[ir.Model, ModelSpec, Ranges]) -> None:
    graph, _, ranges = network
    few = {name: found for name, found in ranges.items() if name != "backbone/layer3/0/relu"}
    with pytest.raises(DataError, match="have none for 'backbone/layer3/0/relu': they are of another graph"):
        quantise(canonical(graph), few)


def test_a_dead_tensor_gets_a_scale(network: tuple[ir.Model, ModelSpec, Ranges]) -> None:
    graph, _, ranges = network
    dead = {**ranges, "backbone/layer3/0/relu": TensorRange(0.0, 0.0, 0.0)}
    scale = constant(quantise(canonical(graph), dead).graph.initializers["backbone/layer3/0/relu/scale"])
    assert scale is not None and scale > 0 and np.isfinite(scale)


def test_signs_are_told_by_the_graph(network: tuple[ir.Model, ModelSpec, Ranges]) -> None:
    plain = canonical(network[0])
    values = {value.name: value for node in plain.graph for value in node.outputs}
    for name in ("backbone/relu", "backbone/maxpool", "pools/matmul_3", "pyramid/1/resize", "concat"):
        assert not_negative(values[name]), name
    assert not not_negative(values["head/classifier"]) and not not_negative(plain.graph.inputs[0])
    assert not not_negative(values["backbone/layer1/0/add"])


@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_a_tensor_that_a_pool_and_a_convolution_read(model: ir.Model, pool_first: bool, fmt: IntegerFormat) -> None:
    """One pair, whoever asks for it first."""
    plain = canonical(model)
    relu = next(node for node in plain.graph if node.op_type == "Relu")
    random = np.random.default_rng(5)
    data = relu.outputs[0]
    users = list(data.uses())
    arrays = {name: random.normal(size=(8, 8, 1, 1)).astype(np.float32) for name in ("after.weight", "beside.weight")}
    weights = [ir.Value(name=name, const_value=ir.tensor(array, name=name)) for name, array in arrays.items()]
    for weight in weights:
        plain.graph.register_initializer(weight)
    pool = ir.node("MaxPool", [data], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, name="pool")
    pool.outputs[0].name = "maxima"
    after = ir.node("Conv", [pool.outputs[0], weights[0]], name="after")
    beside = ir.node("Conv", [data, weights[1]], name="beside")
    total = ir.node("Add", [after.outputs[0], beside.outputs[0]], name="total")
    for node in (after, beside, total):
        node.outputs[0].name = f"{node.name}/out"
    convs = [pool, after, beside] if pool_first else [beside, pool, after]
    plain.graph.insert_after(relu, [*convs, total])
    for use in users:
        use.node.replace_input_with(use.idx, total.outputs[0])
    infer_shapes(plain)
    spec = ModelSpec.from_json(model.metadata_props[SPEC_KEY])
    ranges = to_ranges(collect(plain, spec, [sample_frames(spec, 1)], 1), "minmax")
    quantised = quantise(plain, ranges, fmt)
    made = [node.name for node in quantised.graph if node.op_type == "QuantizeLinear"]
    assert made.count("relu/quantised") == 1 and ("maxima/quantised" in made) is not fmt.unsigned
    found = compare(plain, quantised, spec, sample_frames(spec, 1, seed=4), 1)
    assert found.max_error_relative is not None and found.max_error_relative < 0.2


def test_ranges_of_tensors_that_a_split_head_joins() -> None:
    """What a split head leaves of the concatenation has a range, that of its widest part."""
    parts = [ir.Value(name=name, shape=ir.Shape((1, 4, 8, 8)), type=ir.TensorType(ir.DataType.FLOAT)) for name in "ab"]
    joined = ir.node("Concat", parts, {"axis": 1}, name="joined")
    joined.outputs[0].name, joined.outputs[0].shape = "joined", ir.Shape((1, 8, 8, 8))
    weight = ir.Value(name="w", const_value=ir.tensor(np.ones((8, 8, 1, 1), np.float32), name="w"))
    last = ir.Value(name="v", const_value=ir.tensor(np.ones((8, 8, 1, 1), np.float32), name="v"))
    conv = ir.node("Conv", [joined.outputs[0], weight], name="conv")
    scores = ir.node("Conv", [conv.outputs[0], last], name="scores")
    conv.outputs[0].name, scores.outputs[0].name = "conv/out", "scores/out"
    graph = ir.Graph(
        parts, [scores.outputs[0]], nodes=[joined, conv, scores], initializers=[weight, last], opset_imports={"": 19}
    )
    ranges = {"a": TensorRange(-1.0, 1.0, 1.0), "b": TensorRange(-2.0, 2.54, 2.54)}
    scale = constant(quantise(ir.Model(graph, ir_version=9), ranges).graph.initializers["joined/scale"])
    assert scale is not None and float(scale) == pytest.approx(2.54 / 127)
