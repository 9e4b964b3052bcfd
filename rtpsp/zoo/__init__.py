"""The models that come with rtpsp; their weights have a licence of their own, `LICENSE-WEIGHTS.txt` beside this.

A model file lies here packed by gzip, which takes a tenth off it, and is unpacked once, when an engine is built of it;
a run whose engine is there needs its digest alone. What stands beside it is read where it lies.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rtpsp.errors import UsageError
from rtpsp.spec import ModelSpec
from rtpsp.zoo.unpacking import unpacked

DEFAULT = "pspnet18-camvid"
_DIGESTS = {DEFAULT: "c3f5433bb58e481b4712c57d4c103efe6a843cd40c34b3091029a18f509468ec"}
NAMES = tuple(_DIGESTS)


def model_path(name: str = DEFAULT) -> Path:
    """Where a shipped model file lies, which is unpacked into the user's cache if it is not there or damaged.

    Args:
        name: One of `NAMES`.

    Raises:
        UsageError: No such model is shipped.
        MissingError: It is missing or damaged in this installation.
        OutputError: There is no place to unpack it to.
    """
    return unpacked(packed_path(name), _DIGESTS[name])


def model_digest(name: str = DEFAULT) -> str:
    """sha256 of a shipped model file as `model_path` gives it, in hex; nothing is read.

    Raises:
        UsageError: No such model is shipped.
    """
    _check(name)
    return _DIGESTS[name]


def packed_path(name: str = DEFAULT) -> Path:
    """Where a shipped model file lies packed, its card ``.md`` beside it.

    Raises:
        UsageError: No such model is shipped.
    """
    return _beside(name, ".onnx.gz")


def model_spec(name: str = DEFAULT) -> ModelSpec:
    """The spec of a shipped model, from the copy beside it: to read the model for it takes half a second.

    Raises:
        UsageError: No such model is shipped.
    """
    return ModelSpec.from_json(_beside(name, ".json").read_text(encoding="utf-8"))


def cache_path(name: str = DEFAULT) -> Path:
    """Where the ranges of a shipped model lie, for INT8 without data (`rtpsp.calibration_cache`).

    Raises:
        UsageError: No such model is shipped.
    """
    return _beside(name, ".ranges.json")


def _beside(name: str, suffix: str) -> Path:
    _check(name)
    return Path(str(resources.files(__name__) / f"{name}{suffix}"))


def _check(name: str) -> None:
    if name not in NAMES:
        raise UsageError(f"no shipped model {name!r}: use one of {', '.join(NAMES)}, or give an ONNX file")
