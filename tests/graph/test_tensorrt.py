"""The pass before TensorRT's parser: bytes come of floats, and the answers stay as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtpsp.graph.lower import Tail, lower
from rtpsp.graph.precision import to_half
from rtpsp.graph.tensorrt import to_tensorrt
from rtpsp.graph.verify import run, sample_frames
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import ModelSpec

MakeSpec = Callable[..., ModelSpec]
MakeModel = Callable[..., ir.Model]
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def byte_casts(model: ir.Model) -> list[ir.DataType | None]:
    """The types that are cast to UINT8."""
    casts = [node for node in model.graph if node.op_type == "Cast" and node.outputs[0].dtype == ir.DataType.UINT8]
    return [value.dtype for node in casts if (value := node.inputs[0]) is not None]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("classes", [7, 256])
def test_class_ids_pass_through_fp32(small_model: MakeModel, small_spec: MakeSpec, classes: int, half: bool) -> None:
    spec = small_spec(classes)
    lowered = lower(small_model(spec), spec, confidence=True, verify=False)
    lowered = to_half(lowered) if half else lowered
    assert ir.DataType.INT64 in byte_casts(lowered), "which TensorRT has not"
    before = model_bytes(lowered)
    passed = to_tensorrt(lowered)
    assert model_bytes(lowered) == before and set(byte_casts(passed)) <= set(FLOATS)
    assert len(passed.graph) == len(lowered.graph) + 1
    onnx.checker.check_model(ir.to_proto(passed), full_check=True)
    frames = sample_frames(spec)
    expected, answer = run(lowered, spec, frames), run(passed, spec, frames)
    np.testing.assert_array_equal(answer.class_map, expected.class_map)
    assert answer.confidence is not None and expected.confidence is not None
    np.testing.assert_array_equal(answer.confidence, expected.confidence)
    assert (answer.class_map.max() > 127) == (classes == 256), "no sign is made of the highest bit"


@pytest.mark.parametrize(("classes", "tail"), [(7, "host"), (300, "graph")])
def test_what_has_no_bytes_is_left_alone(
    small_model: MakeModel, small_spec: MakeSpec, classes: int, tail: Tail
) -> None:
    spec = small_spec(classes)
    lowered = lower(small_model(spec), spec, tail=tail, verify=False)
    assert model_bytes(to_tensorrt(lowered)) == model_bytes(lowered)
    assert model_bytes(to_tensorrt(to_tensorrt(lowered))) == model_bytes(lowered)
