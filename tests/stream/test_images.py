"""Folders, patterns and single images; what cannot be read is passed over, unless nothing can."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.errors import SourceError, SourceLost, UsageError
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import Source, SourceOptions, open_source


def write(path: Path, value: int, height: int = 24, width: int = 32) -> Path:
    assert cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))
    return path


def read_all(source: Source, most: int = 100) -> list[Frame]:
    frames: list[Frame] = []
    with source:
        while len(frames) < most and (frame := source.read()) is not None:
            frames.append(frame)
    return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (10, 2, 1):
        write(tmp_path / f"frame{number}.png", number)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "frame3.png", 3)
    return tmp_path


def test_a_folder_in_the_order_people_count(folder: Path) -> None:
    source = open_source(str(folder))
    info = source.info
    assert (info.kind, info.frames, info.live, info.fps, info.height, info.width) == ("images", 3, False, 25.0, 24, 32)
    frames = read_all(source)
    assert [f.name for f in frames] == ["frame1.png", "frame2.png", "frame10.png"]
    assert [int(f.to_bgr(None)[0, 0, 0]) for f in frames] == [1, 2, 10]
    assert [f.index for f in frames] == [0, 1, 2]
    assert [f.pts for f in frames] == pytest.approx([0, 0.04, 0.08])


def test_a_pattern_and_one_image(folder: Path) -> None:
    assert [f.name for f in read_all(open_source(str(folder / "frame1*.png")))] == ["frame1.png", "frame10.png"]
    assert [f.name for f in read_all(open_source(str(folder / "frame2.png")))] == ["frame2.png"]


def test_a_name_with_a_bracket_is_no_pattern(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].png", 7)
    assert [f.name for f in read_all(open_source(str(path)))] == ["a[1].png"]


def test_each_image_has_its_own_size(tmp_path: Path) -> None:
    write(tmp_path / "1.png", 1, 10, 20)
    write(tmp_path / "2.png", 2, 31, 15)
    for frame, size in zip(read_all(open_source(str(tmp_path))), [(10, 20), (31, 15)], strict=True):
        assert (frame.height, frame.width) == size
        out = np.zeros((*size, 3), np.uint8)
        assert frame.to_bgr(out) is out and out.all()


def test_grey_and_16_bit_become_8_bit_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((10, 12), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.full((10, 12), 90 * 256, np.uint16))
    for frame in read_all(open_source(str(tmp_path))):
        bgr = frame.to_bgr(None)
        assert bgr.shape == (10, 12, 3) and bgr.dtype == np.uint8
        assert (bgr == 90).all()


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    image = np.full((16, 32, 3), 255, np.uint8)
    image[:, :16] = 0
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    # One entry of IFD0: tag 0x0112, orientation 6 (turn 90 degrees clockwise to show).
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (8 + len(tiff)).to_bytes(2, "big") + b"Exif\0\0" + tiff
    path = tmp_path / "phone.jpg"
    path.write_bytes(jpeg[:2] + exif + jpeg[2:])
    (frame,) = read_all(open_source(str(path)))
    assert (frame.height, frame.width) == (32, 16)
    bgr = frame.to_bgr(None)
    assert bgr[:14].max() < 40 and bgr[18:].min() > 215


def test_a_damaged_image_is_passed_over_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (folder / "frame2.png").read_bytes()
    (folder / "frame2.png").write_bytes(whole[: len(whole) // 2])
    source = open_source(str(folder))
    with caplog.at_level(logging.WARNING):
        frames = read_all(source)
    assert [(f.index, f.name) for f in frames] == [(0, "frame1.png"), (2, "frame10.png")]
    assert source.missed == 1
    assert "frame2.png cannot be decoded" in caplog.text


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty: expected images"):
        open_source(str(tmp_path))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(SourceError, match=r"none of its 2 files can be decoded as an image"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match=r"broken\.png cannot be decoded as an image"):
        open_source(str(broken))
    with pytest.raises(SourceError, match=r"no file .*missing\.png"):
        open_source(str(tmp_path / "missing.png"))
    with pytest.raises(SourceError, match="the pattern"):
        open_source(str(tmp_path / "*.webp"))


def test_a_part_and_a_loop(folder: Path) -> None:
    part = open_source(str(folder), SourceOptions(start=0.04, end=0.08))
    assert [f.name for f in read_all(part)] == ["frame2.png"]
    loop = open_source(str(folder), SourceOptions(loop=True))
    assert loop.info.frames is None
    frames = read_all(loop, most=7)
    assert [f.name for f in frames][3:] == ["frame1.png", "frame2.png", "frame10.png", "frame1.png"]
    assert [f.pts for f in frames] == pytest.approx([i / 25 for i in range(7)])
    with pytest.raises(SourceError, match="none of them is in the part"):
        open_source(str(folder), SourceOptions(start=9))


def test_a_skipped_image_is_not_even_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def decode(path: Path, planes: int) -> Image | None:
        opened.append(path.name)
        return np.zeros((24, 32, 3), np.uint8)

    monkeypatch.setattr("rtpsp.stream.images._decode", decode)
    for name in ("frame11.png", "frame12.png"):
        write(folder / name, 0)
    selection = Selection(open_source(str(folder)), every=2)
    assert [(frame.index, frame.name) for frame in read_all(selection)] == [
        (0, "frame1.png"), (2, "frame10.png"), (4, "frame12.png")
    ]  # fmt: skip
    assert opened == ["frame1.png", "frame10.png", "frame12.png"]
    assert (selection.skipped, selection.missed) == (2, 0)


def test_skipping_goes_round_a_loop_and_ends(folder: Path) -> None:
    loop = Selection(open_source(str(folder), SourceOptions(loop=True)), every=2, max_frames=4)
    assert [frame.name for frame in read_all(loop)] == ["frame1.png", "frame10.png", "frame2.png", "frame1.png"]
    source = open_source(str(folder))
    assert [source.skip() for _ in range(5)] == [True, True, True, False, False]
    assert source.read() is None


def test_only_the_error_is_said_where_no_image_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    for options in (SourceOptions(), SourceOptions(loop=True)):
        with pytest.raises(SourceError, match="none of its 3 files"):
            open_source(str(tmp_path), options)
    assert not caplog.records
    write(tmp_path / "3.png", 3)
    assert len(read_all(open_source(str(tmp_path)))) == 1
    assert len(caplog.records) == 3  # once one of them can be read, each other is named


def test_opencv_does_not_speak_beside_us(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = (folder / "frame2.png").read_bytes()
    (folder / "frame2.png").write_bytes(whole[: len(whole) // 2])
    assert len(read_all(open_source(str(folder)))) == 2
    assert "WARN" not in capfd.readouterr().err


def test_a_loop_whose_files_vanish_does_not_spin(folder: Path) -> None:
    source = open_source(str(folder), SourceOptions(loop=True))
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(SourceLost, match="none of its 3 images"):
        read_all(source)


def test_a_damaged_image_is_told_of_once_in_a_loop(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "frame2.png").write_bytes(b"no image")
    source = open_source(str(folder), SourceOptions(loop=True))
    assert len(read_all(source, 10)) == 10
    assert source.missed == 5
    assert ["cannot be decoded" in record.getMessage() for record in caplog.records] == [True]


def test_an_image_that_went_away_is_told_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_source(str(folder))
    (folder / "frame10.png").unlink()
    assert len(read_all(source)) == 2
    assert ["frame10.png is no longer there" in record.getMessage() for record in caplog.records] == [True]


# --- other planes ----------------------------------------------------------------------------------------------------


def test_images_with_the_planes_that_a_model_takes(tmp_path: Path) -> None:
    four = np.random.default_rng(1).integers(0, 256, (24, 32, 4), np.uint8)
    grey = np.ascontiguousarray(four[..., 3])
    assert cv2.imwrite(str(tmp_path / "four.png"), four)
    assert cv2.imwrite(str(tmp_path / "grey.png"), grey)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    source = open_source(str(tmp_path), SourceOptions(planes=1))
    assert source.info.planes == 1
    shades, expected = [frame.to_bgr(None) for frame in read_all(source)], cv2.cvtColor(four, cv2.COLOR_BGRA2GRAY)
    assert source.missed == 1 and [shade.shape for shade in shades] == [(24, 32, 1)] * 2
    np.testing.assert_array_equal(shades, [expected[..., None], grey[..., None]])
    (frame,) = read_all(open_source(str(tmp_path / "four.png"), SourceOptions(planes=4)))
    np.testing.assert_array_equal(frame.to_bgr(None), four)
    np.testing.assert_array_equal(frame.to_bgr(np.empty((24, 32, 4), np.uint8)), four)


@pytest.mark.parametrize(("first", "planes"), [(1, 3), (2, 3), (2, 1)])
def test_an_image_without_the_fourth_plane_ends_it(tmp_path: Path, first: int, planes: int) -> None:
    """It is passed over no more than a folder of another data set: the rest is not what was meant."""
    for number in (1, 2, 3):
        has = planes if number >= first else 4
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((24, 32, has), 9, np.uint8))
    says = rf"{first}\.png is an image of {planes} plane\(s\) without a fourth plane, .* RGBA PNG files$"
    with pytest.raises(SourceError, match=says):
        read_all(open_source(str(tmp_path), SourceOptions(planes=4)))


@pytest.mark.parametrize(
    ("uri", "what"), [("sim://street", "the simulator"), ("0", "a camera"), ("drive.mp4", "a video file")]
)
def test_what_has_no_fourth_plane_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=f"^{uri} is {what} without a fourth plane, and the model takes one"):
        open_source(uri, SourceOptions(planes=4))


def test_planes_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="planes is 2, expected 1, 3 or 4"):
        SourceOptions(planes=2)  # type: ignore[arg-type]
