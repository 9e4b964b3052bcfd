"""Video files: times, parts, rotation, colours and damage. The files are made here, by x264."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2  # isort: skip
import av
import numpy as np
import pytest
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from rtpsp.errors import SourceError, SourceLost
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.source import Source, SourceOptions, open_source
from rtpsp.stream.video import VideoSource, open_video
from tests.awkward import files

LEFT, RIGHT = (200, 60, 30), (30, 60, 200)  # BGR
TICKS = 1000  # a second


def shade(index: int) -> int:
    """The grey that tells a frame from its neighbours after compression."""
    return 16 + 8 * (index % 28)


def numbered(count: int, height: int = 48, width: int = 64) -> list[Image]:
    return [np.full((height, width, 3), shade(i), np.uint8) for i in range(count)]


def corners(height: int, width: int) -> Image:
    """White, but for the top left quarter in one colour and the top right one in another."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[: height // 2, : width // 2] = LEFT
    image[: height // 2, width // 2 :] = RIGHT
    return image


def make_video(
    path: Path,
    images: Sequence[Image],
    stamps: Sequence[float] | None = None,
    *,
    matrix: Colorspace | None = None,
    tag: int | None = None,
    full_range: bool = False,
    rotation: int | None = None,
    mirror: bool = False,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    gop: int = 12,
    options: dict[str, str] | None = None,
) -> Path:
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "10"} if codec == "libx264" else {})
        assert isinstance(stream, VideoStream)
        stream.gop_size = gop
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, TICKS)
        if tag is not None:
            stream.codec_context.colorspace = tag
        if full_range:
            stream.codec_context.color_range = ColorRange.JPEG
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirror)
        for i, image in enumerate(images):
            frame = VideoFrame.from_ndarray(image, format="bgr24").reformat(
                format=pix_fmt,
                dst_colorspace=matrix,
                dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            )
            frame.pts = round((i / 25 if stamps is None else stamps[i]) * TICKS)
            frame.time_base = Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_all(source: Source, most: int = 1000) -> list[Frame]:
    frames: list[Frame] = []
    with source:
        while len(frames) < most and (frame := source.read()) is not None:
            frames.append(frame)
    return frames


def number_of(frame: Frame) -> int:
    return round((float(frame.to_bgr(None).mean()) - 16) / 8)


def open_at(path: Path, **options: Any) -> Source:
    return open_video(str(path), SourceOptions(**options))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "clip.mp4", numbered(25))


def test_every_frame_comes_once_and_in_order(clip: Path) -> None:
    source = open_at(clip)
    assert (source.info.kind, source.info.height, source.info.width, source.info.live) == ("video", 48, 64, False)
    assert source.info.frames == 25
    assert source.info.fps == pytest.approx(25)
    frames = read_all(source)
    assert [number_of(f) for f in frames] == list(range(25))
    assert [f.index for f in frames] == list(range(25))
    assert [f.pts for f in frames] == pytest.approx([i / 25 for i in range(25)])


def test_a_closed_video_gives_its_memory_back(clip: Path) -> None:
    def pictures() -> int:
        return sum(type(each) is VideoFrame for each in gc.get_objects())  # a lazy module warns of isinstance

    gc.collect()
    before = pictures()
    gc.disable()  # else it may come by chance
    try:
        for _ in range(5):
            with open_at(clip) as source:
                source.read()
        del source
        assert pictures() <= before + 1, "the last one's source was still there when it was closed"
    finally:
        gc.enable()


@pytest.mark.parametrize("threads", [1, 2])
def test_more_decoder_threads_change_nothing(clip: Path, threads: int) -> None:
    assert [number_of(f) for f in read_all(open_at(clip, decoder_threads=threads))] == list(range(25))


def test_a_part_is_exact_and_starts_at_zero(clip: Path) -> None:
    # 0.6 s is frame 15, which is no key frame; 0.8 s is frame 20, which does not belong to it.
    source = open_at(clip, start=0.6, end=0.8)
    frames = read_all(source)
    assert source.info.frames == 5
    assert [number_of(f) for f in frames] == [15, 16, 17, 18, 19]
    assert [f.pts for f in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]


def test_a_part_of_a_file_that_cannot_be_sought_in(tmp_path: Path) -> None:
    path = make_video(tmp_path / "raw.h264", numbered(25))
    frames = read_all(open_at(path, start=0.6, end=0.8))
    assert [number_of(f) for f in frames] == [15, 16, 17, 18, 19]


