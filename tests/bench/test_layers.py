"""Layers: which nodes of the graph they are, what they multiply, and that the times add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtpsp.bench.layer_rows import LayerRow, to_rows
from rtpsp.bench.layers import LayerReport, profile, to_report
from rtpsp.bench.limits import main_format, to_limits
from rtpsp.bench.parts import PARTS, GraphNodes, part_of
from rtpsp.bench.peaks import Peaks, PeakWork
from rtpsp.build import BuildOptions, build_engine
from rtpsp.engine.file import read_engine_file
from rtpsp.engine.profile import RanLayer
from rtpsp.errors import EngineFileError
from rtpsp.graph.work import multiply_adds
from rtpsp.onnx_file import model_bytes

PEAKS = Peaks({"f32": 2e9, "i8": 8e9}, {"f32": "3x3", "i8": "3x3"}, bandwidth=1e9)


def row(macs: int | None, ms: float, form: str = "u8", part: str = "head", kind: str = "Convolution") -> LayerRow:
    return LayerRow(part, part, "what", kind, form, macs, ms / 1e3, 1000)


def layer(name: str, kind: str, *sources: str, form: str = "f32", **more: Any) -> RanLayer:
    return RanLayer(name, kind, form, sources, **{"seconds": (2e-3, 4e-3, 9e-3), "bytes": 100, **more})


@pytest.fixture(scope="module")
def graph() -> GraphNodes:
    """conv1 > norm > relu > layer2/conv > a product > class_map, on 8x8."""
    random = np.random.default_rng(0)
    given = {
        "w1": random.normal(size=(4, 3, 3, 3)), "w2": random.normal(size=(8, 4, 1, 1)),
        "w3": random.normal(size=(8, 5)), "scale": np.ones(4), "mean": np.zeros(4),
    }  # fmt: skip
    values = {
        name: ir.Value(name=name, const_value=ir.tensor(np.float32(array), name=name)) for name, array in given.items()
    }
    image = ir.Value(name="image", shape=ir.Shape((1, 3, 8, 8)), type=ir.TensorType(ir.DataType.FLOAT))
    nodes: list[ir.Node] = []

    def add(kind: str, name: str, *inputs: ir.Value, **attributes: int | list[int]) -> ir.Value:
        nodes.append(ir.node(kind, list(inputs), attributes, name=name))
        nodes[-1].outputs[0].name = f"{name}/out"
        return nodes[-1].outputs[0]

    first = add("Conv", "conv1", image, values["w1"], pads=[1] * 4, strides=[2, 2])
    mean = values["mean"]
    normed = add("BatchNormalization", "bn1", first, values["scale"], mean, mean, values["scale"])
    second = add("Conv", "layer2/conv", add("Relu", "relu", normed), values["w2"])
    scores = add("MatMul", "anything", add("Transpose", "turned", second, perm=[0, 2, 3, 1]), values["w3"])
    scores.shape, scores.type = ir.Shape((1, 4, 4, 5)), ir.TensorType(ir.DataType.FLOAT)
    made = ir.Graph(
        [image], [scores], nodes=nodes, initializers=list(values.values()), opset_imports={"": 19}, name="g"
    )
    return GraphNodes(model_bytes(ir.Model(made, ir_version=9)))


CONV1, CONV2, PRODUCT = 4 * 4 * 4 * 27, 8 * 4 * 4 * 4, 4 * 4 * 8 * 5


def test_fused_layers_are_found_by_their_nodes(graph: GraphNodes) -> None:
    rows = to_rows(
        [
            layer("conv1/WithoutBiases", "Convolution", "conv1/WithoutBiases", "Multiply_7", "conv1", "relu"),
            layer("relu/out_abcd_acdb", "Reorder"),
            layer("x", "FusedConv", "layer2/conv", form="u8", packed=True),
            layer("turned", "Transpose", "turned"),
            layer("mlp", "FullyConnected", "anything/out"),
        ],
        graph,
        rounds=(0, 1),
    )
    assert [entry.name for entry in rows] == ["conv1", "relu/out_abcd_acdb", "layer2/conv", "turned", "anything"]
    assert [entry.macs for entry in rows] == [CONV1, 0, CONV2, 0, PRODUCT]
    assert sum(entry.macs or 0 for entry in rows) == graph.macs
    assert [entry.part for entry in rows] == ["stem", "stem", "layer2", "layer2", "layer2"]
    assert [entry.seconds for entry in rows] == pytest.approx([3e-3] * 5)
    assert [entry.bytes for entry in rows] == [100, 100, 100 + 32, 100, 100]
    assert rows[0].what == "3x3 convolution, 3 to 4 channels at 4x4, stride 2"
    assert rows[4].what == "product of 1x4x4x8 and 8x5"
    assert rows[1].what == "Reorder" and rows[3].what == "Transpose"


def test_a_product_called_after_what_was_fused_into_it_is_found(graph: GraphNodes) -> None:
    (found,) = to_rows([layer("relu", "FusedConv", "relu")], graph, (0,))
    assert (found.name, found.macs) == ("conv1", CONV1)


@pytest.mark.parametrize("kind", ["Convert", "QuantizeLinear", "Reorder"])
def test_what_is_called_after_a_product_and_is_none_multiplies_nothing(graph: GraphNodes, kind: str) -> None:
    (found,) = to_rows([layer("conv1_q", kind, "conv1")], graph, (0,))
    assert found.macs == 0 and found.rate is None


def test_products_that_the_graph_does_not_tell_of_are_unknown(graph: GraphNodes) -> None:
    rows = to_rows(
        [layer("odd", "Convolution", "Multiply_9"), *[layer("conv1", "Convolution", "conv1")] * 2], graph, (0,)
    )
    assert [entry.macs for entry in rows] == [None, CONV1, None]  # the last: a node counts once
    assert rows[0].part == "other" and rows[0].name == "odd"


def test_bytes_without_a_graph_are_refused() -> None:
    with pytest.raises(EngineFileError, match="no ONNX graph of static shapes"):
        GraphNodes(b"a plan")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("backbone/conv1", "stem"), ("backbone/maxpool", "stem"), ("/conv1/Conv", "stem"), ("layer0.0", "stem"),
        ("encoder.conv1", "stem"), ("backbone/layer4/1/conv2", "layer4"), ("layer2.0.conv1", "layer2"),
        ("pyramid/0/conv", "pyramid"), ("head/conv/split/across", "pyramid"), ("pools/matmul_1", "pyramid"),
        ("ppm.features.0.1", "pyramid"), ("/decode_head/psp_modules/0/pool", "pyramid"), ("decoder.psp.x", "pyramid"),
        ("head/conv", "head"), ("/decode_head/bottleneck/conv", "head"), ("cls.0", "head"), ("scores", "head"),
        ("logits/full", "tail"), ("class_map/index", "tail"), ("frames/float", "input"), ("image/quantised", "input"),
        ("node_Conv_0", ""), ("Multiply_7", ""), ("layer12", ""),
    ],
)  # fmt: skip
def test_parts_are_told_by_names(name: str, part: str) -> None:
    assert part_of(name) == part


def test_losses_and_the_ideal_add_up() -> None:
    rows = [
        row(8_000_000, 2.0, part="layer4"),  # 1 ms at the peak of i8
        row(2_000_000, 4.0, form="f32"),  # 1 ms at the peak of f32, 0.25 at that of i8
        row(0, 0.5, kind="Reorder"),
        row(None, 0.25),
    ]
    limits = to_limits(rows, PEAKS.rates, wall=7e-3)
    assert limits is not None and limits.format == "i8"
    assert limits.ideal == pytest.approx(1.25e-3)
    told = {loss.words: loss.seconds * 1e3 for loss in limits.losses}
    assert list(told.values()) == pytest.approx([3.0, 1.0, 0.75, 0.5, 0.25, 0.25])
    assert list(told)[:4] == [
        "the convolutions of head run at 25 % of the peak",
        "the convolutions of layer4 run at 50 % of the peak",
        "0.002 GMAC run in f32, with a peak of 2 GMAC/s instead of 8 in i8",
        "1 layers that multiply nothing (Reorder)",
    ]
    assert limits.ideal + sum(loss.seconds for loss in limits.losses) == pytest.approx(7e-3)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(60, 1, "f32"), row(40, 1, "u8")], "i8"),  # half an INT8 engine in float is one that could be in INT8
        ([row(95, 1, "f32"), row(5, 1, "u8")], "f32"),
        ([row(95, 1, "bf16"), row(5, 1, "f32")], ""),  # no peak of the format that nearly all ran in
        ([row(0, 1, "f32"), row(None, 1, "u8")], ""),
        ([], ""),
    ],
)
def test_an_engines_format_is_the_fastest_that_it_really_uses(rows: list[LayerRow], expected: str) -> None:
    assert main_format(rows, PEAKS.rates) == expected


def report(*layers: RanLayer, graph: GraphNodes, peaks: Peaks = PEAKS) -> LayerReport:
    return to_report({"file": "x.engine"}, peaks, layers, graph, (6e-3, 4e-3, 50e-3), (8e-3, 10e-3, 60e-3))


def test_loud_rounds_count_for_nothing(graph: GraphNodes) -> None:
    told = report(layer("conv1", "Conv", "conv1"), layer("l", "Conv", "layer2/conv"), graph=graph).to_dict()
    assert told["latency_ms"] == pytest.approx(5) and told["wall_ms"] == pytest.approx(9)
    assert told["profiling_percent"] == pytest.approx(80)
    assert [entry["ms"] for entry in told["rows"]] == pytest.approx([3, 3])
    assert told["rounds"] == 3


def test_products_in_none_of_the_layers_are_said(graph: GraphNodes) -> None:
    words = report(layer("conv1", "Conv", "conv1"), graph=graph).words
    assert "were found in none of the layers" in words
    everything = [layer(name, "Conv", name) for name in ("conv1", "layer2/conv", "anything")]
    assert "were found" not in report(*everything, graph=graph).words


def test_without_a_peak_of_its_format_nothing_is_claimed(graph: GraphNodes) -> None:
    told = report(layer("conv1", "Conv", "conv1", form="f8"), graph=graph).to_dict()
    assert told["of_peak_percent"] is None and told["losses"] == [] and told["ideal_ms"] is None
    assert told["rows"][0]["of_peak_percent"] is None and told["rows"][0]["bound"] is None
    assert "could not be measured" in told["words"]


def test_the_roof_tells_what_bounds_a_layer(graph: GraphNodes) -> None:
    told = report(
        layer("conv1", "Conv", "conv1", bytes=100),
        layer("l", "Conv", "layer2/conv", bytes=CONV2),
        layer("t", "Transpose", "turned"),
        layer("p", "MatMul", "anything", bytes=None),
        graph=graph,
    ).to_dict()
    bounds = {entry["name"]: entry["bound"] for entry in told["rows"]}
    assert bounds == {"conv1": "arithmetic", "layer2/conv": "memory", "turned": "memory", "anything": None}
    assert [dot["name"] for dot in told["dots"]] == ["conv1", "layer2/conv"]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_layers_of_a_pspnet(backend: str, pspnet_model: Path, tmp_path: Path) -> None:
    path = build_engine(pspnet_model, tmp_path / "x.engine", BuildOptions("fp32", backend=backend, head="split")).path
    heard: list[float] = []
    measured = profile(
        path,
        1,
        5,
        tell=lambda what, share: heard.append(share),
        stopped=lambda: len(heard) == 2,
        work=PeakWork(8, ((3, 16, 32), (1, 32, 16)), 1 << 16),
    )
    told = json.loads(json.dumps(measured.to_dict()))
    assert heard == [0.2, 0.4] and told["rounds"] == 2
    model = ir.from_proto(onnx.ModelProto.FromString(read_engine_file(path).payload()))
    assert measured.macs == multiply_adds(model) == sum(entry.macs or 0 for entry in measured.rows)
    assert all(entry.macs is not None for entry in measured.rows)
    parts = [entry["part"] for entry in told["parts"]]
    assert parts == sorted(parts, key=PARTS.index)
    assert {"stem", "layer1", "layer2", "layer3", "layer4", "pyramid", "head"} <= set(parts)
    assert sum(entry["layers"] for entry in told["parts"]) == len(measured.rows)
    assert sum(entry["ms"] for entry in told["parts"]) == pytest.approx(told["total_ms"], abs=0.02)
    assert sum(entry["ms"] for entry in told["rows"]) + told["rest"]["ms"] == pytest.approx(told["total_ms"], abs=0.02)
    assert len(told["rows"]) == 10 and told["rest"]["layers"] == len(measured.rows) - 10
    losses = sum(loss["ms"] for loss in told["losses"])
    assert told["ideal_ms"] + losses == pytest.approx(told["wall_ms"], abs=0.02)
    assert told["peak_format"] == "f32" and told["peak"]["f32"] > 0 and told["bandwidth_gb_s"] > 0
    assert told["engine"]["ran"] == "f32" and told["engine"]["file"] == "x.engine"
    assert "% of what large products in f32 reach here" in told["words"]
