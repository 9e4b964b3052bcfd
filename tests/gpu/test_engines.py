"""The contract of engines with every flavour of TensorRT, and ONNX Runtime's CUDA, that runs on this GPU."""

from __future__ import annotations

from functools import cache

import onnx
import onnx_ir as ir
import pytest

from rtpsp.engine import engine_class
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.tensorrt_api import FLAVOURS
from rtpsp.engine.tensorrt_builder import PlanOptions, build_plan
from rtpsp.errors import EngineFileError, MissingError
from rtpsp.graph.tensorrt import to_tensorrt
from rtpsp.header import EngineHeader, Precision
from rtpsp.onnx_file import model_bytes
from tests.engine.contract import EngineContract, Make, ScoresContract, frames, header_of, payload_of
from tests.gpu.conftest import DOUBLE, device_name

Targets = tuple[str, ...]
BACKENDS = (*FLAVOURS, "onnxruntime-cuda")
TARGETS: dict[str, tuple[Targets, ...]] = {"tensorrt-rtx": ((), ("8.0",), ("8.9",))}
"""What is built for in turn, until something runs; the default alone of the other backends."""


@cache
def plan_of(backend: str, tail: str, confidence: bool, batch: int, targets: Targets) -> bytes:
    """The contract's graph, built."""
    graph = payload_of(header_of(backend, tail, confidence=confidence, batch=batch))
    lowered = ir.from_proto(onnx.ModelProto.FromString(graph))
    return build_plan(backend, model_bytes(to_tensorrt(lowered)), PlanOptions(targets=targets)).data


def payload_for(header: EngineHeader, targets: Targets) -> bytes:
    if header.backend not in FLAVOURS:
        return payload_of(header)
    options = header.options
    return plan_of(header.backend, options["tail"], options["confidence"], options["batch"], targets)


def real(backend: str, tail: str, targets: Targets) -> Make:
    def make(
        precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
    ) -> Engine:
        header = header_of(backend, tail, precision, confidence, batch)
        return engine_class(backend)(header, payload_for(header, targets), options)

    return make


@cache
def what_runs(backend: str) -> tuple[Targets | None, str]:
    """For what a backend's engines are built so that one runs here, else why none does.

    That something is missing, or that the GPU is refused, is no failure; a graph that is refused is.
    """
    if device_name()[0] == DOUBLE:
        return None, "the device is the driver's double"
    reasons = []
    for targets in TARGETS.get(backend, ((),)):
        try:
            with real(backend, "graph", targets)() as engine:
                engine.infer(frames(1))
        except (MissingError, EngineFileError) as error:
            reasons.append(str(error))
        else:
            return targets, ""
    return None, f"{backend} runs nothing here: {'; '.join(dict.fromkeys(reasons))}"


@pytest.fixture(params=BACKENDS)
def runs_here(request: pytest.FixtureRequest) -> tuple[str, Targets]:
    targets, reason = what_runs(request.param)
    if targets is None:
        pytest.skip(reason)
    return str(request.param), targets


@pytest.fixture
def make(runs_here: tuple[str, Targets]) -> Make:
    backend, targets = runs_here
    return real(backend, "graph", targets)


@pytest.fixture
def make_scores(runs_here: tuple[str, Targets]) -> Make:
    backend, targets = runs_here
    return real(backend, "host", targets)


class TestEngine(EngineContract):
    pass


class TestScores(ScoresContract):
    pass
