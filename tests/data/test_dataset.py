from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.data.files import IMAGE_SUFFIXES, find_split
from rtpsp.errors import DataError, SourceError
from rtpsp.labels import CAMVID, LabelSet

HEIGHT, WIDTH = 4, 6


def picture(value: int) -> NDArray[np.uint8]:
    """Blue, green and red differ, so that a swapped channel shows."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (value, value + 1, value + 2)
    return image


def ids(offset: int = 0) -> NDArray[np.uint8]:
    return (np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) + offset) % 12


def write(path: Path, array: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_pair(image: Path, label: Path, value: int) -> None:
    write(image, picture(value))
    write(label, ids(value))


@pytest.fixture
def segnet(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b", "c")):
        write_pair(tmp_path / "val" / f"{name}.png", tmp_path / "valannot" / f"{name}.png", 10 * number)
    write_pair(tmp_path / "train" / "t.png", tmp_path / "trainannot" / "t.png", 90)
    return tmp_path


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_segnet_layout_gives_images_in_bgr_and_class_ids(segnet: Path) -> None:
    dataset = open_dataset(segnet)
    assert len(dataset) == 3 and dataset.names == ("a.png", "b.png", "c.png")
    for number, sample in enumerate(dataset):
        assert sample.name == dataset.names[number]
        assert sample.image.dtype == np.uint8 and np.array_equal(sample.image, picture(10 * number))
        assert sample.truth.dtype == np.uint8 and np.array_equal(sample.truth, ids(10 * number))


def test_split_chooses_the_folders(segnet: Path) -> None:
    dataset = open_dataset(segnet, split="train")
    assert dataset.names == ("t.png",) and dataset.split == "train"


def test_dataset_is_frozen_sized_reiterable_and_sliceable(segnet: Path) -> None:
    dataset = open_dataset(str(segnet))
    assert [sample.name for sample in dataset] == [sample.name for sample in dataset] == list(dataset.names)
    half = dataset[::2]
    assert isinstance(half, Dataset) and half.names == ("a.png", "c.png")
    assert dataset[-1].name == "c.png"
    with pytest.raises(IndexError):
        dataset[3]
    with pytest.raises(FrozenInstanceError):
        dataset.split = "train"  # type: ignore[misc]


def test_samples_are_loaded_one_by_one_and_only_when_asked_for(segnet: Path) -> None:
    (segnet / "val" / "b.png").write_bytes(b"not a picture")
    dataset = open_dataset(segnet)
    assert dataset[0].name == "a.png" and dataset[2].name == "c.png"
    with pytest.raises(DataError, match=r"b\.png cannot be decoded"):
        dataset[1]


def test_folders_go_before_a_list(segnet: Path) -> None:
    (segnet / "val.txt").write_text("val/a.png valannot/a.png\n")
    assert len(open_dataset(segnet)) == 3


def test_list_inside_a_folder_is_used_without_split_folders(tmp_path: Path) -> None:
    write_pair(tmp_path / "x" / "a.png", tmp_path / "y" / "other.png", 5)
    (tmp_path / "val.txt").write_text("# image label\n\nx/a.png y/other.png\n")
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("x/a.png",) and dataset.split == "val"
    assert np.array_equal(dataset[0].truth, ids(5))


def test_list_by_its_own_path_may_have_tabs_and_absolute_paths(tmp_path: Path) -> None:
    write_pair(tmp_path / "my images" / "a 1.png", tmp_path / "elsewhere" / "a.png", 5)
    listing = tmp_path / "pairs.lst"
    listing.write_text(f"my images/a 1.png\t{tmp_path / 'elsewhere' / 'a.png'}\n")
    dataset = open_dataset(listing)
    assert dataset.names == ("my images/a 1.png",) and dataset.split is None
    assert np.array_equal(dataset[0].image, picture(5))


def test_a_list_saved_by_another_system(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.png", tmp_path / "al.png", 5)
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfa.png al.png\r\n")
    assert open_dataset(tmp_path).names == ("a.png",)


@pytest.mark.parametrize("inner", ["", "val"])
def test_images_and_labels_folders_pair_by_stem(tmp_path: Path, inner: str) -> None:
    write_pair(tmp_path / "images" / inner / "a.bmp", tmp_path / "labels" / inner / "a.png", 3)
    (tmp_path / "images" / inner / "notes.txt").write_text("not an image")
    (tmp_path / "images" / inner / "._a.png").write_bytes(b"what macOS leaves behind")
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("a.bmp",) and np.array_equal(dataset[0].truth, ids(3))


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("leftImg8bit/val/ulm/ulm_1_leftImg8bit.png", "gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png"),
        ("leftImg8bit/val/ulm/1_.png", "gtFine/val/ulm/1_labelTrainIds.png"),  # DensePASS
    ],
)
def test_layout_of_cityscapes(tmp_path: Path, image: str, label: str) -> None:
    write_pair(tmp_path / image, tmp_path / label, 3)
    write(tmp_path / label.replace("labelTrainIds", "labelIds"), ids(7))
    dataset = open_dataset(tmp_path)
    assert dataset.names == (image.removeprefix("leftImg8bit/val/"),) and np.array_equal(dataset[0].truth, ids(3))
    assert find_split(tmp_path, ("train", "val")) == "val"


def test_labels_are_read_as_the_label_set_says(tmp_path: Path) -> None:
    mine = LabelSet("mine", ("a", "b"), ((1, 2, 3), (4, 5, 6)), 255, "", ((9, 9, 9),), (1, 2))
    coloured = np.array([(3, 2, 1), (6, 5, 4), (9, 9, 9)], np.uint8)[ids() % 3]
    write(tmp_path / "images/a.png", picture(1))
    write(tmp_path / "labels/a.png", coloured)
    write(tmp_path / "images/b.png", picture(1))
    write(tmp_path / "labels/b.png", ids() % 2 + 1)
    first, second = open_dataset(tmp_path, labels=mine)
    assert np.array_equal(first.truth, np.array([0, 1, 255])[ids() % 3]) and np.array_equal(second.truth, ids() % 2)
    with pytest.raises(DataError, match=r"a\.png holds colours \(RGB\), expected class ids"):
        open_dataset(tmp_path)[0]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_image_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    write_pair(tmp_path / "images" / f"a{suffix}", tmp_path / "labels" / "a.png", 100)
    image = open_dataset(tmp_path)[0].image
    assert np.abs(image.astype(int) - picture(100)).max() <= 4  # some of them lose a little


# --- what is wrong with a folder or list -----------------------------------------------------------------------------


def refused(path: Path, *expected: str, split: str = "val") -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(path, split)
    for words in expected:
        assert words in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "no data set at", "absent", "sim://street")


def test_unknown_layout_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit").mkdir()
    refused(tmp_path, "leftImg8bit", "'val'", "val/ and valannot/", "val.txt", "images/ and labels/")


def test_a_folder_that_may_not_be_listed(segnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    refused(segnet, f"folder {segnet / 'val'} cannot be read: Permission denied")


def test_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, "holds nothing")


def test_missing_labels_are_listed_up_to_five_and_counted(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / "val" / f"i{number}.png", picture(number))
    write(tmp_path / "valannot" / "i0.png", ids())
    refused(tmp_path, "no label", "i1.png, i2.png, i3.png, i4.png, i5.png and 2 more", str(tmp_path / "val"))


def test_jpeg_labels_are_refused_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "images/a.png", picture(1))
    write(tmp_path / "labels/a.jpg", ids())
    refused(tmp_path, "no label (PNG)", "JPEG changes ids and colours, export labels as PNG")


def test_cityscapes_without_train_ids(tmp_path: Path) -> None:
    write_pair(tmp_path / "leftImg8bit/val/a_leftImg8bit.png", tmp_path / "gtFine/val/a_gtFine_labelIds.png", 3)
    refused(tmp_path, "no *_labelTrainIds.png for a_leftImg8bit.png", "csCreateTrainIdLabelImgs")
    (tmp_path / "leftImg8bit/val/a_leftImg8bit.png").unlink()
    refused(tmp_path, f"no images in {tmp_path / 'leftImg8bit' / 'val'} or its folders")


def test_labels_without_an_image_are_refused_too(segnet: Path) -> None:
    (segnet / "val" / "b.png").unlink()
    refused(segnet, "no image for b.png", "valannot")


def test_two_images_of_one_name_are_refused(segnet: Path) -> None:
    write(segnet / "val" / "a.bmp", picture(1))
    refused(segnet, "a.bmp and a.png")


def test_split_of_images_without_its_labels(tmp_path: Path) -> None:
    write(tmp_path / "images" / "val" / "a.png", picture(1))
    (tmp_path / "labels").mkdir()
    refused(tmp_path, f"no folder {tmp_path / 'labels' / 'val'}")


def test_images_in_other_splits_only(tmp_path: Path) -> None:
    write_pair(tmp_path / "images" / "train" / "a.png", tmp_path / "labels" / "train" / "a.png", 3)
    refused(tmp_path, "no images in", "holds train")


def test_list_naming_absent_files(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.png", tmp_path / "al.png", 3)
    listing = tmp_path / "val.txt"
    listing.write_text("a.png al.png\n" + "".join(f"x{n}.png al.png\n" for n in range(7)))
    refused(listing, "x0.png", "x4.png and 2 more", "list's folder")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.png\n", "line 1: 'a.png' has 1 words"), ("#\n\na.png b.png 3\n", "line 3"), ("\n# none\n", "lists no pairs")],
)
def test_list_that_is_none(tmp_path: Path, text: str, expected: str) -> None:
    listing = tmp_path / "val.txt"
    listing.write_text(text)
    refused(listing, expected)


def test_a_video_or_picture_is_not_a_list(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(1))
    refused(tmp_path / "a.png", "not a text file of pairs")


def test_sizes_of_image_and_label_must_be_one(segnet: Path) -> None:
    write(segnet / "valannot" / "b.png", ids()[:, 1:])
    with pytest.raises(DataError, match=r"b\.png is 4x5 \(HxW\).*b\.png is 4x6"):
        open_dataset(segnet)[1]


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_unreadable_image(segnet: Path, content: bytes) -> None:
    (segnet / "val" / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"image .*a\.png cannot be decoded"):
        open_dataset(segnet)[0]


def test_files_that_go_away_after_opening(segnet: Path) -> None:
    dataset = open_dataset(segnet)
    (segnet / "val" / "a.png").unlink()
    (segnet / "valannot" / "b.png").unlink()
    with pytest.raises(DataError, match=r"image .*a\.png cannot be read: No such file"):
        dataset[0]
    with pytest.raises(DataError, match=r"label .*b\.png cannot be read: No such file"):
        dataset[1]


# --- the whole -------------------------------------------------------------------------------------------------------


def test_the_real_street_is_a_dataset() -> None:
    dataset = open_dataset("sim://street?frames=2&w=160&h=120&step=30")
    assert len(dataset) == 2 and dataset.split is None
    first, second = dataset
    assert first.labels is CAMVID
    assert first.image.shape == (120, 160, 3) and first.truth.shape == (120, 160) and first.truth.max() < 11
    assert not np.array_equal(first.truth, second.truth), "a second later the street looks different"
    assert np.array_equal(first.image, dataset[0].image), "it is the same street every time"


def test_a_wrong_simulator_uri_is_refused_when_opened() -> None:
    with pytest.raises(SourceError, match="at least 120x160 pixels, got 8x480"):
        open_dataset("sim://street?h=8")


def test_the_room_imports_no_other_room() -> None:
    program = (
        "import sys, rtpsp.data.dataset; rooms = ('stream', 'engine', 'graph', 'model', 'sim');"
        "print([name for name in sys.modules if name.startswith(tuple(f'rtpsp.{r}' for r in rooms))"
        " or name in ('torch', 'cv2')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
