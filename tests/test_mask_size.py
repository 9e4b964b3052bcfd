"""Class maps of the frame's own size: through a real engine and the real loop, in the place where the scene is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx_ir as ir
import pytest

import rtpsp
from rtpsp.arrays import Image
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.file import write_engine_file
from rtpsp.engine.openvino_backend import OpenVINOEngine
from rtpsp.errors import UsageError
from rtpsp.evaluate import segmenter
from rtpsp.fit import plan_fit
from rtpsp.graph.classmap import to_class_map, to_scores
from rtpsp.graph.frames import to_frames
from rtpsp.header import EngineHeader
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.live import RunOptions
from rtpsp.onnx_file import load_model, model_bytes, save_model
from rtpsp.spec import Fit, ModelSpec
from rtpsp.stream.pipeline import PipelineOptions
from rtpsp.upsampling import confidence_map, reference_class_map
from tests.conftest import save_colour_model
from tests.stream.doubles import HEIGHT, WIDTH, Collector, Numbers
from tests.test_fit_live import PALETTE_BGR, edges

MODEL = (240, 320)
STRIDE = 8
TAILS: dict[str, Callable[[ir.Model, ModelSpec], ir.Model]] = {"graph": to_class_map, "host": to_scores}


def coarse_engine(folder: Path, fit: Fit, tail: str, confidence: bool = False) -> Path:
    """An engine that names colours, from scores of one cell each 8x8 pixels: a class's share of what is around it."""
    save_colour_model(folder / "colours.onnx", fit, MODEL)
    model, spec = load_model(folder / "colours.onnx")
    fine = model.graph.outputs[0]
    fine.name = "fine"
    # Over twice the stride, so that between two cells the share of either side of a straight border is exact.
    window = {"kernel_shape": [2 * STRIDE] * 2, "strides": [STRIDE] * 2, "pads": [STRIDE // 2] * 4}
    sharp = ir.node("Mul", [fine, ir.Value(name="sharp", const_value=ir.tensor(np.float32(1e5), name="sharp"))])
    # Shares are whole sixteenths and tie all too often; then rounding decides.
    apart = (1e-4 * np.arange(0.37, 11)).astype(np.float32).reshape(1, 11, 1, 1)
    offset = ir.Value(name="apart", const_value=ir.tensor(apart, name="apart"))
    model.graph.register_initializer(sharp.inputs[1])  # type: ignore[arg-type]
    model.graph.register_initializer(offset)
    share = ir.node("Softmax", [sharp.outputs[0]], {"axis": 1})
    around = ir.node("AveragePool", [share.outputs[0]], window)
    pool = ir.node("Add", [around.outputs[0], offset])
    sizes = ir.Value(name="sizes", const_value=ir.tensor(np.array([1, 11, *MODEL], np.int64), name="sizes"))
    model.graph.register_initializer(sizes)
    pool.outputs[0].shape = ir.Shape((1, 11, MODEL[0] // STRIDE, MODEL[1] // STRIDE))
    pool.outputs[0].dtype = ir.DataType.FLOAT
    mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    logits = ir.Value(name="logits", shape=ir.Shape((1, 11, *MODEL)), type=ir.TensorType(ir.DataType.FLOAT))
    up = ir.node("Resize", [pool.outputs[0], None, None, sizes], mode, outputs=[logits])
    model.graph.extend([sharp, share, around, pool, up])
    model.graph.outputs[0] = logits
    save_model(model, spec, folder / "coarse.onnx")
    lowered = TAILS[tail](to_frames(load_model(folder / "coarse.onnx")[0], spec), spec)
    header = EngineHeader(spec, "openvino", "fp32", "", options={"tail": tail, "confidence": confidence})
    path = folder / f"{tail}.engine"
    write_engine_file(path, header, model_bytes(lowered))
    return path


def scene(height: int, width: int) -> np.ndarray:
    """Class ids: a rectangle and a disc of odd place and size."""
    truth = np.zeros((height, width), np.uint8)
    truth[height // 5 : height // 2 + 7, width // 7 : width // 3 + 5] = 1
    cv2.circle(truth, (width * 2 // 3, height * 3 // 5), height // 6, 8, -1)
    return truth


def masks(folder: Path, engine: Path, size: tuple[int, int], **options: Any) -> np.ndarray:
    cv2.imwrite(str(folder / "scene.png"), PALETTE_BGR[scene(*size)])
    sink = Collector()
    rtpsp.run(str(folder / "scene.png"), engine, [sink], RunOptions(**options))
    return sink.items[0].class_map


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [(480, 640), (360, 640), (541, 963), (120, 160)], ids=["4:3", "16:9", "odd", "small"])
def test_masks_of_the_frames_size_lie_over_the_scene(fit: Fit, size: tuple[int, int], tmp_path: Path) -> None:
    truth = scene(*size)
    mask = masks(tmp_path, coarse_engine(tmp_path, fit, "host"), size, mask_size="frame")
    assert mask.shape == size and mask.dtype == np.uint8
    pixel = max(size[0] / MODEL[0], size[1] / MODEL[1], 1)  # one pixel of the model, in pixels of the source
    if fit == "letterbox":
        pixel = max(1, 1 / min(MODEL[0] / size[0], MODEL[1] / size[1]))
    for label in (1, 8):
        for got, expected in zip(edges(mask, label), edges(truth, label), strict=True):
            assert abs(got - expected) <= np.ceil(pixel), CAMVID.names[label]
    off_centre = np.argwhere(mask == 8).mean(axis=0) - np.argwhere(truth == 8).mean(axis=0)
    assert np.abs(off_centre).max() < 0.5, "the disc's centre is off by half a source pixel or more"
    offsets = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    agreement = {offset: (np.roll(mask, offset, (0, 1)) == truth).mean() for offset in offsets}
    assert max(agreement, key=lambda offset: agreement[offset]) == (0, 0), "it fits better where it is moved"
    assert agreement[0, 0] > 0.97


def test_borders_are_as_fine_as_the_frame(tmp_path: Path) -> None:
    size = (720, 960)
    engine = coarse_engine(tmp_path, "stretch", "host")
    fine, coarse = (masks(tmp_path, engine, size, mask_size=of) for of in ("frame", "model"))
    blocks = coarse.reshape(240, 3, 320, 3)
    assert (blocks == blocks[:, :1, :, :1]).all(), "model-size masks have pixels of 3x3"
    rows = np.unique(np.nonzero(fine == 8)[0])
    lefts = {
        label: [int(np.nonzero(mask[row] == 8)[0][0]) for row in rows[10:-10]]
        for label, mask in (("fine", fine), ("coarse", coarse))
    }
    assert np.abs(np.diff(lefts["fine"])).mean() < 3 and len(set(lefts["fine"])) > 2 * len(set(lefts["coarse"]))
    assert (fine == scene(*size)).mean() >= (coarse == scene(*size)).mean()


@pytest.mark.parametrize("size", [(480, 640), (541, 963)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_both_tails_give_one_class_map(fit: Fit, size: tuple[int, int], tmp_path: Path) -> None:
    graph, host = (masks(tmp_path, coarse_engine(tmp_path, fit, tail), size) for tail in ("graph", "host"))
    assert np.mean(graph == host) > 0.9999


def test_a_frame_of_the_models_own_size_has_one_class_map(tmp_path: Path) -> None:
    engine = coarse_engine(tmp_path, "stretch", "host")
    np.testing.assert_array_equal(
        masks(tmp_path, engine, MODEL, mask_size="frame"), masks(tmp_path, engine, MODEL, mask_size="model")
    )


def test_crop_says_what_it_did_not_see(tmp_path: Path) -> None:
    mask = masks(tmp_path, coarse_engine(tmp_path, "crop", "host"), (360, 640), mask_size="frame")
    assert (mask[:, :80] == 255).all() and (mask[:, -80:] == 255).all()
    assert (mask[:, 80:-80] == scene(360, 640)[:, 80:-80]).mean() > 0.97


@pytest.mark.parametrize("size", [(480, 640), (333, 1001)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_a_segmenter_gives_the_loops_class_map(fit: Fit, size: tuple[int, int], tmp_path: Path) -> None:
    path = coarse_engine(tmp_path, fit, "host")
    expected = masks(tmp_path, path, size, mask_size="frame")
    with rtpsp.load_engine(path) as engine:

        def scores(frames: Image) -> np.ndarray:
            given = engine.infer(frames).scores
            assert given is not None
            return given

        segment = segmenter(scores, engine.spec, "frame")
        frame = PALETTE_BGR[scene(*size)]
        np.testing.assert_array_equal(segment(frame), expected)
        plan = plan_fit(size, engine.spec)
        given = scores(plan.to_model(frame)[None])[0]
        reference = plan.place(reference_class_map(given, plan.grid(given.shape[1:])).astype(np.uint8))
    assert np.mean(expected == reference) > 0.9999


# --- without a runtime -----------------------------------------------------------------------------------------------


def fake(classes: int = 11, fit: Fit = "stretch", confidence: bool = False, depth: int = 1) -> Engine:
    """Scores that tell the left half of the input from the right, and a few frames from each other."""
    labels = LabelSet("many", tuple(map(str, range(classes))), distinct_palette(classes))
    spec = ModelSpec("halves", "fake", 40, 40, labels, fit=fit)

    def scores(frames: Image) -> np.ndarray:
        planes = np.zeros((1, classes, 5, 4), np.float32)
        planes[:, int(frames[0, 20, 20, 0]) % 3, :, :2] = 4
        planes[:, classes - 1, :, 2:] = 4
        return planes

    probability = (lambda frames: np.zeros(0, np.uint8)) if confidence else None
    return rtpsp.FakeEngine(
        spec, scores=scores, cells=(5, 4), confidence=probability, options=EngineOptions(depth=depth)
    )


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("classes", [11, 255])
@pytest.mark.parametrize(("fit", "seen"), [("stretch", slice(0, 80)), ("crop", slice(10, 70))])
def test_every_frame_gets_a_map_of_its_size(fit: Fit, seen: slice, classes: int, depth: int) -> None:
    sink = Collector("overlay")
    report = rtpsp.run(Numbers(6), fake(classes, fit, depth=depth), [sink], RunOptions(mask_size="frame"))
    assert [item.frame.index for item in sink.items] == list(range(6))
    for item in sink.items:
        expected = np.full((HEIGHT, WIDTH), 255)
        expected[:, seen] = classes - 1
        expected[:, seen.start : 40] = item.frame.index % 3
        np.testing.assert_array_equal(item.class_map, expected)
    assert report.engine["mask_size"] == "frame"


@pytest.mark.parametrize("of", ["model", "frame"])
def test_a_threshold_holds_at_either_size(of: Any) -> None:
    sink = Collector()
    engine = fake(confidence=True)
    rtpsp.run(Numbers(3), engine, [sink], RunOptions(mask_size=of, min_confidence=0.7))
    plan = plan_fit((HEIGHT, WIDTH), engine.spec)
    for item in sink.items:
        planes = np.zeros((11, 5, 4), np.float32)
        planes[item.frame.index % 3, :, :2], planes[10, :, 2:] = 4, 4
        sure = confidence_map(planes, plan.grid((5, 4))) >= np.ceil(255 * 0.7)
        known = item.class_map != 255
        assert 0.7 < known.mean() < 1
        assert np.mean(known == sure) > (0.95 if of == "model" else 0.9999)


def test_the_frames_size_needs_scores() -> None:
    source = Numbers(3)
    with pytest.raises(UsageError, match=r"--mask-size frame needs its scores: build it with .*--tail host'$"):
        rtpsp.run(source, rtpsp.FakeEngine(), options=RunOptions(mask_size="frame"))
    assert source.closed >= 1


def test_a_mask_has_one_of_two_sizes() -> None:
    for options in (RunOptions, PipelineOptions):
        with pytest.raises(UsageError, match="mask_size is 'half', expected one of model, frame"):
            options(mask_size="half")  # type: ignore[arg-type]


def test_an_engine_of_scores_can_be_entered_again(tmp_path: Path) -> None:
    engine = rtpsp.load_engine(coarse_engine(tmp_path, "stretch", "host"))
    assert isinstance(engine, OpenVINOEngine) and engine.gives_scores
    frame = np.zeros((1, *MODEL, 3), np.uint8)
    for _ in range(2):
        with engine:
            assert engine.infer(frame).class_map.shape == (1, *MODEL)
            assert engine.cells == (30, 40)