def test_a_start_beyond_the_end_is_refused(clip: Path) -> None:
    with pytest.raises(SourceError, match=r"no frame from 9 s on: it lasts 1\.00 s"):
        open_at(clip, start=9)


def test_a_loop_goes_on_in_time(clip: Path) -> None:
    source = open_at(clip, loop=True, start=0.2, end=0.4)
    assert source.info.frames is None
    frames = read_all(source, most=13)
    assert [number_of(f) for f in frames] == [5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 6, 7]
    assert [f.pts for f in frames] == pytest.approx([i / 25 for i in range(13)])
    assert [f.index for f in frames] == list(range(13))


def test_a_variable_rate_keeps_the_files_own_times(tmp_path: Path) -> None:
    stamps = [3.0, 3.033, 3.2, 3.21, 4.5, 4.533]
    path = make_video(tmp_path / "vfr.mkv", numbered(6), stamps)
    frames = read_all(open_at(path))
    assert [f.pts for f in frames] == pytest.approx([s - 3.0 for s in stamps], abs=1.5e-3)


def test_missing_time_stamps_are_made_up_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "raw.h264", numbered(10))
    source = open_at(path)
    assert isinstance(source, VideoSource)
    with caplog.at_level(logging.WARNING):
        frames = read_all(source)
    assert np.diff([f.pts for f in frames]) == pytest.approx(np.full(9, 1 / 25))
    assert source.mended == 10


def test_joined_recordings_follow_each_other(tmp_path: Path) -> None:
    # Two transport streams one behind the other: the second one's stamps start anew.
    parts = [make_video(tmp_path / f"{i}.ts", numbered(25)) for i in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(p.read_bytes() for p in parts))
    source = open_at(joined)
    assert isinstance(source, VideoSource)
    pts = [f.pts for f in read_all(source)]
    assert len(pts) >= 49
    assert np.diff(pts) == pytest.approx(np.full(len(pts) - 1, 0.04), abs=0.02)
    assert source.mended == 1


