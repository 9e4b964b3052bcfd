"""Several sources through one engine: shared in turn, each counted for itself, none ended by another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import OutputError, SourceError, SourceLost, UsageError
from rtpsp.labels import CAMVID
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Absent, Frame, Rendered
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.report import FrameCounts, RunReport
from rtpsp.stream.sinks import Sinks
from rtpsp.stream.snapshot import Snapshot
from tests.stream.doubles import HEIGHT, WIDTH, Collector, Numbers

SPEC = ModelSpec("tiny", "fake", HEIGHT, WIDTH, CAMVID)


def echo(frames: Image) -> ClassMap:
    return np.ascontiguousarray(frames[..., 0])


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def adds_up(frames: FrameCounts) -> bool:
    return frames.received == frames.shown + sum(frames.dropped.values()) + frames.discarded and frames.discarded >= 0


def check_sums(report: RunReport) -> None:
    assert adds_up(report.frames) and all(adds_up(source.frames) for source in report.sources)
    for name in ("received", "shown", "discarded", "missed", "skipped"):
        assert getattr(report.frames, name) == sum(getattr(source.frames, name) for source in report.sources), name


class Losing(Numbers):
    """Is lost after some frames, or gives one whose picture it has not."""

    def __init__(self, count: int, at: int, where: str = "read") -> None:
        super().__init__(count)
        self._at, self._where = at, where

    def read(self) -> Frame | None:
        if self._where == "read" and self._next == self._at:
            raise SourceLost("numbers: unplugged")
        return super().read()

    def _paint(self, index: int) -> Callable[[Image | None], Image]:
        def broken(out: Image | None) -> Image:
            raise SourceLost("numbers: unplugged")

        return broken if self._where == "picture" and index == self._at else super()._paint(index)


@pytest.mark.parametrize("count", [1, 3])
def test_every_frame_of_every_source_arrives_in_order(count: int) -> None:
    sink = Collector("overlay")
    report = Pipeline([Numbers(20 + number) for number in range(count)], FakeEngine(SPEC, answer=echo), [sink]).run()
    for number in range(count):
        of_one = [item for item in sink.items if item.frame.source == number]
        assert [item.frame.index for item in of_one] == list(range(20 + number))
        assert all((item.class_map == item.frame.index).all() for item in of_one)
    assert [source.frames.shown for source in report.sources] == [20 + number for number in range(count)]
    assert {source.ended for source in report.sources} == {report.ended} == {"end of source"}
    assert report.stages["capture"].count == sum(21 + number for number in range(count))
    assert report.age is not None and report.age.count == len(sink.items) and report.source == report.sources[0].info
    check_sums(report)
    told = report.to_dict()["sources"][-1]
    assert told["frames"]["shown"] == 19 + count and told["age_ms"]["count"] == 19 + count and told["faults"] == {}


def test_live_sources_share_a_slow_engine_alike() -> None:
    sink = Collector()
    sources = [Numbers(60, live=True, interval=0.005) for _ in range(3)]
    report = Pipeline(sources, FakeEngine(SPEC, 0.02), [sink]).run()
    shown = [source.frames.shown for source in report.sources]
    assert max(shown) - min(shown) <= 2 and sum(shown) < 120
    assert all(source.frames.received == 60 and source.policy == "latest" for source in report.sources)
    check_sums(report)


@pytest.mark.parametrize("where", ["read", "picture"])
def test_a_source_that_is_lost_ends_itself_alone(where: str, caplog: pytest.LogCaptureFixture) -> None:
    sink = Collector("overlay")
    pipeline = Pipeline([Losing(50, 5, where), Numbers(60)], FakeEngine(SPEC, answer=echo), [sink])
    with pytest.raises(SourceLost, match="unplugged"):
        pipeline.run()
    report = pipeline.report()
    assert [source.frames.shown for source in report.sources] == [5, 60]
    assert [source.ended for source in report.sources] == ["error: numbers: unplugged", "end of source"]
    assert [record.getMessage() for record in caplog.records] == ["numbers: unplugged; the other sources go on"]
    check_sums(report)


def test_an_error_of_the_engine_goes_before_that_of_a_source_lost_long_ago() -> None:
    class Breaking(FakeEngine):
        def _finish(self, work: object) -> object:  # type: ignore[override]
            if ready.is_set():
                raise RuntimeError("the engine broke")
            return super()._finish(work)  # type: ignore[arg-type]

    class Releasing(Collector):
        def write(self, item: object) -> None:
            super().write(item)  # type: ignore[arg-type]
            if len(self.items) == 20:
                ready.set()

    ready = threading.Event()
    with pytest.raises(RuntimeError, match="the engine broke"):
        Pipeline([Losing(9, 3), Numbers(500)], Breaking(SPEC), [Releasing()]).run()


def test_a_source_that_cannot_be_opened_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    sink = Collector("overlay")
    uris = ["sim://street?w=160&h=120&frames=9", "nowhere.mp4"]
    pipeline = open_pipeline(uris, FakeEngine(SPEC), [sink], RunOptions(max_frames=7))
    with pytest.raises(SourceError, match=r"nowhere\.mp4"):
        pipeline.run()
    report = pipeline.report()
    assert report.threads.decoder == 1
    assert [source.frames.shown for source in report.sources] == [7, 0], "max_frames is each source's"
    assert "nowhere.mp4" in report.sources[1].ended and report.sources[1].faults == {"lost": 1}
    assert all(record.getMessage().endswith("the other sources go on") for record in caplog.records)
    with pytest.raises(SourceError, match=r"nowhere\.mp4"):
        open_pipeline(["nowhere.mp4", "nor/here"], FakeEngine(SPEC))


@pytest.mark.parametrize(("given", "words"), [([], "list of sources is empty"), ([3], "is a int"), (None, "NoneType")])
def test_what_is_no_source(given: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_pipeline(given, FakeEngine(SPEC))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no source"):
        Pipeline([], FakeEngine(SPEC))
    with pytest.raises(UsageError, match="stall time-out is 0"):
        RunOptions(stall_timeout=0)


def test_open_sources_are_closed_when_another_makes_the_run_impossible() -> None:
    source = Numbers(3)
    with pytest.raises(UsageError):
        open_pipeline([source, "sim://street"], FakeEngine(SPEC), options=RunOptions(min_confidence=0.5))
    assert source.closed >= 1


class Noise(Numbers):
    """Frames that differ, of a size of their own."""

    def __init__(self, seed: int, height: int) -> None:
        super().__init__(6)
        self._seed, self._height = seed, height

    def _paint(self, index: int) -> Callable[[Image | None], Image]:
        random = np.random.default_rng((self._seed, index // 2))
        return lambda out: random.integers(0, 255, (self._height, WIDTH, 3), np.uint8)


def test_each_source_has_its_own_filter_over_time_and_its_own_size() -> None:
    def scores(frames: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        small = frames[:, ::8, ::8].astype(np.float32).transpose(0, 3, 1, 2) / 64
        return np.ascontiguousarray(np.concatenate([small] * 4, axis=1)[:, :11])

    def maps(*sources: Noise) -> list[list[ClassMap]]:
        sink = Collector()
        engine = FakeEngine(SPEC, scores=scores, cells=(8, 10))
        Pipeline(sources, engine, [sink], PipelineOptions(smooth=True)).run()
        return [[item.class_map for item in sink.items if item.frame.source == n] for n in range(len(sources))]

    together = maps(Noise(1, HEIGHT), Noise(2, 2 * HEIGHT))
    for found, alone in zip(together, (maps(Noise(1, HEIGHT)), maps(Noise(2, 2 * HEIGHT))), strict=True):
        np.testing.assert_array_equal(found, alone[0])


def test_a_snapshot_can_be_taken_from_any_thread_at_any_time() -> None:
    taken: list[Snapshot] = []

    class Looking(Collector):
        def write(self, item: object) -> None:
            super().write(item)  # type: ignore[arg-type]
            thread = threading.Thread(target=lambda: taken.append(pipeline.snapshot()))
            thread.start()
            thread.join()

    pipeline = Pipeline([Numbers(12), Losing(9, 4)], FakeEngine(SPEC), [Looking("overlay")])
    before = pipeline.snapshot()
    assert not before.ready and [source.received for source in before.sources] == [0, 0]
    with pytest.raises(SourceLost):
        pipeline.run()
    after = pipeline.snapshot()
    for snapshot in (*taken, after):
        assert snapshot.ready
        for source in snapshot.sources:
            assert source.received >= source.shown + sum(source.dropped.values())
    assert [source.shown for source in after.sources] == [12, 4] and len(taken) == 16
    assert after.sources[1].ended == "error: numbers: unplugged" and after.sources[1].last_age is not None
    assert len(after.stages["infer"]) == 16 and after.stopping == ""


# --- no signal -------------------------------------------------------------------------------------------------------


class Watching(Collector):
    """Keeps what it gets while a source is away, and frees it after some pictures of that."""

    def __init__(self, free: threading.Event, after: int = 3) -> None:
        super().__init__("overlay")
        self.absences: list[Absent] = []
        self._free, self._after = free, after

    def absent(self, item: Absent) -> None:
        self.absences.append(item)
        if len(self.absences) == self._after:
            self._free.set()


class Silent(Numbers):
    """Gives no frame from one on, until it is freed."""

    def __init__(self, count: int, at: int, free: threading.Event, lost: bool = False) -> None:
        super().__init__(count, live=True)
        self._at, self._free, self._lost = at, free, lost

    def read(self) -> Frame | None:
        if self._next == self._at:
            if self._lost:
                self.health.fault("refused", "numbers: nothing listens there")
                self.health.lose()
            self._free.wait()
            self.health.regain()
        frame = super().read()
        return frame and replace(frame, pts=frame.captured)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.channel.SILENT_SECONDS", 0.1)
    monkeypatch.setattr("rtpsp.stream.rendering.ABSENT_SECONDS", 0.01)
    monkeypatch.setattr("rtpsp.stream.watchdog.LOOK_SECONDS", 0.02)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.usefixtures("impatient")
def test_a_source_without_a_signal_is_shown_as_such_and_not_counted(at: int, lost: bool) -> None:
    free = threading.Event()
    sink = Watching(free)
    options = PipelineOptions(policy="every")
    report = Pipeline([Numbers(4), Silent(5, at, free, lost)], FakeEngine(SPEC, answer=echo), [sink], options).run()
    assert [source.frames.shown for source in report.sources] == [4, 5]
    assert len(sink.absences) >= 3 and {item.source for item in sink.absences} == {1}
    for item in sink.absences:
        assert item.words.startswith("NO SIGNAL") and ("nothing listens there" in item.words) == lost
        assert item.picture.shape == ((HEIGHT, WIDTH, 3) if at else (480, 640, 3))
    shown = [item for item in sink.items if item.frame.source == 1]
    times = [item.frame.pts for item in shown[:at]] + [item.pts for item in sink.absences]
    if at:
        assert times == sorted(times) and times[-1] <= shown[-1].frame.pts, "on the time line of its frames"
    else:
        assert {item.pts for item in sink.absences} == {0.0}
    assert (report.sources[1].downtime > 0) == lost and report.sources[1].faults == ({"refused": 1} if lost else {})


def test_a_source_that_failed_is_shown_as_gone_once() -> None:
    sink = Watching(threading.Event())
    with pytest.raises(SourceLost):
        Pipeline([Losing(9, 3), Numbers(30, interval=0.01)], FakeEngine(SPEC), [sink]).run()
    (gone,) = sink.absences
    assert gone.source == 0 and "unplugged" in gone.words


def test_the_last_source_to_fail_ends_the_run_without_a_picture_of_that() -> None:
    class Waiting(Watching):
        def write(self, item: Rendered) -> None:
            super().write(item)
            while len(self.items) == 3 and pipeline.report().sources[0].ended == "":
                threading.Event().wait(0.001)

    sink = Waiting(threading.Event())
    pipeline = Pipeline(Losing(9, 3), FakeEngine(SPEC), [sink])
    with pytest.raises(SourceLost):
        pipeline.run()
    assert len(sink.items) == 3 and sink.absences == []


def test_a_source_that_is_away_at_the_end_has_been_so_until_then() -> None:
    class Away(Numbers):
        def read(self) -> Frame | None:
            self.health.lose()
            self.health.since -= 5.0
            raise SourceLost("numbers: given up")

    pipeline = Pipeline([Away(9), Numbers(3)], FakeEngine(SPEC))
    with pytest.raises(SourceLost):
        pipeline.run()
    away = pipeline.report().sources[0].downtime
    assert away == pytest.approx(5.0, abs=1.0) and pipeline.report().sources[0].downtime == away


def test_frames_that_nobody_asked_for_are_a_signal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Skipping(Numbers):
        skipped = 0

        def read(self) -> Frame | None:
            for second in range(4):
                at[0] += 1.0
                self.skipped += second < 2
                seen.append(channel.is_absent)
            return None

    at, seen = [100.0], list[bool]()
    for module in ("channel", "beat"):
        monkeypatch.setattr(f"rtpsp.stream.{module}.now", lambda: at[0])
    channel = Pipeline(Skipping(1, live=True), FakeEngine(SPEC))._channels[0]
    channel.start()
    assert channel.join(10)
    assert seen == [False, False, False, True]


# --- outputs that end ------------------------------------------------------------------------------------------------


class Full(Collector):
    """A recorder whose disk is full from one frame on."""

    def __init__(self, at: int) -> None:
        super().__init__("overlay")
        self._at = at

    @property
    def failure(self) -> OutputError | None:
        return OutputError("out.mp4: disk full") if len(self.items) >= self._at else None

    @property
    def dropped(self) -> int:
        return max(0, len(self.items) - self._at)

    @property
    def output(self) -> str:
        return "out.mp4"


@pytest.mark.parametrize("use", ["window", "observed", "nothing"])
def test_a_run_goes_on_without_an_output_as_long_as_it_has_a_use(
    use: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    sinks = [Full(3), Collector("overlay" if use == "window" else None)]
    pipeline = Pipeline(
        Numbers(200, interval=0.001), FakeEngine(SPEC), sinks, PipelineOptions(observed=use == "observed")
    )
    with caplog.at_level(logging.WARNING), pytest.raises(OutputError, match=r"out\.mp4: disk full"):
        pipeline.run()
    report = pipeline.report()
    assert (report.frames.shown == 200) == (use != "nothing")
    assert [record.getMessage() for record in caplog.records] == ["out.mp4: disk full"]
    assert report.outputs == ("out.mp4",) and report.ended == "error: out.mp4: disk full"
    assert report.sink_drops == ({"out.mp4": report.frames.shown - 3} if report.frames.shown > 3 else {})
    assert pipeline.snapshot().failures == ("out.mp4: disk full",) and [sink.closed for sink in sinks] == [1, 1]


def test_an_output_that_fails_of_the_same_again_is_told_of_once_for_each_time(caplog: pytest.LogCaptureFixture) -> None:
    class Retrying(Collector):
        why: OutputError | None = None

        @property
        def failure(self) -> OutputError | None:
            return self.why

    sink = Retrying("overlay")
    sinks = Sinks([sink], 30.0, observed=True)
    for why in ("disk full", "disk full", None, "disk full"):
        sink.why = OutputError(f"out.mp4: {why}") if why else None
        assert sinks.poll() == ""
    assert caplog.messages == ["out.mp4: disk full"] * 2
