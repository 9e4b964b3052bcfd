from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.data.calibration import CalibrationEntry, digest_of
from rtpsp.data.calibration_files import Skipped
from rtpsp.data.calibration_manifest import Manifest, from_json, to_json
from rtpsp.errors import DataError
from tests.strategies import json_values

ENTRIES = (
    CalibrationEntry("a b/ü.png", "0" * 64, label="a b/l.png", label_sha256="1" * 64),
    CalibrationEntry("c.png", "2" * 64, label="l.png", label_sha256="3" * 64),
)
PAIRS = Manifest(
    "set", "pairs", "train", "../set", 300, 40, digest_of(ENTRIES), ENTRIES, (Skipped("d.png", "damaged"),)
)
MOMENTS = (CalibrationEntry("3", "4" * 64, 3, 0.12), CalibrationEntry("7", "5" * 64, 7, 0.28))
FRAMES = Manifest("v.mp4", "frames", None, "/v.mp4", 2, 221, digest_of(MOMENTS), MOMENTS)


def changed(manifest: Manifest, **values: Any) -> str:
    return json.dumps({**json.loads(to_json(manifest)), **values})


@pytest.mark.parametrize("manifest", [PAIRS, FRAMES], ids=["pairs", "frames"])
def test_what_is_written_is_read_again(manifest: Manifest) -> None:
    assert from_json(to_json(manifest)) == manifest


def test_an_entry_is_a_line_for_diffs() -> None:
    lines = to_json(FRAMES).splitlines()
    assert sum('"sha256"' in line for line in lines) == 2
    assert json.loads(to_json(FRAMES))["entries"][0] == {"name": "3", "sha256": "4" * 64, "frame": 3, "pts": 0.12}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is not the manifest of a calibration set"),
        ('{"format": "something else"}', "is not the manifest of a calibration set"),
        (changed(PAIRS, version=2), "is of version 2, expected 1"),
        (changed(PAIRS, kind="tapes"), "kind is 'tapes', expected one of images, pairs"),
        (changed(PAIRS, entries=[]), "no entries"),
        (changed(PAIRS, entries=7), "entries is 7, expected a list"),
        (changed(PAIRS, entries=[3]), "found 3, expected an object"),
        (changed(PAIRS, entries=[{"name": "a.png", "sha256": "0" * 64}]), r"'a\.png' has no label"),
        (changed(PAIRS, entries=[{"name": "a.png", "sha256": "0" * 63 + "G"}]), "expected a sha256"),
        (changed(PAIRS, source="a\x1b[2Jb"), "source is .*expected a line of text"),
        (changed(PAIRS, asked=True), "asked is True, expected a whole number"),
        (changed(FRAMES, entries=[{"name": "3", "sha256": "4" * 64}]), "'3' has no frame number"),
        (changed(FRAMES, entries=[{"name": "3", "sha256": "4" * 64, "frame": 3, "pts": "x"}]), "pts is 'x'"),
        (changed(FRAMES, entries=json.loads(to_json(FRAMES))["entries"][::-1]), "not in order"),
    ],
)
def test_what_is_no_manifest_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        from_json(text)
    assert "\n" not in str(caught.value)


@given(st.sampled_from([PAIRS, FRAMES]), st.sampled_from(sorted(json.loads(to_json(PAIRS)))), json_values())
def test_whatever_stands_in_a_field_gives_a_manifest_or_our_error(manifest: Manifest, field: str, value: Any) -> None:
    try:
        found = from_json(changed(manifest, **{field: value}))
    except DataError:
        return
    assert from_json(to_json(found)) == found


@given(json_values(), st.sampled_from(["name", "sha256", "frame", "pts", "label", "label_sha256"]))
def test_whatever_stands_in_an_entry_gives_a_manifest_or_our_error(value: Any, field: str) -> None:
    entry = {**json.loads(to_json(FRAMES))["entries"][0], field: value}
    try:
        found = from_json(changed(FRAMES, entries=[entry]))
    except DataError:
        return
    assert from_json(to_json(found)) == found


def test_a_manifest_without_labels_may_lack_them() -> None:
    plain = replace(PAIRS, kind="images", entries=tuple(CalibrationEntry(e.name, e.sha256) for e in ENTRIES))
    assert from_json(to_json(plain)) == plain
