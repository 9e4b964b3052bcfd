"""The loop with an engine whose device takes whole frames: nobody can tell but by the clock."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import rtpsp
from rtpsp.arrays import Image
from rtpsp.drawing import Drawing
from rtpsp.engine.base import Answer, EngineOptions
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError, UsageError
from rtpsp.fit import FitPlan, no_class
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.live import RunOptions
from rtpsp.spec import Channels, Fit, ModelSpec
from rtpsp.stream.frame import VIEWS, Frame, Rendered, View
from rtpsp.stream.pipeline import Pipeline
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.records import RleFile, StatsFile
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.sink import MaskFolder, Sink
from tests.stream.doubles import HEIGHT, WIDTH, Collector, Numbers

MODEL, STRIDE = (48, 64), 8
CELLS = (MODEL[0] // STRIDE, MODEL[1] // STRIDE)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


class Pictures(Numbers):
    """Noise in large blocks, every frame another; one size after the other."""

    def __init__(self, count: int, sizes: Sequence[tuple[int, int]] = ((HEIGHT, WIDTH),)) -> None:
        super().__init__(count)
        self.info = replace(self.info, height=sizes[0][0], width=sizes[0][1])
        self._sizes = itertools.cycle(sizes)

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        height, width = next(self._sizes)
        return replace(frame, height=height, width=width, to_bgr=lambda out: noise(frame.index, height, width))


class FourPlanes(Pictures):
    """The same with a fourth plane."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.info = replace(self.info, planes=4)

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        picture = frame.to_bgr(None)
        return replace(frame, to_bgr=lambda out: np.concatenate([picture, picture[..., 1:2]], axis=2))


def noise(seed: int, height: int, width: int) -> Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return blocks.repeat(-(-height // 8), 0).repeat(-(-width // 8), 1)[:height, :width].copy()


def spec_of(classes: int = 11, fit: Fit = "stretch") -> ModelSpec:
    labels = LabelSet("many", tuple(map(str, range(classes))), distinct_palette(classes))
    return ModelSpec("noise", "fake", *MODEL, labels, fit=fit)


def scorer(classes: int) -> Callable[[Image], np.ndarray]:
    directions = np.random.default_rng(7).standard_normal((classes, 3)).astype(np.float32)

    def scores(frames: Image) -> np.ndarray:
        cells = frames.reshape(1, CELLS[0], STRIDE, CELLS[1], STRIDE, 3).mean((2, 4), dtype=np.float32)
        planes = np.einsum("kc,nhwc->nkhw", directions, cells - 127)
        return np.ascontiguousarray(planes, np.float32)

    return scores


class Device(FakeEngine):
    """Tells what it was given."""

    def __init__(
        self, choice: DeviceIOChoice = "auto", depth: int = 1, classes: int = 11, fit: Fit = "stretch", **more: Any
    ) -> None:
        options = EngineOptions(depth=depth, device_io=choice)
        spec = spec_of(classes, fit)
        super().__init__(spec, scores=scorer(classes), cells=CELLS, options=options, can_device_io=True, **more)
        self.drawings: list[Drawing | None] = []
        self.sizes: list[tuple[int, int]] = []
        self.buffers: list[Image] = []
        self.batches: list[Image] = []

    def _start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> tuple[float, Answer]:
        self.sizes.append((image.shape[0], image.shape[1]))
        self.drawings.append(drawing)
        return super()._start_frame(image, plan, drawing)

    def _start(self, frames: Image) -> tuple[float, Answer]:
        self.batches.append(frames)
        return super()._start(frames)

    def frame_buffer(self) -> Image:
        self.buffers.append(super().frame_buffer())
        return self.buffers[-1]


def ran(engine: FakeEngine, count: int = 4, sizes: Any = ((HEIGHT, WIDTH),), **options: Any) -> list[Rendered]:
    """What each frame became, in every view."""
    sinks = [Collector(view) for view in VIEWS]
    rtpsp.run(Pictures(count, sizes), engine, sinks, RunOptions(**options))
    return sinks[0].items


def assert_alike(found: list[Rendered], expected: list[Rendered]) -> None:
    assert [item.frame.index for item in found] == [item.frame.index for item in expected]
    for item, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(item.class_map, other.class_map)
        assert item.class_map.dtype == other.class_map.dtype
        assert set(item.pictures) == set(other.pictures) == set(VIEWS)
        for view in VIEWS:
            assert item.pictures[view].shape == other.pictures[view].shape
            off = np.abs(item.pictures[view].astype(int) - other.pictures[view])
            assert off.max() <= 1 if view in ("overlay", "side-by-side") else not off.any(), view


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("classes", [11, 255, 256, 300])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_pictures_and_class_maps_are_those_of_the_cpu(fit: Fit, classes: int, depth: int) -> None:
    render = RenderOptions(alpha=0.3, legend=True)
    size = (90, 150)
    device, host = (Device(choice, depth, classes, fit) for choice in ("on", "off"))
    found = ran(device, 4, [size], render=render)
    expected = ran(host, 4, [size], render=render, mask_size="frame")
    assert_alike(found, expected)
    assert found[0].class_map.shape == size and len(np.unique(found[0].class_map)) > 3
    if fit == "crop":
        assert (found[0].class_map[:, -15:] == no_class(classes)).all()
        assert len(np.unique(found[0].pictures["mask"][:, -15:])) == 2, "what was not seen is striped"
    assert device.batches == [] and host.sizes == []


@pytest.mark.parametrize("depth", [1, 2])
def test_frames_may_change_their_size(depth: int) -> None:
    sizes = [(60, 80), (60, 80), (90, 150), (48, 64), (31, 47)]
    device = Device("on", depth, fit="crop")
    found = ran(device, 10, sizes)
    assert_alike(found, ran(Device("off", depth, fit="crop"), 10, sizes, mask_size="frame"))
    assert device.sizes == [sizes[0]] * (depth + 1) + sizes + sizes
    assert [item.class_map.shape for item in found] == [*sizes, *sizes]


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_records_are_those_of_the_cpu(fit: Fit, tmp_path: Path) -> None:
    def recorded(choice: DeviceIOChoice, **options: Any) -> dict[str, bytes]:
        folder = tmp_path / choice
        sinks = [RleFile(folder / "x.rle.jsonl"), StatsFile(folder / "x.stats.jsonl"), MaskFolder(folder / "masks")]
        rtpsp.run(Pictures(3), Device(choice, fit=fit), sinks, RunOptions(**options))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(folder)): re.sub(rb'"(latency|age)_ms":[0-9.]+', b"", path.read_bytes())
            for path in files
        }

    found = recorded("on")
    assert len(found) == 2 + 1 + 3
    assert found == recorded("off", mask_size="frame")


