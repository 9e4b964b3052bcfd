"""A calibration set's manifest: the JSON file that lists its frames, so that it can be had again, and checked.

format      "rtpsp calibration set"
version     1
source      where the frames are from, for people; without credentials
kind        images, pairs, frames, simulator or camera (`rtpsp.data.calibration.Kind`)
split       of a labelled folder, or null
root        where the entries' paths start, or the video or URI to read: from the manifest's own folder, or absolute
asked       how many frames were asked for
candidates  among how many they were chosen
chosen      how, in words
digest      sha256 over the entries' sha256s
skipped     files that could not be read, each with the reason
entries     the frames: name, sha256 and, where they have them, frame, pts, label, label_sha256
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, get_args

from rtpsp.data.calibration import LABELLED, CalibrationEntry, Kind
from rtpsp.data.calibration_choice import HOW
from rtpsp.data.calibration_files import Skipped
from rtpsp.errors import DataError

FORMAT = "rtpsp calibration set"
VERSION = 1
MAX_ENTRIES = 1_000_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; the module tells what each field is."""

    source: str
    kind: Kind
    split: str | None
    root: str
    asked: int
    candidates: int
    digest: str
    entries: tuple[CalibrationEntry, ...]
    skipped: tuple[Skipped, ...] = ()
    chosen: str = HOW


def to_json(manifest: Manifest) -> str:
    """The manifest as text, an entry a line; the same set gives the same text."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for name in ("source", "kind", "split", "root", "asked", "candidates", "chosen", "digest"):
        head[name] = getattr(manifest, name)
    skipped = [json.dumps({"name": one.name, "reason": one.reason}) for one in manifest.skipped]
    entries = [json.dumps(_known(entry)) for entry in manifest.entries]
    parts = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
    parts += [f'"{name}": [{_lines(rows)}]' for name, rows in (("skipped", skipped), ("entries", entries))]
    return "{\n  " + ",\n  ".join(parts) + "\n}\n"


def from_json(text: str) -> Manifest:
    """The inverse of `to_json`.

    Raises:
        DataError: It is no manifest of a calibration set, of a later version, or not whole; without the file's name.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is no JSON ({error!s:.100})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f'is not the manifest of a calibration set, expected "format": "{FORMAT}"')
    if values.get("version") != VERSION:
        raise DataError(f"is of version {values.get('version')!r:.20}, expected {VERSION}: it needs another rtpsp")
    try:
        manifest = Manifest(
            source=_text(values, "source"),
            kind=_kind(values),
            split=None if values.get("split") is None else _text(values, "split"),
            root=_text(values, "root"),
            asked=_number(values, "asked"),
            candidates=_number(values, "candidates"),
            digest=_sha256(values, "digest"),
            entries=tuple(_entry(value) for value in _list(values, "entries")),
            skipped=tuple(_skipped(value) for value in _list(values, "skipped")),
            chosen=_text(values, "chosen"),
        )
        _check(manifest)
    except ValueError as error:
        raise DataError(f"is damaged ({error})") from error
    return manifest


def _check(manifest: Manifest) -> None:
    if not manifest.entries:
        raise ValueError("it has no entries")
    for entry in manifest.entries:
        if manifest.kind in ("frames", "simulator") and entry.frame is None:
            raise ValueError(f"entry {entry.name!r:.60} has no frame number")
        if manifest.kind == LABELLED[0] and (entry.label is None or entry.label_sha256 is None):
            raise ValueError(f"entry {entry.name!r:.60} has no label")
    numbers = [entry.frame for entry in manifest.entries if entry.frame is not None]
    if manifest.kind == "frames" and any(later <= one for one, later in pairwise(numbers)):
        raise ValueError("its frames are not in order")


def _entry(value: Any) -> CalibrationEntry:
    given = _object(value)
    pts = given.get("pts")
    if pts is not None and (isinstance(pts, bool) or not isinstance(pts, int | float) or not math.isfinite(pts)):
        raise ValueError(f"pts is {pts!r:.40}, expected seconds")
    return CalibrationEntry(
        name=_text(given, "name"),
        sha256=_sha256(given, "sha256"),
        frame=None if given.get("frame") is None else _number(given, "frame"),
        pts=pts,
        label=None if given.get("label") is None else _text(given, "label"),
        label_sha256=None if given.get("label_sha256") is None else _sha256(given, "label_sha256"),
    )


def _skipped(value: Any) -> Skipped:
    given = _object(value)
    return Skipped(_text(given, "name"), _text(given, "reason"))


def _known(entry: CalibrationEntry) -> dict[str, Any]:
    pairs = ((field.name, getattr(entry, field.name)) for field in fields(entry))
    return {name: value for name, value in pairs if value is not None}


def _lines(rows: list[str]) -> str:
    return "".join(f"\n    {row}," for row in rows).removesuffix(",") + ("\n  " if rows else "")


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"found {value!r:.40}, expected an object")
    return value


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    value = values.get(name)
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise ValueError(f"{name} is {value!r:.40}, expected a list")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    # not isprintable: names of files may hold what no terminal shows, but nothing that commands one
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        raise ValueError(f"{name} is {value!r:.40}, expected a line of text")
    return value


def _number(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{name} is {value!r:.40}, expected a whole number from 0")
    return value


def _sha256(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{name} is {value!r:.80}, expected a sha256 of 64 hex digits")
    return value


def _kind(values: Mapping[str, Any]) -> Kind:
    kind: Kind | None = next((kind for kind in get_args(Kind) if kind == values.get("kind")), None)
    if kind is None:
        raise ValueError(f"kind is {values.get('kind')!r:.40}, expected one of {', '.join(get_args(Kind))}")
    return kind
