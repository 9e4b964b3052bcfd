"""The contract of engines with every flavour of TensorRT, and ONNX Runtime's CUDA, that runs on this GPU."""

from __future__ import annotations

import pytest

from rtpsp.engine import engine_class
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.tensorrt_api import FLAVOURS
from rtpsp.engine.tensorrt_builder import build_plan
from rtpsp.errors import RtpspError
from rtpsp.header import Precision
from tests.engine.contract import EngineContract, Make, ScoresContract, header_of, payload_of
from tests.gpu.conftest import DOUBLE, device_name

BACKENDS = (*FLAVOURS, "onnxruntime-cuda")
_refused: dict[str, str] = {}


def real(backend: str, tail: str) -> Make:
    def make(
        precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
    ) -> Engine:
        header = header_of(backend, tail, precision, confidence, batch)
        payload = payload_of(header)
        if backend in FLAVOURS:
            payload = build_plan(backend, payload).data
        return engine_class(backend)(header, payload, options)

    return make


def why_not(backend: str) -> str:
    """Why a backend runs nothing here; tried once."""
    if device_name()[0] == DOUBLE:
        return "the device is the driver's double"
    if backend not in _refused:
        try:
            with real(backend, "graph")():
                _refused[backend] = ""
        except RtpspError as error:
            _refused[backend] = f"{backend} runs nothing here: {error}"
    return _refused[backend]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if reason := why_not(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def make(backend: str) -> Make:
    return real(backend, "graph")


@pytest.fixture
def make_scores(backend: str) -> Make:
    return real(backend, "host")


class TestEngine(EngineContract):
    pass


class TestScores(ScoresContract):
    pass
