from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import UsageError
from rtpsp.labels import CAMVID
from rtpsp.spec import EngineHeader, ModelSpec
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import open_source
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
    """A 30 fps camera in front of a 50 ms engine: a queue would be seconds behind by the end."""
    source = open_source("sim://street?w=160&h=120&fps=30&frames=240&live=1")
    sink = Collector()
    report = Pipeline(source, FakeEngine(SPEC, latency=0.05), [sink]).run()
    ages = [item.stamps.rendered - item.frame.captured for item in sink.items]
    assert np.percentile(ages, 99) < 0.15
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

    def _start(self, frames: Image) -> tuple[float, ClassMap]:
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
