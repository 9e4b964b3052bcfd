from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.arrays import Image
from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.data.simulated import find_frames
from rtpsp.data.survey import STEP, survey
from rtpsp.errors import DataError
from rtpsp.labels import CAMVID, CITYSCAPES, LabelSet

LABELS = LabelSet("mine", ("road", "car", "sky"), ((128, 64, 128), (64, 0, 128), (1, 2, 3)), 9)


def write(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def pair(root: Path, name: str, ids: NDArray[np.uint8], size: tuple[int, int] | None = None) -> None:
    write(root / "images" / f"{name}.png", np.zeros((*(size or ids.shape), 3), np.uint8))
    write(root / "labels" / f"{name}.png", ids)


def ids(*values: int, height: int = 2) -> NDArray[np.uint8]:
    return np.repeat(np.array([values], np.uint8), height, axis=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pair(tmp_path, "a", ids(0, 0, 1, 9))
    pair(tmp_path, "b", ids(0, 0, 0, height=3))
    pair(tmp_path, "c", ids(2, 9, 9, 0))
    return tmp_path


def refused(dataset: Dataset, *expected: str, labels: LabelSet = LABELS) -> str:
    with pytest.raises(DataError) as caught:
        survey(dataset, labels)
    message = str(caught.value)
    for words in expected:
        assert words in message
    assert message.isprintable()
    return message


def test_what_a_data_set_holds(root: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = survey(open_dataset(root), LABELS, lambda *now: told.append(now))
    assert found.pixels.dtype == np.int64 and found.pixels.tolist() == [4 + 9 + 2, 2, 2]
    assert found.images_with.tolist() == [3, 1, 1] and found.void == 2 + 4 and found.images == 3
    assert found.sizes == Counter({(2, 4): 2, (3, 3): 1})
    assert told == [(STEP, 1, 3), (STEP, 2, 3), (STEP, 3, 3)]


def test_colour_coded_labels_are_counted_by_class(tmp_path: Path) -> None:
    pair(tmp_path, "a", ids(0, 1, 1))
    write(tmp_path / "labels/a.png", np.array(LABELS.palette, np.uint8)[ids(0, 1, 1)][..., ::-1])
    assert survey(open_dataset(tmp_path, labels=LABELS), LABELS).pixels.tolist() == [2, 4, 0]
    refused(
        open_dataset(tmp_path), "1 of 1 samples", "a.png cannot be read, the first since label", "holds colours (RGB)"
    )


def test_all_that_is_wrong_is_said_at_once(root: Path) -> None:
    for number in range(7):
        pair(root, f"x{number}", ids(0, 200, 100 + number))
    pair(root, "y", ids(0, 1), size=(2, 3))
    pair(root, "z", ids(0, 1))
    (root / "labels/z.png").write_bytes(b"no picture")
    pair(root, "zz", ids(0, 1))
    (root / "images/zz.png").write_bytes(b"no picture")
    message = refused(
        open_dataset(root),
        "10 of 13 samples of",
        "class ids 100, 101, 102, 103, 104 and 3 more in x0.png (100, 200), x1.png (101, 200)",
        "x4.png (104, 200) and 2 more, where label set 'mine' has 0 to 2 and 9 for void",
        "differ in size (HxW) in y.png (label 2x2, image 2x3)",
        "z.png, zz.png cannot be read, the first since label",
    )
    assert "count from 1" not in message


def test_ids_that_count_from_one_get_the_hint(tmp_path: Path) -> None:
    pair(tmp_path, "a", ids(1, 2, 3))
    refused(open_dataset(tmp_path), "class ids 3 in a.png (3)", "do they count from 1? Give a list with `# ids: 1-3`")
    labels = LabelSet("mine", LABELS.names, LABELS.palette, 9, "", (), (1, 2, 3))
    assert survey(open_dataset(tmp_path, labels=labels), labels).pixels.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ((0, 1, 2, 3), "(4 ids, 3 names: a class is missing from the list, or an id is void: `# ignore: 3`)"),
        ((0, 1, 2, 3, 4, 9), "(5 ids, 3 names: 2 classes are missing from it, or an id is void: `# ignore: 4`)"),
        ((0, 3), ""),
        ((0, 1, 2, 200), ""),
    ],
)
def test_ids_behind_the_last_class(tmp_path: Path, values: tuple[int, ...], hint: str) -> None:
    pair(tmp_path, "a", ids(*values))
    message = refused(open_dataset(tmp_path, "val"), f"1 of 1 samples of {tmp_path}, split val do not fit", hint)
    assert "count from 1" not in message and ("names: " in message) == bool(hint)


def test_labels_of_void_alone_and_no_samples_at_all(tmp_path: Path, root: Path) -> None:
    refused(open_dataset(root)[:0], "has no samples, expected one at least")
    pair(tmp_path / "void", "a", ids(9, 9))
    refused(open_dataset(tmp_path / "void"), "all 1 labels of", "are void (id 9) throughout", "'mine'")


def test_a_fourth_plane_that_is_not_there(root: Path) -> None:
    refused(open_dataset(root, planes=4), "3 of 3 samples", "has planes 3, the model takes 4")


@dataclass(frozen=True)
class TruthAlone:
    """A street whose pictures nobody may ask for."""

    height: int
    width: int

    def draw(self, index: int, /) -> Image:
        raise AssertionError("a picture was drawn")

    def truth(self, index: int, /) -> NDArray[np.uint8]:
        return np.full((self.height, self.width), index % 11, np.uint8)


def test_the_simulator_is_counted_without_drawing_its_pictures() -> None:
    uri = "sim://street?frames=2&step=3&w=6&h=4"
    dataset = Dataset(uri, None, find_frames(uri, lambda height, width, fps, seed: TruthAlone(height, width)))
    found = survey(dataset, CAMVID)
    assert found.images == 2 and found.sizes == {(4, 6): 2} and found.pixels[[0, 3]].tolist() == [24, 24]
    refused(dataset, "has the 11 classes of 'camvid', the label set is 'cityscapes' with 19", labels=CITYSCAPES)


def test_an_interruption_ends_it(root: Path) -> None:
    def stop(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey(open_dataset(root), LABELS, stop)
