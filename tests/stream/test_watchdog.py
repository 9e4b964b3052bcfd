"""What has been busy for too long is told, once, and no stage is blamed for what held up the whole process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rtpsp.stream.beat import Beat
from rtpsp.stream.watchdog import LOOK_SECONDS, PAUSE_SECONDS, Watchdog, Watched


class Time:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr("rtpsp.stream.beat.now", clock)
    return clock


def pass_by(dog: Watchdog, time: Time, seconds: float) -> None:
    for _ in range(round(seconds / LOOK_SECONDS)):
        time.at += LOOK_SECONDS
        dog.look()


@contextmanager
def hanging(beat: Beat) -> Iterator[None]:
    """A thread that does one thing until the block is left."""
    begun, released = threading.Event(), threading.Event()

    def work_that_hangs() -> None:
        with beat.busy():
            begun.set()
            released.wait()

    thread = threading.Thread(target=work_that_hangs)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        released.set()
        thread.join()


def test_a_stall_is_told_once_with_stage_source_seconds_and_stack(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    beat = Beat("capture", 5.0)
    acted: list[str] = []
    caplog.set_level(logging.DEBUG)
    dog = Watchdog(lambda: [Watched(beat, "rtsp://door", acted.append)], clock=time)
    with hanging(beat):
        pass_by(dog, time, 5.0)
        assert not acted and not list(dog.stalled)
        pass_by(dog, time, 3.0)
        assert acted == ["capture of rtsp://door has not come back for 5 s"] and dog.stalled == (
            "capture of rtsp://door",
        )
    pass_by(dog, time, 1.0)
    assert not list(dog.stalled)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warnings] == acted
    (stack,) = (record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG)
    assert "work_that_hangs" in stack
    assert caplog.records[-1].getMessage() == "capture of rtsp://door goes on"
    with hanging(beat):
        pass_by(dog, time, 6.0)
    assert len(acted) == 2, "the next stall is another one"


def test_what_waits_for_work_is_not_stalled(time: Time) -> None:
    beat = Beat("infer", 1.0)
    dog = Watchdog(lambda: [Watched(beat)], clock=time)
    with hanging(beat):
        pass_by(dog, time, 0.5)
    pass_by(dog, time, 60.0)
    assert dog.stalled == ()


def test_progress_within_one_read_is_no_stall(time: Time) -> None:
    beat, tries = Beat("capture", 2.0), [0]
    dog = Watchdog(lambda: [Watched(beat, progress=lambda: tries[0])], clock=time)
    with hanging(beat):
        for _ in range(10):
            tries[0] += 1
            pass_by(dog, time, 1.5)
            assert not list(dog.stalled)
        pass_by(dog, time, 2.0)
        assert dog.stalled == ("capture",)


def test_a_process_that_was_stopped_blames_no_stage(time: Time) -> None:
    """Ctrl-Z: when it goes on, every stage has been busy for as long as it was away."""
    beat = Beat("infer", 30.0)
    dog = Watchdog(lambda: [Watched(beat)], clock=time)
    with hanging(beat):
        pass_by(dog, time, 1.0)
        time.at += 3600.0
        pass_by(dog, time, 20.0)
        assert not list(dog.stalled)
        pass_by(dog, time, 11.0)
        assert dog.stalled == ("infer",)
    assert LOOK_SECONDS + PAUSE_SECONDS < 30.0


def test_it_looks_by_itself_and_survives_what_it_looks_at(caplog: pytest.LogCaptureFixture) -> None:
    looks, twice = [], threading.Event()

    def look() -> list[Watched]:
        looks.append(1)
        if len(looks) > 1:
            twice.set()
        raise RuntimeError("a source is gone")

    dog = Watchdog(look)
    dog.start()
    assert twice.wait(10)
    dog.stop()
    assert "the watchdog failed to look" in caplog.text
    assert not any(thread.name == "rtpsp-watchdog" for thread in threading.enumerate())
