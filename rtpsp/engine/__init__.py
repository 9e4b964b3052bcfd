"""Engines: one small base, one file a backend, and a table that imports a backend only when it is asked for."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Protocol, cast

from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.choice import default_backend as default_backend
from rtpsp.engine.choice import why_not_here as why_not_here
from rtpsp.engine.compatibility import Verdict, installed_version, judge
from rtpsp.engine.file import EngineFile, read_engine_file, rebuild
from rtpsp.engine.table import BACKENDS as BACKENDS
from rtpsp.engine.table import DEFAULT_BACKEND as DEFAULT_BACKEND
from rtpsp.engine.table import Backend as Backend
from rtpsp.errors import EngineFileError, MissingError
from rtpsp.header import EngineHeader
from rtpsp.machine import gpus

_log = logging.getLogger(__name__)

_UPGRADE = "upgrade rtpsp, or build the engine for one of them"


class _EngineFactory(Protocol):
    def __call__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> Engine: ...


def engine_class(name: str) -> _EngineFactory:
    """The engine class of a backend, imported now.

    Raises:
        EngineFileError: No such backend.
        MissingError: Its package is not installed.
    """
    if name not in BACKENDS:
        raise EngineFileError(f"{_unknown(name)}: {_UPGRADE}")
    backend = BACKENDS[name]
    try:
        module = importlib.import_module(f"rtpsp.engine.{backend.module}")
    except ImportError as error:
        if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
            raise error.__cause__ from None  # an interrupt in the midst of an extension module's initialisation
        raise MissingError(
            f"backend {name} needs the package {backend.package} ({error}): pip install {backend.install}"
        ) from error
    if installed_version(backend.package) is None:  # of those that import their runtime when they are opened
        raise MissingError(
            f"backend {name} needs the package {backend.package}, which is not installed: pip install {backend.install}"
        )
    return cast(_EngineFactory, getattr(module, backend.engine))


def judge_file(file: EngineFile) -> Verdict:
    """What stands against running an engine file on this machine, its backend's package included."""
    header = file.header
    backend = BACKENDS.get(header.backend)
    verdict = judge(header, backend.package if backend else header.backend)
    if backend is None:
        return Verdict((*verdict.refusals, _unknown(header.backend)), verdict.warnings)
    if installed_version(backend.package) is None:
        refusals = (*verdict.refusals, f"it needs the package {backend.package}, which is not installed")
        missing = verdict.missing
        if missing is None:
            cuda = next((gpu.cuda for gpu in gpus()), "") if backend.gpu else ""
            missing = f"pip install {backend.install_for(cuda)}"
        return Verdict(refusals, verdict.warnings, missing)
    return verdict


def what_to_do(file: EngineFile, verdict: Verdict) -> str:
    """What to do about an engine file that does not serve here: mend the machine, or build an engine that does.

    One for another backend gets a name of its own: the file may be just right for the machine that it was built for.
    """
    header = file.header
    if header.backend not in BACKENDS:
        return _UPGRADE
    if verdict.missing is None and (not BACKENDS[header.backend].gpu or why_not_here(header.backend) is None):
        return rebuild(header, file.path)
    another = rebuild(header, file.path.with_stem(f"{file.path.stem}-here"), for_this_machine=True)
    copy = f"copy it to a GPU of {header.target.generations}" if header.target.needs_gpu else ""
    return f"{verdict.missing or copy}, or {another}".removeprefix(", or ")


def refused(file: EngineFile, verdict: Verdict, why: str = "") -> EngineFileError | MissingError:
    """The error that says why an engine file cannot be loaded here: the machine's fault if that lacks something.

    Args:
        file: The engine.
        verdict: With refusals.
        why: What it is to be loaded for, as the beginning of a sentence.
    """
    kind = EngineFileError if verdict.missing is None else MissingError
    return kind(f"{file.path}: {why}{'; '.join(verdict.refusals)}: {what_to_do(file, verdict)}")


def load_engine(path: str | Path, options: EngineOptions | None = None) -> Engine:
    """Check an engine file and give its engine, not yet open: no device is touched before ``with``.

    Args:
        path: An engine file made by ``rtpsp build-engine``.
        options: How it may use the machine.

    Raises:
        EngineFileError: Missing, damaged, foreign, or built for another rtpsp or machine
            (`rtpsp.engine.compatibility`).
        MissingError: This machine has no GPU, no driver or no package for engines of its kind.
    """
    file = read_engine_file(Path(path))
    verdict = judge_file(file)
    if verdict.refusals:
        raise refused(file, verdict)
    for warning in verdict.warnings:
        _log.warning("%s: %s", path, warning)
    return engine_class(file.header.backend)(file.header, file.payload(), options)


def _unknown(name: str) -> str:
    return f"backend {name!r} is unknown to this rtpsp, expected one of {', '.join(BACKENDS)}"
