"""Where what rtpsp makes lies when nobody names a place."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
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


def models_folder() -> Path:
    """Where shipped models lie unpacked: in the user's cache, also for a checkout, since all releases share it."""
    return _cache("models")


def private_folder(name: str) -> Path:
    """A folder among the system's temporary files that stands in for one of the user's; the one above is private.

    That one has to go through `make_private` before anything in it is trusted.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"rtpsp-{user}" / name


def make_private(folder: Path) -> None:
    """Makes a folder that nobody else can write into: whoever can swap an engine decides what this process shows.

    Raises:
        OSError: It cannot be made, or somebody else can write into the one that is there.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    foreign = hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022)
    if foreign or not stat.S_ISDIR(status.st_mode):  # a link is none either
        raise PermissionError(13, f"{folder} belongs to somebody else")


def _shelf(name: str, variable: str) -> Path:
    named = os.environ.get(variable)
    if named:
        return Path(os.path.expanduser(named))  # Path.expanduser raises for a user that there is not
    if os.path.isfile(f"{name}/README.md") and os.path.isdir("rtpsp/zoo"):
        return Path.cwd() / name
    return _cache(name)


def _cache(name: str) -> Path:
    from platformdirs import user_cache_path

    with contextlib.suppress(RuntimeError):  # a user without a home, for whom older releases return "~"
        cache = user_cache_path("rtpsp")
        if cache.is_absolute():
            return cache / name
    return Path(os.sep, ".cache", "rtpsp", name)
