"""Engines: one small base, one file a backend, and a table that imports a backend only when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import EngineFileError, MissingError
from rtpsp.spec import EngineHeader


class _EngineFactory(Protocol):
    def __call__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> Engine: ...


@dataclass(frozen=True)
class Backend:
    """Where a backend's engine class is, and what to install when its package is missing.

    Attributes:
        module: Module in this package.
        engine: Class in that module.
        package: Python package that it needs.
        install: What to give to ``pip install``.
    """

    module: str
    engine: str
    package: str
    install: str


BACKENDS = {
    "openvino": Backend("openvino_backend", "OpenVINOEngine", "openvino", "openvino"),
    "onnxruntime": Backend("onnxruntime_backend", "ONNXRuntimeEngine", "onnxruntime", "onnxruntime"),
}
DEFAULT_BACKEND = "openvino"


def engine_class(name: str) -> _EngineFactory:
    """The engine class of a backend, imported now.

    Raises:
        EngineFileError: No such backend.
        MissingError: Its package is not installed.
    """
    if name not in BACKENDS:
        raise EngineFileError(f"backend {name!r} is unknown, expected one of {', '.join(BACKENDS)}: upgrade rtpsp")
    backend = BACKENDS[name]
    try:
        module = importlib.import_module(f"rtpsp.engine.{backend.module}")
    except ImportError as error:
        if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
            raise error.__cause__ from None  # an interrupt in the midst of an extension module's initialisation
        raise MissingError(
            f"backend {name} needs the package {backend.package} ({error}): pip install {backend.install}"
        ) from error
    return cast(_EngineFactory, getattr(module, backend.engine))


def load_engine(path: str | Path, options: EngineOptions | None = None) -> Engine:
    """Check an engine file and give its engine, not yet open: no device is touched before ``with``.

    Args:
        path: An engine file made by ``rtpsp build-engine``.
        options: How it may use the machine.

    Raises:
        EngineFileError: Missing, damaged, foreign, or made for another rtpsp.
        MissingError: The package of its backend is not installed.
    """
    file = read_engine_file(Path(path))
    return engine_class(file.header.backend)(file.header, file.payload(), options)
