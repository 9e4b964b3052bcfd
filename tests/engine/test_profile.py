"""Engines that time their layers: what is counted, what the graph's nodes are called in them; others do not count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.build import BuildOptions, build_engine
from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.file import read_engine_file, write_engine_file
from rtpsp.engine.onnxruntime_backend import ONNXRuntimeEngine
from rtpsp.engine.onnxruntime_profile import _layers, _runs
from rtpsp.engine.openvino_backend import OpenVINOEngine
from rtpsp.engine.openvino_profile import ProfiledOpenVINOEngine
from rtpsp.engine.profile import ProfiledEngine, load_profiled, profiled_class
from rtpsp.errors import EngineFileError, UsageError

ONE = EngineOptions(threads=1)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def path(request: pytest.FixtureRequest, colour_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    return build_engine(colour_model, folder / "x.engine", BuildOptions("fp32", backend=request.param)).path


def frames_for(engine: ProfiledEngine) -> Image:
    return np.random.default_rng(2).integers(0, 256, (engine.batch, *engine.spec.frame_shape), np.uint8)


def test_only_counted_batches_count_and_answers_are_the_same(path: Path) -> None:
    engine = load_profiled(path, ONE)
    with engine, load_engine(path, ONE) as plain:
        frames = frames_for(engine)
        engine.infer(frames)
        results = [engine.infer_counted(frames) for _ in range(2)]
        engine.infer(frames)
        results.append(engine.infer_counted(frames))
        layers = engine.layers()
        expected = plain.infer(frames).class_map
    assert {len(layer.seconds) for layer in layers} == {3}
    assert all(second >= 0 for layer in layers for second in layer.seconds)
    assert all((result.class_map == expected).all() for result in results)
    products = [layer for layer in layers if "Conv" in layer.kind and "Convert" not in layer.kind]
    assert len(products) == 1 and products[0].format == "f32" and products[0].bytes


def test_an_engine_can_be_opened_again(path: Path) -> None:
    engine = load_profiled(path, ONE)
    for _ in range(2):
        with engine:
            engine.infer_counted(frames_for(engine))
            assert {len(layer.seconds) for layer in engine.layers()} == {1}


def test_engines_that_are_used_do_not_count(path: Path) -> None:
    engines: list[Engine] = [load_engine(path, ONE), load_profiled(path, ONE)]
    for engine, counts in zip(engines, (False, True), strict=True):
        with engine:
            if isinstance(engine, OpenVINOEngine):
                assert engine._compiled is not None
                assert engine._compiled.get_property("PERF_COUNT") in ((True, "YES") if counts else (False, "NO"))
            else:
                assert isinstance(engine, ONNXRuntimeEngine) and engine._session is not None
                assert engine._session.get_session_options().enable_profiling is counts


def test_the_profile_of_onnx_runtime_leaves_no_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for asked in (False, True):
        engine = load_profiled(path, ONE)
        with engine:
            engine.infer_counted(frames_for(engine))
            if asked:
                engine.layers()
    assert list(tmp_path.iterdir()) == []


def test_what_an_inference_took_is_taken_out_of_openvinos_means(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of all inferences so far, in whole microseconds."""
    file = read_engine_file(path)
    if file.header.backend != "openvino":
        pytest.skip("means are OpenVINO's")
    engine = ProfiledOpenVINOEngine(file.header, file.payload(), ONE)
    told: Iterator[int] = iter([100, 200, 201])  # means of 100; 100, 300; 100, 300, 203

    class Request:
        def __init__(self, mean: int) -> None:
            self._mean = mean

        def get_profiling_info(self) -> list[Any]:
            ran, not_run = SimpleNamespace(name="EXECUTED"), SimpleNamespace(name="NOT_RUN")
            return [
                SimpleNamespace(node_name="a", status=ran, real_time=timedelta(microseconds=self._mean)),
                SimpleNamespace(node_name="constant", status=not_run, real_time=timedelta(0)),
            ]

    def infer(frames: Image) -> None:
        engine._inferences += 1
        engine._free.clear()
        engine._free.append(Request(next(told)))

    monkeypatch.setattr(engine, "infer", infer)
    engine._inferences, engine._counted = 0, []
    for _ in range(3):
        engine.infer_counted(np.zeros(1, np.uint8))
    taken = [counted["a"] for counted in engine._counted]
    assert taken == pytest.approx([100e-6, 300e-6, 203e-6])
    assert all(counted.keys() == {"a"} for counted in engine._counted)


def event(name: str, duration: int, kind: str, inputs: list[dict[str, list[int]]], **sizes: int) -> dict[str, Any]:
    told = {"op_name": kind, "input_type_shape": inputs, **{key: str(value) for key, value in sizes.items()}}
    return {"cat": "Node", "name": name, "dur": duration, "args": told}


def test_events_of_onnx_runtime_are_read() -> None:
    sizes = {"activation_size": 10, "parameter_size": 2, "output_size": 4}
    whole = {"cat": "Session", "name": "model_run", "dur": 9, "args": {}}
    one = [
        event("a/conv_token_7_kernel_time", 40, "QLinearConv", [{"uint8": [1, 3, 8, 8]}, {"float": [64]}], **sizes),
        {"cat": "Node", "name": "a/conv_fence_before", "dur": 1, "args": {}},
        event("b_nchwc_kernel_time", 5, "Conv", [{"float": [1, 3, 8, 8]}, {"float": [16, 3, 1, 1]}], **sizes),
        whole,
    ]
    two = [*(dict(entry, dur=2 * entry["dur"]) for entry in one[:-1]), whole]
    runs = _runs(json.loads(json.dumps([{"cat": "Session", "name": "session_initialization"}, *one, *two])))
    assert [len(run) for run in runs] == [2, 2]
    first, second = _layers(runs)
    assert first.seconds == pytest.approx((40e-6, 80e-6)) and second.seconds == pytest.approx((5e-6, 10e-6))
    assert (first.sources, first.format, first.bytes, first.packed) == (("a/conv",), "u8", 16, True)
    assert (second.sources, second.format, second.bytes, second.packed) == (("b",), "f32", 16, False)


def test_a_backend_that_tells_no_times_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.engine.profile.engine_class", lambda name: None)
    with pytest.raises(UsageError, match=r"tensorrt does not tell.*expected one of openvino, onnxruntime.*--extract"):
        profiled_class("tensorrt")


def test_an_engine_that_does_not_run_here_is_refused(path: Path, tmp_path: Path) -> None:
    file = read_engine_file(path)
    other = tmp_path / "other.engine"
    write_engine_file(other, replace(file.header, backend="abacus"), file.payload())
    with pytest.raises(EngineFileError, match=r"other\.engine: .*abacus"):
        load_profiled(other)
