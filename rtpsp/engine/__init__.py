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

_log = logging.getLogger(__name__)


class _EngineFactory(Protocol):
    def __call__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> Engine: ...


def engine_class(name: str) -> _EngineFactory:
    """The engine class of a backend, imported now.

    Raises:
        EngineFileError: No such backend.
        MissingError: Its package is not installed.
    """
    if name not in BACKENDS:
        raise EngineFileError(f"{_unknown(name)}: upgrade rtpsp, or build the engine for one of them")
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
        missing = f"it needs the package {backend.package}: pip install {backend.install}"
        return Verdict((*verdict.refusals, missing), verdict.warnings)
    return verdict


def build_again(file: EngineFile) -> str:
    """What to do about an engine file that does not serve here: the command, for a backend that does."""
    name = file.header.backend
    elsewhere = name not in BACKENDS or (BACKENDS[name].gpu and why_not_here(name) is not None)
    return rebuild(file.header, file.path, for_this_machine=elsewhere)


def load_engine(path: str | Path, options: EngineOptions | None = None) -> Engine:
    """Check an engine file and give its engine, not yet open: no device is touched before ``with``.

    Args:
        path: An engine file made by ``rtpsp build-engine``.
        options: How it may use the machine.

    Raises:
        EngineFileError: Missing, damaged, foreign, or built for another rtpsp or machine
            (`rtpsp.engine.compatibility`).
        MissingError: The package of its backend is not installed.
    """
    file = read_engine_file(Path(path))
    header = file.header
    backend = BACKENDS.get(header.backend)
    verdict = judge(header, backend.package if backend else header.backend)
    if verdict.refusals:
        raise EngineFileError(f"{path}: {'; '.join(verdict.refusals)}: {build_again(file)}")
    for warning in verdict.warnings:
        _log.warning("%s: %s", path, warning)
    if backend is None:
        raise EngineFileError(f"{path}: {_unknown(header.backend)}: upgrade rtpsp, or build the engine for one of them")
    return engine_class(header.backend)(header, file.payload(), options)


def _unknown(name: str) -> str:
    return f"backend {name!r} is unknown to this rtpsp, expected one of {', '.join(BACKENDS)}"
