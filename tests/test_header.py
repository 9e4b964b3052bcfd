from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.errors import EngineFileError
from rtpsp.header import EngineHeader, Target
from rtpsp.labels import CAMVID, CITYSCAPES
from rtpsp.spec import ModelSpec
from tests.strategies import headers, json_values

PLAIN = ModelSpec("pspnet18-camvid", "pspnet18", 360, 480, CAMVID)
UNUSUAL = replace(PLAIN, name="other", height=713, labels=CITYSCAPES, fit="letterbox", licence="CC BY-NC 4.0")
HEADER = EngineHeader(
    spec=UNUSUAL,
    backend="tensorrt",
    precision="int8",
    model_digest="ab" * 32,
    versions={"rtpsp": "0.1", "tensorrt": "11.4.0"},
    calibration_digest="cd" * 32,
    options={"split_head": True, "threads": 2, "batch": 4, "confidence": True},
    target=Target("aarch64", "NVIDIA H200", ("9.0", "12.0"), True, "580.65", True),
)


def spec_with(**changes: Any) -> dict[str, Any]:
    return {**json.loads(PLAIN.to_json()), **changes}


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
    with pytest.raises(EngineFileError, match=f"engine header cannot be read .*{field} (is|are)"):
        EngineHeader.from_dict({**HEADER.to_dict(), field: value})


def test_headers_do_not_share_their_defaults() -> None:
    first, second = (EngineHeader(PLAIN, "tensorrt", "fp16", "00") for _ in range(2))
    first.versions["rtpsp"] = "0.1"
    assert second.versions == {}


def test_a_header_of_an_earlier_layout_has_no_target() -> None:
    values = HEADER.to_dict()
    del values["target"]
    target = EngineHeader.from_dict(values).target
    assert target == Target(machine="") and not target.needs_gpu


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", 5),
        ("target", {"compute_capabilities": "9.0"}),
        ("target", {"compute_capabilities": ["9"]}),
        ("target", {"driver": "new"}),
        ("target", {"or_later": 1}),
        ("options", {"batch": 0}),
        ("options", {"batch": True}),
        ("options", {"batch": 10**9}),
        ("options", {"confidence": "yes"}),
        ("options", {"model": 5}),
        ("options", {"model": "a\nb"}),
        ("backend", ""),
        ("backend", "a\x1b[2J"),
        ("target", {"gpu": "\r"}),
        ("versions", {"a\nb": "1"}),
        ("versions", {"rtpsp": 1}),
        ("versions", {"rtpsp": "\ud800"}),
        ("calibration_digest", 5),
    ],
)
def test_a_field_within_a_field_is_checked(field: str, value: Any) -> None:
    with pytest.raises(EngineFileError, match="engine header cannot be read"):
        EngineHeader.from_dict({**HEADER.to_dict(), field: value})


# --- any header, any value -------------------------------------------------------------------------------------------


@given(header=headers())
def test_any_header_survives_its_file(header: EngineHeader) -> None:
    assert EngineHeader.from_dict(json.loads(json.dumps(header.to_dict()))) == header


@given(header=headers(), field=st.sampled_from(sorted(HEADER.to_dict())), value=json_values())
def test_a_field_of_any_kind_is_read_or_refused(header: EngineHeader, field: str, value: Any) -> None:
    try:
        read = EngineHeader.from_dict({**json.loads(json.dumps(header.to_dict())), field: value})
    except EngineFileError:
        return
    again = EngineHeader.from_dict(json.loads(json.dumps(read.to_dict())))
    assert again.to_dict() == read.to_dict() or value != value