@pytest.mark.parametrize(
    ("views", "asked"),
    [
        ([], None),
        ([None], None),
        (["frame"], None),
        (["mask", None], Drawing("mask", 0.3)),
        (["overlay"], Drawing("overlay", 0.3)),
        (["side-by-side"], Drawing("overlay", 0.3)),
        (["mask", "frame", "side-by-side"], Drawing("overlay", 0.3)),
    ],
)
def test_the_device_draws_what_the_sinks_show(views: list[View | None], asked: Drawing | None) -> None:
    device = Device()
    sinks = [Collector(view) for view in views]
    rtpsp.run(Pictures(2), device, sinks, RunOptions(render=RenderOptions(alpha=0.3)))
    assert device.drawings == [asked] * 4, "the first two are the warm-up"
    assert device.sizes == [(HEIGHT, WIDTH)] * 4


def test_what_the_device_drew_is_what_is_shown() -> None:
    class Painter(Device):
        def _finish(self, work: tuple[float, Answer]) -> Answer:
            answer = super()._finish(work)
            assert answer.picture is not None
            return answer._replace(picture=np.full_like(answer.picture, 7))

    for item in ran(Painter(), render=RenderOptions(legend=True)):
        overlay, side = item.pictures["overlay"], item.pictures["side-by-side"]
        assert (overlay[:10, -20:] == 7).all() and (side[:10, WIDTH:] == 7).all()
        assert not (overlay == 7).all(), "with its legend"
        assert not np.shares_memory(overlay, side)
        frame = noise(item.frame.index, HEIGHT, WIDTH)
        assert (item.pictures["frame"] == frame).all() and (side[:10, 60:WIDTH] == frame[:10, 60:]).all()
        assert not (item.pictures["mask"] == 7).all(), "the device did not draw that one"


