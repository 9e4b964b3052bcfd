from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpsp.errors import InputError, ModelError, RtpspError, UsageError
from rtpsp.labels import (
    CAMVID,
    CITYSCAPES,
    LABEL_SETS,
    LabelSet,
    check_count,
    distinct_palette,
    to_label_list,
    to_label_set,
)

ADE20K, NYUV2, VOC = (LABEL_SETS[name] for name in ("ade20k", "nyuv2", "voc"))
KNOWN = [
    "ade20k", "atlas", "camvid", "cityscapes", "dada-seg", "densepass", "dis5k", "mfnet", "nyuv2", "pascal-context59",
    "pascal-context60", "scannet20", "selma", "trans10k", "urbanlf", "voc",
]  # fmt: skip


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("labels", "count", "ignore", "colours"),
    [
        (CAMVID, 11, 11, 11),
        (CITYSCAPES, 19, 255, 19),
        (VOC, 21, 255, 21),
        (ADE20K, 150, 255, 149),  # road and skyscraper were published with one colour
        (NYUV2, 40, 255, 40),
        (LABEL_SETS["pascal-context59"], 59, 255, 58),  # bicycle and snow have one colour
        (LABEL_SETS["pascal-context60"], 60, 255, 59),
        (LABEL_SETS["scannet20"], 20, 255, 20),
        (LABEL_SETS["mfnet"], 9, 255, 9),
        (LABEL_SETS["trans10k"], 12, 255, 12),
        (LABEL_SETS["urbanlf"], 14, 255, 14),
        (LABEL_SETS["dis5k"], 2, None, 2),
    ],
)
def test_published_sets(labels: LabelSet, count: int, ignore: int, colours: int) -> None:
    assert len(labels) == count and labels.ignore == ignore and "/" in labels.source
    assert len(set(labels.names)) == count and len(set(labels.palette)) == colours
    assert LABEL_SETS[labels.name] is labels and to_label_set(labels.name) is labels


def test_sets_are_known_by_name_without_being_read() -> None:
    assert sorted(LABEL_SETS) == KNOWN and len(LABEL_SETS) == len(KNOWN)
    assert "voc" in LABEL_SETS and "coco" not in LABEL_SETS and LABEL_SETS.get("coco") is None
    program = (
        "import pathlib; pathlib.Path.read_text = lambda *a, **k: 1 / 0\n"
        "from rtpsp.labels import LABEL_SETS; assert 'voc' in LABEL_SETS and sorted(LABEL_SETS)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(ImportError, match="KITTI"):
        from rtpsp.labels import KITTI  # type: ignore[attr-defined]  # noqa: F401


def test_voc_colours_are_the_devkits_colour_map() -> None:
    assert VOC.names[0] == "background" and VOC.palette == ((0, 0, 0), *distinct_palette(20))
    assert [VOC.names.index(name) for name in ("aeroplane", "person", "tvmonitor")] == [1, 15, 20]


def test_ade20k_and_nyuv2_in_the_order_of_their_benchmarks() -> None:
    ade = dict(zip(ADE20K.names, ADE20K.palette, strict=True))
    assert ade["wall"] == (120, 120, 120) and ade["car"] == (0, 102, 200) and ade["flag"] == (92, 0, 255)
    places = [("wall", 1), ("person", 13), ("door", 15), ("screen door", 59), ("screen", 131), ("crt screen", 142)]
    assert all(ADE20K.names.index(name) == place - 1 for name, place in places)
    nyu = dict(zip(NYUV2.names, NYUV2.palette, strict=True))
    assert nyu["wall"] == (174, 199, 232) and nyu["bathtub"] == (227, 119, 194) and nyu["otherprop"] == (100, 85, 144)
    places = [("wall", 1), ("floor mat", 20), ("shower curtain", 28), ("otherprop", 40)]
    assert all(NYUV2.names.index(name) == place - 1 for name, place in places)


@pytest.mark.parametrize("name", ["dada-seg", "densepass", "selma"])
def test_data_sets_with_the_classes_of_cityscapes_are_that_set(name: str) -> None:
    assert to_label_set(name) is LABEL_SETS[name] is CITYSCAPES


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("pascal-context59", {"aeroplane": (0, (180, 120, 120)), "person": (36, (102, 8, 255))}),
        ("pascal-context60", {"background": (0, (120, 120, 120)), "wood": (59, (31, 0, 255))}),
        ("scannet20", {"wall": (0, (174, 199, 232)), "desk": (12, (247, 182, 210)), "bathtub": (18, (227, 119, 194))}),
        ("mfnet", {"unlabelled": (0, (0, 0, 0)), "car": (1, (64, 0, 128)), "bump": (8, (192, 64, 0))}),
        ("trans10k", {"background": (0, (0, 0, 0)), "Window": (4, (204, 255, 4)), "Storage Box": (11, (4, 250, 7))}),
        ("urbanlf", {"bike": (0, (168, 198, 168)), "others": (3, (0, 0, 0)), "sky": (13, (158, 179, 202))}),
        ("atlas", {"background": (0, (128, 0, 0)), "lesion": (1, (0, 128, 0))}),
    ],
)  # fmt: skip
def test_classes_in_the_order_of_their_benchmarks(name: str, places: dict[str, tuple[int, object]]) -> None:
    labels = LABEL_SETS[name]
    assert {what: (labels.names.index(what), labels.palette[labels.names.index(what)]) for what in places} == places


