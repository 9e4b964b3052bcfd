from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.engine.base import Answer, EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import SourceError, SourceLost, UsageError
from rtpsp.fit import no_class
from rtpsp.header import EngineHeader
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.live import RunOptions, run
from rtpsp.spec import Channels, Fit, ModelSpec
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.render import Renderer, RenderOptions
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import SourceOptions, open_source
from tests.stream.doubles import HEIGHT, WIDTH, Collector, Numbers

SPEC = ModelSpec("tiny", "fake", HEIGHT, WIDTH, CAMVID)


def echo(frames: Image) -> ClassMap:
    return np.ascontiguousarray(frames[..., 0])


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_frame_arrives_in_order_with_its_own_answer(depth: int) -> None:
    source, sink = Numbers(40), Collector("overlay")
    engine = FakeEngine(SPEC, latency=0.002, answer=echo, options=EngineOptions(depth=depth))
    report = Pipeline(source, engine, [sink]).run()
    assert [item.frame.index for item in sink.items] == list(range(40))
    assert all((item.class_map == item.frame.index).all() for item in sink.items)
    assert (report.frames.received, report.frames.shown, report.frames.discarded) == (40, 40, 0)
    assert report.frames.dropped == {"infer": 0, "render": 0}
    assert report.policy == "every" and report.ended == "end of source"
    assert (source.closed, sink.opened, sink.closed) == (1, 1, 1)
    for item in sink.items:
        stamps = item.stamps
        assert stamps.captured <= stamps.dequeued <= stamps.inferred <= stamps.rendered


def test_report_has_every_stage_and_adds_up() -> None:
    report = Pipeline(Numbers(30), FakeEngine(SPEC, answer=echo), [Collector("mask")]).run()
    assert list(report.stages) == ["capture", "preprocess", "infer", "render", "sink"]
    assert {stage: summary.count for stage, summary in report.stages.items()} == {
        "capture": 31,  # the read that said there are no more
        "preprocess": 30,
        "infer": 30,
        "render": 30,
        "sink": 30,
    }
    assert report.age is not None and report.age.count == 30
    told = report.to_dict()
    assert told["engine"]["ran"] == "f32" and told["stages_ms"]["infer"]["p99"] is None


def test_latest_shows_fresh_frames_and_counts_the_dropped() -> None:
    """A 30 fps camera in front of a 50 ms engine: a queue would be seconds behind by the end.

    How fresh, in milliseconds at p99, is measured by bench/age.py: here a noisy machine may hiccup.
    """
    source = open_source("sim://street?w=160&h=120&fps=30&frames=240&live=1")
    sink = Collector()
    report = Pipeline(source, FakeEngine(SPEC, latency=0.05), [sink]).run()
    ages = [item.stamps.rendered - item.frame.captured for item in sink.items]
    assert np.median(ages) < 0.15
    assert np.median(ages[-30:]) < np.median(ages[:30]) + 0.05, "and it does not grow"
    assert report.policy == "latest"
    frames = report.frames
    assert frames.received + frames.missed == 240
    assert frames.received == frames.shown + sum(frames.dropped.values()) + frames.discarded
    assert frames.dropped["infer"] > 50 and frames.discarded == 0


def test_a_backlog_shows_as_age() -> None:
    """The same camera read under `every`: frames pile up in the device's fifo, and no read stamp would tell."""
    source = open_source("sim://street?w=160&h=120&fps=30&frames=60&live=1&fifo=1000")
    sink = Collector()
    Pipeline(source, FakeEngine(SPEC, latency=0.05), [sink], PipelineOptions(policy="every")).run()
    ages = [item.stamps.rendered - item.frame.captured for item in sink.items]
    expected = 60 * (0.05 - 1 / 30)  # what a 20 fps consumer is behind a 30 fps producer after 60 frames
    assert ages[-1] > 0.8 * expected
    assert len(sink.items) == 60


def test_a_run_can_be_stopped() -> None:
    sink = Collector()
    pipeline = Pipeline(Numbers(10_000, interval=0.001), FakeEngine(SPEC), [sink])
    threading.Timer(0.2, pipeline.stop, ["Ctrl-C"]).start()
    begin = time.monotonic()
    report = pipeline.run()
    assert report.ended == "Ctrl-C" and 0 < report.frames.shown < 10_000
    assert time.monotonic() - begin < 2
    assert sink.closed == 1


def test_a_paced_source_is_not_waited_for() -> None:
    slow = Selection(open_source("sim://street?w=160&h=120&fps=0.2"), pace="source")
    pipeline = Pipeline(slow, FakeEngine(SPEC), [Collector()])
    threading.Timer(0.5, pipeline.stop, ["Ctrl-C"]).start()
    begin = time.monotonic()
    pipeline.run()
    assert time.monotonic() - begin < 2, "the next frame would be due in five seconds"


