"""The cache's file: what goes in comes out, to the bit; what is none gives one line; what is stale is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.calibration_cache import (
    METHODS,
    CalibrationCache,
    TensorRange,
    cache_name,
    check_fresh,
    read_cache,
    to_fit,
    write_cache,
)
from rtpsp.errors import DataError, OutputError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from tests.strategies import json_values, lines, texts

GRAPH, FRAMES = "ab" * 32, "cd" * 32
CACHE = CalibrationCache(
    model="pspnet18-camvid",
    graph=GRAPH,
    frames=FRAMES,
    images=300,
    method="mse",
    fit="stretch/area 360x480",
    ranges={"b: 2": TensorRange(0.0, 1.5, 1.25), "a": TensorRange(-0.1, 0.3, 0.3), "dead": TensorRange(0.0, 0.0, 0.0)},
    measured={
        "u8": {"sensitivity": [{"group": "stem", "loss": 0.125}, {"group": "head", "loss": 1e-5}], "agreement": 0.995}
    },
)

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def ranges(draw: st.DrawFn) -> TensorRange:
    low, high = sorted((draw(finite), draw(finite)))
    amax = draw(st.floats(0, allow_infinity=False))
    return TensorRange(None, None, amax) if draw(st.booleans()) else TensorRange(low, high, amax)


def plain_json() -> st.SearchStrategy[Any]:
    plain = st.none() | st.booleans() | st.integers() | finite | texts()
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(), inner, max_size=4))


@st.composite
def caches(draw: st.DrawFn) -> CalibrationCache:
    return CalibrationCache(
        model=draw(lines(min_size=1)),
        graph=draw(digests),
        frames=draw(st.sampled_from(["", "table:"])) + draw(digests),
        images=draw(st.integers(0, 10**9)),
        method=draw(st.sampled_from(METHODS)),
        fit=draw(lines(min_size=1)),
        ranges=draw(st.dictionaries(texts(min_size=1), ranges(), min_size=1, max_size=6)),
        measured=draw(st.dictionaries(texts(), plain_json(), max_size=4)),
    )


@given(caches())
def test_a_cache_goes_around(cache: CalibrationCache) -> None:
    text = cache.to_json()
    again = CalibrationCache.from_json(text)
    assert again == cache and again.to_json() == text
    assert text.isascii() and text == text.encode().decode()


@given(json_values())
def test_whatever_json_holds_is_a_cache_or_one_line(value: Any) -> None:
    text = json.dumps(value)
    for given_ in (text, text[:-1], f'{{"version": 1, "ranges": {text}}}', CACHE.to_json().replace("300", text)):
        try:
            CalibrationCache.from_json(given_)
        except DataError as error:
            assert str(error).isprintable() and "calibrate again" in str(error)


def test_a_file_goes_around(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cache.json"
    write_cache(path, CACHE)
    assert read_cache(path) == CACHE
    (tmp_path / "in the way").touch()
    with pytest.raises(OutputError, match="name another file"):
        write_cache(tmp_path / "in the way" / "cache.json", CACHE)


def test_two_caches_can_be_compared_by_eye() -> None:
    """A tensor a line, in an order that does not depend on how the ranges were found."""
    text = CACHE.to_json()
    other = replace(CACHE, ranges=dict(reversed(list(CACHE.ranges.items()))))
    assert other.to_json() == text
    rows = [line.strip() for line in text.splitlines()]
    assert '"a": {"amax": 0.3, "high": 0.3, "low": -0.1},' in rows
    assert '{"group": "stem", "loss": 0.125},' in rows and '"agreement": 0.995,' in rows
    changed = replace(CACHE, ranges={**CACHE.ranges, "a": TensorRange(-0.1, 0.3, 0.25)}).to_json()
    assert sum(old != new for old, new in zip(text.splitlines(), changed.splitlines(), strict=True)) == 1


@pytest.mark.parametrize(
    ("low", "high", "amax"),
    [
        (None, 1.0, 1.0),
        (0.0, None, 1.0),
        (1.0, 0.0, 1.0),
        (0.0, 1.0, -1.0),
        (0.0, math.inf, 1.0),
        (0.0, 1.0, math.nan),
        (0.0, 1.0, True),
        (0.0, "1", 1.0),
        (0.0, 1.0, None),
    ],
)
def test_a_range_that_is_none(low: Any, high: Any, amax: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        TensorRange(low, high, amax)
    values = json.loads(CACHE.to_json())
    values["ranges"]["a"] = {"low": low, "high": high, "amax": amax}
    with pytest.raises(DataError, match="the range of 'a'"):
        CalibrationCache.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("model", "two\nlines", "model is 'two"),
        ("model", "", "expected a line of text"),
        ("graph", "ab", "graph is 'ab', expected a sha256"),
        ("frames", "set:" + GRAPH, "frames is 'set:"),
        ("images", -1, "images is -1"),
        ("images", True, "images is True"),
        ("method", "max", "expected one of minmax, entropy, percentile, mse"),
        ("method", ["mse"], "expected one of minmax"),
        ("fit", None, "fit is None"),
        ("ranges", {}, "no ranges"),
        ("ranges", [], "cannot be used"),
        ("ranges", {"\ud800": {"low": None, "high": None, "amax": 1}}, "a tensor is called"),
        ("ranges", {"a": 1}, "the range of 'a' is 1, expected low, high and amax"),
        ("measured", [], "measured is"),
        ("measured", {"loss": math.nan}, "not JSON compliant"),
        ("version", 2, "version 2, this rtpsp reads 1: upgrade rtpsp"),
        ("version", True, "version True"),
    ],
)
def test_a_field_that_is_none(field: str, value: Any, told: str) -> None:
    text = json.dumps(json.loads(CACHE.to_json()) | {field: value})
    with pytest.raises(DataError, match=told) as caught:
        CalibrationCache.from_json(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", list(json.loads(CACHE.to_json())))
def test_a_field_that_is_missing(name: str) -> None:
    values = json.loads(CACHE.to_json())
    del values[name]
    with pytest.raises(DataError, match=name):
        CalibrationCache.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not JSON"),
        (b"[1]", "is a list, expected an object"),
        (b'{"version": 1, "images": 1e999}', "lacks"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "3 bytes that are no text, a calibration cache was expected: calibrate again"),
        (b"\x89PNG\r\n\x1a\n", "is a picture, a calibration cache was expected"),
        (b"TRT-8501-EntropyCalibration2\n", "is a TensorRT calibration table.* calib import .*cache.json --model"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read_cache(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache.json", CACHE)
    with pytest.raises(DataError, match=r"cahce.json: cannot be read \(No such file.*did you mean .*cache.json"):
        read_cache(tmp_path / "cahce.json")
    with pytest.raises(DataError, match=r"directory.*calibrate again"):
        read_cache(tmp_path)


def test_a_cache_that_holds() -> None:
    check_fresh(CACHE, graph=GRAPH, fit=CACHE.fit)
    check_fresh(CACHE, graph=GRAPH, frames=FRAMES, method="mse", fit=CACHE.fit)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"graph": "12" * 32}, r"its network is abababab\.\.\., expected 12121212\.\.\."),
        ({"frames": "12" * 32}, r"its set is cdcdcdcd\.\.\., expected 12121212\.\.\."),
        ({"method": "entropy"}, "its method is mse, expected entropy"),
        ({"fit": "crop/area 9x9"}, "its fit is stretch/area 360x480, expected crop/area 9x9"),
        ({"method": "minmax", "fit": "x"}, "its method is mse, expected minmax; its fit is .*, expected x"),
    ],
)
def test_a_stale_cache_is_refused(changes: dict[str, str], told: str) -> None:
    expected = {"graph": GRAPH, "frames": FRAMES, "method": "mse", "fit": CACHE.fit, **changes}
    with pytest.raises(DataError, match=f"cache of pspnet18-camvid does not hold here: {told}: calibrate again") as got:
        check_fresh(CACHE, **expected)
    assert sum(f"its {what} " in str(got.value) for what in ("network", "set", "method", "fit")) == len(changes)


def test_a_table_is_no_set() -> None:
    with pytest.raises(DataError, match=r"its set is that of a TensorRT table \(cdcdcdcd\.\.\.\), expected cdcdcdcd"):
        check_fresh(replace(CACHE, frames=f"table:{FRAMES}"), graph=GRAPH, frames=FRAMES, fit=CACHE.fit)


def test_names() -> None:
    assert cache_name(CACHE) == "pspnet18-camvid-360x480-mse-abababab-cdcdcdcd.json"
    other = replace(CACHE, fit="letterbox/bilinear 48x64", frames=f"table:{FRAMES}", model="../my net")
    assert cache_name(other) == ".._my_net-48x64-letterbox-bilinear-mse-abababab-cdcdcdcd.json"
    grey = replace(CACHE, fit="stretch/area 48x64 grey 0.5 0.25")
    assert cache_name(grey) == "pspnet18-camvid-48x64-grey-0.5-0.25-mse-abababab-cdcdcdcd.json"


def test_the_fit_of_a_model() -> None:
    assert to_fit(ModelSpec("m", "a", 48, 64, CAMVID, fit="crop", resize="bilinear")) == "crop/bilinear 48x64"


def test_another_normalisation_is_another_fit() -> None:
    """The graph that is calibrated does not show it: its values are scaled when frames are put in front."""
    usual = ModelSpec("m", "a", 48, 64, CAMVID)
    assert to_fit(usual) == "stretch/area 48x64"
    assert to_fit(replace(usual, channels="bgr")) == "stretch/area 48x64 bgr 0.485,0.456,0.406 0.229,0.224,0.225"
    grey = replace(usual, channels="grey", mean=(0.5,), std=(0.25,))
    assert to_fit(grey) == "stretch/area 48x64 grey 0.5 0.25"
