from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from rtpsp.stream import recorder
from rtpsp.stream.encoder import Encoder
from rtpsp.stream.recorder import RETRY_SECONDS, Picture, Recorder, RecorderOptions
from rtpsp.stream.segments import Segment

MOMENT = 1_795_000_000.0


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recorder, "now", clock)
    return clock


def picture(pts: float, size: tuple[int, int] = (48, 64), *, absent: bool = False) -> Picture:
    return Picture(pts, np.full((*size, 3), int(pts * 10) % 250, np.uint8), 0.0, MOMENT + pts, absent)


def opened(path: Path, segment: Segment | None, keep: int | None = None, *, retry: bool = True) -> Recorder:
    return Recorder(path, RecorderOptions(20, 1, "x264", 10.0, segment, keep, retry))


def played(path: Path) -> tuple[list[float], list[bool], float]:
    """Each picture's time and whether it is a key frame, and how long the file says it lasts."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [round(frame.time or 0.0, 3) for frame in frames]
        return times, [frame.key_frame for frame in frames], (container.duration or 0) / 1e6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_each_segment_plays_alone_and_none_loses_a_picture(tmp_path: Path, suffix: str) -> None:
    tape = opened(tmp_path / f"out{suffix}", Segment(seconds=2))
    for n in range(45):
        assert tape.take(picture(3 + n / 10))
    tape.finish()
    files = sorted(tmp_path.iterdir())
    assert [int(path.stem[-2:]) for path in files] == [int(files[0].stem[-2:]) + second for second in (0, 2, 4)]
    for path, count in zip(files, (20, 20, 5), strict=True):
        times, keys, duration = played(path)
        assert times == [round(n / 10, 3) for n in range(count)]
        assert keys[0] and keys[::10] == [True] * len(keys[::10])
        assert duration == pytest.approx(count / 10, abs=0.002)
    assert tape.files == 3 and tape.failure is None


def test_segments_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.segments.LEAST_BYTES", 1)
    tape = opened(tmp_path / "out.mp4", Segment(bytes=100_000))
    noise = np.random.default_rng(2).integers(0, 255, (40, 96, 128, 3), np.uint8)
    for n, image in enumerate(noise):
        tape.take(Picture(n / 10, image, 0.0, MOMENT + n / 10))
    tape.finish()
    *whole, _ = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(whole) >= 2
    for path in whole:
        assert 100_000 <= path.stat().st_size < 130_000, "passed by one picture and the index"
    assert sum(len(played(path)[0]) for path in tmp_path.iterdir()) == len(noise)


def test_another_size_begins_a_segment_unless_it_stands_for_no_frame(tmp_path: Path) -> None:
    tape = opened(tmp_path / "out.mp4", Segment(seconds=60))
    for pts, size, absent in ((0, (48, 64), 0), (1, (32, 32), 1), (2, (48, 64), 0), (3, (64, 96), 0), (4, (64, 96), 0)):
        tape.take(picture(pts, size, absent=bool(absent)))
    tape.finish()
    assert [played(path)[0] for path in sorted(tmp_path.iterdir())] == [[0, 1, 2], [0, 1]]


def test_a_ring_holds_no_more_than_it_may(tmp_path: Path, clock: Clock) -> None:
    stranger = tmp_path / "out-notes.mp4"
    stranger.write_bytes(bytes(50_000))
    tape = opened(tmp_path / "out.mp4", Segment(seconds=1), keep=12_000)
    first = None
    for n in range(120):
        clock.time += 0.1
        tape.take(picture(n / 10))
        parts = [path for path in tmp_path.iterdir() if path != stranger]
        first = first or parts[0]
        if n % 10 == 1:  # just behind a cut
            assert sum(path.stat().st_size for path in parts[:-1]) <= 12_000
    tape.finish()
    parts = [path for path in tmp_path.iterdir() if path != stranger]
    assert sum(path.stat().st_size for path in parts) <= 12_000 and len(parts) >= 2
    assert stranger.exists() and first is not None and not first.exists()
    assert len(played(max(parts, key=lambda path: path.stat().st_mtime_ns))[0]) == 10, "the newest is whole"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Errors that the disk has at present."""
    errors: set[int] = set()
    write = Encoder.write

    def fails(encoder: Encoder, pts: float, image: np.ndarray) -> None:
        for number in errors:
            raise OSError(number, os.strerror(number))
        write(encoder, pts, image)

    monkeypatch.setattr(Encoder, "write", fails)
    yield errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_new_segment_is_tried_every_minute_until_one_works(
    tmp_path: Path, clock: Clock, disk: set[int], number: int
) -> None:
    tape = opened(tmp_path / "out.mp4", Segment(seconds=60))
    for n in range(20):
        tape.take(picture(n / 10))
    disk.add(number)
    assert tape.take(picture(2.0))
    assert str(tape.failure).endswith(
        f"out.mp4: {os.strerror(number)}; what was recorded up to here is kept; "
        "free the disk or give another place with --output"
    )
    assert [len(played(path)[0]) for path in tmp_path.iterdir()] == [20]
    clock.time += RETRY_SECONDS - 1
    assert tape.take(picture(60.0)) and tape.lost == 1 and tape.failures == 1
    clock.time += 1
    assert tape.take(picture(62.0)) and tape.failures == 2, "still full"
    assert len(list(tmp_path.iterdir())) == 1, "and nothing is left of the try"
    disk.clear()
    clock.time += RETRY_SECONDS
    for n in range(21):
        assert tape.failure is not None
        tape.take(picture(122 + n / 10))
    assert tape.failure is None and (tape.failures, tape.lost) == (2, 1)
    tape.finish()
    assert sorted(len(played(path)[0]) for path in tmp_path.iterdir()) == [20, 21]


def test_one_file_is_not_begun_again(tmp_path: Path, disk: set[int]) -> None:
    tape = opened(tmp_path / "out.mkv", None)
    for n in range(5):
        tape.take(picture(n / 10))
    disk.add(errno.ENOSPC)
    assert not tape.take(picture(0.5))
    assert tape.holds_something and len(played(tmp_path / "out.mkv")[0]) == 5


def test_nothing_is_left_of_a_recording_that_never_began(tmp_path: Path, disk: set[int]) -> None:
    disk.add(errno.ENOSPC)
    for tape in (opened(tmp_path / "out.mkv", None), opened(tmp_path / "out.mp4", Segment(seconds=60))):
        tape.take(picture(0.0))
        assert "nothing was recorded" in str(tape.failure) and not tape.holds_something
        tape.finish()
    assert list(tmp_path.iterdir()) == []
