from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtpsp import build
from rtpsp.build import BuildOptions, build_engine, engine_name, engines_folder
from rtpsp.engine import load_engine
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import BoundNotMet, ModelError
from rtpsp.labels import CAMVID


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_from_a_model(colour_model: Path, tmp_path: Path, backend: str, precision: str) -> None:
    told: list[str] = []
    options = BuildOptions("fp16" if precision == "fp16" else "fp32", backend)
    built = build_engine(colour_model, tmp_path / "x.engine", options, lambda step, done, total: told.append(step))
    assert told == [*build.STEPS, "done"]
    assert built.ran in ("f32", "bf16", "f16") and built.agreement > (0.9999 if precision == "fp32" else 0.9)
    header = read_engine_file(built.path).header
    assert (header.backend, header.precision) == (backend, precision)
    assert header.versions["rtpsp"] != "unknown" and len(header.model_digest) == 64
    palette = np.array(CAMVID.palette, np.uint8)[:, ::-1]
    frame = palette[np.arange(48 * 64).reshape(48, 64) % 11]
    with load_engine(built.path) as engine:
        answer = engine.infer(np.ascontiguousarray(frame[None])).class_map[0]
    assert (answer == np.arange(48 * 64).reshape(48, 64) % 11).mean() > 0.98


def test_a_backend_that_computes_something_else_is_refused(
    colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtpsp.engine.base import Answer
    from rtpsp.engine.openvino_backend import OpenVINOEngine

    right = OpenVINOEngine._finish
    monkeypatch.setattr(OpenVINOEngine, "_finish", lambda self, work: Answer(right(self, work).class_map // 2))
    with pytest.raises(BoundNotMet, match="not to be trusted"):
        build_engine(colour_model, tmp_path / "x.engine")
    assert list(tmp_path.iterdir()) == []


def test_engines_are_named_after_what_they_are(
    colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = build_engine(colour_model).path
    assert path.parent == tmp_path / "cache" / "rtpsp" / "engines"
    assert path.name.startswith("colours-48x64-fp32-openvino20")
    for name in ("engines", "rtpsp/zoo"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "engines" / "README.md").touch()
    assert engines_folder() == tmp_path / "engines"
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path / "mine"))
    assert engines_folder() == tmp_path / "mine"


def test_what_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text(json.dumps({"not": "onnx"}))
    with pytest.raises(ModelError, match="not an ONNX model"):
        build_engine(tmp_path / "text.onnx", tmp_path / "x.engine")


def test_an_engine_with_confidence(colour_model: Path, tmp_path: Path) -> None:
    built = build_engine(colour_model, tmp_path / "x.engine", BuildOptions(confidence=True))
    assert built.header.options["confidence"] is True and "-confidence-" in engine_name(built.header)
    with load_engine(built.path) as engine:
        result = engine.infer(np.zeros((1, 48, 64, 3), np.uint8))
    assert result.confidence is not None and result.confidence.shape == (1, 48, 64)