def test_a_window_may_change_its_view_while_frames_are_under_way() -> None:
    class Changing(Collector):
        def write(self, item: Rendered) -> None:
            super().write(item)
            self.view = VIEWS[(VIEWS.index(self.view or "frame") + 1) % len(VIEWS)]

    device, sink = Device(depth=2), Changing("overlay")
    rtpsp.run(Pictures(20), device, [sink])
    expected = ran(Device("off"), 20, mask_size="frame")
    views = set()
    for item, other in zip(sink.items, expected, strict=True):
        ((view, picture),) = item.pictures.items()
        assert np.abs(picture.astype(int) - other.pictures[view]).max() <= 1
        views.add(view)
    assert views == set(VIEWS)


def test_the_device_follows_a_window_that_changes_its_view() -> None:
    class Changing(Collector):
        def write(self, item: Rendered) -> None:
            super().write(item)
            self.view = "mask" if len(self.items) < 20 else "frame"

    device = Device()
    rtpsp.run(Pictures(40), device, [Changing("overlay")])
    kinds = [drawing and drawing.view for drawing in device.drawings]
    assert [kind for kind, _ in itertools.groupby(kinds)] == ["overlay", "mask", None]


@pytest.mark.parametrize("depth", [1, 3])
def test_other_engines_get_buffers_of_their_own_kind(depth: int) -> None:
    engine = Device("off", depth)
    ran(engine, 7)
    assert len(engine.buffers) == depth
    own = {id(buffer) for buffer in engine.buffers}
    assert len(engine.batches) == 1 + 7 and {id(batch) for batch in engine.batches} == own


def test_model_size_masks_leave_the_device_out(caplog: pytest.LogCaptureFixture) -> None:
    device = Device("auto")
    found = ran(device, mask_size="model")
    assert device.sizes == [] and device.batches
    assert ["--mask-size model" in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    assert_alike(found, ran(Device("off")))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("choice", "asked", "size", "device_io"),
    [
        ("auto", None, "frame", True),
        ("auto", "frame", "frame", True),
        ("on", None, "frame", True),
        ("auto", "model", "model", False),
        ("off", None, "model", False),
        ("off", "frame", "frame", False),
    ],
)
def test_the_report_says_how_it_was_done(choice: DeviceIOChoice, asked: Any, size: str, device_io: bool) -> None:
    report = rtpsp.run(Pictures(2), Device(choice), options=RunOptions(mask_size=asked))
    assert (report.engine["mask_size"], report.engine["device_io"]) == (size, device_io)
    assert report.stages["preprocess"].count == report.stages["infer"].count == 2


def test_a_threshold_and_device_io() -> None:
    engine = Device("auto", confidence=lambda frames: np.full(frames.shape[:3], 200, np.uint8))
    assert rtpsp.run(Pictures(2), engine, options=RunOptions(min_confidence=0.5)).engine["device_io"] is False
    assert engine.sizes == [] and len(engine.batches) == 3
    RunOptions(device_io="on", min_confidence=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"min_confidence": 0.5}, "gives no confidence, which --min-confidence"), ({"mask_size": "model"}, "is model")],
)
def test_device_io_that_was_asked_for_stands_against_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=f"{says}.*leave it or --device-io on out"):
        RunOptions(device_io="on", **options)
    confidence = (lambda frames: frames[..., 0]) if "min_confidence" in options else None
    source = Pictures(1)
    with pytest.raises(UsageError, match=says):
        rtpsp.run(source, Device("on", confidence=confidence), options=RunOptions(**options))
    assert source.closed >= 1


