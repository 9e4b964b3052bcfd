from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import OutputError, UsageError
from rtpsp.labels import CAMVID, to_label_list
from rtpsp.live import run
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Frame, Rendered, Stamps
from rtpsp.stream.sink import MaskFolder
from rtpsp.stream.source import SourceInfo

SPEC = ModelSpec("tiny", "fake", 48, 64, CAMVID)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((30, 40, 3), 200, np.uint8))


def test_masks_never_replace_the_images(tmp_path: Path) -> None:
    image(tmp_path / "in" / "a.png")
    before = (tmp_path / "in" / "a.png").read_bytes()
    for uri in ("in", "in/a.png", "*/a.png"):
        with pytest.raises(UsageError, match="--save-masks"):
            run(str(tmp_path / uri), FakeEngine(), [MaskFolder(tmp_path / "in")])
    assert (tmp_path / "in" / "a.png").read_bytes() == before
    run(str(tmp_path / "in"), FakeEngine(), [MaskFolder(tmp_path / "in" / "masks")])
    assert [path.name for path in (tmp_path / "in" / "masks").glob("*.png")] == ["a.png"]


def test_images_of_one_name_have_a_mask_each(tmp_path: Path) -> None:
    for name in ("1/a.png", "2/a.png", "2/a.jpg", "2/b.png"):
        image(tmp_path / name)
    run(str(tmp_path / "[12]" / "*"), FakeEngine(), [MaskFolder(tmp_path / "masks")])
    names = sorted(path.name for path in (tmp_path / "masks").glob("*.png"))
    assert names == ["000000-a.png", "000001-a.png", "000002-a.png", "b.png"]


def test_a_list_of_other_classes_is_not_written_over(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "masks").mkdir()
    mine = tmp_path / "masks" / "classes.txt"
    mine.write_text("cat\ndog\n")
    with pytest.raises(UsageError, match="other classes"):
        run(str(tmp_path / "a.png"), FakeEngine(), [MaskFolder(tmp_path / "masks")])
    assert mine.read_text() == "cat\ndog\n"
    mine.unlink()
    for _ in range(2):  # its own list is no hindrance the second time
        run(str(tmp_path / "a.png"), FakeEngine(), [MaskFolder(tmp_path / "masks")])


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to stand for a full disk")
def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    import resource

    noise = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit, words, left in (
        (1000, "000000.png: .*; masks up to here are kept", ["classes.txt"]),
        (10, "classes", []),
    ):
        folder = tmp_path / str(limit)
        sink = MaskFolder(folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OutputError, match=words):
                sink.open(SourceInfo("test", "sim", 64, 64), SPEC)
                sink.write(Rendered(Frame(0, 0.0, 0.0, 64, 64, lambda out: noise), {}, noise, Stamps(0.0)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [path.name for path in folder.iterdir()] == left


def test_a_folder_that_no_path_can_name_is_one_error(tmp_path: Path) -> None:
    for name in ("x" * 5000, "nul\0"):
        with pytest.raises(OutputError, match="--save-masks"):
            MaskFolder(tmp_path / name).open(SourceInfo("test", "sim", 48, 64), SPEC)


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    MaskFolder("~/masks").open(SourceInfo("test", "sim", 48, 64), SPEC)
    assert (tmp_path / "masks" / "classes.txt").is_file()


def test_a_run_without_a_mask_leaves_nothing_new(tmp_path: Path) -> None:
    info = SourceInfo("test", "sim", 48, 64)
    (tmp_path / "there").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "classes.txt").write_bytes(to_label_list(CAMVID).encode())
    for name in ("new", "there", "old"):
        sink = MaskFolder(tmp_path / name)
        sink.open(info, SPEC)
        sink.close()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["classes.txt", "old", "there"]


def test_masks_of_an_earlier_run_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    run(str(tmp_path / "*.png"), FakeEngine(), [MaskFolder(tmp_path / "masks")])
    assert caplog.text == ""
    run(str(tmp_path / "a.png"), FakeEngine(), [MaskFolder(tmp_path / "masks")])
    assert "holds 2 masks already: those that this run does not replace stay" in caplog.text


def test_what_is_no_source_is_told() -> None:
    with pytest.raises(UsageError, match="the source is a ndarray, expected a URI or a Source"):
        run(np.zeros((4, 4, 3), np.uint8), FakeEngine())  # type: ignore[arg-type]