def test_sets_know_the_ids_of_their_published_files() -> None:
    assert ADE20K.ids == tuple(range(1, 151)) and ADE20K.void_ids == (0,)
    assert NYUV2.ids == tuple(range(1, 41)) and LABEL_SETS["pascal-context59"].ids == tuple(range(1, 60))
    scannet = LABEL_SETS["scannet20"]
    assert sorted((*scannet.ids, *scannet.void_ids)) == list(range(41))
    nyu = [NYUV2.palette[place - 1] for place in scannet.ids]
    assert nyu == list(scannet.palette), "its ids are NYUv2's, whose colours are ScanNet's"
    assert LABEL_SETS["dis5k"].ids == (0, 255) and not VOC.ids and not CITYSCAPES.ids


def test_published_colours_are_rgb_in_id_order() -> None:
    camvid = dict(zip(CAMVID.names, CAMVID.palette, strict=True))
    assert camvid["Road"] == (128, 64, 128) and camvid["Car"] == (64, 0, 128) and camvid["Bicyclist"] == (0, 128, 192)
    assert [CAMVID.names.index(name) for name in ("Sky", "Road", "Car", "Bicyclist")] == [0, 3, 8, 10]
    cityscapes = dict(zip(CITYSCAPES.names, CITYSCAPES.palette, strict=True))
    assert cityscapes["car"] == (0, 0, 142) and cityscapes["person"] == (220, 20, 60)
    assert [CITYSCAPES.names.index(name) for name in ("road", "sky", "car", "bicycle")] == [0, 10, 13, 18]


@pytest.mark.parametrize("labels", [*LABEL_SETS.values(), LabelSet("one", ("a",), ((1, 2, 3),))])
def test_round_trip_through_json(labels: LabelSet) -> None:
    assert LabelSet.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels


def test_optional_fields_may_be_missing() -> None:
    labels = LabelSet.from_dict({"name": "x", "names": ["a"], "palette": [[1, 2, 3]]})
    assert labels.ignore is None and labels.source == "" and (labels.void, labels.ids, labels.void_ids) == ((), (), ())


def test_a_set_without_rules_for_files_is_written_as_it_always_was() -> None:
    assert list(CAMVID.to_dict()) == ["name", "names", "palette", "ignore", "source"]
    full = LabelSet("x", ("a", "b"), ((1, 2, 3), (4, 5, 6)), 255, "s", ((0, 0, 0),), (7, 9), (0,))
    assert LabelSet.from_dict(json.loads(json.dumps(full.to_dict()))) == full


