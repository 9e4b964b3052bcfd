"""What is remembered of a default engine that could not be built: not every start is to try, for minutes, what failed.

It lies beside the engine's place, and holds for the same releases of the packages, driver and GPU.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from rtpsp.build_options import package_versions
from rtpsp.errors import OutputError
from rtpsp.files import write_atomically
from rtpsp.machine import gpus

SUFFIX = ".failed"


def why_failed(path: Path, backend: str) -> str | None:
    """Why an engine could not be built here before; None where it could be, was never tried, or something is new.

    Args:
        path: The engine's place.
        backend: Its backend.
    """
    try:
        told: Any = json.loads(path.with_suffix(SUFFIX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("with") != _with(backend):
        return None
    why = told.get("why")
    return why if isinstance(why, str) and why.isprintable() else None


def remember(path: Path, backend: str, why: str) -> None:
    """Keep why an engine could not be built here; where nothing can be written it is tried again instead."""
    told = json.dumps({"why": why, "with": _with(backend)}, indent=1)
    with contextlib.suppress(OutputError):
        write_atomically(path.with_suffix(SUFFIX), told.encode(), hint="")


def forget(path: Path) -> None:
    """An engine was built, and ran here."""
    with contextlib.suppress(OSError):
        path.with_suffix(SUFFIX).unlink(missing_ok=True)


def _with(backend: str) -> dict[str, Any]:
    return {**package_versions(backend), "gpus": [[gpu.name, gpu.driver] for gpu in gpus()]}
