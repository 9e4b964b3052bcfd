from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rtpsp.errors import OutputError, UsageError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream.encoder import Encoder
from rtpsp.stream.frame import Absent, Frame, Rendered, Stamps
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.segments import Segment
from rtpsp.stream.source import SourceInfo, open_source

SPEC = ModelSpec("tiny", "fake", 48, 64, CAMVID)


def rendered(picture: np.ndarray, index: int, pts: float) -> Rendered:
    height, width = picture.shape[:2]
    frame = Frame(index, pts, 0.0, height, width, lambda out: picture)
    return Rendered(frame, {"overlay": picture}, np.zeros((height, width), np.uint8), Stamps(0.0))


def record(path: Path, pictures: list[np.ndarray], times: list[float], *, live: bool = False) -> None:
    sink = VideoFile(path)
    height, width = pictures[0].shape[:2]
    sink.open(SourceInfo("test", "sim", height, width, fps=25.0, live=live), SPEC)
    for index, (picture, pts) in enumerate(zip(pictures, times, strict=True)):
        sink.write(rendered(picture, index, pts))
    sink.close()


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("live", [False, True])
def test_h264_in_yuv420p_with_every_frame_at_its_time(tmp_path: Path, suffix: str, live: bool) -> None:
    times = [0.0, 0.04, 0.08, 0.3, 0.31, 1.0]  # a source of a changing rate
    pictures = [flat(48, 64, (40 * n, 128, 255 - 40 * n)) for n in range(6)]
    path = tmp_path / f"out{suffix}"
    record(path, pictures, times, live=live)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (48, 64)
        frames = list(container.decode(stream))
    assert [round(float(frame.time or 0.0) - float(frames[0].time or 0.0), 3) for frame in frames] == times