@pytest.mark.parametrize(
    ("rotation", "mirror"), [(0, False), (90, False), (-90, False), (180, False), (0, True), (90, True)]
)
def test_rotation_is_honoured(tmp_path: Path, rotation: int, mirror: bool) -> None:
    picture = corners(48, 80)
    path = make_video(tmp_path / "turned.mp4", [picture] * 2, rotation=rotation, mirror=mirror)
    expected = np.rot90(picture, rotation // 90)  # both count counterclockwise
    expected = np.ascontiguousarray(expected[:, ::-1] if mirror else expected)
    source = open_at(path)
    assert (source.info.height, source.info.width) == expected.shape[:2]
    out = np.empty(expected.shape, np.uint8)
    frame = source.read()
    assert frame is not None and (frame.height, frame.width) == expected.shape[:2]
    assert frame.to_bgr(out) is out
    assert np.abs(out.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("height", "matrix", "tag"),
    [
        (64, Colorspace.ITU709, 1),
        (64, Colorspace.ITU601, 6),
        (64, Colorspace.ITU601, None),
        (720, Colorspace.ITU709, None),
        (720, Colorspace.ITU601, 6),
    ],
)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_tag_or_else_the_size(
    tmp_path: Path, height: int, matrix: Colorspace, tag: int | None, full_range: bool
) -> None:
    path = make_video(tmp_path / "colour.mp4", [corners(height, 64)] * 2, matrix=matrix, tag=tag, full_range=full_range)
    frame = open_at(path).read()
    assert frame is not None
    bgr = frame.to_bgr(None)
    assert bgr[height // 4, 16] == pytest.approx(LEFT, abs=4)
    assert bgr[height // 4, 48] == pytest.approx(RIGHT, abs=4)
    # swscale makes white (234, 127, 127) in limited BT.601 when it encodes, which is 250 again.
    assert bgr[3 * height // 4, 16] == pytest.approx((255, 255, 255), abs=6)


def test_odd_sizes_keep_their_last_row_and_column(tmp_path: Path) -> None:
    picture = np.full((47, 63, 3), 40, np.uint8)
    picture[-1], picture[:, -1] = 220, 220
    path = make_video(tmp_path / "odd.mkv", [picture] * 2, pix_fmt="yuv444p")
    frame = open_at(path).read()
    assert frame is not None
    assert (frame.height, frame.width) == (47, 63)
    bgr = frame.to_bgr(None)
    assert bgr.flags.c_contiguous  # without the padding that a decoder's rows have
    assert np.abs(bgr.astype(int) - picture).max() < 8
    again = make_video(tmp_path / "odd420.mkv", numbered(2, 47, 63), codec="mpeg4")  # x264 refuses
    frame = open_at(again).read()
    assert frame is not None
    assert np.abs(frame.to_bgr(None).astype(int) - shade(0)).max() < 4


def test_a_picture_belongs_to_its_receiver(clip: Path) -> None:
    source = open_at(clip)
    first, second = source.read(), source.read()
    assert first is not None and second is not None
    picture = first.to_bgr(None)
    picture[:] = 0
    assert number_of(second) == 1
    assert picture.flags.c_contiguous and not picture.any()


def test_frames_outlive_their_source(clip: Path) -> None:
    frames = read_all(open_at(clip))
    assert number_of(frames[7]) == 7


def test_a_file_cut_short_gives_what_there_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(1)
    images = [noise.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(50)]
    whole = make_video(tmp_path / "whole.mp4", images, options={"movflags": "faststart"}).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    with caplog.at_level(logging.WARNING):
        frames = read_all(open_at(cut))
    assert 20 < len(frames) < 40
    assert [record.getMessage() for record in caplog.records] == [
        f"{cut} ended after {len(frames)} of 50 frames: it may be cut short"
    ]


def test_damage_in_the_middle_does_not_end_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(1)
    images = [noise.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(50)]
    data = bytearray(make_video(tmp_path / "whole.mkv", images, gop=5).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = noise.integers(0, 255, 20_000, np.uint8).tobytes()
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        frames = read_all(open_at(damaged))
    assert len(frames) < 50
    assert frames[-1].pts > 1.5


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_that_cannot_be_decoded_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, whole: bool
) -> None:
    noise = np.random.default_rng(1)
    images = [noise.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(50)]
    path = make_video(tmp_path / "a.mp4", images, gop=5, options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = b"\xff" * 20_000
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        source = open_at(path)
        frames = read_all(source, 1000 if whole else 40)
    assert len(frames) < 50 and frames[-1].pts > 1.5
    assert 0 < source.missed <= 50 - len(frames) or not whole
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: a part could not be decoded and was passed over (Invalid data found when processing input)"
    ]


def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("not a video\n" * 100)
    (tmp_path / "words.txt").write_text("not a video\n" * 100)
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    for name, words in (
        ("empty.mp4", "the file is empty"),
        ("words.mp4", "is not a video that can be read"),
        ("words.txt", "holds text and no video"),
        ("sound.wav", "holds audio and no video"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            open_source(str(tmp_path / name))
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path) -> None:
    path = make_video(tmp_path / "http:clip.mp4", numbered(3))
    assert len(read_all(open_at(path))) == 3


def test_a_playlist_cannot_reach_the_network(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        open_at(path)


def test_closing_twice_and_reading_on(clip: Path) -> None:
    source = open_at(clip)
    source.read()
    source.close()
    source.close()
    assert source.read() is None
    assert cv2.__version__  # imported before av, as the module under test does


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone overwrites what was freed when it is told to")
def test_a_length_is_asked_of_an_open_file_only(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", numbered(5))
    program = (
        f"from rtpsp.stream.source import *\ntry: open_source({str(path)!r}, SourceOptions(start=90))\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MALLOC_PERTURB_": "85"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "it lasts 0.20 s" in done.stdout


def test_a_file_that_was_cut_short_is_told_of_once_in_a_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = files.cut(tmp_path / "cut.mp4", 0.6, index_first=True)
    with open_source(str(path), SourceOptions(loop=True)) as source:
        for _ in range(100):
            assert source.read() is not None
    assert ["cut short" in record.getMessage() for record in caplog.records] == [True]


def test_a_file_that_goes_away_between_two_rounds_is_told_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", numbered(3))
    with open_source(str(path), SourceOptions(loop=True)) as source:
        path.unlink()
        with pytest.raises(SourceLost, match="no longer there"):
            while source.read() is not None:
                pass


def test_a_picture_is_let_go_of_once_nobody_has_it(clip: Path) -> None:
    """Not when Python looks for cycles some day: a run would grow by the pictures that it finds late."""
    gc.collect()
    gc.disable()
    try:
        with open_video(str(clip), SourceOptions()) as source:
            pictures = 0
            while (frame := source.read()) is not None:
                frame.to_bgr(None)
                del frame
                pictures = max(pictures, sum(type(thing) is SideDataContainer for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert pictures <= 1
