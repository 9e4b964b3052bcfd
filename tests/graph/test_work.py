"""Multiply-adds counted from graphs: the same as the network's own count, and by hand."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.fold import fold
from rtpsp.graph.work import multiply_adds
from rtpsp.model.pspnet import build
from rtpsp.model.pspnet import multiply_adds as of_network
from rtpsp.onnx_file import load_model
from rtpsp.pooling import pooling_matrix
from rtpsp.zoo import model_path
from tests.graph.pspnets import Writer


def values(*shape: int) -> ir.Value:
    return ir.Value(name="in", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))


def test_shipped_model_is_its_convolutions_and_its_pooling() -> None:
    model, spec = load_model(model_path())
    height, width = 34, 45
    rows, columns = pooling_matrix(height, 6).shape, pooling_matrix(width, 6).shape
    assert rows == (6, height) and columns == (6, width)
    pooling = 512 * sum(height * width * bins + bins * height * bins for bins in (1, 2, 3, 6))
    counted = multiply_adds(model)
    assert counted == of_network(build(spec.arch, len(spec.labels), output_stride=16), spec.size) + pooling
    assert counted == multiply_adds(fold(model))
    assert counted / 1e9 == pytest.approx(27.4, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "shape", "weight", "attributes", "expected"),
    [
        ("Conv", (1, 6, 10, 8), (4, 6, 3, 3), {"pads": [1, 1, 1, 1]}, 4 * 10 * 8 * 6 * 9),
        ("Conv", (2, 6, 10, 8), (4, 3, 3, 3), {"group": 2, "strides": [2, 2]}, 2 * 4 * 4 * 3 * 3 * 9),
        ("ConvTranspose", (1, 6, 5, 4), (6, 3, 2, 2), {"strides": [2, 2]}, 6 * 5 * 4 * 3 * 4),
        ("MatMul", (2, 5, 7), (7, 3), {}, 2 * 5 * 7 * 3),
        ("Gemm", (5, 7), (7, 3), {}, 5 * 7 * 3),
        ("Gemm", (7, 5), (3, 7), {"transA": 1, "transB": 1}, 5 * 7 * 3),
    ],
)
def test_by_hand(
    kind: str, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, int], expected: int
) -> None:
    writer = Writer()
    entry = values(*shape)
    result = writer.add(kind, "result", [entry, writer.weights("weight", *weight)], **attributes)
    relu = writer.add("Relu", "out", [result])
    relu.shape = None
    model = writer.model(entry, relu)
    assert multiply_adds(model) == expected
    result.shape = None
    assert multiply_adds(model) == expected and result.shape is None


def test_unknown_sizes_are_said() -> None:
    writer = Writer()
    entry = ir.Value(name="in", shape=ir.Shape(["n", 6]), type=ir.TensorType(ir.DataType.FLOAT))
    result = writer.add("MatMul", "product", [entry, writer.weights("weight", 6, 3)])
    with pytest.raises(ModelError, match=r"MatMul 'product': 'in' is \[n,6\], expected static sizes"):
        multiply_adds(writer.model(entry, result))
