"""Class ids out: argmax of the scores, of the type that the class count asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.classmap import to_class_map
from rtpsp.graph.verify import run, sample_frames
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import ModelSpec

MakeSpec = Callable[..., ModelSpec]
MakeModel = Callable[..., ir.Model]


@pytest.mark.parametrize(("classes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "int32"), (300, "int32")])
@pytest.mark.parametrize("upsampled", [True, False])
def test_class_map_is_the_argmax(
    small_model: MakeModel, small_spec: MakeSpec, classes: int, dtype: str, upsampled: bool
) -> None:
    spec = small_spec(classes)
    model = small_model(spec, upsampled=upsampled)
    lowered = to_class_map(model, spec)
    assert [value.name for value in lowered.graph.outputs] == ["class_map"]
    assert lowered.graph.outputs[0].shape == ir.Shape((1, *spec.size))
    frames = sample_frames(spec)
    answer, expected = run(lowered, spec, frames), run(model, spec, frames)
    assert answer.logits is None
    assert answer.class_map.dtype == dtype
    assert np.mean(answer.class_map == expected.class_map) >= 0.9999
    assert len(np.unique(answer.class_map)) > 1


def test_nothing_but_argmax_and_cast_is_added(model: ir.Model, spec: ModelSpec) -> None:
    before = model_bytes(model)
    added = [node.op_type for node in to_class_map(model, spec).graph][len(model.graph) :]
    assert added == ["ArgMax", "Cast"]
    assert model_bytes(model) == before


@pytest.mark.parametrize("classes", [2, 7, 300])
@pytest.mark.parametrize("upsampled", [True, False])
@pytest.mark.parametrize("opset", [13, 17, 18, 19])
def test_confidence_is_the_winners_softmax(
    small_model: MakeModel, small_spec: MakeSpec, classes: int, upsampled: bool, opset: int
) -> None:
    spec = small_spec(classes)
    model = small_model(spec, upsampled=upsampled)
    model.graph.opset_imports[""] = opset
    plain, lowered = to_class_map(model, spec), to_class_map(model, spec, confidence=True)
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    assert [value.name for value in lowered.graph.outputs] == ["class_map", "confidence"]
    assert lowered.graph.outputs[1].shape == ir.Shape((1, *spec.size))
    frames = sample_frames(spec)
    answer, scores = run(lowered, spec, frames), run(model, spec, frames).logits
    assert scores is not None and answer.confidence is not None and answer.confidence.dtype == np.uint8
    np.testing.assert_array_equal(answer.class_map, run(plain, spec, frames).class_map)
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probability = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    assert np.abs(answer.confidence - 255 * probability).max() <= 0.501  # float32 beside half a step
    assert len(np.unique(answer.confidence)) > 20


@pytest.mark.parametrize("scale", [1e30, -1e30, 0.0])
def test_no_score_is_too_large_for_a_confidence(model: ir.Model, spec: ModelSpec, scale: float) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        weight = model.graph.initializers[name]
        assert weight.const_value is not None
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(scale), name=name)
    confidence = run(to_class_map(model, spec, confidence=True), spec, sample_frames(spec, 1)).confidence
    assert confidence is not None
    if scale:
        assert (confidence == 255).mean() > 0.99
    else:
        assert (confidence == round(255 / 7)).all()


def test_refuses_a_graph_without_scores(model: ir.Model, spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match=r"'class_map'.*expected 'logits'"):
        to_class_map(to_class_map(model, spec), spec)
