"""One contract for every backend: a new one adds a line to `BACKENDS`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtpsp.engine import engine_class
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import EngineFileError, InputError, UsageError
from rtpsp.graph.lower import load_model, lower, model_bytes
from rtpsp.graph.verify import run, sample_frames, to_confidence
from rtpsp.header import EngineHeader, Precision
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.spec import ModelSpec
from rtpsp.upsampling import Axis, Grid, confidence_map, reference_class_map

HEIGHT, WIDTH = 12, 20
SPEC = ModelSpec("brightest-channel", "test", HEIGHT, WIDTH, CAMVID)
MANY = LabelSet("many", tuple(f"class {index}" for index in range(300)), distinct_palette(300))


SCALE = np.float32(1 / 32)
"""What the scores are of a pixel's bytes: so that three classes are sure of some pixels and unsure of others."""


def brightest_channel(batch: int = 1, confidence: bool = False) -> bytes:
    """A lowered graph by hand: the class of a pixel is its largest channel, scored by a 1x1 convolution."""
    weights = numpy_helper.from_array(SCALE * np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weights")
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["class_map"], to=TensorProto.UINT8),
    ]
    sure = [
        helper.make_node("Softmax", ["logits"], ["shares"], axis=1),
        helper.make_node("ReduceMax", ["shares", "axis"], ["share"], keepdims=0),
        helper.make_node("Mul", ["share", "steps"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["confidence"], to=TensorProto.UINT8),
    ]
    axis, steps = np.array([1], np.int64), np.array(255, np.float32)
    constants = [numpy_helper.from_array(axis, "axis"), numpy_helper.from_array(steps, "steps")] if confidence else []
    names = ["confidence", "class_map"] if confidence else ["class_map"]  # found by name, whatever their order
    graph = helper.make_graph(
        [*nodes, *sure] if confidence else nodes,
        "brightest",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [batch, HEIGHT, WIDTH]) for name in names],
        [weights, *constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def channel_scores(batch: int = 1, classes: int = len(CAMVID), dtype: int = TensorProto.FLOAT) -> bytes:
    """The same model with its scores let out: those of the channels, and of classes that win nowhere."""
    others = np.concatenate([SCALE * np.eye(3), np.zeros((classes - 3, 3))]).astype(np.float32)
    constants = [
        numpy_helper.from_array(others.reshape(classes, 3, 1, 1), "weights"),
        numpy_helper.from_array(np.array([0] * 3 + [-1000] * (classes - 3), np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights", "bias"], ["logits"]),
        helper.make_node("Cast", ["logits"], ["scores"], to=dtype),
    ]
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("scores", dtype, [batch, classes, HEIGHT, WIDTH])],
        constants,
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9
    ).SerializeToString()
    return data


def real(backend: str, tail: str = "graph") -> Callable[..., Engine]:
    def make(
        precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
    ) -> Engine:
        told = {"batch": batch, "confidence": confidence, "tail": tail}
        header = EngineHeader(SPEC, backend, precision, model_digest="", options=told)
        payload = channel_scores(batch) if tail == "host" else brightest_channel(batch, confidence)
        return engine_class(backend)(header, payload, options)

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


def scores_of(frames: np.ndarray) -> np.ndarray:
    scores = np.full((len(frames), len(CAMVID), HEIGHT, WIDTH), -1000, np.float32)
    scores[:, :3] = SCALE * frames.transpose(0, 3, 1, 2)
    return scores


def confidence_of(frames: np.ndarray) -> np.ndarray:
    """255 times the softmax of each pixel's class, rounded, in float64."""
    powers = np.exp(np.float64(SCALE) * frames)
    rounded: np.ndarray = np.rint(255 * powers.max(axis=3) / powers.sum(axis=3))
    return rounded.astype(np.uint8)


BACKENDS = {
    "fake": fake,
    "openvino": real("openvino"),
    "onnxruntime": real("onnxruntime"),
    "fake, host tail": fake_scores,
    "openvino, host tail": real("openvino", "host"),
    "onnxruntime, host tail": real("onnxruntime", "host"),
}


@pytest.fixture(params=list(BACKENDS))
def make(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    return BACKENDS[request.param]


def frames(seed: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (batch, HEIGHT, WIDTH, 3), np.uint8)


def test_frames_in_class_maps_out(make: Callable[..., Engine]) -> None:
    with make() as engine:
        for seed in range(3):
            result = engine.infer(frames(seed))
            assert result.class_map.dtype == np.uint8 and result.class_map.shape == (1, HEIGHT, WIDTH)
            assert (result.class_map == frames(seed).argmax(axis=3)).all()
            assert result.picture is None and result.submitted <= result.collected
            assert result.confidence is None and not engine.gives_confidence
            assert (result.scores is not None) == engine.gives_scores


@pytest.fixture(params=[name for name in BACKENDS if "host" in name])
def make_scores(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    return BACKENDS[request.param]


@pytest.mark.parametrize("batch", [1, 2])
def test_scores_are_the_callers_own(make_scores: Callable[..., Engine], batch: int) -> None:
    with make_scores(batch=batch) as engine:
        assert engine.cells == (HEIGHT, WIDTH)
        kept = [engine.infer(frames(seed, batch)).scores for seed in range(3)]
    for seed, scores in enumerate(kept):
        assert scores is not None and scores.flags.owndata and scores.dtype == np.float32
        np.testing.assert_allclose(scores, scores_of(frames(seed, batch)), atol=1e-5)


@pytest.mark.parametrize("confidence", [True, False])
def test_a_class_map_of_any_grid(make_scores: Callable[..., Engine], confidence: bool) -> None:
    with make_scores(confidence=confidence, options=EngineOptions(depth=2), batch=2) as engine:
        given = frames(1, 2)
        for grid in (
            Grid.whole((HEIGHT, WIDTH), (31, 47)),
            Grid(Axis.part(HEIGHT, 9, 0.2, 0.7), Axis.whole(WIDTH, 80)),
        ):
            out = np.empty((2, *grid.size), np.uint8)
            first, second = engine.submit(given, grid=grid), engine.submit(given)
            result, plain = engine.collect(first), engine.collect(second)
            again = engine.infer(given, out, grid)
            assert again.class_map is out and plain.class_map.shape == (2, HEIGHT, WIDTH)
            for found, other, scores in zip(result.class_map, out, scores_of(given), strict=True):
                assert np.mean(found == reference_class_map(scores, grid)) > 0.999  # but for ties
                np.testing.assert_array_equal(found, other)
            assert (result.confidence is not None) == confidence
            if result.confidence is not None:
                expected = np.stack([confidence_map(scores, grid) for scores in scores_of(given)])
                assert_confidence(result.confidence, expected)


def test_a_grid_of_other_cells_is_refused(make_scores: Callable[..., Engine]) -> None:
    with make_scores() as engine:
        with pytest.raises(InputError, match=r"grid is one of \(12, 19\) cells, expected the engine's own: \(12, 20\)"):
            engine.infer(frames(1), grid=Grid.whole((12, 19), (24, 40)))
        with pytest.raises(InputError, match=r"out is uint8 \[1, 12, 20\], expected uint8 \[1, 24, 40\]"):
            engine.infer(frames(1), np.empty((1, 12, 20), np.uint8), Grid.whole((12, 20), (24, 40)))
        engine.infer(frames(1))


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


def assert_confidence(found: np.ndarray | None, expected: np.ndarray) -> None:
    assert found is not None and found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("batch", [1, 3])
def test_confidence_of_the_class_beside_the_class(make: Callable[..., Engine], batch: int) -> None:
    with make(confidence=True, batch=batch) as engine:
        assert engine.gives_confidence
        for seed in range(3):
            given = frames(seed, batch)
            out = np.empty((batch, HEIGHT, WIDTH), np.uint8)
            for result in (engine.infer(given), engine.infer(given, out=out)):
                assert (result.class_map == given.argmax(axis=3)).all()
                assert_confidence(result.confidence, confidence_of(given))


def test_a_confidence_is_the_callers_own(make: Callable[..., Engine]) -> None:
    with make(confidence=True, options=EngineOptions(depth=2)) as engine:
        kept: list[np.ndarray] = []
        for start in range(0, 6, 2):
            tickets = [engine.submit(frames(start)), engine.submit(frames(start + 1))]
            for result in [engine.collect(ticket) for ticket in tickets]:
                assert result.confidence is not None and result.confidence.flags.writeable
                kept.append(result.confidence)
        for seed, confidence in enumerate(kept):
            assert_confidence(confidence, confidence_of(frames(seed)))
    kept[0][:] = 0  # and it outlives the engine


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
        (replace(SPEC, labels=MANY), 1, r"gives class_map uint8 .*promises class_map int32 \[1, 12, 20\]"),
    ],
)
def test_a_header_and_its_payload_agree_on_sizes_and_types(
    backend: str, spec: ModelSpec, batch: int, says: str
) -> None:
    header = EngineHeader(spec, backend, "fp32", "", options={"batch": batch})
    with pytest.raises(EngineFileError, match=says), engine_class(backend)(header, brightest_channel()):
        pass


def test_answers_are_the_callers_own(make: Callable[..., Engine]) -> None:
    with make() as engine:
        first = engine.infer(frames(1)).class_map
        kept = first.copy()
        engine.infer(frames(2))
        assert (first == kept).all()
        out = np.full((1, HEIGHT, WIDTH), 99, np.uint8)
        assert engine.infer(frames(2), out=out).class_map is out
        assert (out == frames(2).argmax(axis=3)).all()


def test_answers_come_in_the_order_of_their_tickets(make: Callable[..., Engine]) -> None:
    with make(options=EngineOptions(depth=3)) as engine:
        batches = [frames(seed) for seed in range(9)]
        for start in range(0, 9, 3):
            tickets = [engine.submit(batch) for batch in batches[start : start + 3]]
            for ticket, batch in zip(tickets, batches[start : start + 3], strict=True):
                assert (engine.collect(ticket).class_map == batch.argmax(axis=3)).all()


def test_depth_is_a_bound(make: Callable[..., Engine]) -> None:
    with make(options=EngineOptions(depth=2)) as engine:
        tickets = [engine.submit(frames(seed)) for seed in range(2)]
        with pytest.raises(UsageError, match="depth is 2"):
            engine.submit(frames(3))
        for ticket in tickets:
            engine.collect(ticket)
        engine.infer(frames(3))


def test_it_says_what_ran(make: Callable[..., Engine]) -> None:
    engine = make()
    assert engine.ran == ""
    with engine:
        assert engine.ran == "f32"


def test_half_precision_runs_or_says_that_it_does_not(make: Callable[..., Engine]) -> None:
    with make(precision="fp16") as engine:
        assert engine.ran in ("f32", "bf16", "f16")
        agreement = np.mean(engine.infer(frames(1)).class_map == frames(1).argmax(axis=3))
    assert agreement > 0.98  # neighbouring bytes are one value in bf16


def test_nothing_is_held_before_and_after(make: Callable[..., Engine]) -> None:
    engine = make()
    with pytest.raises(UsageError, match="not open"):
        engine.infer(frames(1))
    with engine:
        engine.infer(frames(1))
    with pytest.raises(UsageError, match="not open"):
        engine.infer(frames(1))
    with engine:  # it can be entered again
        assert (engine.infer(frames(4)).class_map == frames(4).argmax(axis=3)).all()


def test_what_was_in_flight_when_it_was_left_is_forgotten(make: Callable[..., Engine]) -> None:
    engine = make()
    with engine:
        engine.submit(frames(1))
    with engine:
        assert (engine.infer(frames(2)).class_map == frames(2).argmax(axis=3)).all()


def test_another_thread_is_refused(make: Callable[..., Engine]) -> None:
    errors: list[BaseException] = []

    def use() -> None:
        try:
            engine.infer(frames(1))
        except UsageError as error:
            errors.append(error)

    with make() as engine:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        with pytest.raises(UsageError, match="already open"):
            engine.__enter__()
    assert len(errors) == 1 and "another thread" in str(errors[0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((2, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((1, HEIGHT, WIDTH, 3), np.float32),
        np.zeros((1, HEIGHT, WIDTH, 6), np.uint8)[..., ::2],
    ],
    ids=["no batch", "batch of two", "float", "strided"],
)
def test_other_frames_are_refused(make: Callable[..., Engine], wrong: np.ndarray) -> None:
    with make() as engine:
        with pytest.raises(InputError, match=r"expected contiguous uint8 \[1, 12, 20, 3\]"):
            engine.submit(wrong)
        with pytest.raises(InputError, match="expected uint8"):
            engine.infer(frames(1), out=np.zeros((1, HEIGHT, WIDTH), np.int32))
        engine.infer(frames(1))  # and it still works


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


def test_threads_are_honoured(tmp_path: Path) -> None:
    with real("openvino")(options=EngineOptions(threads=1)) as engine:
        assert engine._compiled.get_property("INFERENCE_NUM_THREADS") == 1  # type: ignore[attr-defined]


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="depth 0"):
        EngineOptions(depth=0)
