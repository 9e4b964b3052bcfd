"""The calibration cache: the range of each tensor of a network, as measured once on a calibration set.

INT8 needs to know how large each tensor's values get. Measuring that takes minutes and images; the answer is a few
hundred numbers, which this file keeps, so that an engine is built from them in seconds and without the images. They
hold for one network, one set, one method and one fit of the frames: a cache of others would quantise without an error
and with a worse answer, so that `check_fresh` compares all four before its ranges are used.

The file is JSON with sorted keys and a tensor a line: two of them can be compared by eye.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rtpsp.errors import DataError
from rtpsp.files import write_atomically
from rtpsp.recognise import HEAD_BYTES, kind_of, near
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, is_text

CACHE_VERSION = 1
METHODS = ("minmax", "entropy", "percentile", "mse")
TABLE = "table:"
"""What `CalibrationCache.frames` begins with where the ranges came from a TensorRT table, whose frames nobody knows."""

AGAIN = "calibrate again with 'rtpsp build-engine MODEL.onnx --int8 --calib FOLDER'"
_GRAPH = re.compile("[0-9a-f]{64}")
_FRAMES = re.compile(f"({TABLE})?[0-9a-f]{{64}}")
_USUAL_FIT = "stretch-area"
_LEVELS = {"ranges": 1, "measured": 3}
"""How many levels of a field are written an entry a line; what is deeper stands in one line."""


@dataclass(frozen=True)
class TensorRange:
    """How large the values of one tensor get; in the tensor's own unit.

    Attributes:
        low: Least value seen; None where only `amax` is known, as from a TensorRT table. Without it nobody can tell
            whether the tensor is ever negative, so that it has to be taken for signed.
        high: Largest value seen; None together with `low`.
        amax: The magnitude that the method chose as the end of the scale, not negative: larger values are clipped. 0
            for a tensor that was 0 throughout.
    """

    low: float | None
    high: float | None
    amax: float

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: One is no finite number, or they are in the wrong order.
        """
        if (self.low is None) != (self.high is None):
            raise ValueError(f"low {self.low!r:.40} and high {self.high!r:.40}: expected two numbers, or null twice")
        for name in ("low", "high", "amax"):
            value = getattr(self, name)
            if value is None and name != "amax":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r:.40}, expected a finite number")
            object.__setattr__(self, name, float(value))
        if self.amax < 0 or (self.low is not None and self.high is not None and self.low > self.high):
            raise ValueError(f"low {self.low}, high {self.high}, amax {self.amax}: expected low <= high and amax >= 0")


@dataclass(frozen=True)
class CalibrationCache:
    """What a calibration found, and what it holds for.

    Attributes:
        model: Name of the model, for people.
        graph: sha256 in hex of the canonical plain FP32 graph.
        frames: sha256 in hex of the calibration set; behind `TABLE` it is that of a TensorRT table instead.
        images: How many the ranges were measured on; 0 where that is not known.
        method: One of `METHODS`: how `TensorRange.amax` was chosen.
        fit: How frames were brought to the model's size, such as ``stretch/area 360x480`` (HxW).
        ranges: By tensor name; at least one.
        measured: What the builder found out about this network with them, as plain JSON values.
        version: Of this layout.
    """

    model: str
    graph: str
    frames: str
    images: int
    method: str
    fit: str
    ranges: Mapping[str, TensorRange]
    measured: Mapping[str, Any] = field(default_factory=dict)
    version: int = CACHE_VERSION

    def __post_init__(self) -> None:
        """Checks the fields.

        Raises:
            DataError: One is of the wrong kind.
        """
        try:
            _check(self)
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError(f"calibration cache cannot be used ({error}): {AGAIN}") from error

    def to_json(self) -> str:
        """The text of the file; the same cache gives the same bytes."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given["ranges"] = {name: asdict(found) for name, found in self.ranges.items()}
        rows = [f'  "{name}": {_spread(given[name], _LEVELS.get(name, 0), 2)}' for name in sorted(given)]
        return "{\n" + ",\n".join(rows) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> CalibrationCache:
        """The inverse of `to_json`.

        Raises:
            DataError: The text is no cache, or one of a layout that this rtpsp does not know.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"calibration cache is not JSON ({error}): {AGAIN}") from error
        if not isinstance(values, dict):
            raise DataError(f"calibration cache is a {type(values).__name__}, expected an object: {AGAIN}")
        version = values.get("version")
        if version != CACHE_VERSION or isinstance(version, bool):
            raise DataError(
                f"calibration cache has version {version!r:.40}, this rtpsp reads {CACHE_VERSION}: upgrade rtpsp, or "
                f"{AGAIN}"
            )
        try:
            given = {f.name: values[f.name] for f in fields(cls)}
            given["ranges"] = {name: _range(name, found) for name, found in given["ranges"].items()}
        except KeyError as error:
            raise DataError(f"calibration cache lacks {error}: {AGAIN}") from error
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"calibration cache cannot be used ({error}): {AGAIN}") from error
        return cls(**given)


