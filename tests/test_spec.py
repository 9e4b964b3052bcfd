from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from rtpsp.errors import EngineFileError, ModelError
from rtpsp.labels import CAMVID, CITYSCAPES, LabelSet, distinct_palette
from rtpsp.spec import EngineHeader, ModelSpec

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
HEADER = EngineHeader(
    spec=UNUSUAL,
    backend="openvino",
    precision="int8",
    model_digest="ab" * 32,
    versions={"rtpsp": "0.1", "openvino": "2026.1"},
    calibration_digest="cd" * 32,
    options={"split_head": True, "threads": 2},
)


def spec_with(**changes: Any) -> dict[str, Any]:
    return {**json.loads(PLAIN.to_json()), **changes}


# --- the spec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [PLAIN, UNUSUAL])
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
        ("channels", "yuv", "channels is 'yuv', expected one of rgb, bgr"),
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


# --- the engine header -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [HEADER, EngineHeader(PLAIN, "tensorrt", "fp16", "00" * 32)])
def test_header_round_trip(header: EngineHeader) -> None:
    assert EngineHeader.from_dict(json.loads(json.dumps(header.to_dict()))) == header


def test_header_passes_over_what_it_does_not_know() -> None:
    assert EngineHeader.from_dict({**HEADER.to_dict(), "payload_bytes": 5}) == HEADER


@pytest.mark.parametrize("field", ["spec", "backend", "precision", "model_digest"])
def test_header_without_a_field(field: str) -> None:
    values = HEADER.to_dict()
    del values[field]
    with pytest.raises(EngineFileError, match=f"engine header cannot be read .*{field}.*build the engine again"):
        EngineHeader.from_dict(values)


@pytest.mark.parametrize("spec", [None, "pspnet18", 5, [], {}, {"version": 99}, spec_with(height=0)])
def test_header_with_a_spec_that_is_none(spec: Any) -> None:
    with pytest.raises(EngineFileError, match="engine header cannot be read"):
        EngineHeader.from_dict({**HEADER.to_dict(), "spec": spec})


@pytest.mark.parametrize(
    ("field", "value"),
    [("precision", "int3"), ("precision", ["fp16"]), ("versions", None), ("options", 5), ("backend", None)],
)
def test_header_with_a_wrong_field(field: str, value: Any) -> None:
    with pytest.raises(EngineFileError, match=f"engine header cannot be read .*{field} is"):
        EngineHeader.from_dict({**HEADER.to_dict(), field: value})


def test_headers_do_not_share_their_defaults() -> None:
    first, second = (EngineHeader(PLAIN, "tensorrt", "fp16", "00") for _ in range(2))
    first.versions["rtpsp"] = "0.1"
    assert second.versions == {}
