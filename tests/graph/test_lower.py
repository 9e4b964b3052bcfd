"""Lowering from end to end, and what importing the room loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import BoundNotMet, ModelError
from rtpsp.graph.classmap import to_class_map
from rtpsp.graph.lower import load_model, lower, model_bytes, save_model
from rtpsp.graph.verify import run, sample_frames, to_confidence
from rtpsp.spec import ModelSpec


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("upsampled", [True, False])
def test_frames_in_class_maps_out(
    small_model: Callable[..., ir.Model], spec: ModelSpec, batch: int, upsampled: bool
) -> None:
    model = small_model(spec, upsampled=upsampled)
    before = model_bytes(model)
    lowered = lower(model, spec, batch, threads=1)
    assert model_bytes(model) == before
    assert (lowered.graph.inputs[0].name, lowered.graph.outputs[0].name) == ("frames", "class_map")
    assert lowered.graph.outputs[0].shape == ir.Shape((batch, *spec.size))
    frames = sample_frames(spec, 3, seed=9)
    assert np.mean(run(lowered, spec, frames).class_map == run(model, spec, frames).class_map) >= 0.9999


@pytest.mark.parametrize("batch", [1, 2])
def test_confidence_on_request(model: ir.Model, spec: ModelSpec, batch: int) -> None:
    lowered = lower(model, spec, batch, confidence=True, threads=1)
    assert [(value.name, value.dtype, value.shape) for value in lowered.graph.outputs] == [
        (name, ir.DataType.UINT8, ir.Shape((batch, *spec.size))) for name in ("class_map", "confidence")
    ]
    frames = sample_frames(spec, 3, seed=9)
    answer, scores = run(lowered, spec, frames), run(model, spec, frames).logits
    assert scores is not None and answer.confidence is not None
    assert np.abs(answer.confidence - to_confidence(scores).astype(int)).max() <= 1
    without = lower(model, spec, batch, verify=False)
    assert [value.name for value in without.graph.outputs] == ["class_map"]
    np.testing.assert_array_equal(answer.class_map, run(without, spec, frames).class_map)


def test_a_wrong_confidence_is_refused(model: ir.Model, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: ir.Model, spec: ModelSpec, confidence: bool) -> ir.Model:
        graph = to_class_map(graph, spec, confidence)
        steps = graph.graph.initializers["confidence/steps"]
        steps.const_value = ir.tensor(np.array(250, np.float32), name=steps.name)
        return graph

    monkeypatch.setattr("rtpsp.graph.lower.to_class_map", broken)
    with pytest.raises(BoundNotMet, match=r"giving class maps gives a wrong confidence: off by up to 5 of 255"):
        lower(model, spec, confidence=True)
    lower(model, spec, confidence=True, verify=False)


def test_lowered_graph_is_valid_and_carries_the_spec(model: ir.Model, spec: ModelSpec, tmp_path: Path) -> None:
    import onnx

    lowered = lower(model, spec, frames=sample_frames(spec, 1, seed=2))
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    assert ModelSpec.from_json(lowered.metadata_props["rtpsp.spec"]) == spec
    assert model_bytes(lowered) == model_bytes(lower(model, spec, verify=False))
    save_model(lowered, spec, tmp_path / "lowered.onnx")
    with pytest.raises(ModelError, match="lowered already"):
        load_model(tmp_path / "lowered.onnx")


def test_refuses_a_graph_of_another_spec(model: ir.Model, small_spec: Callable[..., ModelSpec]) -> None:
    with pytest.raises(ModelError, match=r"'logits' is FLOAT \[1, 7, 22, 30\], expected .* \[1, 9, any, any\]"):
        lower(model, small_spec(9))


def test_importing_the_room_loads_no_runtime() -> None:
    script = (
        "import sys, rtpsp.graph.lower\n"
        "print([name for name in ('torch', 'onnxruntime', 'cv2', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