@pytest.mark.parametrize(("channels", "planes"), [("grey", 1), ("bgrx", 4)])
def test_a_device_draws_over_colour_alone(channels: Channels, planes: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its kernels are of three planes: frames of others are fitted and drawn here, and the run says why."""
    caplog.set_level("INFO")
    spec = replace(spec_of(), mean=(0.5,) * planes, std=(1.0,) * planes, channels=channels)

    def engine(choice: DeviceIOChoice) -> FakeEngine:
        def scores(frames: Image) -> np.ndarray:
            assert frames.shape[3] == planes
            return scorer(11)(frames[..., :1].repeat(3, axis=3))

        options = EngineOptions(device_io=choice)
        return FakeEngine(spec, scores=scores, cells=CELLS, options=options, can_device_io=True)

    source = FourPlanes(2) if planes == 4 else Pictures(2)
    report = rtpsp.run(source, engine("auto"), [Collector("overlay")])
    assert report.engine["device_io"] is False and report.frames.shown == 2
    why = f"the model takes {'BGRX' if planes == 4 else 'grey'} frames, the device's kernels BGR"
    assert f"no device_io: {why}" in caplog.text
    with pytest.raises(UsageError, match=f"--device-io is on, and {why}"), engine("on"):
        pass


def test_an_engine_file_gets_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[EngineOptions | None] = []

    def load(path: object, options: EngineOptions | None = None) -> FakeEngine:
        asked.append(options)
        return Device()

    monkeypatch.setattr("rtpsp.live.load_engine", load)
    rtpsp.run(Pictures(1), tmp_path / "x.engine", options=RunOptions(device_io="off", depth=2, threads=1))
    assert asked == [EngineOptions(threads=1, depth=2, device_io="off")]


class Failing(Device):
    """A device that is lost after so many batches, and says so of everything from then on."""

    def __init__(self, part: str, at: int, depth: int, choice: DeviceIOChoice = "on") -> None:
        super().__init__(choice, depth)
        self.part, self.at = part, at
        self.calls = {"start": 0, "finish": 0}

    def _fail(self, part: str) -> None:
        self.calls[part] += 1
        if part == self.part and self.calls[part] > self.at:
            raise MissingError(
                "CUDA failed: CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure) in cuEventSynchronize"
            )

    def _start(self, frames: Image) -> tuple[float, Answer]:
        self._fail("start")
        return super()._start(frames)

    def _start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> tuple[float, Answer]:
        self._fail("start")
        return super()._start_frame(image, plan, drawing)

    def _finish(self, work: tuple[float, Answer]) -> Answer:
        self._fail("finish")
        return super()._finish(work)


@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("part", ["start", "finish"])
def test_a_device_that_fails_ends_the_run_in_order(
    part: str, depth: int, choice: DeviceIOChoice, tmp_path: Path
) -> None:
    source, window = Pictures(1000), Collector("overlay")
    sinks: list[Sink] = [window, VideoFile(tmp_path / "x.mp4"), StatsFile(tmp_path / "x.jsonl")]
    engine = Failing(part, 20, depth, choice)
    pipeline = Pipeline(source, engine, sinks)
    with pytest.raises(MissingError, match="LAUNCH_FAILED"):
        pipeline.run()
    report = pipeline.report()
    shown = report.frames.shown
    answered = 20 - (depth + 1 if choice == "on" else 1)  # the others were the warm-up
    if part == "start":  # those under way are lost with the device
        assert answered - (depth - 1) <= shown <= answered
    else:
        assert shown == answered
    assert report.ended.startswith("error: CUDA failed") and source.closed >= 1 and window.closed == 1
    with av.open(str(tmp_path / "x.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == shown == len(window.items)
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == shown


def test_a_device_that_fails_in_the_warm_up_costs_no_frame() -> None:
    source, sink = Pictures(5), Collector("overlay")
    with pytest.raises(MissingError, match="LAUNCH_FAILED"):
        Pipeline(source, Failing("finish", 0, 1), [sink]).run()
    assert (source._next, sink.closed, sink.items) == (0, 1, [])


def test_a_driver_that_hangs_after_its_failure_does_not_keep_the_recording_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rtpsp.stream.pipeline.JOIN_SECONDS", 0.05)
    release, sink = threading.Event(), Collector("overlay")

    class Hanging(Failing):
        def _close(self) -> None:
            release.wait()

    before = set(threading.enumerate())
    patience = threading.Timer(20, release.set)
    patience.start()
    try:
        with pytest.raises(MissingError):
            Pipeline(Pictures(100), Hanging("start", 4, 1), [sink]).run()
        assert sink.closed == 1 and not release.is_set()
    finally:
        release.set()
        patience.cancel()
        for thread in set(threading.enumerate()) - before:
            thread.join()


def test_an_image_that_is_not_contiguous_is_taken() -> None:
    class Sliced(Pictures):
        def read(self) -> Frame | None:
            frame = super().read()
            return frame and replace(frame, to_bgr=lambda out: noise(3, HEIGHT, WIDTH + 4)[:, 2:-2])

    sink = Collector("side-by-side")
    rtpsp.run(Sliced(2), Device("on"), [sink])
    for item in sink.items:
        assert (item.pictures["side-by-side"][:, :WIDTH] == noise(3, HEIGHT, WIDTH + 4)[:, 2:-2]).all()