def test_a_sink_can_end_the_run() -> None:
    sink = Collector(stop_at=5)
    report = Pipeline(Numbers(10_000), FakeEngine(SPEC), [sink]).run()
    assert report.ended == "quit" and report.frames.shown == 5
    frames = report.frames
    assert frames.received == frames.shown + sum(frames.dropped.values()) + frames.discarded


class Breaking(FakeEngine):
    """Breaks while it opens or at one batch (the first is the loop's warm-up)."""

    def __init__(self, at: int | str) -> None:
        super().__init__(SPEC, answer=echo)
        self.at = at
        self.batches = 0

    def _open(self) -> str:
        if self.at == "open":
            raise RuntimeError("the engine broke")
        return super()._open()

    def _start(self, frames: Image) -> tuple[float, Answer]:
        self.batches += 1
        if self.batches == self.at:
            raise RuntimeError("the engine broke")
        return super()._start(frames)


def broken_to_bgr() -> Numbers:
    source = Numbers(100)

    def paint(index: int) -> Callable[[Image | None], Image]:
        def to_bgr(out: Image | None) -> Image:
            if index == 10:
                raise RuntimeError("the decoder broke")
            return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

        return to_bgr

    source._paint = paint  # type: ignore[method-assign]
    return source


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("part", ["source", "convert", "engine opens", "engine", "first sink", "second sink"])
def test_a_stage_that_fails_ends_the_run_with_its_error(part: str, depth: int) -> None:
    source = Numbers(100, fail_at=10 if part == "source" else None)
    if part == "convert":
        source = broken_to_bgr()
    engine: FakeEngine = FakeEngine(SPEC, answer=echo, options=EngineOptions(depth=depth))
    if part.startswith("engine"):
        engine = Breaking("open" if part == "engine opens" else 12)
    sinks = [Collector(fail_at=10 if part.startswith(name) else None) for name in ("first", "second")]
    pipeline = Pipeline(source, engine, sinks)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="broke"):
        pipeline.run()
    assert time.monotonic() - begin < 2
    assert source.closed >= 1
    assert [sink.closed for sink in sinks] == [1, 1]
    report = pipeline.report()
    assert report.ended.startswith("error")
    if part in ("source", "engine"):
        assert report.frames.shown == 10, "what was captured before the fault is shown"


def test_a_failed_sink_does_not_keep_the_others_open() -> None:
    class Refuses(Collector):
        def open(self, info: object, spec: object) -> None:
            raise RuntimeError("the disk broke")

        def close(self) -> None:
            raise RuntimeError("still broken")

    first, last = Collector(), Collector()
    with pytest.raises(RuntimeError, match="the disk broke"):
        Pipeline(Numbers(10), FakeEngine(SPEC), [first, Refuses(), last]).run()
    assert (first.opened, first.closed) == (1, 1)
    assert (last.opened, last.closed) == (0, 0)


def test_an_interrupt_in_the_caller_closes_everything() -> None:
    class Interrupts(Collector):
        def write(self, item: object) -> None:
            raise KeyboardInterrupt

    source, other = Numbers(100), Collector()
    with pytest.raises(KeyboardInterrupt):
        Pipeline(source, FakeEngine(SPEC), [Interrupts(), other]).run()
    assert other.closed == 1 and source.closed >= 1


def test_an_interrupt_while_a_stage_is_waited_for_closes_the_sinks() -> None:
    """Who loses patience with a hanging engine presses Ctrl-C again: the recording is finished all the same."""
    sink = Collector()
    pipeline = Pipeline(Numbers(10), FakeEngine(SPEC), [sink])

    def interrupted() -> None:
        ended()
        raise KeyboardInterrupt

    ended = pipeline._end_workers
    pipeline._end_workers = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    assert sink.closed == 1


@pytest.mark.parametrize("stopped", [True, False])
def test_a_source_that_is_lost_while_it_is_stopped_is_no_error(stopped: bool) -> None:
    options = SourceOptions(read_timeout=1.0, reconnect=None)
    source = open_source("sim://street?w=160&h=120&live=1&stall=20s&stall_at=0.3s", options)
    pipeline = Pipeline(source, FakeEngine(SPEC), [Collector()])
    if stopped:
        threading.Timer(0.6, pipeline.stop, ["Ctrl-C"]).start()
        assert pipeline.run().ended == "Ctrl-C"
    else:
        with pytest.raises(SourceLost):
            pipeline.run()


