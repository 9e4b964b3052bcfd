"""The contract of engines over every backend that needs no device: a new one adds a line to `BACKENDS`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from rtpsp import device_reference
from rtpsp.drawing import Drawing
from rtpsp.engine import engine_class
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import EngineFileError, UsageError
from rtpsp.fit import plan_fit
from rtpsp.graph.lower import load_model, lower, model_bytes
from rtpsp.graph.verify import run, sample_frames, to_confidence
from rtpsp.header import EngineHeader, Precision
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.spec import Fit, ModelSpec
from rtpsp.upsampling import Grid
from tests.engine.contract import (
    HEIGHT,
    SPEC,
    WIDTH,
    EngineContract,
    Make,
    ScoresContract,
    assert_confidence,
    brightest_channel,
    channel_scores,
    confidence_of,
    frames,
    header_of,
    payload_of,
    scores_of,
)

MANY = LabelSet("many", tuple(f"class {index}" for index in range(300)), distinct_palette(300))
GREY = replace(SPEC, mean=(0.5,), std=(1.0,), channels="grey")
DEVICE_IO = EngineOptions(device_io="on")


def real(backend: str, tail: str = "graph") -> Make:
    def make(
        precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
    ) -> Engine:
        header = header_of(backend, tail, precision, confidence, batch)
        return engine_class(backend)(header, payload_of(header), options)

    return make


def fake(
    precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
) -> Engine:
    def answer(frames: np.ndarray) -> np.ndarray:
        class_map: np.ndarray = frames.argmax(axis=3).astype(np.uint8)
        return class_map

    engine = FakeEngine(SPEC, answer=answer, options=options, confidence=confidence_of if confidence else None)
    engine.batch = batch
    return engine


def fake_scores(
    precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
) -> Engine:
    given = confidence_of if confidence else None
    engine = FakeEngine(SPEC, options=options, confidence=given, scores=scores_of, cells=(HEIGHT, WIDTH))
    engine.batch = batch
    return engine


BACKENDS = {
    "fake": fake,
    "openvino": real("openvino"),
    "onnxruntime": real("onnxruntime"),
    "fake, host tail": fake_scores,
    "openvino, host tail": real("openvino", "host"),
    "onnxruntime, host tail": real("onnxruntime", "host"),
}


class TestEngine(EngineContract):
    @pytest.fixture(params=list(BACKENDS))
    def make(self, request: pytest.FixtureRequest) -> Make:
        return BACKENDS[request.param]


class TestScores(ScoresContract):
    @pytest.fixture(params=[name for name in BACKENDS if "host" in name])
    def make_scores(self, request: pytest.FixtureRequest) -> Make:
        return BACKENDS[request.param]


@pytest.mark.parametrize("backend", ["fake", "openvino", "onnxruntime"])
def test_a_grid_needs_scores(backend: str) -> None:
    with BACKENDS[backend]() as engine, pytest.raises(UsageError, match="build-engine MODEL --tail host"):
        engine.submit(frames(1), grid=Grid.whole((12, 20), (24, 40)))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (brightest_channel(), r"gives class_map uint8 \[1, 12, 20\], .*promises scores float32 \[1, 11, h, w\]"),
        (channel_scores(batch=2), r"takes frames uint8 \[2, 12, 20, 3\], its header promises"),
        (
            channel_scores(classes=5),
            r"gives scores float32 \[1, 5, 12, 20\], .*promises scores float32 \[1, 11, h, w\]",
        ),
        (channel_scores(dtype=TensorProto.FLOAT16), r"gives scores .*16 \[1, 11, 12, 20\], .*promises scores float32"),
    ],
)
def test_a_header_and_its_payload_agree_on_the_scores(backend: str, payload: bytes, says: str) -> None:
    header = EngineHeader(SPEC, backend, "fp32", "", options={"tail": "host"})
    with pytest.raises(EngineFileError, match=says), engine_class(backend)(header, payload):
        pass


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_lowered_model_names_the_same_classes_with_a_confidence(backend: str, batch: int, colour_model: Path) -> None:
    model, spec = load_model(colour_model)
    given = sample_frames(spec, batch)
    reference = run(model, spec, given)
    assert reference.logits is not None
    results = {}
    for confidence in (True, False):
        payload = model_bytes(lower(model, spec, batch, confidence=confidence, verify=False))
        header = EngineHeader(spec, backend, "fp32", "", options={"batch": batch, "confidence": confidence})
        with engine_class(backend)(header, payload) as engine:
            results[confidence] = engine.infer(given)
    np.testing.assert_array_equal(results[True].class_map, results[False].class_map)
    assert_confidence(results[True].confidence, to_confidence(reference.logits))
    assert results[False].confidence is None


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("promised", [True, False])
def test_a_header_and_its_payload_agree_on_the_confidence(backend: str, promised: bool) -> None:
    header = EngineHeader(SPEC, backend, "fp32", "", options={"confidence": promised})
    engine = engine_class(backend)(header, brightest_channel(confidence=not promised))
    with pytest.raises(EngineFileError, match=r"^engine gives class_map.*header promises class_map.*build.*$"), engine:
        pass
    with pytest.raises(UsageError, match="not open"):
        engine.infer(frames(1))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("spec", "batch", "says"),
    [
        (SPEC, 2, r"takes frames uint8 \[1, 12, 20, 3\], its header promises frames uint8 \[2, 12, 20, 3\]"),
        (replace(SPEC, height=24), 1, r"takes frames .*promises frames uint8 \[1, 24, 20, 3\]"),
        (GREY, 1, r"takes frames uint8 \[1, 12, 20, 3\], its header promises frames uint8 \[1, 12, 20, 1\]"),
        (replace(SPEC, labels=MANY), 1, r"gives class_map uint8 .*promises class_map int32 \[1, 12, 20\]"),
    ],
)
def test_a_header_and_its_payload_agree_on_sizes_and_types(
    backend: str, spec: ModelSpec, batch: int, says: str
) -> None:
    header = EngineHeader(spec, backend, "fp32", "", options={"batch": batch})
    with pytest.raises(EngineFileError, match=says), engine_class(backend)(header, brightest_channel()):
        pass


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_payload_that_does_not_load_is_one_line(backend: str) -> None:
    engine = engine_class(backend)(EngineHeader(SPEC, backend, "fp32", ""), b"not a graph")
    with pytest.raises(EngineFileError, match="cannot"), engine:
        pass
    with pytest.raises(UsageError, match="not open"):
        engine.infer(frames(1))


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(EngineFileError, match="openvino, onnxruntime"):
        engine_class("tensorflow")


def test_an_interrupt_while_a_backend_is_imported_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()  # as pybind11's modules do

    monkeypatch.setattr("importlib.import_module", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine_class("openvino")


def test_a_fake_engine_takes_its_time() -> None:
    with FakeEngine(SPEC, latency=0.02, options=EngineOptions(depth=2)) as engine:
        tickets = [engine.submit(frames(1)), engine.submit(frames(2))]
        first, second = (engine.collect(ticket) for ticket in tickets)
    assert first.collected - first.submitted >= 0.019
    assert second.collected - second.submitted >= 0.039, "one batch at a time, as on a device"


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_a_fake_engine_plays_a_device_that_takes_whole_frames(fit: Fit) -> None:
    spec = replace(SPEC, fit=fit)
    image = np.random.default_rng(1).integers(0, 255, (30, 70, 3), np.uint8)
    plan = plan_fit((30, 70), spec)
    with FakeEngine(spec, scores=scores_of, cells=(HEIGHT, WIDTH), can_device_io=True) as engine:
        assert engine.device_io
        drawn = engine.collect(engine.submit_frame(image, plan, Drawing("overlay")))
        plain = engine.collect(engine.submit_frame(image, plan))
    ids = device_reference.class_map(scores_of(plan.to_model(image)[np.newaxis])[0], plan)
    for result in (drawn, plain):
        assert result.class_map.shape == (1, 30, 70) and result.class_map.dtype == np.uint8
        assert np.mean(result.class_map[0] != ids) < 0.002  # but for ties
    assert plain.picture is None and drawn.picture is not None
    picture = device_reference.draw(image, drawn.class_map[0], spec.labels, Drawing("overlay"))
    np.testing.assert_array_equal(drawn.picture[0], picture)
    assert not engine.device_io, "it is closed"


@pytest.mark.parametrize("backend", [name for name in BACKENDS if "host" in name])
def test_whole_frames_need_a_device(backend: str) -> None:
    with BACKENDS[backend]() as engine:
        assert not engine.device_io
        with pytest.raises(UsageError, match="no device_io: bring the frame to the model's size"):
            engine.submit_frame(np.zeros((30, 70, 3), np.uint8), plan_fit((30, 70), SPEC))
    with (
        pytest.raises(UsageError, match=r"--device-io is on, and backend .* has none"),
        BACKENDS[backend](options=DEVICE_IO),
    ):
        pass


def test_threads_are_honoured(tmp_path: Path) -> None:
    with real("openvino")(options=EngineOptions(threads=1)) as engine:
        assert engine._compiled.get_property("INFERENCE_NUM_THREADS") == 1  # type: ignore[attr-defined]


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="depth 0"):
        EngineOptions(depth=0)
    with pytest.raises(UsageError, match="device_io is 'yes', expected one of auto, on, off"):
        EngineOptions(device_io="yes")  # type: ignore[arg-type]
