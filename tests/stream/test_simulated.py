"""The simulator: what a URI may say, and each fault, on a clock of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.errors import SourceError, SourceLost
from rtpsp.sim.timecode import read_timecode
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.simulated import FileSimulator, LiveSimulator, Simulation, parse_simulation
from rtpsp.stream.source import SourceOptions, open_source


class Time:
    """A clock that only a sleep moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FlatScene:
    """Picture i is grey level i; its class ids too."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width, 3)

    def draw(self, index: int, out: Image | None = None) -> Image:
        out = np.empty(self.shape, np.uint8) if out is None else out
        out[:] = index % 256
        return out

    def truth(self, index: int) -> Image:
        return np.full(self.shape[:2], index % 256, np.uint8)


def camera(query: str, **options: float | bool) -> tuple[LiveSimulator, Time]:
    uri = f"sim://street?w=160&h=120&live=1&{query}"
    simulation, time = parse_simulation(uri), Time()
    scene = FlatScene(simulation.h, simulation.w)
    settings = SourceOptions(**options)  # type: ignore[arg-type]
    return LiveSimulator(uri, simulation, scene, settings, clock=time.clock, sleep=time.sleep), time


def watch(source: LiveSimulator, time: Time, work: float = 0.0) -> list[tuple[Frame, float]]:
    """Read to the end with so many seconds of work after each frame: the frames and when each arrived."""
    seen = []
    while (frame := source.read()) is not None:
        seen.append((frame, time.now - 1000.0))
        time.now += work
    return seen


def indices(seen: list[tuple[Frame, float]]) -> list[int]:
    return [frame.index for frame, _ in seen]


def test_all_parameters_are_understood() -> None:
    uri = (
        "sim://street?w=960&h=720&fps=12.5&frames=300&seed=4&live=1&timecode=1&stall=5s&stall_at=2s&drop=2%&jitter=40ms"
        "&burst=6&fifo=30&slow=10&die=5s&die_for=2s&die_every=9s&refuse=authentication&resize=320x240&hang=6s"
        "&hang_for=2h&dup=1%&back=3%&unstamped=4%&jump=-1h&jump_at=7s"
    )
    assert parse_simulation(uri) == Simulation(
        960, 720, 12.5, 300, 4, True, True, 0.04, 6, 0.02, 5.0, 2.0, 30, 10, 5.0, 2.0, 9.0, "authentication",
        (320, 240), 6.0, 7200.0, 0.01, 0.03, 0.04, -3600.0, 7.0,
    )  # fmt: skip
    assert parse_simulation("sim://street") == Simulation()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("widht=3", r"no parameter widht=3: .*there are w, h"),
        ("ste=1", r"no parameter ste=1: did you mean seed\?"),
        ("w=0", r"w=0 is not a number of pixels"),
        ("w=ten", r"w=ten is not"),
        ("fps=nan", r"fps=nan is not a rate"),
        ("seed=-1", r"seed=-1 is not"),
        ("frames=", r"frames= is not"),
        ("live=yes", r"live=yes is not 0 or 1"),
        ("live=1&jitter=40", r"jitter=40 is not a time such as 5s or 40ms"),
        ("live=1&drop=100%", r"drop=100% is not a share"),
        ("drop=2%", r"drop is a camera's fault and needs live=1"),
        ("dup=2%", r"dup is a camera's fault and needs live=1"),
        ("live=1&die=-1s", r"die=-1s is not a time"),
        ("live=1&die_for=2s", r"die_for has no effect without die: give both"),
        ("live=1&jump_at=2s", r"jump_at has no effect without jump"),
        ("live=1&die=1s&die_for=4s&die_every=4s", r"away for 4 s every 4 s: give a longer die_every"),
        ("live=1&die=1s&refuse=often", r"refuse=often is not one of refused, unreachable"),
        ("live=1&die=1s&resize=320", r"resize=320 is not a size in pixels such as 320x240"),
        ("live=1&die=1s&resize=20x20", r"at least 120x160"),
        ("w=320&w=640", r"w is given twice"),
        ("w=100&h=50", r"at least 120x160"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        open_source(f"sim://street?{query}")


def test_an_unknown_scene_is_named() -> None:
    with pytest.raises(SourceError, match=r"no scene 'beach'.*sim://street"):
        open_source("sim://beach")


def test_the_street_comes_with_its_truth() -> None:
    with open_source("sim://street?w=160&h=120&frames=3&fps=10") as source:
        assert (source.info.kind, source.info.frames, source.info.live, source.info.fps) == ("sim", 3, False, 10)
        frames = [source.read() for _ in range(4)]
        assert frames[3] is None
        first = frames[0]
        assert first is not None and first.truth is not None
        assert first.to_bgr(None).shape == (120, 160, 3)
        assert first.truth().shape == (120, 160)
        assert [f.pts for f in frames if f] == pytest.approx([0, 0.1, 0.2])


def test_a_file_draws_only_what_is_asked_for() -> None:
    class Counting(FlatScene):
        drawn = 0

        def draw(self, index: int, out: Image | None = None) -> Image:
            self.drawn += 1
            return super().draw(index, out)

    scene = Counting(120, 160)
    source = FileSimulator("sim://street", Simulation(160, 120), scene, SourceOptions(start=1.0, end=1.1))
    frames = [frame for frame in iter(source.read, None)]
    assert scene.drawn == 0
    assert [int(f.to_bgr(None)[0, 0, 0]) for f in frames] == [30, 31, 32]
    assert scene.drawn == 3


def test_a_file_in_a_loop_goes_on_in_time() -> None:
    source = FileSimulator(
        "sim://street", Simulation(160, 120, frames=2), FlatScene(120, 160), SourceOptions(loop=True)
    )
    frames = [source.read() for _ in range(5)]
    assert [int(f.to_bgr(None)[0, 0, 0]) for f in frames if f] == [0, 1, 0, 1, 0]
    assert [f.pts for f in frames if f] == pytest.approx([i / 30 for i in range(5)])
    source.close()
    assert source.read() is None


def test_the_time_code_of_a_file_is_its_own_time() -> None:
    with open_source("sim://street?w=320&h=240&frames=3&fps=8&timecode=1") as source:
        for expected in (0, 125_000, 250_000):
            frame = source.read()
            assert frame is not None
            assert read_timecode(frame.to_bgr(None)) == expected


def test_a_camera_exposes_by_its_own_clock() -> None:
    source, time = camera("fps=10&frames=5")
    seen = watch(source, time)
    assert [at for _, at in seen] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [frame.captured for frame, _ in seen] == pytest.approx([1000, 1000.1, 1000.2, 1000.3, 1000.4])
    assert source.missed == 0


def test_a_ring_of_one_gives_a_slow_reader_the_newest() -> None:
    source, time = camera("fps=10&frames=11")
    seen = watch(source, time, work=0.35)
    assert indices(seen) == [0, 3, 7, 10]
    assert source.missed == 7
    assert all(at - (frame.captured - 1000) < 0.1 for frame, at in seen)


def test_a_backlog_gives_everything_late_and_captured_shows_it() -> None:
    # 30 fps into a reader of 8 fps for 20 s.
    source, time = camera("fps=30&frames=160&fifo=1000")
    seen = watch(source, time, work=1 / 8)
    assert indices(seen) == list(range(160))
    assert source.missed == 0
    frame, at = seen[-1]
    assert at - (frame.captured - 1000) == pytest.approx(159 / 8 - 159 / 30, abs=0.01)


def test_a_burst_is_delivered_at_once() -> None:
    source, time = camera("fps=10&frames=8&burst=3&fifo=10")
    assert [at for _, at in watch(source, time)] == pytest.approx([0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 0.7, 0.7])


def test_jitter_keeps_the_order_and_its_bounds() -> None:
    source, time = camera("fps=30&frames=200&jitter=80ms&fifo=100")
    seen = watch(source, time)
    delays = np.array([at - i / 30 for i, (_, at) in enumerate(seen)])
    assert indices(seen) == list(range(200))
    assert delays.min() >= 0 and 0.07 < delays.max() <= 0.0801
    assert delays.std() > 0.01
    again, time = camera("fps=30&frames=200&jitter=80ms&fifo=100")
    assert [at for _, at in watch(again, time)] == pytest.approx([at for _, at in seen])


def test_drops_are_gaps_and_counted_even_at_the_end() -> None:
    source, time = camera("fps=30&frames=500&drop=20%&seed=3")
    seen = watch(source, time)
    assert source.missed == 500 - len(seen)
    assert 60 < source.missed < 140
    assert all(frame.pts == pytest.approx(frame.index / 30) for frame, _ in seen)
    other, time = camera("fps=30&frames=500&drop=20%&seed=4")
    assert indices(watch(other, time)) != indices(seen)


def test_a_stall_delivers_nothing_and_then_what_the_fifo_holds() -> None:
    source, time = camera("fps=10&frames=30&stall=1.05s&fifo=100")
    seen = watch(source, time)
    arrivals = [at for _, at in seen]
    assert indices(seen) == list(range(30))
    assert max(np.diff(arrivals)) == pytest.approx(1.15)
    assert arrivals[10:21] == pytest.approx([2.05] * 11)
    ring, time = camera("fps=10&frames=30&stall=1.05s&stall_at=2s")
    seen = watch(ring, time)
    assert indices(seen) == [*range(20), 29]
    assert ring.missed == 9


def test_a_stall_beyond_the_time_out_is_a_loss() -> None:
    source, time = camera("fps=10&stall=5s&stall_at=1s", read_timeout=0.5)
    for _ in range(10):
        assert source.read() is not None
    before = time.now
    with pytest.raises(SourceLost, match=r"no frame for 0\.5 s"):
        source.read()
    assert time.now - before == pytest.approx(0.5)


def test_a_camera_that_dies_is_lost_at_that_moment_and_refuses_until_it_is_back() -> None:
    source, time = camera("fps=10&die=1s&die_for=2s&die_every=5s&refuse=authentication&resize=200x160")
    assert indices([(frame, 0.0) for frame in (source.read() for _ in range(10)) if frame]) == list(range(10))
    with pytest.raises(SourceLost, match="went away") as lost:
        source.read()
    assert lost.value.kind == "lost" and time.now == pytest.approx(1001.0)
    time.now = 1002.9
    with pytest.raises(SourceError, match="cannot be opened: authentication") as refused:
        source.reopen()
    assert refused.value.kind == "authentication"
    time.now = 1003.05
    again = source.reopen()
    assert source.read() is None, "of two connections only the newer one is served"
    assert (again.info.height, again.info.width) == (160, 200)
    frame = again.read()
    assert frame is not None and (frame.index, frame.height, again.missed) == (31, 160, 0)
    assert time.now == pytest.approx(1003.1)
    time.now = 1009.0  # it died at 6 s and came back at 8 s, while nobody looked
    with pytest.raises(SourceLost, match="went away"):
        again.read()


def test_a_read_that_hangs_does_so_once_and_whatever_the_time_out() -> None:
    source, time = camera("fps=10&hang=1s&hang_for=90s")
    frames = [source.read() for _ in range(12)]
    assert [frame.index for frame in frames if frame] == [*range(11), 910]
    assert time.now == pytest.approx(1091.0)


def test_a_camera_slower_than_it_promised_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    source, time = camera("fps=30&slow=15&frames=480")
    seen = watch(source, time)
    assert source.info.fps == 30 and source.missed == 0
    assert [at for _, at in seen] == pytest.approx([i / 15 for i in range(480)])
    assert source.health.stamps == {"slow": 3}
    assert [record.getMessage().split("?")[0] for record in caplog.records] == ["sim://street"]
    assert "promises 30 frames a second and gives 15: more light" in caplog.text


@pytest.mark.parametrize(
    ("fault", "stamps"),
    [
        ("dup=10%", {"duplicate": 33}),
        ("back=10%", {"backwards": 27}),
        ("unstamped=10%", {"missing": 36}),
        ("jump=1h", {"jump": 1}),
        ("jump=-1h&jump_at=2s", {"jump": 1}),
    ],
)
def test_faults_of_time_stamps_are_counted_and_change_no_order(fault: str, stamps: dict[str, int]) -> None:
    source, time = camera(f"fps=30&frames=300&seed=2&{fault}")
    seen = watch(source, time)
    assert source.health.stamps == stamps
    times = [frame.pts for frame, _ in seen]
    assert times == sorted(set(times)) and times == pytest.approx([at for _, at in seen], abs=0.06)
    assert max(at - (frame.captured - 1000) for frame, at in seen) < 0.06


def test_frames_after_which_a_loop_starts_again() -> None:
    source, _ = camera("fps=10&frames=3", loop=True)
    frames = [source.read() for _ in range(7)]
    assert [int(f.to_bgr(None)[0, 0, 0]) for f in frames if f] == [0, 1, 2, 0, 1, 2, 0]
    assert source.info.frames is None


def test_the_time_code_of_a_camera_is_the_true_exposure() -> None:
    # Delivered up to 30 ms late: captured says when, but for the smallest delay, which nobody can see.
    source, time = camera("fps=30&frames=120&jitter=30ms&timecode=1&fifo=100")
    lateness = []
    for frame, _ in watch(source, time):
        stamp = read_timecode(frame.to_bgr(None))
        assert stamp is not None
        lateness.append(frame.captured - stamp / 1e6)
    assert 0 <= lateness[-1] < 0.003
    assert max(lateness) <= 0.0301


def test_a_real_run_keeps_real_time() -> None:
    with open_source("sim://street?w=160&h=120&fps=50&frames=10&live=1") as source:
        frames = [frame for frame in iter(source.read, None)]
    assert source.info.live
    assert frames[-1].captured - frames[0].captured == pytest.approx(9 / 50, abs=0.05)
    assert len(frames) + source.missed == 10