@pytest.mark.parametrize("kind", ["video", "images"])
def test_the_first_frame_of_a_file_is_as_fresh_as_the_others(kind: str, tmp_path: Path) -> None:
    """It is decoded when the file is opened, which is before the engine is: that is not its age."""
    path = tmp_path / ("clip.mp4" if kind == "video" else "one.png")
    if kind == "video":
        Pipeline(Numbers(3), FakeEngine(SPEC), [VideoFile(path)]).run()
    else:
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))

    class Slow(FakeEngine):
        def _open(self) -> str:
            time.sleep(1.5)
            return super()._open()

    report = Pipeline(open_source(str(path)), Slow(SPEC)).run()
    assert report.age is not None and report.age.max < 1000


def test_head_up_display_and_views_follow_the_sinks() -> None:
    overlay, side = Collector("overlay"), Collector("side-by-side")
    options = PipelineOptions(render=RenderOptions(hud=True))
    Pipeline(Numbers(3), FakeEngine(SPEC, answer=echo), [overlay, side], options).run()
    assert overlay.items[0].pictures["overlay"].shape == (HEIGHT, WIDTH, 3)
    assert side.items[0].pictures["side-by-side"].shape == (HEIGHT, 2 * WIDTH, 3)


def test_batches_are_refused() -> None:
    header = EngineHeader(SPEC, "fake", "fp32", "", options={"batch": 4})
    engine = FakeEngine(SPEC)
    engine.header, engine.batch = header, 4
    with pytest.raises(UsageError, match="batches of 4"):
        Pipeline(Numbers(1), engine)


def ramp(frames: Image) -> Image:
    """A confidence that takes every value."""
    values = np.arange(frames.shape[1] * frames.shape[2], dtype=np.uint32) % 256
    return values.astype(np.uint8).reshape(1, *frames.shape[1:3])


@pytest.mark.parametrize(
    ("least", "first"),
    [
        (None, 0),
        (0.0, 0),
        (1e-9, 1),
        (0.2, 51),
        (0.2 + 1e-12, 52),
        (0.5, 128),
        (97 / 255, 97),
        (251 / 255, 251),
        (1, 255),
    ],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_pixels_below_the_least_confidence_get_no_class(least: float | None, first: int, depth: int) -> None:
    engine = FakeEngine(
        SPEC, answer=lambda frames: frames[..., 0] % 11, options=EngineOptions(depth=depth), confidence=ramp
    )
    sink = Collector()
    report = run(Numbers(5), engine, [sink], RunOptions(min_confidence=least))
    assert [item.frame.index for item in sink.items] == list(range(5))
    for item in sink.items:
        sure = ramp(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))[0] >= first
        assert (item.class_map == np.where(sure, item.frame.index, 255)).all() and item.class_map.dtype == np.uint8
    assert report.engine.get("min_confidence") == (least or None)
    assert report.stages["infer"].count == 5