@pytest.mark.parametrize(
    ("names", "palette", "expected"),
    [
        ((), (), "'x' is empty"),
        (("a", "b"), ((1, 2, 3),), "2 names and 1 colours"),
        (("a", "b", "a"), ((1, 2, 3),) * 3, "names a more than once"),
        (("a",), ((1, 2, 256),), r"\(1, 2, 256\)"),
        (("a",), ((-1, 2, 3),), r"\(-1, 2, 3\)"),
        (("a", ""), ((1, 2, 3),) * 2, "name '' is blank"),
        (("a ",), ((1, 2, 3),), "name 'a ' is blank or begins or ends"),
        (("a\x1b[31m",), ((1, 2, 3),), r"U\+001B, which does not print"),
        (("a" * 201,), ((1, 2, 3),), "has 201 characters: give at most 200"),
    ],
)
def test_sets_that_are_none(names: tuple[str, ...], palette: tuple[tuple[int, int, int], ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        LabelSet("x", names, palette)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"void": [[0, 0, 256]]}, r"has colour \(0, 0, 256\)"),
        ({"void": [[-1, 0, 0]]}, r"has colour \(-1, 0, 0\)"),
        ({"ids": [1, 65536]}, "has id 65536 in files, expected 0 to 65535"),
        ({"void_ids": [-1]}, "has id -1 in files"),
    ],
)
def test_a_spec_says_nothing_of_files_that_none_can_hold(said: dict[str, Any], expected: str) -> None:
    values = LabelSet("x", ("a", "b"), ((1, 2, 3), (4, 5, 6)), 255).to_dict()
    with pytest.raises(InputError, match=expected):
        LabelSet.from_dict(values | said)


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


@pytest.mark.parametrize("name", ["door, window", "1,2", "lot 1, 2, 3", "a,1,2,3,b", "a;b;c;d"])
def test_commas_alone_are_of_a_name(tmp_path: Path, name: str) -> None:
    assert to_label_set(written(tmp_path, f"{name}\n")).names == (name,)


def test_255_is_void_only_where_it_is_no_class(tmp_path: Path) -> None:
    assert to_label_set(written(tmp_path, "\n".join(f"c{n}" for n in range(255)))).ignore == 255
    assert to_label_set(written(tmp_path, "\n".join(f"c{n}" for n in range(256)))).ignore is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'mine' is empty"),
        ("# only a comment\n", "'mine' is empty"),
        ("a\nb\na\n", r"mine\.txt: lines 1 and 3 both name 'a'"),
        ("# mine\nTraffic light 1 2 3\n\ntraffic  LIGHT\n", "lines 2 and 4 both name 'traffic  LIGHT', but for case"),
        ("road\nnight stand\nnightstand\n", "lines 2 and 3"),
        ("a\nb\x07\n", r"line 2: name 'b\\x07' has U\+0007"),
        ("a\nb\x0cc 1 2 3\n", r"line 2: name 'b\\x0cc' has U\+000C"),
        ("a\x00b\n", r"U\+0000"),
        ("a" * 5000, r"line 1: name 'a{60}\.\.\.' has 5000 characters"),
        ("a 1 2 " + "9" * 5000, "beyond 255"),
        ("# ignore: sky\nroad\n", "ignore is 'sky', expected the id of void, 0 to 65535, or none"),
        ("# ignore: 65536\nroad\n", "ignore is '65536', expected"),
        ("# ignore: 1\nroad\ncar\n", "ignore is 1, the id of 'car'"),
        ("# void: 0 0\nroad\n", "line 1: void is '0 0', expected R G B or #RRGGBB"),
        ("# void: grey\nroad\n", "line 1: void is 'grey'"),
        ("# void: 0 0 256\nroad\n", "beyond 255"),
        ("# void: 1 2 3\nroad 1 2 3\n", r"colour \(1, 2, 3\) for void and for 'road'"),
        ("# ignore: none\n# void: 1 2 3\nroad\n", "void, but no id for it"),
        ("# ids: 1-3\nroad\ncar\n", "3 ids for 2 classes"),
        ("# ids: one\nroad\n", "ids has 'one', expected ids of 0 to 65535"),
        ("# ids: 65536\nroad\n", "ids has '65536'"),
        ("# ids: 1-\u00b2\nroad\n", "ids has '1-²'"),
        ("# ids: 5-1\nroad\ncar\n", "ids has '5-1'"),
        ("# ids: 4 4\nroad\ncar\n", "gives id 4 two meanings"),
        ("# void ids: 1\nroad\ncar\n", "gives id 1 two meanings"),
        ("# also: Road\nroad\n", "line 1: also is 'Road', expected a class and a colour, as `Road 128 0 192`"),
        ("# also: car 1 2 3\nroad\n", "line 1: 'car' is no class of the list"),
        ("# also: road 1 2 3\nroad 1 2 3\n", r"gives colour \(1, 2, 3\) two meanings"),
        ("# void: 9 9 9\n# also: road 9 9 9\nroad\n", r"gives colour \(9, 9, 9\) two meanings"),
        ("# also: road 1 2 3\n# also: car 1 2 3\nroad\ncar\n", r"gives colour \(1, 2, 3\) two meanings"),
        ("# also id: 7\nroad\n", "line 1: also id is '7', expected a class and an id, as `Road 7`"),
        ("# also id: road 7-9\nroad\n", "also id is 'road 7-9'"),
        ("# also id: car 7\nroad\n", "line 1: 'car' is no class of the list"),
        ("# also id: road 1\nroad\ncar\n", "gives id 1 two meanings"),
        ("# also id: road 255\nroad\n", "gives id 255 two meanings"),
        ("\\ \n", r"is blank"),
        ("road #12345\n", "'#12345' of 'road' is not #RRGGBB"),
        ("road #1234567a\n", "is not #RRGGBB"),
        ("road #zzzzzz\n", "is not #RRGGBB"),
        ("road 1 2 256\n", "'1 2 256' of 'road' is beyond 255"),
        ("road,128,64,128\n", "line 1: 'road,128,64,128' looks like a name and a colour: write `road 128 64 128`$"),
        ("car\ntraffic light; 250; 170; 30\n", "line 2: .* looks like .*: write `traffic light 250 170 30`$"),
        ("0,road,128,64,128\n", "write `road 128 64 128`$"),
        ("road,#804080\n", "write `road #804080`$"),
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
    path.write_bytes(b"road\n" * 300_000)
    with pytest.raises(InputError, match=r"larger than 1 MiB"):
        to_label_set(str(path))


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"'kitti': use {', '.join(KNOWN)}, or a text file"):
        to_label_set("kitti")
    for name in (str(tmp_path), "x" * 5000, "a\x00b", ""):
        with pytest.raises(UsageError, match="no label set or file"):
            to_label_set(name)


