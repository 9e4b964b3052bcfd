"""What every engine keeps to, whatever its backend and device: test modules inherit from these classes.

A module gives each class a fixture of makers of engines: `tests/engine/test_contract.py` those that need nothing but a
CPU, `tests/double` the ones of a GPU that is played, `tests/gpu` the ones of a real GPU.
"""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.errors import InputError, UsageError
from rtpsp.header import EngineHeader, Precision
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.upsampling import Axis, Grid, confidence_map, reference_class_map

HEIGHT, WIDTH = 12, 20
SPEC = ModelSpec("brightest-channel", "test", HEIGHT, WIDTH, CAMVID)
SCALE = np.float32(1 / 32)
"""What the scores are of a pixel's bytes: so that three classes are sure of some pixels and unsure of others."""


class Make(Protocol):
    """Makes an engine, not yet open, for which the class of a pixel is its brightest channel."""

    def __call__(
        self,
        precision: Precision = "fp32",
        options: EngineOptions | None = None,
        confidence: bool = False,
        batch: int = 1,
    ) -> Engine: ...


def header_of(
    backend: str, tail: str = "graph", precision: Precision = "fp32", confidence: bool = False, batch: int = 1
) -> EngineHeader:
    """The header of such an engine."""
    told = {"batch": batch, "confidence": confidence, "tail": tail}
    return EngineHeader(SPEC, backend, precision, model_digest="", options=told)


def payload_of(header: EngineHeader) -> bytes:
    """The lowered graph that such a header promises."""
    batch = int(header.options["batch"])
    if header.options["tail"] == "host":
        return channel_scores(batch)
    return brightest_channel(batch, bool(header.options["confidence"]))


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


def scores_of(frames: np.ndarray) -> np.ndarray:
    scores = np.full((len(frames), len(CAMVID), HEIGHT, WIDTH), -1000, np.float32)
    scores[:, :3] = SCALE * frames.transpose(0, 3, 1, 2)
    return scores


def confidence_of(frames: np.ndarray) -> np.ndarray:
    """255 times the softmax of each pixel's class, rounded, in float64."""
    powers = np.exp(np.float64(SCALE) * frames)
    rounded: np.ndarray = np.rint(255 * powers.max(axis=3) / powers.sum(axis=3))
    return rounded.astype(np.uint8)


def frames(seed: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (batch, HEIGHT, WIDTH, 3), np.uint8)


def assert_confidence(found: np.ndarray | None, expected: np.ndarray) -> None:
    assert found is not None and found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


