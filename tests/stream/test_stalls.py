"""What hangs in a driver holds up nothing else: a read, an engine, a sink, each in a thread that nobody can end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from rtpsp.engine.base import Answer
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError, OutputError, SourceLost
from rtpsp.labels import CAMVID
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.spec import ModelSpec
from rtpsp.stream.channel import MOST_LEFT, Channel, SharedSeries
from rtpsp.stream.frame import Absent, Frame, Rendered
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import Source, SourceInfo, SourceOptions
from rtpsp.stream.turns import Turns
from tests.stream.doubles import HEIGHT, WIDTH, Collector, Numbers

SPEC = ModelSpec("tiny", "fake", HEIGHT, WIDTH, CAMVID)
QUICK = PipelineOptions(policy="every", stall_timeout=0.3, read_limit=0.3)


@pytest.fixture(autouse=True)
def quick_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.watchdog.LOOK_SECONDS", 0.02)


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """Frees whatever hangs when the test is over, and sees that its thread ends then."""
    before, event = set(threading.enumerate()), threading.Event()
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


class Hanging(Numbers):
    """A read hangs until it is freed; what takes its place, if anything does, goes on from there."""

    def __init__(self, free: threading.Event, at: int, *, live: bool = True, heir: bool = False) -> None:
        super().__init__(8, live=live)
        self.free, self.at, self.heir = free, at, heir

    def read(self) -> Frame | None:
        if self._next == self.at:
            self.free.wait()
        return super().read()

    def successor(self) -> Source | None:
        if not self.heir:
            return None
        heir = Numbers(8, live=True)
        heir._next, heir.health = self._next, self.health
        self.health.fault("stalled", "numbers: opened anew")
        return heir


@pytest.mark.parametrize("selected", [True, False])
def test_a_live_source_whose_read_hangs_is_opened_anew(selected: bool, free: threading.Event) -> None:
    source, sink, other = Hanging(free, 3, heir=True), Collector(), Numbers(5)
    sources = [Selection(source, max_frames=7) if selected else source, other]
    pipeline = Pipeline(sources, FakeEngine(SPEC), [sink], QUICK)
    report = pipeline.run()
    expected = list(range(7 if selected else 8))
    assert [item.frame.index for item in sink.items if item.frame.source == 0] == expected
    assert report.sources[0].faults == {"stalled": 1} and report.sources[1].faults == {}
    free.set()
    while not source.closed:  # by the thread that was left behind
        threading.Event().wait(0.01)
    late = pipeline.report()
    assert late.frames == report.frames and late.ended == report.ended, "it touches nothing any more"
    assert report.frames.discarded == 0


def test_a_live_source_that_cannot_be_opened_anew_is_given_up(free: threading.Event) -> None:
    source, sink = Hanging(free, 3), Collector()
    with pytest.raises(SourceLost, match=r"capture of numbers has not come back for \d+ s: check the device") as caught:
        Pipeline([source, Numbers(5)], FakeEngine(SPEC), [sink], QUICK).run()
    assert caught.value.kind == "stalled" and len(sink.items) == 3 + 5 and sink.closed == 1


def test_a_read_that_comes_back_while_another_source_takes_over_does_not_end_the_run(free: threading.Event) -> None:
    class ComingBack(Hanging):
        def read(self) -> Frame | None:
            if self._next == self.at:
                self.free.wait()
                return None  # as one that has been left behind
            return super().read()

        def successor(self) -> Source | None:
            self.free.set()
            while not self.closed:
                threading.Event().wait(0.01)
            return super().successor()

    report = Pipeline(ComingBack(free, 3, heir=True), FakeEngine(SPEC), [], QUICK).run()
    assert (report.frames.shown, report.ended) == (8, "end of source")


class Endless(Hanging):
    """Each of them hangs from its first read on, and has a successor; `heirs` are all of them."""

    def __init__(self, free: threading.Event, heirs: list[Endless]) -> None:
        super().__init__(free, 0)
        self.heirs, self.interrupted = heirs, 0
        heirs.append(self)

    def successor(self) -> Source | None:
        return Endless(self.free, self.heirs)

    def interrupt(self) -> None:
        self.interrupted += 1


def channel_of(source: Source, lost: list[BaseException], over: list[str]) -> Channel:
    frames: Turns[Frame] = Turns(["latest"], lambda frame: frame.source)
    return Channel(
        0, source, "latest", frames, SharedSeries(), 30.0, lambda channel, error: lost.append(error),
        lambda: "".join(over),
    )  # fmt: skip


def test_threads_that_hang_do_not_become_ever_more(free: threading.Event) -> None:
    heirs: list[Endless] = []
    lost: list[BaseException] = []
    channel = channel_of(Endless(free, heirs), lost, [])
    channel.start()
    assert [channel.leave_behind("it hangs") for _ in range(MOST_LEFT + 1)] == [True] * MOST_LEFT + [False]
    assert len(heirs) == MOST_LEFT + 1 and isinstance(lost[0], SourceLost) and channel.ended == f"error: {lost[0]}"
    assert heirs[-1].interrupted == 1, "it need not go on with what it does"


def test_what_takes_over_while_the_run_ends_is_interrupted(free: threading.Event) -> None:
    heirs: list[Endless] = []
    over: list[str] = []
    channel = channel_of(Endless(free, heirs), [], over)
    channel.start()
    channel.leave_behind("it hangs")
    over.append("quit")
    channel.leave_behind("it hangs")
    assert [heir.interrupted for heir in heirs] == [0, 0, 1]


def test_a_stall_that_is_told_of_after_the_end_changes_nothing(free: threading.Event) -> None:
    lost: list[BaseException] = []
    channel = channel_of(Numbers(0, live=True), lost, [])
    channel.start()
    assert channel.join(10)
    channel.leave_behind("it hangs")
    assert channel.ended == "end of source" and lost == []


def test_a_file_is_told_of_and_waited_for(free: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    class Freeing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            free.set()

    handler = Freeing(logging.WARNING)
    logging.getLogger("rtpsp.stream.watchdog").addHandler(handler)
    try:
        report = Pipeline(Hanging(free, 3, live=False), FakeEngine(SPEC), [], QUICK).run()
    finally:
        logging.getLogger("rtpsp.stream.watchdog").removeHandler(handler)
    assert report.frames.shown == 8 and "capture of numbers has not come back" in caplog.text


def test_tries_to_reconnect_are_no_stall(free: threading.Event) -> None:
    class Trying(Hanging):
        def read(self) -> Frame | None:
            if self._next == self.at:
                self.health.lose()
                for attempt in range(8):
                    self.health.attempt = attempt
                    free.wait(0.1)
                self.health.regain()
                self.at = -1
            return super().read()

    report = Pipeline(Trying(free, 3), FakeEngine(SPEC), [], QUICK).run()
    assert report.frames.shown == 8 and report.sources[0].faults == {}


class HangingEngine(FakeEngine):
    """Hangs from one batch on; the first is the loop's warm-up."""

    def __init__(self, free: threading.Event, at: int) -> None:
        super().__init__(SPEC)
        self._free, self._at, self._batches = free, at, 0

    def _finish(self, work: tuple[float, Answer]) -> Answer:
        self._batches += 1
        if self._batches == self._at:
            self._free.wait()
        return super()._finish(work)


