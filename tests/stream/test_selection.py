"""A part of a source, at its own pace."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from rtpsp.errors import UsageError
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.selection import Selection
from rtpsp.stream.simulated import FileSimulator, Simulation
from rtpsp.stream.source import Source, SourceInfo, SourceOptions

HEIGHT, WIDTH = 120, 160


class Listed(Source):
    """Frames at given times, at no cost."""

    def __init__(self, stamps: list[float], fps: float = 25.0, live: bool = False) -> None:
        self.info = SourceInfo("listed", "video", HEIGHT, WIDTH, fps, len(stamps), live)
        self._stamps, self._index, self.closed = stamps, 0, 0

    def read(self) -> Frame | None:
        if self._index == len(self._stamps):
            return None
        index, self._index = self._index, self._index + 1
        return Frame(index, self._stamps[index], time.monotonic(), HEIGHT, WIDTH, blank)

    def close(self) -> None:
        self.closed += 1


def blank(out: Image | None) -> Image:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8) if out is None else out


def at_rate(fps: float, count: int) -> Listed:
    return Listed([i / fps for i in range(count)], fps)


def read_all(source: Source) -> list[Frame]:
    return [frame for frame in iter(source.read, None)]


def test_nothing_asked_for_changes_nothing() -> None:
    inner = at_rate(25, 10)
    selection = Selection(inner)
    assert selection.info == inner.info
    assert len(read_all(selection)) == 10
    assert selection.skipped == 0


def test_every_nth_frame() -> None:
    selection = Selection(at_rate(30, 10), every=3)
    assert (selection.info.fps, selection.info.frames) == (10, 4)
    assert [f.index for f in read_all(selection)] == [0, 3, 6, 9]
    assert selection.skipped == 6


class Skipping(Listed):
    """Tells what was asked of it."""

    def __init__(self, count: int) -> None:
        super().__init__([i / 25 for i in range(count)])
        self.asked: list[str] = []

    def read(self) -> Frame | None:
        self.asked.append("read")
        return super().read()

    def skip(self) -> bool:
        self.asked.append("skip")
        return super().read() is not None


def test_frames_that_are_not_wanted_are_skipped_not_read() -> None:
    inner = Skipping(7)
    selection = Selection(inner, every=3)
    assert [f.index for f in read_all(selection)] == [0, 3, 6]
    assert inner.asked == ["read", "skip", "skip", "read", "skip", "skip", "read", "skip"]
    assert selection.skipped == 4


def test_every_and_the_rate_together() -> None:
    selection = Selection(at_rate(20, 20), every=2, max_fps=5)
    assert [f.index for f in read_all(selection)] == [0, 4, 8, 12, 16]
    assert selection.skipped == 15


@pytest.mark.parametrize(
    ("fps", "most", "expected"), [(25, 10, 20), (30, 29, 58), (30, 30, 60), (30, 60, 60), (60, 7, 14)]
)
def test_at_most_so_many_a_second(fps: float, most: float, expected: int) -> None:
    selection = Selection(at_rate(fps, int(2 * fps)), max_fps=most)
    frames = read_all(selection)
    wanted = min(expected, int(2 * fps))
    assert len(frames) == pytest.approx(wanted, abs=1)
    assert selection.info.frames == pytest.approx(wanted, abs=1)
    assert selection.skipped == int(2 * fps) - len(frames)
    assert np.diff([f.pts for f in frames]).min() > 1 / fps * 0.99


def test_rounded_stamps_lose_no_frame_at_the_full_rate() -> None:
    stamps = [round(i / 30, 3) for i in range(300)]
    assert len(read_all(Selection(Listed(stamps, 30), max_fps=30))) == 300


def test_after_a_gap_the_rate_is_not_made_up_for() -> None:
    stamps = [0.0, 0.1, *(5 + i / 100 for i in range(100))]
    frames = read_all(Selection(Listed(stamps, 100), max_fps=10))
    assert np.diff([f.pts for f in frames]).min() > 0.089
    assert 12 <= len(frames) <= 13  # ten in the last second, or one more at its very end


def test_it_ends_after_max_frames_without_reading_on() -> None:
    inner = at_rate(25, 10)
    selection = Selection(inner, max_frames=4)
    assert selection.info.frames == 4
    assert [f.index for f in read_all(selection)] == [0, 1, 2, 3]
    following = inner.read()
    assert following is not None and following.index == 4


def test_a_paced_file_comes_when_it_is_due_and_shows_lateness() -> None:
    selection = Selection(at_rate(25, 6), pace="source")
    frames, arrivals = [], []
    while (frame := selection.read()) is not None:
        frames.append(frame)
        arrivals.append(time.monotonic())
        if frame.index == 2:
            time.sleep(0.2)
    captured = np.array([f.captured for f in frames])
    assert np.diff(captured) == pytest.approx(np.full(5, 0.04), abs=1e-6)
    ages = np.array(arrivals) - captured
    assert (ages >= 0).all()
    assert ages[:3].max() < 0.03
    assert ages[3] == pytest.approx(0.16, abs=0.03)


def test_the_default_and_a_live_source_are_not_paced() -> None:
    stamps = [0.0, 60.0]
    for selection in (
        Selection(Listed(stamps)),
        Selection(Listed(stamps), pace="fast"),
        Selection(Listed(stamps, live=True), pace="source"),
    ):
        began = time.monotonic()
        assert len(read_all(selection)) == 2
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_wait_is_ended_at_once(how: str) -> None:
    stop = threading.Event()
    inner = Listed([0.0, 60.0])
    selection = Selection(inner, pace="source", stop=stop)
    assert selection.read() is not None
    timer = threading.Timer(0.1, stop.set if how == "stop" else selection.close)
    timer.start()
    began = time.monotonic()
    assert selection.read() is None
    assert time.monotonic() - began < 0.5
    timer.join()
    selection.close()
    assert inner.closed >= 1


def test_losses_are_passed_on_and_are_not_skips() -> None:
    scene = FileSimulator("sim://street", Simulation(WIDTH, HEIGHT), Scene(), SourceOptions())
    selection = Selection(scene, every=2)
    scene.missed = 5
    selection.read()
    selection.read()
    assert (selection.missed, selection.skipped) == (5, 1)


class Scene:
    """Nothing to see."""

    def draw(self, index: int, out: Image | None = None) -> Image:
        return blank(out)

    def truth(self, index: int) -> Image:
        return np.zeros((HEIGHT, WIDTH), np.uint8)


def test_numbers_that_are_not_positive_are_refused() -> None:
    with pytest.raises(UsageError, match="every must be more than 0, got 0"):
        Selection(at_rate(25, 1), every=0)
    with pytest.raises(UsageError, match=r"max_fps must be more than 0, got -1\.0"):
        Selection(at_rate(25, 1), max_fps=-1.0)
    with pytest.raises(UsageError, match="max_frames"):
        Selection(at_rate(25, 1), max_frames=0)


class Anew(Listed):
    """Connected anew with another size and rate at one frame; has an heir."""

    def read(self) -> Frame | None:
        if self._index == 2:
            self.info = SourceInfo("listed", "network", 2 * HEIGHT, WIDTH, 50.0, live=True)
        if self._index == 4:
            self.ended = "the stream is over"
        return super().read()

    def successor(self) -> Source | None:
        heir = Anew([*self._stamps, 4.0, 5.0])
        heir._index, heir.health = self._index, self.health
        return heir


def test_what_is_known_of_a_source_follows_it_and_so_does_its_end() -> None:
    inner = Anew([0.0, 1.0, 2.0, 3.0], live=True)
    selection = Selection(inner, every=2)
    assert selection.health is inner.health
    assert selection.read() and (selection.info.height, selection.info.fps) == (HEIGHT, 12.5)
    assert selection.read() and (selection.info.height, selection.info.fps) == (2 * HEIGHT, 25)
    assert selection.read() is None and selection.ended == "the stream is over"


def test_a_successor_goes_on_with_the_counts() -> None:
    selection = Selection(Anew([0.0, 1.0, 2.0, 3.0], live=True), every=2, max_frames=3)
    assert [frame.index for frame in (selection.read(), selection.read()) if frame] == [0, 2]
    with selection._reading:  # which the read that hangs has
        heir = selection.successor()
        assert isinstance(heir, Selection) and heir.health is selection.health
        assert [frame.index for frame in read_all(heir)] == [4]
        assert heir.skipped == 2 and heir.ended == "3 frames, as many as were asked for"
        heir.close()
    assert Selection(at_rate(25, 3)).successor() is None
