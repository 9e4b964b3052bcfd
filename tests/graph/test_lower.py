"""Lowering from end to end, and what importing the room loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.lower import load_model, lower, model_bytes, save_model
from rtpsp.graph.verify import run, sample_frames
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