@pytest.mark.parametrize("height", [240, 720])
def test_colours_come_back_as_they_went_in(tmp_path: Path, height: int) -> None:
    """Each palette colour, decoded as the file's own tags say: the other matrix shifts some by more than 20."""
    path = tmp_path / "palette.mp4"
    colours = [colour[::-1] for colour in CAMVID.palette]
    record(path, [flat(height, height * 4 // 3, colour) for colour in colours], [n / 25 for n in range(len(colours))])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        matrix = 1 if height >= 720 else 5
        assert int(stream.codec_context.colorspace) == matrix
        assert int(stream.codec_context.color_range) == 1
        for colour, frame in zip(colours, container.decode(stream), strict=True):
            shown = frame.reformat(format="bgr24", src_colorspace=matrix).to_ndarray()
            assert np.abs(shown[height // 2, height // 2].astype(int) - colour).max() <= 6


def test_odd_sizes_are_padded_not_scaled(tmp_path: Path) -> None:
    picture = flat(47, 63, (0, 0, 0))
    picture[:, ::2] = 255  # one-pixel stripes: scaling by 64/63 would beat
    path = tmp_path / "odd.mp4"
    sink = VideoFile(path, crf=0)
    sink.open(SourceInfo("test", "sim", 47, 63, fps=25.0), SPEC)
    sink.write(rendered(picture, 0, 0.0))
    sink.close()
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.height, frame.width) == (48, 64)
    luma = frame.to_ndarray(format="gray")[:47, :63].astype(int)
    assert np.abs(luma - picture[..., 0]).max() <= 30


def test_pictures_of_a_new_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    record(path, [flat(48, 64, (200, 50, 50)), flat(96, 128, (200, 50, 50))], [0.0, 0.04])
    with av.open(str(path)) as container:
        assert [(f.height, f.width) for f in container.decode(video=0)] == [(48, 64)] * 2


def test_repeated_and_backward_times_still_play(tmp_path: Path) -> None:
    path = tmp_path / "odd-times.mp4"
    record(path, [flat(48, 64, (0, 0, 60 * n)) for n in range(4)], [0.0, 0.0, 0.04, 0.02])
    with av.open(str(path)) as container:
        times = [Fraction(f.pts or 0) for f in container.decode(video=0)]
    assert len(times) == 4 and times == sorted(set(times))


def test_no_frame_leaves_no_file(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "none.mp4")
    sink.open(SourceInfo("test", "sim", 48, 64), SPEC)
    sink.close()
    assert list(tmp_path.iterdir()) == [] and sink.output is None


def test_what_cannot_be_written_is_said_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sink = VideoFile(tmp_path / "file" / "out.mp4")
    with pytest.raises(OutputError, match="--output"):
        sink.open(SourceInfo("test", "sim", 48, 64), SPEC)
    with pytest.raises(UsageError, match=r"\.mp4, \.mkv, \.mov"):
        VideoFile("out.avi")


def test_an_encoder_that_fails_is_reported_once(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "out.mp4")
    sink.open(SourceInfo("test", "sim", 48, 64), SPEC)
    with pytest.raises(OutputError, match="kept"):
        for index in range(20):
            picture = flat(48, 64, (0, 0, 0)) if index < 5 else np.zeros((48, 64), np.uint8)
            sink.write(rendered(picture, index, index / 25))
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 5


def test_a_recording_looks_like_its_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
    picture = np.asarray(cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)
    record(tmp_path / "out.mp4", [picture] * 3, [0.0, 0.04, 0.08])
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert min(cv2.PSNR(picture, frame) for frame in shown) > 33


def test_the_source_is_not_recorded_over(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    record(clip, [flat(48, 64, (0, 0, 0))] * 3, [0.0, 0.04, 0.08])
    before = clip.read_bytes()
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    for path in (clip, link):
        sink = VideoFile(path)
        with pytest.raises(UsageError, match="source itself"):
            sink.open(SourceInfo(str(clip), "video", 48, 64), SPEC)
        sink.close()
    assert clip.read_bytes() == before


def test_a_recording_of_several_files_may_be_made_again(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "out.mp4")
    (tmp_path / "out.mp4").write_bytes(b"of the run before")
    uri = f"{tmp_path / 'a.mp4'}, {tmp_path / 'b.mp4'}"  # as `rtpsp.stream.tiles.Tiled` tells it
    sink.open(SourceInfo(uri, "video", 48, 64), SPEC)
    sink.close()


def test_an_older_recording_stays_until_there_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"yesterday's")
    sink = VideoFile(path)
    sink.open(SourceInfo("test", "sim", 48, 64), SPEC)
    sink.close()
    assert path.read_bytes() == b"yesterday's"
    record(path, [flat(48, 64, (0, 0, 0))] * 3, [0.0, 0.04, 0.08])
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("2026-11-23T10:15:00.mp4"), [flat(48, 64, (0, 0, 0))], [0.0])
    assert (tmp_path / "2026-11-23T10:15:00.mp4").stat().st_size > 500


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to stand for a full disk")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_what_was_recorded_before_the_disk_was_full_plays(tmp_path: Path, suffix: str) -> None:
    import resource

    path = tmp_path / f"out{suffix}"
    noise = np.random.default_rng(1).integers(0, 255, (100, 240, 320, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match="kept"):
            record(path, list(noise), [n / 25 for n in range(len(noise))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    source = open_source(str(path))
    played = 0
    while source.read() is not None:
        played += 1
    source.close()
    assert played > 20


SQUARES = [tuple(colour) for colour in CAMVID.palette]  # RGB
SIZES = {480: 640, 720: 1280, 1080: 1920}
TWO_PER_CENT = 5  # of 255


def squares(height: int, width: int) -> np.ndarray:
    """The palette as a mask picture shows it: twelve large blocks, the last one black."""
    picture = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(SQUARES):
        row, column = divmod(number, 4)
        top, left = row * height // 3, column * width // 4
        picture[top : (row + 1) * height // 3, left : (column + 1) * width // 4] = colour[::-1]
    return picture


def centres(picture: np.ndarray) -> np.ndarray:
    """The mean colour in the middle of each block, float [classes, 3]."""
    height, width = picture.shape[:2]
    found = []
    for number in range(len(SQUARES)):
        row, column = divmod(number, 4)
        top, left = (2 * row + 1) * height // 6, (2 * column + 1) * width // 8
        found.append(picture[top - 20 : top + 20, left - 20 : left + 20].reshape(-1, 3).mean(axis=0))
    return np.array(found)


def by_the_book(frame: av.VideoFrame) -> np.ndarray:
    """RGB from the planes by the formula of ITU-R BT.601 or BT.709 in limited range, as the tags of the frame say."""
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}[int(frame.colorspace)]
    assert int(frame.color_range) == 1
    planes = frame.to_ndarray(format="yuv444p").astype(float)
    y, cb, cr = (planes[0] - 16) / 219, (planes[1] - 128) / 224, (planes[2] - 128) / 224
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.asarray(np.stack([red, green, blue], axis=-1) * 255).clip(0, 255)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("height", SIZES)
def test_the_palette_of_a_mask_is_right_in_every_player(tmp_path: Path, height: int, suffix: str) -> None:
    """Tagged in stream and container, and within 2 % by the formula, by FFmpeg's converter, and by our own reader."""
    path = tmp_path / f"palette{suffix}"
    picture = squares(height, SIZES[height])
    record(path, [picture] * 2, [0.0, 0.04])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        matrix, primaries, transfer = (1, 1, 1) if height >= 720 else (5, 6, 6)
        told = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert [int(tag) for tag in told] == [matrix, primaries, transfer, 1]
        frame = next(container.decode(stream))
    told = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
    assert [int(tag) for tag in told] == [matrix, primaries, transfer, 1]
    assert np.abs(centres(by_the_book(frame)) - SQUARES).max() <= TWO_PER_CENT
    # Without the matrix that the tag names, PyAV converts by BT.601 whatever is tagged.
    converted = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
    assert np.abs(centres(converted) - SQUARES).max() <= TWO_PER_CENT
    with open_source(str(path)) as source:
        ours = source.read()
        assert ours is not None
        assert np.abs(centres(ours.to_bgr(None)[..., ::-1]) - SQUARES).max() <= TWO_PER_CENT


def test_a_picture_of_another_shape_stands_between_bars(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "shapes.mp4"
    wide, tall = flat(96, 128, (200, 50, 50)), flat(128, 96, (200, 50, 50))
    with caplog.at_level("WARNING"):
        record(path, [wide, tall, tall, wide], [0.0, 0.04, 0.08, 0.12])
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: a picture of 96x128 follows on 128x96: such pictures are scaled into it"
    ]
    with av.open(str(path)) as container:
        first, second, _, last = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
    for whole in (first, last):
        assert whole.min(axis=(0, 1)).tolist() == pytest.approx([200, 50, 50], abs=12)
    assert second.shape == (96, 128, 3)
    assert second[:, 34:94].min(axis=(0, 1)).tolist() == pytest.approx([200, 50, 50], abs=16)
    assert second[:, :20].max() < 16 and second[:, 108:].max() < 16


def test_an_odd_first_size_is_padded_and_its_like_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        record(tmp_path / "odd.mp4", [flat(47, 63, (10, 200, 10))] * 2, [0.0, 0.04])
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="a device of Linux that is always full")
def test_a_disk_that_was_full_from_the_beginning_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device; nothing was recorded; free the disk"):
        record(path, [flat(48, 64, (0, 0, 0))] * 3, [0.0, 0.04, 0.08])
    assert [left.name for left in tmp_path.iterdir()] == ["out.mkv"]


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    record(Path("~/out.mp4"), [flat(48, 64, (0, 0, 0))], [0.0])
    assert (tmp_path / "out.mp4").is_file()
    source = open_source("~/out.mp4")
    assert source.read() is not None
    source.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.mp4")
    with pytest.raises(UsageError, match="named pipe"):
        VideoFile(tmp_path / "out.mp4").open(SourceInfo("test", "sim", 48, 64), SPEC)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize(("suffix", "live"), [(".mp4", True), (".mov", False), (".mkv", True), (".mkv", False)])
def test_what_a_killed_process_recorded_plays(tmp_path: Path, suffix: str, live: bool) -> None:
    """But for the last picture of a file; a live source's goes to the disk though nothing follows on it."""
    path = tmp_path / f"out{suffix}"
    program = (
        "import os, signal, time; from tests.stream.test_recording import *\n"
        "from rtpsp.stream import recording; recording.HELD_SECONDS = 0.02\n"
        f"sink = VideoFile({str(path)!r}, live={live}); sink.open(SourceInfo('t', 'sim', 48, 64, fps=5.0), SPEC)\n"
        "for n in range(50): sink.write(rendered(flat(48, 64, (n, n, n)), n, n / 5))\n"
        f"while len(sink._recorder.encode) < 50: time.sleep(0.01)\nif {live}: time.sleep(0.2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False)
    with av.open(str(path)) as container:
        played = [round(float(frame.time or 0.0) * 5, 1) for frame in container.decode(video=0)]
    assert played[: 49 + live] == list(range(49 + live))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_it_lasts_as_long_as_its_pictures_showed(tmp_path: Path, suffix: str) -> None:
    """From 0, whatever time the first one has, and until the last one has shown for as long as those before it."""
    path = tmp_path / f"out{suffix}"
    times = [2.5, 2.6, 2.65, 3.65, 3.85]
    record(path, [flat(48, 64, (0, 0, 40 * n)) for n in range(5)], times)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(1_000_000 * (times[-1] + 0.2 - times[0]), abs=1000)
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(
            [0, 0.1, 0.15, 1.15, 1.35], abs=1e-3
        )
    record(path, [flat(48, 64, (0, 0, 0))], [7.0])
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(40_000, abs=1000), "one picture of 25 a second"


def opened(path: Path, *, live: bool = True, **options: Any) -> VideoFile:
    sink = VideoFile(path, **options)
    sink.open(SourceInfo("test", "sim", 48, 64, fps=25.0, live=live), SPEC)
    return sink


def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


def test_a_slow_disk_drops_pictures_and_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.backlog.BEHIND_SECONDS", 0.0)
    goes_on, write = threading.Event(), Encoder.write

    def slow(encoder: Encoder, pts: float, picture: np.ndarray) -> None:
        assert goes_on.wait(30)
        write(encoder, pts, picture)

    monkeypatch.setattr(Encoder, "write", slow)
    sink = opened(tmp_path / "out.mp4")
    (beat,) = sink.beats()
    sink.write(rendered(flat(48, 64, (0, 0, 0)), 0, 0.0))
    until(lambda: beat.seconds > 0)
    for n in range(1, 20):
        sink.write(rendered(flat(48, 64, (0, 0, 0)), n, n / 25))
    assert sink.dropped == 17 and sink.failure is None and beat.stage == "encode"
    goes_on.set()
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_disk_that_hangs_does_not_keep_a_run_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.recording._CLOSE_SECONDS", {True: 0.0})
    goes_on = threading.Event()
    monkeypatch.setattr(Encoder, "close", lambda encoder: goes_on.wait(30))
    sink = opened(tmp_path / "out.mp4")
    sink.write(rendered(flat(48, 64, (0, 0, 0)), 0, 0.0))
    with pytest.raises(OutputError, match="its disk takes nothing any more; what is on it by now is kept"):
        sink.close()
    goes_on.set()
    sink.close()
    sink.write(rendered(flat(48, 64, (0, 0, 0)), 1, 1.0))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to stand for a full disk")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_live_run_goes_on_without_its_full_disk(tmp_path: Path, suffix: str) -> None:
    import resource

    path = tmp_path / f"out{suffix}"
    noise = np.random.default_rng(1).integers(0, 255, (40, 96, 128, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        sink = opened(path)
        for n, picture in enumerate(noise):
            sink.write(rendered(picture, n, n / 25))
        until(lambda: sink.failure is not None)
        taken = len(noise) - sink.dropped
        sink.write(rendered(noise[0], 40, 40 / 25))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sink.dropped == len(noise) - taken + 1 and sink.output == str(path)
    with pytest.raises(OutputError, match="kept; free the disk or give another place with --output") as told:
        sink.close()
    assert told.value is sink.failure
    sink.close()
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) >= 5


def test_a_source_that_is_silent_is_seen_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.recording.HELD_SECONDS", 0.02)
    sink = opened(tmp_path / "out.mp4")
    sink.write(rendered(flat(48, 64, (0, 200, 0)), 0, 5.0))
    begin = time.monotonic()
    until(lambda: (tmp_path / "out.mp4").stat().st_size > 0 and time.monotonic() - begin > 0.1)
    sink.close()
    passed = time.monotonic() - begin
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [frame.time or 0.0 for frame in container.decode(video=0)]
    assert len(times) >= 2 and times[0] == 0 and times[-1] <= passed
    assert sink.stages()["encode"].count == 1, "pictures that the source gave"


def test_the_picture_of_an_absent_source_is_recorded_once_a_second(tmp_path: Path) -> None:
    sink = opened(tmp_path / "out.mp4", live=False, segment=Segment(seconds=60))
    grey = flat(96, 128, (90, 90, 90))
    sink.absent(Absent(0, 0.0, grey, "waiting"))  # not before a picture of its own: it would give the size
    sink.write(rendered(flat(48, 64, (0, 200, 0)), 0, 10.0))
    for tick in range(22, 40):
        sink.absent(Absent(0, tick / 2, grey, "no signal"))
    sink.write(rendered(flat(48, 64, (0, 200, 0)), 1, 19.75))
    sink.close()
    (path,) = tmp_path.iterdir()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [frame.time for frame in frames] == [0.0, *range(1, 10), 9.75]
    assert {(frame.height, frame.width) for frame in frames} == {(48, 64)}


def test_recordings_side_by_side_do_not_meet(tmp_path: Path) -> None:
    sinks = [opened(tmp_path / f"cam{n}.mp4", live=False, segment=Segment(seconds=1)) for n in range(3)]
    for n in range(30):
        for number, sink in enumerate(sinks):
            sink.write(rendered(flat(48, 64, (80 * number, 0, 0)), n, n / 10))
    for sink in sinks:
        sink.close()
    assert [len(list(tmp_path.glob(f"cam{number}-*.mp4"))) for number in range(3)] == [3, 3, 3]
    assert [sink.output for sink in sinks] == [str(tmp_path / f"cam{number}-*.mp4") for number in range(3)]


def test_a_ring_needs_segments_that_fit_into_it() -> None:
    with pytest.raises(UsageError, match="give --segment too"):
        VideoFile("out.mp4", keep=10**9)
    with pytest.raises(UsageError, match="less than two segments"):
        VideoFile("out.mp4", segment=Segment(bytes=10**9), keep=10**9)
