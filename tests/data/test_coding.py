from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtpsp.data.class_ids import read_class_ids
from rtpsp.data.coding import from_colours, from_ids
from rtpsp.errors import DataError
from rtpsp.labels import CITYSCAPES, LABEL_SETS, LabelSet, distinct_palette

ROAD, CAR, SKY = (128, 64, 128), (64, 0, 128), (1, 2, 3)  # no channel repeats, so that a swapped one shows
LABELS = LabelSet("mine", ("road", "car", "sky"), (ROAD, CAR, SKY), 255, "", ((0, 0, 0), (64, 64, 64)))
PATH = Path("label.png")


def bgr(labels: LabelSet, ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The picture of class ids in the set's colours; 255 in the first of void's."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(labels)] = labels.palette
    table[255] = labels.void[0] if labels.void else (9, 9, 9)
    return np.ascontiguousarray(table[ids][..., ::-1])


def write(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


# --- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4])
def test_a_colour_coded_file_is_read_by_the_palette(tmp_path: Path, channels: int) -> None:
    ids = np.random.default_rng(0).choice([0, 1, 2, 255], (23, 41))
    picture = bgr(LABELS, ids)
    if channels == 4:  # as Cityscapes' *_color.png; what lies in alpha does not count
        alpha = np.random.default_rng(1).integers(0, 256, (23, 41, 1), np.uint8)
        picture = np.concatenate((picture, alpha), axis=2)
    found = read_class_ids(write(tmp_path / "label.png", picture), LABELS)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ids)


def test_every_void_colour_is_void() -> None:
    picture = np.array([[(0, 0, 0), (64, 64, 64), ROAD[::-1]]], np.uint8)
    assert from_colours(picture, LABELS, PATH).tolist() == [[255, 255, 0]]


@settings(deadline=None, max_examples=60)
@given(
    ids=st.lists(st.lists(st.sampled_from([0, 1, 5, 18, 255]), min_size=7, max_size=7), min_size=1, max_size=9),
    runs=st.integers(1, 5),
)
def test_colours_give_back_the_ids_they_were_made_of(ids: list[list[int]], runs: int) -> None:
    expected = np.repeat(np.array(ids), runs, axis=1)
    np.testing.assert_array_equal(from_colours(bgr(CITYSCAPES, expected), CITYSCAPES, PATH), expected)


def test_ids_beyond_a_byte_become_int32() -> None:
    labels = LabelSet("many", tuple(f"c{n}" for n in range(300)), distinct_palette(300))
    picture = np.array([[labels.palette[299][::-1], labels.palette[7][::-1]]], np.uint8)
    found = from_colours(picture, labels, PATH)
    assert found.dtype == np.int32 and found.tolist() == [[299, 7]]


def test_unknown_colours_are_counted_and_never_taken_for_the_nearest(tmp_path: Path) -> None:
    picture = bgr(LABELS, np.zeros((4, 6), np.uint8))
    picture[1, :3] = (0x30, 0x20, 0x10)
    picture[0, 0] = (129, 64, 128)  # one off the road, and the first to be met
    with pytest.raises(DataError) as caught:
        read_class_ids(write(tmp_path / "street.png", picture), LABELS)
    for words in (
        "street.png has colours #102030 (3 pixels), #804081 (1 pixels)",
        "'mine'",
        "`# void: #102030`",
        "(#804081: road is #804080)",
    ):
        assert words in str(caught.value)


def test_further_colours_and_ids_of_a_class() -> None:
    labels = LabelSet("fine", ("road", "car"), (ROAD, CAR), 255, "", ((0, 0, 0),), also=((1, SKY),), also_ids=((0, 7),))
    picture = np.array([[ROAD[::-1], SKY[::-1], CAR[::-1], (0, 0, 0)]], np.uint8)
    assert from_colours(picture, labels, PATH).tolist() == [[0, 1, 1, 255]]
    assert from_ids(np.array([[0, 7, 1, 255]], np.uint8), labels, PATH).tolist() == [[0, 0, 1, 255]]
    with pytest.raises(DataError, match=r"holds ids 2 \(1 pixels\), .* expected 0 1 7 for classes"):
        from_ids(np.array([[2]], np.uint8), labels, PATH)


def test_a_colour_that_is_nearly_a_class_s_is_said_to_be() -> None:
    for off, near in ((1, True), (2, True), (3, False)):
        picture = bgr(LABELS, np.zeros((4, 6), np.uint8))
        picture[0, 0] = (128, 0, 64 + off)
        with pytest.raises(DataError) as caught:
            from_colours(picture, LABELS, PATH)
        said = f"where they nearly agree (#{64 + off:02X}0080: car is #400080)" in str(caught.value)
        assert said == near and ("`# void: " in str(caught.value)) != near


def test_a_list_without_colours_cannot_read_coloured_labels() -> None:
    bare = LabelSet("bare", ("road", "car", "sky"), distinct_palette(3), 255)
    message = (
        r"label.png is coloured \(#804080 \(4 pixels\)\), and label set 'bare' gives .* as `road #804080`, or save"
    )
    with pytest.raises(DataError, match=message):
        from_colours(bgr(LABELS, np.zeros((2, 2), np.uint8)), bare, PATH)
    ids = np.array([[0, 1, 2]])
    assert from_colours(bgr(bare, ids), bare, PATH).tolist() == ids.tolist(), "in those that it got"


def test_many_unknown_colours_come_of_resizing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    with pytest.raises(DataError, match=r"and \d+ more, which .*JPEG or of resizing; export it again"):
        from_colours(picture, LABELS, PATH)


def test_two_classes_of_one_colour_cannot_be_read() -> None:
    twins = LabelSet("twins", ("a", "b", "c"), (ROAD, CAR, ROAD))
    with pytest.raises(DataError, match="'twins' has a, c in one colour, expected one colour a class"):
        from_colours(np.full((2, 2, 3), 128, np.uint8), twins, PATH)


def test_sixteen_bit_colours_are_refused_with_a_label_set_too(tmp_path: Path) -> None:
    path = write(tmp_path / "deep.png", np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(DataError, match=r"holds colours \(RGB, 16 bits\), expected .* or RGB of 8 bits"):
        read_class_ids(path, LABELS)


def test_what_else_is_in_the_file_does_not_change_its_colours(tmp_path: Path) -> None:
    """A gamma, an orientation and a transparent colour: viewers obey them, labels must not."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    ids = np.arange(6).reshape(2, 3) % 3
    data = write(tmp_path / "plain.png", bgr(LABELS, ids)).read_bytes()
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"[6:]
    extra = (
        chunk(b"gAMA", struct.pack(">I", 30000)) + chunk(b"tRNS", struct.pack(">3H", *ROAD)) + chunk(b"eXIf", turned)
    )
    (tmp_path / "full.png").write_bytes(data[:33] + extra + data[33:])
    np.testing.assert_array_equal(read_class_ids(tmp_path / "full.png", LABELS), ids)


# --- ids -------------------------------------------------------------------------------------------------------------


def test_ids_without_rules_are_taken_as_they_are() -> None:
    ids = np.array([[0, 2, 255, 77]], np.uint8)
    assert from_ids(ids, LABELS, PATH) is ids


def test_files_that_count_from_one() -> None:
    ade = LABEL_SETS["ade20k"]
    found = from_ids(np.array([[0, 1, 150]], np.uint8), ade, PATH)
    assert found.dtype == np.uint8 and found.tolist() == [[255, 0, 149]]


def test_files_that_were_shifted_already_are_noticed_by_their_void() -> None:
    with pytest.raises(DataError, match=r"holds ids 255 \(2 pixels\).* expected 1-150 for classes and 0 .*already\?"):
        from_ids(np.array([[0, 255, 149, 255]], np.uint8), LABEL_SETS["ade20k"], PATH)


def test_any_ids_and_black_and_white_masks() -> None:
    labels = LabelSet("odd", ("a", "b"), (ROAD, CAR), 255, "", (), (7, 40_000), (3,))
    assert from_ids(np.array([[7, 40_000, 3]], np.int32), labels, PATH).tolist() == [[0, 1, 255]]
    assert from_ids(np.array([[0, 255]], np.uint8), LABEL_SETS["dis5k"], PATH).tolist() == [[0, 1]]
    with pytest.raises(DataError, match=r"ids 128 \(1 pixels\), which are nothing .*: expected 0 255 for"):
        from_ids(np.array([[0, 128]], np.uint8), LABEL_SETS["dis5k"], PATH)


def test_more_ids_of_void_beside_the_one_that_is() -> None:
    labels = LabelSet("two", ("a", "b"), (ROAD, CAR), 255, "", (), (), (2, 9))
    assert from_ids(np.array([[0, 1, 2, 9, 255]], np.uint8), labels, PATH).tolist() == [[0, 1, 255, 255, 255]]
    with pytest.raises(DataError, match=r"ids 3 \(1 pixels\)"):
        from_ids(np.array([[3]], np.uint8), labels, PATH)
    beyond = LabelSet("two", ("a", "b"), (ROAD, CAR), 1_000_000, "", (), (), (2,))  # no file holds this one
    assert from_ids(np.array([[0, 1, 2]], np.uint8), beyond, PATH).tolist() == [[0, 1, 1_000_000]]
