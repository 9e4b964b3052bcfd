"""Every test in this folder is marked ``gpu``, and skipped with the reason where there is no device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import pytest

from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.cuda import BINDINGS, CudaDevice, open_device
from rtpsp.engine.standin import StandIn, standin_plan
from rtpsp.engine.tensorrt_backend import TensorRTEngine, TensorRTRTXEngine
from rtpsp.errors import MissingError
from rtpsp.header import EngineHeader, Precision
from tests.engine.contract import Make, header_of

HERE = Path(__file__).parent
DOUBLE = "Double"
"""What the driver's double calls its device."""


@cache
def device_name(binding: str | None = None) -> tuple[str, str]:
    """The device's name, or why there is none."""
    try:
        with open_device(binding=binding) as device:
            return device.name, ""
    except MissingError as error:
        return "", str(error)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    _, missing = device_name() if ours else ("", "")
    for item in ours:
        item.add_marker(pytest.mark.gpu)
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"no device: {missing}"))


@pytest.fixture(params=list(BINDINGS))
def binding(request: pytest.FixtureRequest) -> str:
    """Each binding of CUDA that is installed."""
    _, missing = device_name(str(request.param))
    if missing:
        pytest.skip(missing)
    return str(request.param)


@pytest.fixture
def device(binding: str) -> Iterator[CudaDevice]:
    """The first GPU, through each binding."""
    with open_device(binding=binding) as device:
        yield device


@pytest.fixture
def standin() -> StandIn:
    """TensorRT's runtime as a kernel of ours."""
    return StandIn()


def standin_engine(
    standin: StandIn, binding: str, header: EngineHeader, options: EngineOptions | None = None, nanoseconds: int = 0
) -> TensorRTEngine:
    """An engine of the stand-in for a header, not open."""
    kind = TensorRTRTXEngine if header.backend == "tensorrt-rtx" else TensorRTEngine
    opens = partial(standin.device, binding=binding)
    return kind(header, standin_plan(header, nanoseconds), options, trt=cast(Any, standin), device=opens)


def maker(standin: StandIn, binding: str, backend: str, tail: str) -> Make:
    """What makes the contract's engines of the stand-in; every inference takes a tenth of a millisecond and more."""

    def make(
        precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
    ) -> Engine:
        header = header_of(backend, tail, precision, confidence, batch)
        return standin_engine(standin, binding, header, options, nanoseconds=100_000)

    return make
