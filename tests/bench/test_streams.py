"""Several streams through one engine: camera clocks, turns, drops, and an end without threads left."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rtpsp.bench.frames import PictureSource
from rtpsp.bench.streams import ClockedPictures, run_streams
from rtpsp.engine.base import Engine
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Frame

PICTURES = [np.full((48, 64, 3), value, np.uint8) for value in (1, 2, 3)]


def engine(latency: float = 0.0) -> Engine:
    return FakeEngine(ModelSpec("fake", "fake", 48, 64, CAMVID), latency)


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def clocked(fps: float, phase: float = 0.0) -> tuple[ClockedPictures, Clock]:
    clock = Clock()
    return ClockedPictures(PICTURES, fps, phase, clock=clock, sleep=clock.sleep), clock


def read(source: ClockedPictures) -> Frame:
    frame = source.read()
    assert frame is not None
    return frame


def test_a_camera_exposes_on_its_clock() -> None:
    source, clock = clocked(10, phase=0.25)
    frames = [read(source) for _ in range(4)]
    assert [one.index for one in frames] == [0, 1, 2, 3]
    assert [one.captured for one in frames] == pytest.approx([100.025, 100.125, 100.225, 100.325])
    assert clock.time == pytest.approx(100.325)
    assert [int(one.to_bgr(None)[0, 0, 0]) for one in frames] == [1, 2, 3, 1]


def test_who_reads_late_gets_the_newest_frame_as_old_as_it_is() -> None:
    source, clock = clocked(10)
    read(source)
    clock.time = 100.56
    late = read(source)
    assert (late.index, source.missed) == (5, 4)
    assert late.captured == pytest.approx(100.5)
    assert clock.time == pytest.approx(100.56)
    assert read(source).captured == pytest.approx(100.6)


def test_a_closed_camera_gives_nothing() -> None:
    source, _ = clocked(10)
    source.interrupt()
    assert source.read() is None


def test_no_frame_is_lost_or_answered_twice() -> None:
    before = threading.active_count()
    done = run_streams([PictureSource(PICTURES, 20) for _ in range(3)], engine(), 30.0, "every")
    assert [len(stream) for stream in done.answered] == [20, 20, 20]
    assert done.dropped == [[], [], []]
    assert all(at >= seen for stream in done.answered for seen, at in stream)
    assert threading.active_count() == before


def test_a_slow_engine_drops_frames_of_every_stream_alike() -> None:
    """Of eight cameras of 100 fps, an engine of at most 20 serves none twice more often than another."""
    done = run_streams([ClockedPictures(PICTURES, 100, number / 8) for number in range(8)], engine(0.05), 1.0)
    served = [len(stream) for stream in done.answered]
    assert max(served) - min(served) <= 1
    assert sum(served) <= 21
    assert sum(map(len, done.dropped)) + done.missed > sum(served)


def test_the_first_error_ends_everything() -> None:
    class Broken(FakeEngine):
        def _open(self) -> str:
            raise MissingError("no device")

    before, source = threading.active_count(), PictureSource(PICTURES)
    with pytest.raises(MissingError, match="no device"):
        run_streams([source], Broken(), 30.0)
    assert threading.active_count() == before


def test_it_can_be_stopped() -> None:
    asked = iter([False] * 3)
    done = run_streams([ClockedPictures(PICTURES, 100)], engine(), 600.0, stopped=lambda: next(asked, True))
    assert done.seconds < 600
