from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpsp import build, zoo
from rtpsp.build import BuildOptions, build_engine, engine_name, engines_folder
from rtpsp.engine import load_engine
from rtpsp.engine.file import read_engine_file, rebuild
from rtpsp.errors import BoundNotMet, ModelError, OutputError
from rtpsp.files import sha256_of
from rtpsp.int8 import Int8Options
from rtpsp.labels import CAMVID
from tests.conftest import save_frames


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

    def wrong(self: OpenVINOEngine, work: Any) -> Answer:
        class_map = right(self, work).class_map
        assert class_map is not None
        return Answer(class_map // 2)

    monkeypatch.setattr(OpenVINOEngine, "_finish", wrong)
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


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders for engines and caches, and ten frames in ``images``."""
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path / "engines"))
    save_frames(tmp_path, 10)
    return tmp_path


def int8(*, least: float = 0.5, **given: object) -> BuildOptions:
    return BuildOptions("int8", threads=1, head="plain", int8=Int8Options(min_agreement=least, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_int8_engine_from_frames(pspnet_model: Path, shelves: Path, backend: str) -> None:
    built = build_engine(pspnet_model, None, replace(int8(calib=str(shelves / "images")), backend=backend))
    header = read_engine_file(built.path).header
    assert built.path.parent == shelves / "engines" and built.quantised is not None
    assert f"small-48x64-int8-{str(header.calibration_digest)[:8]}-{backend}" in built.path.name
    table = replace(header, calibration_digest="table:" + "ab" * 32)
    assert f"-int8-abababab-{backend}" in engine_name(table), "a name on any system has no colon"
    (cache,) = (shelves / "calib").glob("small-*.json")
    assert header.precision == "int8" and header.calibration_digest == json.loads(cache.read_text())["frames"]
    assert header.options["int8"] == {
        "integers": header.options["int8"]["integers"], "weight_bits": header.options["int8"]["weight_bits"],
        "scales": "fp32", "method": "mse", "images": 8, "cache": cache.name, "on": "images",
        "parts": [part.to_dict() for part in built.quantised.parts], "asked": "a class agreement of 50.00% or more",
        "cost": built.quantised.cost.to_dict() if built.quantised.cost else None,
    }  # fmt: skip
    assert header.options["head"] == "plain" and "shipped" not in header.options
    again = shlex.split(rebuild(header, built.path).partition("'")[2].removesuffix("'"))
    assert again[3:6] == ["--int8", "--calib-cache", cache.name], "it needs no frames"
    with load_engine(built.path) as engine:
        assert engine.infer(np.zeros((1, 48, 64, 3), np.uint8)).class_map.shape == (1, 48, 64)


def test_the_same_engine_comes_of_the_cache(pspnet_model: Path, shelves: Path) -> None:
    first = build_engine(pspnet_model, shelves / "a.engine", int8(calib=str(shelves / "images"), least=0.97))
    (cache,) = (shelves / "calib").glob("small-*.json")
    again = build_engine(pspnet_model, shelves / "b.engine", int8(cache=Path(cache.name), least=0.97))
    assert any(not part["int8"] for part in first.header.options["int8"]["parts"])
    one, other = (read_engine_file(built.path) for built in (first, again))
    assert one.payload() == other.payload() and one.header == other.header


def test_an_engine_below_its_bound_has_another_name(pspnet_model: Path, shelves: Path) -> None:
    (shelves / "x.engine").write_text("as it was")
    with pytest.raises(
        BoundNotMet, match=r"expected a class agreement of 100\.00%.*kept as .*x-below-bound\.engine: ask"
    ):
        build_engine(pspnet_model, shelves / "x.engine", int8(calib=str(shelves / "images"), least=1.0))
    assert (shelves / "x.engine").read_text() == "as it was"
    kept = read_engine_file(shelves / "x-below-bound.engine").header.options["int8"]
    assert kept["cost"]["agreement"] < 1 and kept["asked"] == "a class agreement of 100.00% or more"


@pytest.mark.parametrize(
    "step", ["look at the frames", "calibrate (mse)", "FP32's answers", "sensitivity of each part"]
)
def test_ctrl_c_leaves_nothing_half_made(pspnet_model: Path, shelves: Path, step: str) -> None:
    def interrupt(now: str, done: int, total: int) -> None:
        if now == step and done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(pspnet_model, shelves / "x.engine", int8(calib=str(shelves / "images")), interrupt)
    left = {path.name.partition("-")[0] for path in (shelves / "calib").iterdir()}
    whole = {"look at the frames": set[str](), "calibrate (mse)": {"images"}}.get(step, {"images", "small"})
    assert left == whole and not list(shelves.glob("*x.engine*"))
    for path in (shelves / "calib").iterdir():
        json.loads(path.read_text())


def test_a_place_that_cannot_be_written_is_found_before_hours_of_work(
    pspnet_model: Path, shelves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "quantise_model", None)
    (shelves / "engines").write_text("in the way")
    with pytest.raises(OutputError, match="name another file with -o"):
        build_engine(pspnet_model, None, int8(calib=str(shelves / "images")))


def test_ranges_make_it_int8_where_no_precision_is_asked_for(
    pspnet_model: Path, shelves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(int8(calib=str(shelves / "images")), precision=None)
    built = build_engine(pspnet_model, shelves / "x.engine", given)
    assert built.header.precision == "int8" and built.notes[0] == "INT8, since frames or ranges were given for it"
    (cache,) = (shelves / "calib").glob("small-*.json")
    digest = sha256_of(pspnet_model)
    for name, value in {"cache_path": cache, "model_path": pspnet_model, "model_digest": digest}.items():
        monkeypatch.setattr(zoo, name, lambda name=zoo.DEFAULT, value=value: value)
    monkeypatch.setattr(zoo, "NAMES", ("small",))
    free = BuildOptions(None, threads=1, head="plain")
    built = build_engine(pspnet_model, shelves / "y.engine", free)
    assert built.header.precision == "int8" and built.notes[0] == "INT8, for which the model brings its ranges"
    assert "cache" not in built.header.options["int8"] and built.header.options["shipped"] is True
    assert rebuild(built.header, built.path).startswith("build it again with 'rtpsp build-engine --int8 --backend ")
    built = build_engine(pspnet_model, shelves / "z.engine", replace(free, backend="onnxruntime"))
    assert built.header.precision == "fp32", "its INT8 convolutions are hardly faster"
