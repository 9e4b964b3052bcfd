from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import UsageError
from rtpsp.live import run
from rtpsp.stream.sink import MaskFolder


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