@pytest.mark.parametrize(("classes", "dtype"), [(255, np.uint8), (256, np.int32), (300, np.int32)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_unknown_is_never_a_class_whatever_their_number_and_the_fit(classes: int, dtype: type, fit: Fit) -> None:
    labels = LabelSet("many", tuple(map(str, range(classes))), distinct_palette(255) + distinct_palette(classes - 255))
    spec = ModelSpec("many", "fake", 40, 40, labels, fit=fit)  # the frames are 60x80

    def last(frames: Image) -> ClassMap:
        return np.full(frames.shape[:3], classes - 1, spec.class_dtype)

    def right_half(frames: Image) -> Image:
        confidence = np.zeros(frames.shape[:3], np.uint8)
        confidence[:, :, 20:] = 255
        return confidence

    sink = Collector("overlay")
    engine = FakeEngine(spec, answer=last, confidence=right_half)
    run(Numbers(2), engine, [sink], RunOptions(min_confidence=0.5))
    seen = slice(40, 70) if fit == "crop" else slice(40, 80)
    for item in sink.items:
        expected = np.full((HEIGHT, WIDTH), no_class(classes))
        expected[:, seen] = classes - 1
        assert (item.class_map == expected).all() and item.class_map.dtype == dtype


def test_a_threshold_needs_an_engine_that_gives_a_confidence() -> None:
    source = Numbers(3)
    with pytest.raises(UsageError, match=r"engine of tiny gives no confidence, .*build-engine MODEL --confidence'$"):
        run(source, FakeEngine(SPEC), options=RunOptions(min_confidence=0.5))
    assert source.closed >= 1
    run(Numbers(3), FakeEngine(SPEC), options=RunOptions(min_confidence=0))


@pytest.mark.parametrize("least", [-0.1, 1.01, float("nan")])
def test_a_least_confidence_is_a_probability(least: float) -> None:
    for options in (RunOptions, PipelineOptions):
        with pytest.raises(UsageError, match=r"expected 0 .* to 1"):
            options(min_confidence=least)


@pytest.mark.parametrize(("least", "fit", "listed"), [(None, "stretch", 0), (0.5, "stretch", 1), (None, "crop", 1)])
def test_the_legend_lists_unknown_where_it_can_occur(least: float | None, fit: Fit, listed: int) -> None:
    spec = ModelSpec("tiny", "fake", HEIGHT, WIDTH, CAMVID, fit=fit)
    engine = FakeEngine(spec, confidence=lambda frames: np.full(frames.shape[:3], 255, np.uint8))
    sink = Collector("overlay")
    source = open_source("sim://street?w=640&h=480&frames=1")
    run(source, engine, [sink], RunOptions(min_confidence=least, render=RenderOptions(legend=True, alpha=0)))
    plain = Renderer(CAMVID, RenderOptions(legend=True, alpha=0, unknown=bool(listed)))
    item = sink.items[0]
    frame = plain.draw("frame", item.frame.to_bgr(None), item.class_map)
    assert (item.pictures["overlay"] == plain.draw("overlay", frame, item.class_map)).all()


class SlowToOpen(FakeEngine):
    """Opens only once it is released."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__(SPEC)
        self._release = release

    def _open(self) -> str:
        self._release.wait()
        return super()._open()


def test_a_run_that_is_stopped_while_its_engine_opens_slowly_ends_as_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rtpsp.stream.pipeline.JOIN_SECONDS", 0.05)
    release, sink = threading.Event(), Collector(stop_at=0)
    before = set(threading.enumerate())
    try:
        report = Pipeline(Numbers(3), SlowToOpen(release), [sink]).run()
    finally:
        release.set()
        for thread in set(threading.enumerate()) - before:
            thread.join()
    assert (report.ended, report.frames.received, sink.closed) == ("quit", 0, 1)
    assert ["still being opened" in record.getMessage() for record in caplog.records] == [True]


# --- planes ----------------------------------------------------------------------------------------------------------


def spec_of(channels: Channels, planes: int) -> ModelSpec:
    return ModelSpec(
        "tiny", "fake", HEIGHT, WIDTH, CAMVID, mean=(0.5,) * planes, std=(1.0,) * planes, channels=channels
    )


class Blue(Numbers):
    """Frames of one colour, or of one level and a fourth plane of another."""

    def __init__(self, pixel: tuple[int, ...]) -> None:
        super().__init__(3)
        self.info = replace(self.info, planes=len(pixel))  # type: ignore[arg-type]
        self._pixel = pixel

    def _paint(self, index: int) -> Callable[[Image | None], Image]:
        return lambda out: np.full((HEIGHT, WIDTH, len(self._pixel)), self._pixel, np.uint8)


@pytest.mark.parametrize(
    ("channels", "planes", "pixel", "seen"),
    [
        ("grey", 1, (200, 0, 0), (23,)),  # 0.114 of blue
        ("grey", 1, (7,), (7,)),
        ("grey", 1, (200, 0, 0, 99), (23,)),
        ("rgb", 3, (7,), (7, 7, 7)),
        ("rgb", 3, (1, 2, 3, 99), (1, 2, 3)),
        ("rgbx", 4, (1, 2, 3, 99), (1, 2, 3, 99)),
    ],
)
def test_a_model_sees_a_source_in_its_own_planes(
    channels: Channels, planes: int, pixel: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    given: list[Image] = []

    def look(frames: Image) -> ClassMap:
        given.append(frames.copy())
        return np.zeros((1, HEIGHT, WIDTH), np.uint8)

    sink = Collector("frame")
    Pipeline(Blue(pixel), FakeEngine(spec_of(channels, planes), answer=look), [sink]).run()
    assert all((frames[0] == seen).all() and frames.shape[3] == planes for frames in given[1:]) and len(given) == 4
    shown = pixel[:3] if len(pixel) > 1 else pixel * 3
    assert [(item.pictures["frame"] == shown).all() for item in sink.items] == [True] * 3


def test_a_source_without_the_fourth_plane_of_a_model() -> None:
    for pixel in ((1, 2, 3), (1,)):
        with pytest.raises(SourceError, match=rf"numbers is a source of {len(pixel)} plane\(s\) without a fourth"):
            Pipeline(Blue(pixel), FakeEngine(spec_of("bgrx", 4)))
