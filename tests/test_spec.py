from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.errors import ModelError
from rtpsp.labels import CAMVID, CITYSCAPES, LabelSet, distinct_palette
from rtpsp.spec import ModelSpec
from tests.strategies import json_values, specs

PLAIN = ModelSpec("pspnet18-camvid", "pspnet18", 360, 480, CAMVID)
UNUSUAL = ModelSpec(
    name="other",
    arch="pspnet101",
    height=713,
    width=1025,
    labels=CITYSCAPES,
    output_stride=16,
    mean=(0.1, 0.2, 0.3),
    std=(1.0, 0.5, 0.25),
    channels="bgr",
    fit="letterbox",
    resize="bilinear",
    licence="CC BY-NC 4.0",
)

GREY = ModelSpec("lung", "pspnet18", 64, 48, CAMVID, mean=(0.4,), std=(0.2,), channels="grey")
THERMAL = ModelSpec(
    "rgbt", "pspnet50", 480, 640, CAMVID, mean=(0.4, 0.5, 0.6, 0.1), std=(1.0, 2.0, 3.0, 4.0), channels="rgbx"
)


def spec_with(**changes: Any) -> dict[str, Any]:
    return {**json.loads(PLAIN.to_json()), **changes}


# --- the spec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [PLAIN, UNUSUAL, GREY, THERMAL])
def test_round_trip_keeps_every_field(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_an_unusual_spec_differs_from_a_plain_one_in_every_field() -> None:
    """Or else the round trip above would not see a field that is left out."""
    plain, unusual = PLAIN.to_dict(), UNUSUAL.to_dict()
    assert {key for key in plain if plain[key] == unusual[key]} == {"version"}


def test_defaults_are_imagenets_and_the_papers() -> None:
    assert PLAIN.mean == (0.485, 0.456, 0.406) and PLAIN.std == (0.229, 0.224, 0.225)
    assert (PLAIN.channels, PLAIN.fit, PLAIN.resize, PLAIN.output_stride) == ("rgb", "stretch", "area", 8)


@pytest.mark.parametrize(
    ("spec", "planes", "order", "words"),
    [
        (PLAIN, 3, (2, 1, 0), "BGR"),
        (UNUSUAL, 3, (0, 1, 2), "BGR"),
        (GREY, 1, (0,), "grey"),
        (THERMAL, 4, (2, 1, 0, 3), "BGRX"),
        (replace(THERMAL, channels="bgrx"), 4, (0, 1, 2, 3), "BGRX"),
    ],
)
def test_planes_of_frames(spec: ModelSpec, planes: int, order: tuple[int, ...], words: str) -> None:
    assert (spec.planes, spec.frame_order, spec.frame_words) == (planes, order, words)
    assert spec.frame_shape == (*spec.size, planes)
    assert tuple(order[order[plane]] for plane in range(planes)) == tuple(range(planes)), "its own inverse"


def test_a_colour_models_file_is_what_it_was() -> None:
    """Files of models of three planes go from one rtpsp to another."""
    values = json.loads(PLAIN.to_json())
    assert values["version"] == 1 and values["channels"] == "rgb" and len(values["mean"]) == len(values["std"]) == 3
    assert not {"planes", "frame_shape", "frame_order"} & set(values)


def test_size_is_height_then_width() -> None:
    assert PLAIN.size == (360, 480)


def test_fields_of_a_later_release_are_passed_over() -> None:
    assert ModelSpec.from_dict(spec_with(colour_space="bt709")) == PLAIN


@pytest.mark.parametrize(("count", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "int32")])
def test_class_maps_have_int32_above_256_classes(count: int, dtype: str) -> None:
    labels = LabelSet("many", tuple(f"c{number}" for number in range(count)), distinct_palette(count))
    assert ModelSpec("m", "m", 8, 8, labels).class_dtype == dtype


def test_a_spec_is_frozen_and_can_be_a_key() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAIN.height = 720  # type: ignore[misc]
    assert {PLAIN: 1}[ModelSpec.from_json(PLAIN.to_json())] == 1


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("fit", "squeeze", "fit is 'squeeze', expected one of stretch, letterbox, crop"),
        ("resize", "nearest", "resize is 'nearest', expected one of area, bilinear"),
        ("channels", "yuv", "channels is 'yuv', expected one of rgb, bgr, grey, rgbx, bgrx"),
        ("channels", "grey", "must hold one value, for channels grey"),
        ("channels", "bgrx", "must hold four values, for channels bgrx"),
        ("fit", ["crop"], "fit is"),
        ("height", 0, "height is 0, expected a whole number from 1"),
        ("width", -480, "width is -480"),
        ("height", "360", "height is '360'"),
        ("width", 480.5, r"width is 480\.5"),
        ("height", None, "height is None"),
        ("output_stride", 0, "output_stride is 0"),
        ("mean", [0.5, 0.5], "must hold three values"),
        ("std", [1, 1, 1, 1], "must hold three values"),
        ("std", [1, 0, 1], "std above zero"),
        ("std", [1, "nan", 1], "std above zero"),
        ("std", [1, "inf", 1], "finite"),
        ("mean", ["nan", 0, 0], "finite"),
        ("std", [10**400, 1, 1], "cannot be read"),
        ("name", None, "name is None, expected text"),
        ("name", "", "name is ''"),
        ("name", "../../elsewhere", "without slashes"),
        ("name", "a\\b", "without slashes"),
        ("name", "two\nlines", "control characters"),
        ("arch", 18, "arch is 18, expected text"),
        ("licence", None, "licence is None, expected text"),
        ("mean", "none", "cannot be read"),
        ("mean", None, "cannot be read"),
        ("labels", None, "cannot be read"),
        ("labels", ["Sky"], "cannot be read"),
        ("labels", {"name": "x", "names": ["a"]}, "cannot be read"),
        ("labels", {"name": "x", "names": [], "palette": []}, "'x' is empty"),
        ("labels", {"name": "x", "names": ["a"], "palette": [[1, 2]]}, "cannot be read"),
        ("version", 2, "version is 2, this rtpsp reads 1: upgrade"),
        ("version", None, "version is None"),
    ],
)
def test_a_wrong_field_is_a_clear_error(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        ModelSpec.from_dict(spec_with(**{field: value}))


@pytest.mark.parametrize("field", ["name", "arch", "height", "width", "labels", "version", "mean", "std"])
def test_a_missing_field_is_a_clear_error(field: str) -> None:
    values = spec_with()
    del values[field]
    with pytest.raises(ModelError, match=field):
        ModelSpec.from_dict(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "not JSON"), ("{", "not JSON"), ("[]", "is a list"), ("5", "is a int"), ("{}", "version")],
)
def test_text_that_is_no_spec(text: str, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        ModelSpec.from_json(text)


# --- any spec, any text ----------------------------------------------------------------------------------------------


@given(spec=specs())
def test_any_spec_survives_its_file(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(text=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_hostile_text_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(ModelError):
        ModelSpec.from_json(text)


@given(spec=specs(), field=st.sampled_from(sorted(PLAIN.to_dict())), value=json_values())
def test_a_field_of_any_kind_is_read_or_refused(spec: ModelSpec, field: str, value: Any) -> None:
    try:
        read = ModelSpec.from_json(json.dumps({**spec.to_dict(), field: value}))
    except ModelError:
        return
    assert ModelSpec.from_json(read.to_json()) == read
    read.to_json().encode()  # what was read can be written


def test_a_text_that_is_nested_without_end() -> None:
    with pytest.raises(ModelError, match="not JSON"):
        ModelSpec.from_json("[" * 100_000)
