"""The models that come with rtpsp; their weights have a licence of their own, `LICENSE-WEIGHTS.txt` beside this."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rtpsp.errors import UsageError
from rtpsp.spec import ModelSpec

DEFAULT = "pspnet18-camvid"
NAMES = (DEFAULT,)


def model_path(name: str = DEFAULT) -> Path:
    """Where a shipped model file lies.

    Args:
        name: One of `NAMES`.

    Raises:
        UsageError: No such model is shipped.
    """
    if name not in NAMES:
        raise UsageError(f"no shipped model {name!r}: use one of {', '.join(NAMES)}, or give an ONNX file")
    return Path(str(resources.files(__name__) / f"{name}.onnx"))


def model_spec(name: str = DEFAULT) -> ModelSpec:
    """The spec of a shipped model, from the copy beside it: to read the model for it takes half a second.

    Raises:
        UsageError: No such model is shipped.
    """
    return ModelSpec.from_json(model_path(name).with_suffix(".json").read_text(encoding="utf-8"))


def cache_path(name: str = DEFAULT) -> Path:
    """Where the ranges of a shipped model lie, for INT8 without data (`rtpsp.calibration_cache`).

    Raises:
        UsageError: No such model is shipped.
    """
    return model_path(name).with_suffix(".ranges.json")
