"""Engines that count how long each of their layers takes; for benchmarks, since counting costs a little."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from rtpsp.arrays import Image
from rtpsp.engine import engine_class, judge_file, refused
from rtpsp.engine.base import Engine, EngineOptions, Result
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import UsageError
from rtpsp.header import EngineHeader

_PROFILED = {
    "openvino": ("openvino_profile", "ProfiledOpenVINOEngine"),
    "onnxruntime": ("onnxruntime_profile", "ProfiledONNXRuntimeEngine"),
}

BYTES = {"u8": 1, "i8": 1, "bool": 1, "f16": 2, "bf16": 2, "f32": 4, "i32": 4, "f64": 8, "i64": 8}
"""Of one value, by number format."""


@dataclass(frozen=True)
class RanLayer:
    """What a runtime ran as one step.

    Attributes:
        name: The runtime's name of it.
        kind: The runtime's word for what it does, such as ``Convolution`` or ``Reorder``.
        format: Number format that it computes in, such as ``u8``.
        sources: Names that it has from the graph: of nodes, or of their outputs, that were fused into it. Some are the
            runtime's own inventions; empty where it added the layer itself.
        seconds: How long it took, an entry for each counted inference.
        bytes: Of what it reads and writes, weights included, by shapes and formats; None where these are not told.
        packed: Its weights are not in `bytes`: the runtime has packed them, and tells no shape of them any more.
    """

    name: str
    kind: str
    format: str
    sources: tuple[str, ...]
    seconds: tuple[float, ...]
    bytes: int | None
    packed: bool = False


class ProfiledEngine(Engine):
    """An engine that can time its layers while it works on a batch."""

    @abstractmethod
    def infer_counted(self, frames: Image) -> Result:
        """As `infer`, and keeps how long each layer took. Other batches, such as those of a warm-up, count for nothing.

        The stamps of the result have the inference alone between them, without what it takes to read the times.
        """

    @abstractmethod
    def layers(self) -> tuple[RanLayer, ...]:
        """What ran in the counted batches, at least one, in the order in which it ran.

        Ask once, at the end, while the engine is open still.
        """


class _Factory(Protocol):
    def __call__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> Any: ...


def profiled_class(backend: str) -> _Factory:
    """The class of a backend's engines that time their layers, imported now.

    Raises:
        EngineFileError: No such backend.
        MissingError: Its package is not installed.
        UsageError: It does not tell the times of layers.
    """
    engine_class(backend)
    if backend not in _PROFILED:
        raise UsageError(
            f"an engine of backend {backend} does not tell the times of its layers, expected one of "
            f"{', '.join(_PROFILED)}: take the payload out ('rtpsp inspect ENGINE --extract FILE') and profile it with "
            f"the vendor's tool (trtexec --loadEngine=FILE --dumpProfile)"
        )
    module, name = _PROFILED[backend]
    return cast(_Factory, getattr(importlib.import_module(f"rtpsp.engine.{module}"), name))


def load_profiled(path: str | Path, options: EngineOptions | None = None) -> ProfiledEngine:
    """As `rtpsp.engine.load_engine`, an engine that times its layers.

    Raises:
        EngineFileError: Missing, damaged, foreign, or built for another rtpsp or machine.
        MissingError: A package is missing.
        UsageError: Its backend does not tell the times of layers.
    """
    file = read_engine_file(Path(path))
    verdict = judge_file(file)
    if verdict.refusals:
        raise refused(file, verdict)
    engine = profiled_class(file.header.backend)(file.header, file.payload(), options)
    return cast(ProfiledEngine, engine)
