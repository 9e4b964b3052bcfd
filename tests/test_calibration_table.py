"""TensorRT's table: read to the bit, written as TensorRT writes it, and refused where it does not fit the model."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.calibration_cache import CalibrationCache, TensorRange
from rtpsp.calibration_table import METHOD_OF, Table, from_table, read_table, to_cache, to_table
from rtpsp.errors import DataError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from tests.strategies import texts

SPEC = ModelSpec("net", "pspnet18", 360, 480, CAMVID)
GRAPH = "ab" * 32
TEXT = (
    "TRT-8501-EntropyCalibration2\nimage: 3c010204\nlayer1/conv 1: b: 3d23d70a\n(Unnamed Layer* 4)_output: 00000000\n"
)
NAMES = ("image", "layer1/conv 1: b", "other")

names = texts(min_size=1).filter(lambda name: "\n" not in name and not name.endswith("\r"))
scales = st.floats(0, width=32, allow_infinity=False).map(lambda value: struct.pack(">f", value).hex())


def cached(table: Table) -> CalibrationCache:
    return to_cache(table, SPEC, GRAPH, tensors=table.amax, stored=list(table.amax)[:1])


@given(st.dictionaries(names, scales, min_size=1), st.sampled_from(list(METHOD_OF)), st.integers(0, 999_999))
def test_a_table_goes_around_by_a_cache(found: dict[str, str], algorithm: str, release: int) -> None:
    rows = [f"{name}: {digits}" for name, digits in found.items()]
    text = "\n".join([f"TRT-{release}-{algorithm}", *rows, ""])
    cache = cached(from_table(text))
    header, *lines = to_table(CalibrationCache.from_json(cache.to_json())).removesuffix("\n").split("\n")
    assert header == f"TRT-{release}-{algorithm}" and lines == [f"{name}: {found[name]}" for name in sorted(found)]
    assert cache.method == METHOD_OF[algorithm] and cache.images == 0


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_whatever_text_is_a_table_or_one_line(text: str) -> None:
    for given_ in (text, TEXT + text, TEXT.replace("image", text), TEXT.replace("3c010204", text)):
        try:
            cached(from_table(given_))
        except DataError as error:
            assert str(error).isprintable()


def test_a_scale_is_a_127th_of_the_range() -> None:
    table = from_table(TEXT)
    assert (table.release, table.algorithm, table.method) == ("8501", "EntropyCalibration2", "entropy")
    (scale,) = struct.unpack(">f", bytes.fromhex("3d23d70a"))
    assert table.amax == {
        "image": pytest.approx(1.0, rel=1e-6),
        "layer1/conv 1: b": 127 * scale,
        "(Unnamed Layer* 4)_output": 0.0,
    }
    cache = cached(table)
    assert cache.ranges["image"] == TensorRange(None, None, table.amax["image"])
    assert cache.frames.startswith("table:") and cache.fit == "stretch/area 360x480" and cache.graph == GRAPH


def test_lines_may_end_as_in_windows() -> None:
    assert from_table(TEXT.replace("\n", "\r\n")).amax == from_table(TEXT).amax


def test_what_a_measured_cache_gives() -> None:
    ranges = {"b": TensorRange(-1.0, 3.0, 2.54), "a": TensorRange(0.0, 127.0, 127.0)}
    cache = CalibrationCache("net", GRAPH, GRAPH, 300, "mse", "stretch/area 360x480", ranges)
    b = struct.pack(">f", 2.54 / 127).hex()
    assert to_table(cache) == f"TRT-8501-EntropyCalibration2\na: 3f800000\nb: {b}\n"
    assert to_table(replace(cache, method="minmax")).startswith("TRT-8501-MinMaxCalibration\n")
    assert to_table(cache, "100300", "LegacyCalibration").startswith("TRT-100300-LegacyCalibration\n")
    with pytest.raises(DataError, match="expected one of EntropyCalibration2"):
        to_table(cache, algorithm="Max")


@pytest.mark.parametrize(
    ("name", "amax", "told"),
    [("a\nb", 1.0, r"tensor 'a\\nb' cannot stand in a table"), ("a", 1e300, "range of 'a' ends at 1e\\+300")],
)
def test_what_cannot_be_written(name: str, amax: float, told: str) -> None:
    ranges = {name: TensorRange(None, None, amax)}
    with pytest.raises(DataError, match=told):
        to_table(CalibrationCache("net", GRAPH, GRAPH, 1, "mse", "stretch/area 360x480", ranges))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("TRT-8501", "TRT8501", "begins with 'TRT8501-.*expected a line such as"),
        ("EntropyCalibration2", "MaxCalibration", "of 'MaxCalibration', expected one of"),
        ("3c010204", "3c01020", "line 2 of the table is 'image: 3c01020', expected a tensor"),
        ("3c010204", "3c01020g", "line 2"),
        ("3c010204", "bc010204", "line 2 of the table: the scale of 'image' is -0.0"),
        ("3c010204", "7f800000", "scale of 'image' is inf"),
        ("3c010204", "7fc00000", "scale of 'image' is nan"),
        ("image: ", ": ", "line 2"),
        ("image: 3c010204", "", "line 2 of the table is ''"),
        ("layer1/conv 1: b", "image", "line 3 of the table: tensor 'image' stands there twice"),
    ],
)
def test_a_table_that_is_none(old: str, new: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        from_table(TEXT.replace(old, new))


def test_a_table_of_nothing() -> None:
    with pytest.raises(DataError, match="a header and no tensor"):
        from_table("TRT-8501-EntropyCalibration2\n")


def test_a_table_of_another_model() -> None:
    table = from_table(TEXT + "".join(f"x{number}: 3c010204\n" for number in range(7)))
    told = r"10 tensors 7 are not in net \('x0', 'x1', 'x2', 'x3', 'x4', \.\.\.\) and 2 are: give the model"
    with pytest.raises(DataError, match=told):
        to_cache(table, SPEC, GRAPH, tensors=NAMES, stored=("image",))
    with pytest.raises(DataError, match=r"lacks 1 of the 2 tensors of net that INT8 stores \('other'\)"):
        to_cache(from_table(TEXT), SPEC, GRAPH, tensors=NAMES, stored=("image", "other"))
    assert len(to_cache(from_table(TEXT), SPEC, GRAPH, tensors=NAMES, stored=("image",)).ranges) == 3


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "net.table"
    path.write_text(TEXT)
    assert read_table(path) == from_table(TEXT)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"net\.table is JSON.*calib show"):
        read_table(path)
    path.write_text("nothing\n")
    with pytest.raises(DataError, match=r"net\.table: the table begins with 'nothing'"):
        read_table(path)
