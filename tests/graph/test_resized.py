"""Another input size of the same network: the very graph that exporting at that size gives."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.ranges import graph_digest
from rtpsp.graph.resized import resized
from rtpsp.labels import CAMVID
from rtpsp.model.export import to_onnx
from rtpsp.model.pspnet import ARCHS, PSPNet, build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.onnx_file import load_model
from rtpsp.spec import SPEC_KEY, ModelSpec

SIZES = [(48, 64), (45, 70), (96, 128), (8, 8)]


def spec_of(size: tuple[int, int], stride: int = 8) -> ModelSpec:
    return ModelSpec("small", "pspnet18", *size, CAMVID, output_stride=stride)


def network(stride: int = 8) -> PSPNet:
    model = build(dataclasses.replace(ARCHS["pspnet18"].narrowed(8), blocks=(1, 1, 1, 1)), len(CAMVID), stride)
    randomise_statistics(model)
    return model


@cache
def exported(size: tuple[int, int], weights: str) -> ir.Model:
    """The network's graph for an input of that size, which nobody may change."""
    return to_onnx(one_network(), spec_of(size), weights)  # type: ignore[arg-type]


@cache
def one_network() -> PSPNet:
    return network()


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("weights", ["fp32", "fp16"])
def test_it_is_the_graph_that_export_gives_at_that_size(size: tuple[int, int], weights: str) -> None:
    start, wanted = exported(SIZES[0], weights), exported(size, weights)
    graph, spec = resized(start, spec_of(SIZES[0]), size)
    assert spec == spec_of(size)
    assert graph.metadata_props[SPEC_KEY] == spec.to_json()
    assert graph_digest(graph) == graph_digest(wanted)
    shapes = [[(out.name, out.shape) for node in one.graph for out in node.outputs] for one in (graph, wanted)]
    assert shapes[0] == shapes[1]


def test_stride_16_and_the_way_back() -> None:
    start = to_onnx(network(16), spec_of((48, 64), 16))
    there, spec = resized(start, spec_of((48, 64), 16), (80, 112))
    assert graph_digest(there) != graph_digest(start)
    assert graph_digest(resized(there, spec, (48, 64))[0]) == graph_digest(start)


def test_the_given_graph_stays_as_it_was(pspnet_model: Path) -> None:
    model, spec = load_model(pspnet_model)
    before = graph_digest(model)
    resized(model, spec, (96, 64))
    assert graph_digest(model) == before
    assert model.graph.inputs[0].shape == ir.Shape((1, 3, *spec.size))
    assert resized(model, spec, spec.size) == (model, spec)


def test_a_matrix_that_is_no_pooling_is_refused(pspnet_model: Path) -> None:
    model, spec = load_model(pspnet_model)
    value = next(value for name, value in model.graph.initializers.items() if name == "pools.rows2")
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(2), name=value.name)
    with pytest.raises(ModelError, match="'pools/matmul_2': it is not the pooling of features of 6x8: only a model as"):
        resized(model, spec, (96, 128))


def test_a_graph_that_may_hold_a_size_is_refused(pspnet_model: Path) -> None:
    model, spec = load_model(pspnet_model)
    node = next(node for node in model.graph if node.op_type == "Relu")
    node.op_type = "GlobalAveragePool"
    with pytest.raises(ModelError, match="GlobalAveragePool may hold a size"):
        resized(model, spec, (96, 128))


def test_a_resize_to_a_size_that_is_neither_is_refused(pspnet_model: Path) -> None:
    model, spec = load_model(pspnet_model)
    value = model.graph.initializers["pyramid/1/resize/sizes"]
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() + np.array([0, 0, 1, 0]), name=value.name)
    with pytest.raises(ModelError, match=r"sizes \[1, \d+, 7, 8\], expected .*\[\(6, 8\), "):
        resized(model, spec, (48, 48))
