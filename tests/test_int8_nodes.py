"""What OpenVINO makes of the shipped model's INT8 graph: nothing is rounded twice, and only the scores run in float."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rtpsp import zoo
from rtpsp.build import BuildOptions, to_header
from rtpsp.calibrate import cached
from rtpsp.graph.lint import lint
from rtpsp.graph.quantize import IntegerFormat
from rtpsp.graph.verify import sample_frames
from rtpsp.maker import Form, Maker
from rtpsp.onnx_file import load_model


@pytest.fixture(scope="module")
def maker() -> Maker:
    graph, spec = load_model(zoo.model_path())
    made = Maker(graph, spec, to_header(spec, BuildOptions("int8")), sample_frames(spec, 1), "host", 1)
    made.ranges, _ = cached(graph, spec)
    made.integers = IntegerFormat(unsigned=True)
    return made


def test_the_shipped_ranges_keep_the_rules(maker: Maker) -> None:
    assert lint(maker.graph_of(Form("int8", "plain")), unsigned=True) == []


def test_each_tensor_is_rounded_where_it_is_made(maker: Maker) -> None:
    with maker.engine(Form("int8", "plain")) as engine:
        opened: Any = engine
        infos = [node.get_rt_info() for node in opened._compiled.get_runtime_model().get_ops()]
    nodes = [
        {key: str(info[key].value) for key in ("layerType", "runtimePrecision", "outputPrecisions")} for info in infos
    ]
    convolutions = Counter(node["runtimePrecision"] for node in nodes if node["layerType"] == "Convolution")
    assert convolutions == {"u8": 25, "f32": 1}, "all but the classifier"
    rounding = [node for node in nodes if node["layerType"] == "FakeQuantize"]
    # of the four pooled maps, 36 cells at most; elsewhere the kernel that makes a tensor rounds it
    assert len(rounding) <= 4 and all(node["runtimePrecision"] == "f32" for node in rounding)
    pools = [node["outputPrecisions"] for node in nodes if node["layerType"] == "Pooling"]
    assert pools == ["u8"], "the stem writes bytes"
