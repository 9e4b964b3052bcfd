from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.data import calibration_files
from rtpsp.data.calibration_files import read_list, spread, survey_images, survey_pairs
from rtpsp.data.files import FilePair, find_images, find_split
from rtpsp.errors import DataError
from tests.data.test_calibration_choice import scene


def quiet(step: str, done: int, total: int) -> None:
    pass


def write(path: Path, image: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def pair(folder: Path, name: str, seed: int, label_size: tuple[int, int] = (96, 128)) -> FilePair:
    image = write(folder / "images" / name, scene(seed))
    return FilePair(name, image, write(folder / "labels" / name, np.full(label_size, 1, np.uint8)))


# --- choosing --------------------------------------------------------------------------------------------------------


def test_a_scene_that_lasts_one_frame_is_taken_among_many_alike(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n:03d}.png", scene(n if n in (13, 21) else 99)) for n in range(30)]
    survey = survey_images(files, tmp_path, 3, quiet)
    assert {entry.name for entry in survey.entries} >= {"013.png", "021.png"} and len(survey.entries) == 3
    assert [entry.name for entry in survey.entries] == sorted(entry.name for entry in survey.entries)


def test_an_entry_has_the_files_digest_and_its_path_from_the_root(tmp_path: Path) -> None:
    file = write(tmp_path / "deep/er/a.png", scene(1))
    (entry,) = survey_images([file], tmp_path / "deep", 5, quiet).entries
    assert (entry.name, entry.sha256) == ("er/a.png", hashlib.sha256(file.read_bytes()).hexdigest())
    assert entry.label is None and entry.frame is None


def test_sizes_may_differ(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.png", scene(n, 40 + n, 70 - n)) for n in range(3)]
    assert len(survey_images(files, tmp_path, 3, quiet).entries) == 3


def test_every_file_is_told_of(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    files = [write(tmp_path / f"{n}.png", scene(n)) for n in range(3)]
    survey_images(files, tmp_path, 3, lambda *step: told.append(step))
    assert told == [("look at the frames", n, 3) for n in range(3)]


def test_of_very_many_files_evenly_spaced_ones_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_files, "CANDIDATES", 10)
    assert list(spread(10, 3)) == list(range(10)) and list(spread(25, 3)) == list(range(0, 25, 3))
    assert len(spread(25, 20)) == 25  # twice as many as are to be chosen, in any case
    assert len(spread(0, 3)) == 0


# --- what cannot be read ---------------------------------------------------------------------------------------------


def test_unreadable_images_are_named_counted_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [write(tmp_path / f"{n:02d}.png", scene(n)) for n in range(20)]
    files[4].write_bytes(b"no picture")
    files[9].unlink()
    with caplog.at_level(logging.WARNING):
        survey = survey_images(files, tmp_path, 300, quiet)
    assert len(survey.entries) == 18 and survey.candidates == 20
    assert [one.name for one in survey.skipped] == ["04.png", "09.png"]
    assert "cannot be decoded" in survey.skipped[0].reason and "No such file" in survey.skipped[1].reason
    (line,) = caplog.messages
    assert "2 of 20 images cannot be read" in line and "04.png, 09.png" in line
    assert capfd.readouterr().err == ""


def test_past_a_tenth_it_is_an_error_that_names_five(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n:02d}.png", scene(n)) for n in range(30)]
    for file in files[:7]:
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"7 of 30 images cannot be read, expected 10% at most: 00\.png") as caught:
        survey_images(files, tmp_path, 300, quiet)
    assert "04.png and 2 more" in str(caught.value) and "05.png" not in str(caught.value)
    for file in files[3:7]:
        write(file, scene(0))
    assert len(survey_images(files, tmp_path, 300, quiet).entries) == 27


# --- labels ----------------------------------------------------------------------------------------------------------


def test_pairs_have_both_digests(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, f"{n}.png", n) for n in range(3)]
    for one, entry in zip(pairs, survey_pairs(pairs, tmp_path, 3, quiet).entries, strict=True):
        assert (entry.name, entry.label) == (f"images/{one.name}", f"labels/{one.name}")
        assert entry.label_sha256 == hashlib.sha256(one.label.read_bytes()).hexdigest()


def test_a_label_of_another_size_is_an_error_not_an_unreadable_file(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, f"{n:02d}.png", n, (96, 128) if n else (96, 127)) for n in range(20)]
    with pytest.raises(DataError, match=r"label .*00\.png is 96x127 \(HxW\), its image .* is 96x128"):
        survey_pairs(pairs, tmp_path, 300, quiet)


def test_a_pair_with_an_unreadable_label_is_passed_over(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, f"{n:02d}.png", n) for n in range(20)]
    pairs[7].label.write_bytes(b"no label")
    (skipped,) = survey_pairs(pairs, tmp_path, 300, quiet).skipped
    assert skipped.name == "images/07.png" and "is not a PNG file" in skipped.reason


# --- lists and folders -----------------------------------------------------------------------------------------------


def test_a_list_of_images_may_have_blanks_and_comments(tmp_path: Path) -> None:
    write(tmp_path / "a b.png", scene(1))
    (tmp_path / "list").write_text("\ufeff# mine\na b.png\n\n  sub/c.png\n", encoding="utf-8")
    assert read_list(tmp_path / "list") == (tmp_path / "a b.png", tmp_path / "sub/c.png")


def test_a_list_of_pairs_is_one_of_the_data_set(tmp_path: Path) -> None:
    one = pair(tmp_path, "a.png", 1)
    (tmp_path / "list.txt").write_text("images/a.png labels/a.png\n")
    assert read_list(tmp_path / "list.txt") == (FilePair("images/a.png", one.image, one.label),)


@pytest.mark.parametrize(
    ("name", "data"),
    [("v.mp4", b""), ("v.avi", b"words"), ("v", b"\0\0\0\x20ftyp"), ("v.txt", b"a\x10"), ("v.m3u8", b"#EXTM3U\na")],
)
def test_what_is_no_list(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_list(tmp_path / name) is None


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="lists no images"):
        read_list(tmp_path / "list.txt")


def test_a_folders_images_are_those_directly_in_it(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "within/c.png", ".hidden.png"):
        write(tmp_path / name, scene(1))
    (tmp_path / "notes.txt").write_text("x")
    assert find_images(tmp_path) == (tmp_path / "a.JPG", tmp_path / "b.png")


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in .*, it holds nothing"):
        find_images(tmp_path)
    write(tmp_path / "drive" / "c.png", scene(1))
    with pytest.raises(DataError, match=r"it holds drive: give .*drive, or '.*/\*\*/\*\.png'"):
        find_images(tmp_path)


def test_the_split_is_the_first_that_is_there(tmp_path: Path) -> None:
    assert find_split(tmp_path, ("train", "val")) is None
    for name in ("val", "valannot"):
        (tmp_path / name).mkdir()
    assert find_split(tmp_path, ("train", "val")) == "val"
    (tmp_path / "train.txt").write_text("a b")
    assert find_split(tmp_path, ("train", "val")) == "train" and find_split(tmp_path, ("test",)) is None