class EngineContract:
    """Of every engine; a fixture `make` gives a `Make`."""

    def test_frames_in_class_maps_out(self, make: Make) -> None:
        with make() as engine:
            for seed in range(3):
                result = engine.infer(frames(seed))
                assert result.class_map.dtype == np.uint8 and result.class_map.shape == (1, HEIGHT, WIDTH)
                assert (result.class_map == frames(seed).argmax(axis=3)).all()
                assert result.picture is None and result.submitted <= result.collected
                assert result.confidence is None and not engine.gives_confidence
                assert (result.scores is not None) == engine.gives_scores

    @pytest.mark.parametrize("batch", [1, 3])
    def test_confidence_of_the_class_beside_the_class(self, make: Make, batch: int) -> None:
        with make(confidence=True, batch=batch) as engine:
            assert engine.gives_confidence
            for seed in range(3):
                given = frames(seed, batch)
                out = np.empty((batch, HEIGHT, WIDTH), np.uint8)
                for result in (engine.infer(given), engine.infer(given, out=out)):
                    assert (result.class_map == given.argmax(axis=3)).all()
                    assert_confidence(result.confidence, confidence_of(given))

    def test_a_confidence_is_the_callers_own(self, make: Make) -> None:
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

    def test_a_frame_buffer_is_as_good_as_any_array(self, make: Make) -> None:
        with make(options=EngineOptions(depth=2), batch=2) as engine:
            buffers = [engine.frame_buffer() for _ in range(2)]
            for buffer in buffers:
                assert buffer.shape == (2, HEIGHT, WIDTH, 3) and buffer.dtype == np.uint8 and not buffer.any()
            for start in range(0, 6, 2):
                tickets = []
                for seed, buffer in enumerate(buffers, start):
                    buffer[:] = frames(seed, 2)
                    tickets.append(engine.submit(buffer))
                for seed, ticket in enumerate(tickets, start):
                    assert (engine.collect(ticket).class_map == frames(seed, 2).argmax(axis=3)).all()
            assert (engine.infer(frames(7, 2)).class_map == frames(7, 2).argmax(axis=3)).all()
        with pytest.raises(UsageError, match="not open"):
            engine.frame_buffer()

    def test_answers_are_the_callers_own(self, make: Make) -> None:
        with make() as engine:
            first = engine.infer(frames(1)).class_map
            kept = first.copy()
            engine.infer(frames(2))
            assert (first == kept).all()
            out = np.full((1, HEIGHT, WIDTH), 99, np.uint8)
            assert engine.infer(frames(2), out=out).class_map is out
            assert (out == frames(2).argmax(axis=3)).all()

    def test_answers_come_in_the_order_of_their_tickets(self, make: Make) -> None:
        with make(options=EngineOptions(depth=3)) as engine:
            batches = [frames(seed) for seed in range(9)]
            for start in range(0, 9, 3):
                tickets = [engine.submit(batch) for batch in batches[start : start + 3]]
                for ticket, batch in zip(tickets, batches[start : start + 3], strict=True):
                    assert (engine.collect(ticket).class_map == batch.argmax(axis=3)).all()

    def test_depth_is_a_bound(self, make: Make) -> None:
        with make(options=EngineOptions(depth=2)) as engine:
            tickets = [engine.submit(frames(seed)) for seed in range(2)]
            with pytest.raises(UsageError, match="depth is 2"):
                engine.submit(frames(3))
            for ticket in tickets:
                engine.collect(ticket)
            engine.infer(frames(3))

    def test_it_says_what_ran(self, make: Make) -> None:
        engine = make()
        assert engine.ran == ""
        with engine:
            assert engine.ran == "f32"

    def test_half_precision_runs_or_says_that_it_does_not(self, make: Make) -> None:
        with make(precision="fp16") as engine:
            assert engine.ran in ("f32", "bf16", "f16")
            agreement = np.mean(engine.infer(frames(1)).class_map == frames(1).argmax(axis=3))
        assert agreement > 0.98  # neighbouring bytes are one value in bf16

    def test_nothing_is_held_before_and_after(self, make: Make) -> None:
        engine = make()
        with pytest.raises(UsageError, match="not open"):
            engine.infer(frames(1))
        with engine:
            engine.infer(frames(1))
        with pytest.raises(UsageError, match="not open"):
            engine.infer(frames(1))
        with engine:  # it can be entered again
            assert (engine.infer(frames(4)).class_map == frames(4).argmax(axis=3)).all()

    def test_what_was_in_flight_when_it_was_left_is_forgotten(self, make: Make) -> None:
        engine = make()
        with engine:
            engine.submit(frames(1))
        with engine:
            assert (engine.infer(frames(2)).class_map == frames(2).argmax(axis=3)).all()

    def test_another_thread_is_refused(self, make: Make) -> None:
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
    def test_other_frames_are_refused(self, make: Make, wrong: np.ndarray) -> None:
        with make() as engine:
            with pytest.raises(InputError, match=r"expected contiguous uint8 \[1, 12, 20, 3\]"):
                engine.submit(wrong)
            with pytest.raises(InputError, match="expected uint8"):
                engine.infer(frames(1), out=np.zeros((1, HEIGHT, WIDTH), np.int32))
            engine.infer(frames(1))  # and it still works


class ScoresContract:
    """Of engines that give scores; a fixture `make_scores` gives a `Make`."""

    @pytest.mark.parametrize("batch", [1, 2])
    def test_scores_are_the_callers_own(self, make_scores: Make, batch: int) -> None:
        with make_scores(batch=batch) as engine:
            assert engine.cells == (HEIGHT, WIDTH)
            kept = [engine.infer(frames(seed, batch)).scores for seed in range(3)]
        for seed, scores in enumerate(kept):
            assert scores is not None and scores.flags.owndata and scores.dtype == np.float32
            np.testing.assert_allclose(scores, scores_of(frames(seed, batch)), atol=1e-5)

    @pytest.mark.parametrize("confidence", [True, False])
    def test_a_class_map_of_any_grid(self, make_scores: Make, confidence: bool) -> None:
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

    def test_a_grid_of_other_cells_is_refused(self, make_scores: Make) -> None:
        with make_scores() as engine:
            with pytest.raises(
                InputError, match=r"grid is one of \(12, 19\) cells, expected the engine's own: \(12, 20\)"
            ):
                engine.infer(frames(1), grid=Grid.whole((12, 19), (24, 40)))
            with pytest.raises(InputError, match=r"out is uint8 \[1, 12, 20\], expected uint8 \[1, 24, 40\]"):
                engine.infer(frames(1), np.empty((1, 12, 20), np.uint8), Grid.whole((12, 20), (24, 40)))
            engine.infer(frames(1))