@pytest.mark.parametrize(
    ("name", "meant"), [("citiscapes", "cityscapes"), ("CamVid", "camvid"), ("ADE20k", "ade20k"), ("voc2012", "voc")]
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}' \(did you mean {meant}\?\): use ade20k, "):
        to_label_set(name)


def test_a_list_says_its_void_and_its_source(tmp_path: Path) -> None:
    text = "# source: someone/somewhere, names.txt: the table\n#ignore:11\nroad\n# ignore: 7\ncar\n"
    labels = to_label_set(written(tmp_path, text))
    assert (labels.source, labels.ignore) == ("someone/somewhere, names.txt: the table", 11)
    assert to_label_set(written(tmp_path, "# ignore: none\nroad\n")).ignore is None
    assert to_label_set(written(tmp_path, "# ignore it: all\n# ignored\nroad\n")).ignore == 255


def test_a_list_says_what_label_files_hold(tmp_path: Path) -> None:
    text = "# void: 0 0 0\n# void: #404040\n# ids: 7 8 11-13\n#void ids: 0 9-10\na\nb\nc\nd\ne\n# ids: 1\n# void: x\n"
    labels = to_label_set(written(tmp_path, text))
    assert labels.void == ((0, 0, 0), (64, 64, 64)) and labels.ids == (7, 8, 11, 12, 13)
    assert labels.void_ids == (0, 9, 10) and len(labels) == 5


def test_a_class_of_several_colours_and_ids(tmp_path: Path) -> None:
    text = "# also: Road 128 0 192\n# also id: traffic light 7\n# also: traffic light #010203\nroad\ntraffic light\n"
    labels = to_label_set(written(tmp_path, text))
    assert labels.also == ((0, (128, 0, 192)), (1, (1, 2, 3))) and labels.also_ids == ((1, 7),)
    assert LabelSet.from_dict(labels.to_dict()) == labels
    again = to_label_set(written(tmp_path, to_label_list(labels, header=True)))
    assert (again.also, again.also_ids, again.palette) == (labels.also, labels.also_ids, labels.palette)
    assert "also" not in to_label_list(labels) and not {"also", "also_ids"} & CAMVID.to_dict().keys()


