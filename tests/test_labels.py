from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtpsp.errors import InputError, UsageError
from rtpsp.labels import CAMVID, CITYSCAPES, LABEL_SETS, LabelSet, distinct_palette, to_label_set


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("labels", "count", "ignore"), [(CAMVID, 11, 11), (CITYSCAPES, 19, 255)])
def test_published_sets(labels: LabelSet, count: int, ignore: int) -> None:
    assert len(labels) == count and labels.ignore == ignore and labels.source
    assert len(set(labels.names)) == len(set(labels.palette)) == count
    assert LABEL_SETS[labels.name] is labels and to_label_set(labels.name) is labels


def test_published_colours_are_rgb_in_id_order() -> None:
    camvid = dict(zip(CAMVID.names, CAMVID.palette, strict=True))
    assert camvid["Road"] == (128, 64, 128) and camvid["Car"] == (64, 0, 128) and camvid["Bicyclist"] == (0, 128, 192)
    assert [CAMVID.names.index(name) for name in ("Sky", "Road", "Car", "Bicyclist")] == [0, 3, 8, 10]
    cityscapes = dict(zip(CITYSCAPES.names, CITYSCAPES.palette, strict=True))
    assert cityscapes["car"] == (0, 0, 142) and cityscapes["person"] == (220, 20, 60)
    assert [CITYSCAPES.names.index(name) for name in ("road", "sky", "car", "bicycle")] == [0, 10, 13, 18]


@pytest.mark.parametrize("labels", [CAMVID, CITYSCAPES, LabelSet("one", ("a",), ((1, 2, 3),))])
def test_round_trip_through_json(labels: LabelSet) -> None:
    assert LabelSet.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels


def test_optional_fields_may_be_missing() -> None:
    labels = LabelSet.from_dict({"name": "x", "names": ["a"], "palette": [[1, 2, 3]]})
    assert labels.ignore is None and labels.source == ""


@pytest.mark.parametrize(
    ("names", "palette", "expected"),
    [
        ((), (), "'x' is empty"),
        (("a", "b"), ((1, 2, 3),), "2 names and 1 colours"),
        (("a", "b", "a"), ((1, 2, 3),) * 3, "names a more than once"),
        (("a",), ((1, 2, 256),), r"\(1, 2, 256\)"),
        (("a",), ((-1, 2, 3),), r"\(-1, 2, 3\)"),
    ],
)
def test_sets_that_are_none(names: tuple[str, ...], palette: tuple[tuple[int, int, int], ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        LabelSet("x", names, palette)


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    text = "# my classes\n\nroad\n  traffic light 250 170 30\nSky #4682B4\nlane 3\n"
    labels = to_label_set(written(tmp_path, text))
    assert labels.name == "mine" and labels.source == "mine.txt" and labels.ignore == 255
    assert labels.names == ("road", "traffic light", "Sky", "lane 3")
    spare = distinct_palette(4)
    assert labels.palette == (spare[0], (250, 170, 30), (70, 130, 180), spare[3])


def test_a_list_saved_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert to_label_set(written(tmp_path, "\ufeffroad\ncar\n")).names == ("road", "car")


def test_only_plain_digits_are_a_colour(tmp_path: Path) -> None:
    assert to_label_set(written(tmp_path, "plot 1 2 m²\nplot 1 2 ²\n")).names == ("plot 1 2 m²", "plot 1 2 ²")


def test_255_is_void_only_where_it_is_no_class(tmp_path: Path) -> None:
    assert to_label_set(written(tmp_path, "\n".join(f"c{n}" for n in range(255)))).ignore == 255
    assert to_label_set(written(tmp_path, "\n".join(f"c{n}" for n in range(256)))).ignore is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'mine' is empty"),
        ("# only a comment\n", "'mine' is empty"),
        ("a\nb\na\n", "names a more than once"),
        ("road #12345\n", "'#12345' of 'road' is not #RRGGBB"),
        ("road #1234567a\n", "is not #RRGGBB"),
        ("road #zzzzzz\n", "is not #RRGGBB"),
        ("road 1 2 256\n", "1 2 256 of 'road' is beyond 255"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        to_label_set(written(tmp_path, text))


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"weights\.bin cannot be read"):
        to_label_set(str(path))


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'ade20k': use camvid, cityscapes, or a text file"):
        to_label_set("ade20k")
    with pytest.raises(UsageError, match="no label set or file"):
        to_label_set(str(tmp_path))


def test_spare_colours_are_the_voc_map_without_black() -> None:
    assert distinct_palette(8) == (
        (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128), (64, 0, 0)
    )  # fmt: skip


def test_spare_colours_are_distinct_bytes() -> None:
    colours = distinct_palette(1000)
    assert len(set(colours)) == 1000 and (0, 0, 0) not in colours
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
