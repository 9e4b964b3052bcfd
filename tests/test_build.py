from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtpsp import build
from rtpsp.build import BuildOptions, build_engine, default_engine, engines_folder, to_engine_path, why_not
from rtpsp.engine import load_engine
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import BoundNotMet, EngineFileError, ModelError, UsageError
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
    from rtpsp.engine.openvino_backend import OpenVINOEngine

    right = OpenVINOEngine._finish
    monkeypatch.setattr(OpenVINOEngine, "_finish", lambda self, work: right(self, work) // 2)
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


def test_the_default_engine_is_built_once(
    colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("rtpsp.zoo.model_path", lambda: colour_model)
    caplog.set_level("INFO", "rtpsp")
    first = default_engine()
    assert "not there yet" in caplog.text
    stamp = first.stat().st_mtime_ns
    assert default_engine() == first and first.stat().st_mtime_ns == stamp, "it is reused"
    first.write_bytes(first.read_bytes()[:-1])
    caplog.clear()
    default_engine()
    assert [record.levelname for record in caplog.records if "cut short" in record.message] == ["WARNING"], "it is said"
    assert "cut short" in caplog.text and first.stat().st_mtime_ns != stamp, "a damaged one is built again"
    assert why_not(first, colour_model) is None
    other = tmp_path / "other.onnx"
    other.write_bytes(colour_model.read_bytes() + b"\x00" * 0)
    assert why_not(first, other) is None, "the same bytes elsewhere are the same model"


def test_what_is_not_an_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rtpsp build-engine model\.onnx"):
        to_engine_path("model.onnx")
    with pytest.raises(EngineFileError, match="build-engine"):
        load_engine(to_engine_path(str(tmp_path / "none.engine")))
    (tmp_path / "text.onnx").write_text(json.dumps({"not": "onnx"}))
    with pytest.raises(ModelError, match="not an ONNX model"):
        build_engine(tmp_path / "text.onnx", tmp_path / "x.engine")