def test_an_engine_that_hangs_fails_the_run_and_the_recordings_are_closed(free: threading.Event) -> None:
    sink = Collector("overlay")
    pipeline = Pipeline(Numbers(50), HangingEngine(free, 5), [sink], QUICK)
    with pytest.raises(MissingError, match=r"the engine hangs: infer has not come back for .*--stall-timeout"):
        pipeline.run()
    assert not free.is_set() and (len(sink.items), sink.closed) == (3, 1)
    report = pipeline.report()
    frames = report.frames
    assert report.ended.startswith("error: the engine hangs")
    assert frames.received == frames.shown + sum(frames.dropped.values()) + frames.discarded
    assert pipeline.snapshot().stopping.startswith("error: the engine hangs")


def test_an_engine_may_take_its_time_to_open(free: threading.Event) -> None:
    assert Pipeline(Numbers(3), SlowEngine(free, 1), [], QUICK).run().frames.shown == 3


class SlowEngine(HangingEngine):
    def _finish(self, work: tuple[float, Answer]) -> Answer:
        self._batches += 1
        if self._batches == self._at:
            self._free.wait(1.0)
        return super()._finish(work)


class HangingSink(Collector):
    def __init__(self, free: threading.Event, where: str) -> None:
        super().__init__("overlay")
        self._free, self._where = free, where

    def write(self, item: Rendered) -> None:
        if self._where == "write" and len(self.items) == 3:
            self._free.wait()
        super().write(item)

    def absent(self, item: Absent) -> None:
        del item

    def close(self) -> None:
        if self._where == "close":
            self._free.wait()
        super().close()