def read_cache(path: Path) -> CalibrationCache:
    """Reads a cache file.

    Raises:
        DataError: There is none, or its content is no cache.
    """
    text = read_text(path, "a calibration cache", AGAIN)
    if text.startswith("TRT-"):
        raise DataError(
            f"{path} is a TensorRT calibration table, a calibration cache was expected: make one of it with 'rtpsp "
            f"calib import {path} --model MODEL.onnx'"
        )
    try:
        return CalibrationCache.from_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def write_cache(path: Path, cache: CalibrationCache) -> None:
    """Writes a cache file, whole or not at all; makes its folder.

    Raises:
        OutputError: It cannot be written.
    """
    write_atomically(path, cache.to_json().encode(), hint="name another file for the cache", make_folder=True)


def check_fresh(
    cache: CalibrationCache, *, graph: str, fit: str, frames: str | None = None, method: str | None = None
) -> None:
    """Makes sure that a cache was measured on what it is to be used for.

    Args:
        cache: As read.
        graph: Digest of the network at hand.
        fit: How frames are brought to its size now.
        frames: Digest of the calibration set at hand; None where any set will do.
        method: The method that was asked for; None where any will do.

    Raises:
        DataError: It was measured on another; which of them differ, what the cache has, what was expected.
    """
    keys = (("graph", graph, "network"), ("frames", frames, "set"), ("method", method, "method"), ("fit", fit, "fit"))
    stale = [
        f"its {what} is {_short(getattr(cache, name))}, expected {_short(expected)}"
        for name, expected, what in keys
        if expected is not None and getattr(cache, name) != expected
    ]
    if stale:
        raise DataError(f"calibration cache of {cache.model} does not hold here: {'; '.join(stale)}: {AGAIN}")


def to_fit(spec: ModelSpec) -> str:
    """How frames are brought to a model, as `CalibrationCache.fit` has it: ``stretch/area 360x480`` (HxW).

    A normalisation other than ImageNet's in RGB stands behind: the graph that is calibrated has none in it yet.
    """
    usual = (spec.channels, spec.mean, spec.std) == ("rgb", IMAGENET_MEAN, IMAGENET_STD)
    values = (",".join(f"{value:g}" for value in planes) for planes in (spec.mean, spec.std))
    normalised = "" if usual else f" {spec.channels} {' '.join(values)}"
    return f"{spec.fit}/{spec.resize} {spec.height}x{spec.width}{normalised}"


