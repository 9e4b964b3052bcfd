"""The environment of a peer: a virtual environment of its own, made when it is first needed and kept.

Two peers with the same requirements share one. It is known by a digest of the requirements and of the Python that made
it, so that a line which changes gives a new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from rtpsp.errors import MissingError

PATIENCE = 1800.0
"""Seconds that an installation may take: PyTorch's wheel and what it needs can be gigabytes."""

_READY = ".ready"


def default_folder() -> Path:
    """Where environments lie: the user's cache."""
    from platformdirs import user_cache_path

    cache = user_cache_path("rtpsp")
    return (cache if cache.is_absolute() else Path(tempfile.gettempdir()) / "rtpsp") / "peers"


def environment_python(requirements: Path, folder: Path) -> Path:
    """The Python of an environment that holds these requirements; made if it is not there.

    Args:
        requirements: A ``requirements.txt``.
        folder: Where environments lie; made if need be.

    Returns:
        The interpreter.

    Raises:
        MissingError: It could not be made; with the last line that pip said.
    """
    text = requirements.read_text(encoding="utf-8")
    wanted = "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    digest = hashlib.sha256(f"{sys.version}\n{wanted}".encode()).hexdigest()[:16]
    place = folder / digest
    python = place / "bin" / "python"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{digest}.lock"):
            if not (place / _READY).exists():
                shutil.rmtree(place, ignore_errors=True)  # half of one, of a process that was killed
                _make(place, requirements)
                (place / _READY).write_text(wanted, encoding="utf-8")
    except OSError as error:
        raise MissingError(f"{folder}: no environment can be made ({error.strerror or error})") from error
    return python


def _make(place: Path, requirements: Path) -> None:
    _run([sys.executable, "-m", "venv", str(place)], "no virtual environment can be made")
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        _run([*pip, "-r", str(requirements)], f"{requirements.parent.name} could not be installed")
    except MissingError:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _run(command: list[str], failed: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=bare_environ(),
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{failed} within {PATIENCE / 60:.0f} minutes: install it by hand, or go without") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no word")
        raise MissingError(f"{failed} ({said.removeprefix('ERROR: ').strip()}): is there a network?")


def bare_environ(path: Path | None = None) -> dict[str, str]:
    """The environment variables of a peer: nothing of ours, and no number of threads that somebody set for others.

    Args:
        path: Where Python finds modules beside its own.
    """
    python = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    pools = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
    kept = {name: value for name, value in os.environ.items() if name not in python and not name.startswith(pools)}
    return kept if path is None else {**kept, "PYTHONPATH": str(path)}