class Recorder(Collector):
    @property
    def output(self) -> str:
        return "out.mp4"


@pytest.mark.parametrize("where", ["write", "close"])
def test_a_sink_that_hangs_has_the_recordings_closed_and_is_told(where: str, free: threading.Event) -> None:
    told: list[str] = []
    hanging, recorder, window = HangingSink(free, where), Recorder("overlay"), Collector("overlay")

    def on_hang(message: str) -> None:
        told.append(message)
        assert recorder.closed == 1 and hanging.closed == 0 and window.closed == 0
        free.set()  # where the command line would end the process

    options = PipelineOptions(policy="every", stall_timeout=0.3, on_hang=on_hang)
    with pytest.raises(OutputError, match=r"sink of HangingSink has not come back for .* recordings were closed"):
        Pipeline(Numbers(20, live=True), FakeEngine(SPEC), [hanging, recorder, window], options).run()
    assert len(told) == 1 and [sink.closed for sink in (hanging, recorder, window)] == [1, 1, 1]


def test_where_nothing_is_live_a_slow_disk_is_waited_for(free: threading.Event) -> None:
    class Slow(HangingSink):
        def write(self, item: Rendered) -> None:
            if len(self.items) == 3:
                free.wait(0.8)
            super().write(item)

    sink = Slow(free, "")
    assert Pipeline(Numbers(9), FakeEngine(SPEC), [sink], QUICK).run().frames.shown == 9


def test_a_read_of_the_network_is_not_waited_for_at_the_end(
    free: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rtpsp.stream.pipeline.NETWORK_JOIN_SECONDS", 0.05)
    source = Hanging(free, 3)
    source.info = SourceInfo("rtsp://door", "network", HEIGHT, WIDTH, live=True)
    sink = Collector(stop_at=3)
    with caplog.at_level(logging.DEBUG):
        report = Pipeline(source, FakeEngine(SPEC), [sink], PipelineOptions(policy="every")).run()
    assert report.ended == report.sources[0].ended == "quit" and not free.is_set()
    assert "rtsp://door: a read was still waiting when the run ended" in caplog.text


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (RunOptions(), 40.0),
        (RunOptions(stall_timeout=7.0), 40.0),
        (RunOptions(source=SourceOptions(open_timeout=60.0)), 140.0),
        (RunOptions(source=SourceOptions(read_timeout=20.0)), 45.0),
        (RunOptions(source=SourceOptions(read_timeout=1.0)), 26.0),  # a try to open it may take 10 s twice
    ],
)
def test_a_read_may_take_as_long_as_its_time_out(options: RunOptions, limit: float) -> None:
    pipeline = open_pipeline(Numbers(1), FakeEngine(SPEC), options=options)
    assert pipeline._channels[0].beat.limit == limit