def cache_name(cache: CalibrationCache) -> str:
    """What a cache file is called, after all that it holds for.

    ``pspnet18-camvid-360x480-mse-<graph>-<frames>.json`` with the first eight digits of both digests; a fit other than
    ``stretch/area`` and a normalisation other than ImageNet's stand behind the size.
    """
    policy, _, rest = cache.fit.replace("/", "-").partition(" ")
    size, *normalised = rest.split() or [""]
    frames = cache.frames.removeprefix(TABLE)[:8]
    told = "" if policy == _USUAL_FIT else policy
    parts = (cache.model, size, told, *normalised, cache.method, cache.graph[:8], frames)
    return re.sub(r"[^\w.+-]", "_", "-".join(filter(None, parts))) + ".json"


def read_text(path: Path, what: str, todo: str) -> str:
    """The text of a file that people and other programs write.

    Args:
        path: Where.
        what: It should be, with its article.
        todo: Ends the error, where nothing better can be said.

    Raises:
        DataError: It cannot be read, or holds no text.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        meant = near(path) if isinstance(error, FileNotFoundError) else None
        raise DataError(f"{path}: cannot be read ({reason}): {f'did you mean {meant}?' if meant else todo}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        kind = kind_of(data[:HEAD_BYTES])
        found, use = (kind.name, kind.use.format(path)) if kind else (f"{len(data)} bytes that are no text", todo)
        raise DataError(f"{path} is {found}, {what} was expected: {use}") from error


def _range(name: str, values: Any) -> TensorRange:
    if not isinstance(values, dict) or not {"low", "high", "amax"} <= values.keys():
        raise ValueError(f"the range of {name!r:.60} is {values!r:.60}, expected low, high and amax")
    try:
        return TensorRange(values["low"], values["high"], values["amax"])
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the range of {name!r:.60}: {error}") from error


def _check(cache: CalibrationCache) -> None:
    for name in ("model", "fit"):
        value = getattr(cache, name)
        if not (isinstance(value, str) and value and value.isprintable()):
            raise ValueError(f"{name} is {value!r:.40}, expected a line of text")
    for name, pattern in (("graph", _GRAPH), ("frames", _FRAMES)):
        value = getattr(cache, name)
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            raise ValueError(f"{name} is {value!r:.40}, expected a sha256 in hex")
    if type(cache.images) is not int or cache.images < 0:
        raise ValueError(f"images is {cache.images!r:.40}, expected a count")
    if cache.method not in METHODS:
        raise ValueError(f"method is {cache.method!r:.40}, expected one of {', '.join(METHODS)}")
    if not isinstance(cache.measured, Mapping):
        raise ValueError(f"measured is {cache.measured!r:.40}, expected an object")
    json.dumps(cache.measured, sort_keys=True, allow_nan=False)  # raises for what JSON does not have
    if not cache.ranges:
        raise ValueError("it has no ranges, expected those of a network's tensors")
    odd = next((name for name in cache.ranges if not (is_text(name) and name)), None)
    if odd is not None:
        raise ValueError(f"a tensor is called {odd!r:.40}, expected a name")


def _short(value: str) -> str:
    """A digest by its first digits, which is how files are named by it; anything else as it is."""
    bare = value.removeprefix(TABLE)
    if not _GRAPH.fullmatch(bare):
        return value
    return f"{bare[:8]}..." if bare == value else f"that of a TensorRT table ({bare[:8]}...)"


def _spread(value: Any, levels: int, indent: int) -> str:
    """JSON of a value, of which as many levels of objects and lists are written an entry a line."""
    if not levels or not value or not isinstance(value, Mapping | list):
        return json.dumps(value, sort_keys=True, allow_nan=False)
    inner = " " * (indent + 2)
    if isinstance(value, Mapping):
        rows = [f"{json.dumps(name)}: {_spread(value[name], levels - 1, indent + 2)}" for name in sorted(value)]
    else:
        rows = [_spread(item, levels - 1, indent + 2) for item in value]
    start, end = "{}" if isinstance(value, Mapping) else "[]"
    return f"{start}\n" + ",\n".join(inner + row for row in rows) + f"\n{' ' * indent}{end}"
