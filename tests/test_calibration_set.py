"""What may be given to `--calib`, from the source to the frames that are read again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.calibration_set import CalibrationSet, calibration_folder, load_manifest, open_calibration
from rtpsp.errors import DataError, MissingError, OutputError, SourceError, UsageError
from tests.data.test_calibration_choice import scene
from tests.stream.test_video import make_video

STREET = "sim://street?w=160&h=120"


@pytest.fixture(autouse=True)
def calib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    return tmp_path / "calib"


def write(path: Path, image: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def folder_of(path: Path, count: int) -> Path:
    for n in range(count):
        write(path / f"{n:03d}.png", scene(n))
    return path


def labelled(path: Path, splits: Sequence[str] = ("train", "val"), count: int = 4) -> Path:
    for split in splits:
        for n in range(count):
            write(path / split / f"{n}.png", scene(n))
            write(path / f"{split}annot" / f"{n}.png", np.full((96, 128), n, np.uint8))
    return path


def same(found: CalibrationSet, again: CalibrationSet) -> bool:
    images = list(zip(found.images(), again.images(), strict=True))
    return found.digest == again.digest and all(np.array_equal(one, other) for one, other in images)


# --- images ----------------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_frames_that_differ_most(tmp_path: Path, calib: Path) -> None:
    found = open_calibration(str(folder_of(tmp_path / "drive", 12)), 5)
    assert (len(found), found.kind, found.labelled, found.split) == (5, "images", False, None)
    assert found.manifest == calib / f"drive-{found.digest[:8]}.json" and list(found.names) == sorted(found.names)
    for name, image in zip(found.names, found.images(), strict=True):
        assert np.array_equal(image, scene(int(name.removesuffix(".png"))))


def test_the_same_images_give_the_same_set_wherever_they_lie(tmp_path: Path) -> None:
    here, there = folder_of(tmp_path / "here", 9), tmp_path / "there"
    shutil.copytree(here, there)
    first, other = open_calibration(str(here), 4), open_calibration(str(there), 4)
    assert first.digest == other.digest and first.names == other.names
    assert first.manifest is not None
    before = first.manifest.read_bytes()
    open_calibration(str(here), 4)
    assert first.manifest.read_bytes() == before
    write(there / first.names[0], scene(50))
    assert open_calibration(str(there), 4).digest != first.digest


def test_a_pattern_reaches_folders_within(tmp_path: Path) -> None:
    folder_of(tmp_path / "all" / "a", 2)
    folder_of(tmp_path / "all" / "b", 1)
    found = open_calibration(str(tmp_path / "all" / "**" / "*.png"))
    assert found.names == ("a/000.png", "a/001.png", "b/000.png")
    assert found.manifest is not None and found.manifest.name.startswith("all-") and len(list(found.images())) == 3
    with pytest.raises(DataError, match=r"matches 0 file.* and no image"):
        open_calibration(str(tmp_path / "all" / "*.bmp"))


def test_a_list_and_a_single_image(tmp_path: Path) -> None:
    folder_of(tmp_path / "drive", 3)
    (tmp_path / "mine.txt").write_text("drive/002.png\ndrive/000.png\n")
    assert open_calibration(str(tmp_path / "mine.txt")).names == ("drive/002.png", "drive/000.png")
    assert open_calibration(str(tmp_path / "drive" / "001.png")).names == ("001.png",)


def test_few_frames_are_warned_of_and_enough_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = open_calibration(str(folder_of(tmp_path / "drive", 99)))
    (line,) = caplog.messages
    assert line.startswith("calibration set") and "has 99 frame(s), expected 100 or more" in line
    assert len(found) == 99
    caplog.clear()
    write(tmp_path / "drive" / "more.png", scene(200))
    open_calibration(str(tmp_path / "drive"))
    assert caplog.messages == []


# --- labels ----------------------------------------------------------------------------------------------------------


def test_a_labelled_folder_brings_its_labels(tmp_path: Path) -> None:
    found = open_calibration(str(labelled(tmp_path / "set")), 3)
    assert (found.split, found.labelled, len(found)) == ("train", True, 3)
    for sample in found.samples():
        number = int(Path(sample.name).stem)
        assert np.array_equal(sample.image, scene(number)) and np.all(sample.truth == number)


def test_the_split_is_train_or_val_or_what_is_asked_for(tmp_path: Path) -> None:
    assert open_calibration(str(labelled(tmp_path / "one", ("val",)))).split == "val"
    both = str(labelled(tmp_path / "both"))
    assert open_calibration(both, split="val").names[0] == "val/0.png"
    with pytest.raises(DataError, match="for split 'test' expected folders test/ and testannot/"):
        open_calibration(both, split="test")


def test_a_part_without_labels_is_a_folder_of_images(tmp_path: Path) -> None:
    folder_of(tmp_path / "set" / "test", 2)
    found = open_calibration(str(tmp_path / "set"), split="test")
    assert not found.labelled and len(found) == 2


def test_an_image_without_a_label_is_refused(tmp_path: Path) -> None:
    write(labelled(tmp_path / "set") / "train" / "alone.png", scene(1))
    with pytest.raises(DataError, match=r"no label .* for alone\.png"):
        open_calibration(str(tmp_path / "set"))


# --- videos ----------------------------------------------------------------------------------------------------------


def test_every_scene_of_a_mostly_static_video_is_taken(tmp_path: Path) -> None:
    """300 frames of one place, then seven of two frames each: evenly by time, eight frames would be two places."""
    places = [0] * 300 + [place for place in range(1, 8) for _ in range(2)]
    video = make_video(tmp_path / "dull.mp4", [scene(place) for place in places])
    found = open_calibration(str(video), 8)
    assert found.kind == "frames" and not found.labelled
    assert {places[entry.frame or 0] for entry in found.entries} == set(range(8))
    assert {places[n] for n in range(0, len(places), len(places) // 8)} == {0, 7}


def test_a_videos_frames_come_again_in_any_part(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", [scene(n) for n in range(20)])
    found = open_calibration(str(video), 7)
    images = list(found.images())
    assert same(found, open_calibration(str(video), 7)) and found.entries[-1].pts == found.entries[-1].frame / 25  # type: ignore[operator]
    fit, held = found.hold_out()
    assert len(fit) == 6 and np.array_equal(next(held.images()), images[2])
    for n, image in zip(found.names, images, strict=True):
        assert np.abs(image.astype(int) - scene(int(n))).mean() < 8


def test_a_video_of_another_content_is_refused(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", [scene(n) for n in range(6)])
    found = open_calibration(str(video), 3)
    make_video(video, [scene(n + 10) for n in range(6)])
    with pytest.raises(DataError, match=r"frame \d of .*v\.mp4 is not what it was"):
        list(found.images())
    make_video(video, [scene(0)])
    with pytest.raises(DataError, match=r"v\.mp4 is not what it was"):
        list(found[2:].images())


# --- the simulator ---------------------------------------------------------------------------------------------------


def test_the_simulator_is_a_labelled_set(tmp_path: Path) -> None:
    found = open_calibration(f"{STREET}&frames=6&seed=2", 5)
    assert found.kind == "simulator" and found.labelled and len(found) == 5
    assert all(name.startswith("street-2-") for name in found.names)
    for sample in found[:2].samples():
        assert sample.image.shape == (120, 160, 3) and sample.truth.shape == (120, 160)


def test_as_a_source_the_simulator_is_read_again(tmp_path: Path) -> None:
    found = open_calibration(f"{STREET}&frames=5&timecode=1", 3)
    assert found.kind == "frames" and len(list(found.images())) == 3


def test_what_is_live_is_saved(calib: Path) -> None:
    found = open_calibration(f"{STREET}&frames=8&fps=25&live=1", 3)
    assert found.kind == "camera" and found.manifest is not None
    saved = found.manifest.with_suffix("")
    assert sorted(file.name for file in saved.iterdir()) == list(found.names)
    assert sorted(calib.iterdir()) == [saved, found.manifest]  # and nothing that was only in the making
    assert all(image.shape == (120, 160, 3) for image in found.images())


# --- manifests -------------------------------------------------------------------------------------------------------


def test_a_manifest_gives_the_same_set(tmp_path: Path) -> None:
    sources = [
        str(folder_of(tmp_path / "drive", 3)),
        str(labelled(tmp_path / "set")),
        str(make_video(tmp_path / "v.mp4", [scene(n) for n in range(4)])),
        f"{STREET}&frames=2",
    ]
    for source in sources:
        found = open_calibration(source, 2)
        assert found.manifest is not None
        for again in (load_manifest(found.manifest), open_calibration(str(found.manifest))):
            assert again == found and same(found, again)


def test_a_checkout_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "old" / "data", 3)
    found = open_calibration(str(tmp_path / "old" / "data"), 2, folder=tmp_path / "old" / "calib")
    assert found.manifest is not None
    (tmp_path / "old").rename(tmp_path / "new")
    again = load_manifest(tmp_path / "new" / "calib" / found.manifest.name)
    assert again.digest == found.digest and len(list(again.images())) == 2


def test_a_manifest_whose_frames_are_gone_says_so(tmp_path: Path) -> None:
    found = open_calibration(str(folder_of(tmp_path / "drive", 3)))
    assert found.manifest is not None
    (tmp_path / "drive" / "001.png").unlink()
    with pytest.raises(DataError, match=r"lists 3 file\(s\), of which 1 are not there, such as .*001\.png"):
        load_manifest(found.manifest)


def test_a_manifest_that_was_edited_is_refused(tmp_path: Path) -> None:
    found = open_calibration(str(folder_of(tmp_path / "drive", 3)))
    assert found.manifest is not None
    values = json.loads(found.manifest.read_text())
    values["entries"].pop()
    found.manifest.write_text(json.dumps(values))
    with pytest.raises(DataError, match="its entries are not those of its digest"):
        load_manifest(found.manifest)
    found.manifest.write_text('{"ranges": {}}')
    with pytest.raises(DataError, match=r"\.json is not the manifest of a calibration set.*--calib"):
        open_calibration(str(found.manifest))
    found.manifest.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        load_manifest(found.manifest)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_is_nothing_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.cameras.list_cameras", lambda: ())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.mp4").touch()
    folder_of(tmp_path / "drive", 1)
    for given, error, words in [
        ("", SourceError, "--calib is empty"),
        (str(tmp_path / "empty"), DataError, "no images in .*it holds nothing"),
        (str(tmp_path / "empty.mp4"), SourceError, "the file is empty"),
        (str(tmp_path / "drlve"), SourceError, "is called .*drlve.*did you mean .*drive"),
        ("Logitech", SourceError, "no folder, file or camera is called 'Logitech'"),
        ("/dev/video77", MissingError, "no camera"),
        ("sim://street?frames=x", SourceError, "frames is 'x'"),
        ("sim://street?colour=1", SourceError, "colour"),
        ("rtsp://me:secret@127.0.0.1:1/1", SourceError, "nothing listens"),
    ]:
        with pytest.raises(error, match=words) as caught:
            open_calibration(given)
        assert "\n" not in str(caught.value) and "secret" not in str(caught.value), given


def test_no_frames_can_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 calibration images are asked for, expected 1 or more"):
        open_calibration(str(tmp_path), 0)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="RTPSP_CALIB"):
        open_calibration(str(tmp_path / "drive"), folder=tmp_path / "file")


# --- where it goes ---------------------------------------------------------------------------------------------------


def test_the_folder_is_the_named_one_the_checkouts_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calibration_folder() == tmp_path / "calib"
    monkeypatch.delenv("RTPSP_CALIB")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    assert calibration_folder() == tmp_path / "cache" / "rtpsp" / "calib"
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib" / "README.md").touch()
    (tmp_path / "rtpsp" / "zoo").mkdir(parents=True)
    assert calibration_folder() == tmp_path / "calib"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache"))
    monkeypatch.chdir(tmp_path / "rtpsp")
    assert calibration_folder().is_absolute()


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    video = make_video(tmp_path / "v.mp4", [scene(n) for n in range(4)])
    open_calibration(str(video), 2, progress=lambda *step: told.append(step))
    assert [done for _, done, _ in told[:4]] == [0, 1, 2, 3] and all(done < total for _, done, total in told)


def test_warnings_go_through_logging_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        open_calibration(str(folder_of(tmp_path / "drive", 2)))
    assert {record.name.split(".")[0] for record in caplog.records} == {"rtpsp"} and capfd.readouterr() == ("", "")
