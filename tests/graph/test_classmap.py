"""Class ids out: argmax of the scores, of the type that the class count asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.classmap import Winner, to_class_map, to_scores
from rtpsp.graph.verify import run, sample_frames
from rtpsp.onnx_file import model_bytes
from rtpsp.runtimes import import_onnxruntime, import_openvino
from rtpsp.spec import ModelSpec
from rtpsp.upsampling import Grid, upsample

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


# --- other operators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("winner", ["topk", "topk-sorted"])
@pytest.mark.parametrize("classes", [2, 256, 300])
def test_topk_is_the_argmax(small_model: MakeModel, small_spec: MakeSpec, classes: int, winner: Winner) -> None:
    spec = small_spec(classes)
    model = small_model(spec)
    plain, lowered = to_class_map(model, spec), to_class_map(model, spec, winner=winner)
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    frames = sample_frames(spec)
    np.testing.assert_array_equal(run(lowered, spec, frames).class_map, run(plain, spec, frames).class_map)
    assert lowered.graph.outputs[0].dtype == plain.graph.outputs[0].dtype


@pytest.mark.parametrize("winner", ["argmax", "topk", "topk-sorted"])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("classes", [2, 11, 150])
def test_of_equal_scores_the_lower_id_wins_on_every_runtime(
    small_spec: MakeSpec, classes: int, runtime: str, winner: Winner
) -> None:
    spec = small_spec(classes)
    shape = ir.Shape((1, classes, *spec.size))
    given, logits = (
        ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT)) for name in ("x", "logits")
    )
    graph = ir.Graph([given], [logits], nodes=[ir.node("Relu", [given], outputs=[logits])], opset_imports={"": 19})
    payload = model_bytes(to_class_map(ir.Model(graph, ir_version=9), spec, winner=winner))
    scores = np.random.default_rng(1).integers(-2, 4, (1, classes, *spec.size)).astype(np.float32)  # ties abound
    if runtime == "openvino":
        core = import_openvino().Core()
        compiled = core.compile_model(core.read_model(payload), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled([scores])[0]
    else:
        session = import_onnxruntime().InferenceSession(payload, providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": scores})[0]
    np.testing.assert_array_equal(found, np.maximum(scores, 0).argmax(axis=1))


# --- scores ----------------------------------------------------------------------------------------------------------


def scores_of(model: ir.Model, given: np.ndarray) -> np.ndarray:
    session = import_onnxruntime().InferenceSession(model_bytes(model), providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {"image": given})[0]
    return answer


def with_resize(model: ir.Model, **changes: object) -> ir.Model:
    node = model.graph.outputs[0].producer()
    assert node is not None and node.op_type == "Resize"
    for name, value in changes.items():
        node.attributes[name] = ir.Attr(
            name, ir.AttributeType.STRING if isinstance(value, str) else ir.AttributeType.INT, value
        )
    return model


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel"])
def test_scores_upsampled_are_the_logits(model: ir.Model, spec: ModelSpec, coordinates: str) -> None:
    model = with_resize(model, coordinate_transformation_mode=coordinates)
    before = model_bytes(model)
    coarse = to_scores(model, spec)
    assert model_bytes(model) == before
    onnx.checker.check_model(ir.to_proto(coarse), full_check=True)
    output = coarse.graph.outputs[0]
    assert (output.name, output.shape, output.dtype) == ("scores", ir.Shape((1, 7, 11, 15)), ir.DataType.FLOAT)
    assert len([node for node in coarse.graph if node.op_type == "Resize"]) == 1, "the pyramid's own stays"
    assert "sizes" not in {name.split("/")[-1] for name in coarse.graph.initializers if "logits" in name}
    given = np.random.default_rng(2).normal(size=(1, 3, *spec.size)).astype(np.float32)
    full = upsample(scores_of(coarse, given)[0], Grid.whole((11, 15), spec.size))
    np.testing.assert_allclose(full, scores_of(model, given)[0], atol=1e-5 * np.abs(full).max())


@pytest.mark.parametrize(
    "changes",
    [
        {"coordinate_transformation_mode": "align_corners"},
        {"coordinate_transformation_mode": "asymmetric"},
        {"mode": "cubic"},
        {"mode": "nearest"},
    ],
)
def test_other_upsampling_stays_in_the_graph(model: ir.Model, spec: ModelSpec, changes: dict[str, str]) -> None:
    model = with_resize(model, **changes)
    fine = to_scores(model, spec)
    assert fine.graph.outputs[0].shape == ir.Shape((1, 7, *spec.size))
    given = np.random.default_rng(2).normal(size=(1, 3, *spec.size)).astype(np.float32)
    np.testing.assert_array_equal(scores_of(fine, given), scores_of(model, given))


def test_scores_that_are_not_upsampled_are_given_as_they_are(small_model: MakeModel, spec: ModelSpec) -> None:
    model = small_model(spec, upsampled=False)
    assert to_scores(model, spec).graph.outputs[0].shape == ir.Shape((1, 7, 11, 15))
    with pytest.raises(ModelError, match=r"'scores'.*expected 'logits'"):
        to_scores(to_scores(model, spec), spec)
