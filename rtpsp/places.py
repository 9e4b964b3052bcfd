"""Where what rtpsp makes lies when nobody names a place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ENGINES_VARIABLE = "RTPSP_ENGINES"
"""Environment variable that names the folder for engines which are not given a place."""

CALIB_VARIABLE = "RTPSP_CALIB"
"""Environment variable that names the folder for manifests and caches of calibration."""


def engines_folder() -> Path:
    """Where engines lie: the folder that `ENGINES_VARIABLE` names, ``./engines`` of a checkout, or the user's cache."""
    return _shelf("engines", ENGINES_VARIABLE)


def timing_folder() -> Path:
    """Where TensorRT's timing caches lie: beside the engines, so that the next build need not time everything again."""
    return engines_folder() / "timing"


def calibration_folder() -> Path:
    """Where manifests and range caches lie: as `engines_folder`, with `CALIB_VARIABLE` and ``./calib``."""
    return _shelf("calib", CALIB_VARIABLE)


def _shelf(name: str, variable: str) -> Path:
    named = os.environ.get(variable)
    if named:
        return Path(os.path.expanduser(named))  # Path.expanduser raises for a user that there is not
    if os.path.isfile(f"{name}/README.md") and os.path.isdir("rtpsp/zoo"):
        return Path.cwd() / name
    from platformdirs import user_cache_path

    with contextlib.suppress(RuntimeError):  # a user without a home, for whom older releases return "~"
        cache = user_cache_path("rtpsp")
        if cache.is_absolute():
            return cache / name
    return Path(os.sep, ".cache", "rtpsp", name)