def test_a_list_with_its_header_reads_back_whole(tmp_path: Path) -> None:
    for labels in (
        *LABEL_SETS.values(),
        LabelSet("mine", ("a", "b"), ((1, 2, 3), (4, 5, 6)), 9, "", ((0, 0, 0),), (3, 7)),
    ):
        back = to_label_set(written(tmp_path, to_label_list(labels, header=True)))
        for part in ("names", "palette", "ignore", "void", "ids", "void_ids"):
            assert getattr(back, part) == getattr(labels, part), (labels.name, part)
        assert back.source == (labels.source or "mine.txt")


def test_a_spare_colour_is_no_void(tmp_path: Path) -> None:
    first = distinct_palette(1)[0]
    labels = to_label_set(written(tmp_path, "# void: {} {} {}\na\nb\n".format(*first)))
    assert first not in labels.palette and len(set(labels.palette)) == 2


def test_two_classes_of_one_colour_are_told_and_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        labels = to_label_set(written(tmp_path, "road 1 2 3\ncar\nlane #010203\n"))
    assert labels.palette[0] == labels.palette[2] == (1, 2, 3)
    (record,) = caplog.records
    assert "road and lane have one colour, (1, 2, 3)" in record.getMessage()


def test_a_colour_of_ours_is_never_one_that_was_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = distinct_palette(5)
    text = "a\nb {} {} {}\nc {} {} {}\nd\n".format(*given[0], *given[3])
    with caplog.at_level(logging.WARNING):
        labels = to_label_set(written(tmp_path, text))
    assert labels.palette[1:3] == (given[0], given[3]) and len(set(labels.palette)) == 4 and not caplog.records


def test_a_list_of_another_count_than_the_model(tmp_path: Path) -> None:
    mine = to_label_set(written(tmp_path, "road\ncar\nVoid\n"))
    check_count(mine, 3)
    with pytest.raises(ModelError, match=r"mine\.txt names 3 classes, the model gives 2: take 1 out .* is 'Void'\)"):
        check_count(mine, 2)
    with pytest.raises(ModelError, match=r"mine\.txt names 3 classes, the model gives 5: add 2, in id order"):
        check_count(mine, 5)
    with pytest.raises(ModelError, match="voc names 21 classes, the model gives 20"):
        check_count(VOC, 20)


PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
WORDS = st.one_of(
    st.text(PRINTABLE, min_size=1, max_size=40),
    st.sampled_from(["area 51 2 3", "#tag", "\\#tag", "\\", "#808080", "lane #808080", "1 2 3", "# ignore: 7", "a  b"]),
)
NAMES = st.lists(
    WORDS.map(str.strip).filter(lambda name: name != "" and name.isprintable()),
    min_size=1,
    max_size=12,
    unique_by=lambda name: "".join(name.casefold().split()),
)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


@settings(deadline=None)
@given(names=NAMES, data=st.data())
def test_a_written_list_reads_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    palette = data.draw(st.lists(COLOURS, min_size=len(names), max_size=len(names)))
    labels = LabelSet("mine", tuple(names), tuple(palette))
    back = to_label_set(written(tmp_path_factory.getbasetemp(), to_label_list(labels)))
    assert (back.names, back.palette) == (labels.names, labels.palette)


@settings(deadline=None)
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode(errors="replace")))
)
def test_whatever_is_in_the_file_only_our_errors_come(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    try:
        labels = to_label_set(str(path))
    except RtpspError as error:
        assert str(error).isprintable()  # one line, and nothing that a terminal would obey
    else:
        assert to_label_set(written(path.parent, to_label_list(labels))).names == labels.names


def test_spare_colours_are_the_voc_map_without_black() -> None:
    assert distinct_palette(8) == (
        (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128), (64, 0, 0)
    )  # fmt: skip


def test_spare_colours_are_distinct_bytes() -> None:
    colours = distinct_palette(1000)
    assert len(set(colours)) == 1000 and (0, 0, 0) not in colours
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
