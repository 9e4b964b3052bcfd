"""Verification: what counts as the same, and that a broken pass does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import BoundNotMet, InputError, ModelError
from rtpsp.graph import lower as room
from rtpsp.graph.fold import fold
from rtpsp.graph.verify import (
    Comparison,
    Outputs,
    compare,
    measure,
    require,
    run,
    sample_frames,
    to_confidence,
    to_image,
)
from rtpsp.spec import ModelSpec


def outputs(values: list[float]) -> Outputs:
    logits = np.array(values, np.float32).reshape(1, 2, 1, -1)
    return Outputs(logits, logits.argmax(axis=1))


def test_relative_error_and_agreement_by_definition() -> None:
    comparison = measure(outputs([1, 2, 3, 4, 0, 0, 0, 5]), outputs([1, 2, 3, 4.5, 0, 0, 0, 4]))
    assert comparison.max_error_relative == pytest.approx(1 / 5)
    assert comparison.class_agreement == 0.75


def test_scores_that_are_no_numbers_are_infinitely_wrong() -> None:
    for other in ([1.0, np.nan], [1.0, np.inf]):
        assert measure(outputs([1.0, 0.0]), outputs(other)).max_error_relative == np.inf
    assert measure(outputs([0.0, 0.0]), outputs([0.0, 1.0])).max_error_relative == np.inf
    assert measure(outputs([0.0, 0.0]), outputs([0.0, 0.0])).max_error_relative == 0.0


def test_confidence_by_definition() -> None:
    scores = np.log(np.array([[0.9, 0.25], [0.1, 0.75]], np.float32)).reshape(1, 2, 1, 2)
    assert to_confidence(scores).tolist() == [[[round(255 * 0.9), round(255 * 0.75)]]]
    assert to_confidence(scores + 1000).tolist() == to_confidence(scores).tolist(), "only differences count"
    assert to_confidence(np.zeros((1, 4, 1, 1), np.float32)).tolist() == [[[64]]]


def test_confidence_error_against_scores_and_against_a_confidence() -> None:
    reference = outputs([0, 3, 0, 0])  # 1/2 and e³ / (1 + e³)
    told = to_confidence(np.array([0, 3, 0, 0], np.float32).reshape(1, 2, 1, 2))
    other = Outputs(None, reference.class_map, told + np.array([0, 2], np.uint8))
    assert measure(reference, other).max_confidence_error == 2
    assert measure(Outputs(None, reference.class_map, told), other).max_confidence_error == 2
    assert measure(Outputs(None, reference.class_map), other).max_confidence_error is None
    assert measure(other, reference).max_confidence_error is None
    require(Comparison(None, 1.0, 1), "a good pass")
    with pytest.raises(BoundNotMet, match="a bad pass gives a wrong confidence: off by up to 2"):
        require(measure(reference, other), "a bad pass")


@pytest.mark.parametrize(
    "comparison",
    [Comparison(2e-4, 1.0), Comparison(0.0, 0.9998), Comparison(None, 0.5), Comparison(float("inf"), 1.0)],
)
def test_bounds(comparison: Comparison) -> None:
    require(Comparison(9e-5, 0.99995), "a good pass")
    with pytest.raises(BoundNotMet, match=r"a bad pass changed the model.*class agreement"):
        require(comparison, "a bad pass")


def test_a_broken_pass_is_refused(model: ir.Model, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: ir.Model) -> ir.Model:
        graph = fold(graph)
        weight = graph.graph.initializers["conv.weight"]
        assert weight.const_value is not None
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.001), name=weight.name)
        return graph

    monkeypatch.setattr(room, "canonical", broken)
    with pytest.raises(BoundNotMet, match="folding constants changed the model"):
        room.lower(model, spec)
    room.lower(model, spec, verify=False)


def test_channel_order_is_not_invisible(model: ir.Model, spec: ModelSpec) -> None:
    frames = sample_frames(spec)
    turned = np.ascontiguousarray(frames[..., ::-1])
    assert measure(run(model, spec, frames), run(model, spec, turned)).class_agreement < 0.99


def test_sample_frames_repeat_and_use_the_range(spec: ModelSpec) -> None:
    frames = sample_frames(spec, 3)
    assert frames.shape == (3, *spec.size, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, sample_frames(spec, 3))
    assert not np.array_equal(frames[0], frames[1])
    assert frames.min() < 40 and frames.max() > 215


def test_to_image_is_the_written_formula(spec: ModelSpec) -> None:
    frames = np.zeros((1, *spec.size, 3), np.uint8)
    frames[0, 2, 3] = (10, 20, 30)  # blue, green, red
    expected = [(30 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (10 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(to_image(frames, spec)[0, :, 2, 3], expected, rtol=1e-6)


def test_frames_of_another_size_are_refused(model: ir.Model, spec: ModelSpec) -> None:
    frames = sample_frames(spec)
    wrongs: list[Any] = [frames[:, 1:], frames[:0], frames.astype(np.float32), frames[0]]
    for wrong in wrongs:
        with pytest.raises(InputError, match=r"expected uint8 \[n, 22, 30, 3\]"):
            run(model, spec, wrong)


def test_graph_that_cannot_run_is_a_model_error(model: ir.Model, spec: ModelSpec) -> None:
    next(node for node in model.graph if node.op_type == "Relu").op_type = "Rleu"
    with pytest.raises(ModelError, match="ONNX Runtime refuses"):
        compare(model, model, spec)
