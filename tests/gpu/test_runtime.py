"""Our runtime on a device, the stand-in in TensorRT's place: the contract of engines, order, failure, freeing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from rtpsp.engine.base import EngineOptions, Ticket
from rtpsp.engine.cuda import open_device
from rtpsp.engine.standin import StandIn
from rtpsp.errors import EngineFileError, MissingError
from tests.engine.contract import EngineContract, Make, ScoresContract, frames, header_of
from tests.gpu.conftest import maker, standin_engine

BACKENDS = ("tensorrt", "tensorrt-rtx")


@pytest.fixture(autouse=True)
def nothing_is_left(standin: StandIn) -> Iterator[None]:
    """After every test what the stand-in made is freed, while its device was open."""
    yield
    gc.collect()
    assert not +standin.alive and not standin.late


@pytest.fixture(params=BACKENDS)
def make(request: pytest.FixtureRequest, standin: StandIn, binding: str) -> Make:
    return maker(standin, binding, request.param, "graph")


@pytest.fixture(params=BACKENDS)
def make_scores(request: pytest.FixtureRequest, standin: StandIn, binding: str) -> Make:
    return maker(standin, binding, request.param, "host")


class TestEngine(EngineContract):
    def test_half_precision_runs_or_says_that_it_does_not(self, make: Make) -> None:
        with make(precision="fp16") as engine:
            assert engine.ran == "f16"  # what was asked for: the stand-in tells nothing of its layers


class TestScores(ScoresContract):
    pass


@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_frame_gets_its_own_answer(standin: StandIn, binding: str, depth: int, cuda_graph: bool) -> None:
    options = EngineOptions(depth=depth, cuda_graph=cuda_graph)
    with standin_engine(standin, binding, header_of("tensorrt"), options, nanoseconds=300_000) as engine:
        buffers = [engine.frame_buffer() for _ in range(depth)]
        waiting: list[tuple[np.ndarray, Ticket]] = []
        for seed in range(30):
            if len(waiting) == depth:
                given, ticket = waiting.pop(0)
                np.testing.assert_array_equal(engine.collect(ticket).class_map, given.argmax(3))
            given = frames(seed)
            buffers[seed % depth][...] = given
            waiting.append((given, engine.submit(buffers[seed % depth])))
        for given, ticket in waiting:
            np.testing.assert_array_equal(engine.collect(ticket).class_map, given.argmax(3))


def test_an_inference_keeps_the_device_for_its_length(standin: StandIn, binding: str) -> None:
    if "Double" in device_of(binding):
        pytest.skip("the driver's double has no clock")
    engine = standin_engine(standin, binding, header_of("tensorrt"), nanoseconds=2_000_000)
    with engine:
        times = engine.kernel_times(20)
    assert min(times) >= 1.9


@pytest.mark.parametrize("call", ["execute_async_v3", "create_execution_context", "set_tensor_address"])
def test_after_a_refused_call_all_is_freed_and_the_next_engine_works(call: str, binding: str) -> None:
    broken = StandIn({call: 2})
    header = header_of("tensorrt")
    with (
        pytest.raises(MissingError),
        standin_engine(broken, binding, header, EngineOptions(cuda_graph=False)) as engine,
    ):
        for seed in range(5):
            engine.infer(frames(seed))
    gc.collect()
    assert not +broken.alive and not broken.late
    with standin_engine(StandIn(), binding, header) as engine:
        np.testing.assert_array_equal(engine.infer(frames(1)).class_map, frames(1).argmax(3))


def test_a_damaged_plan_is_refused(standin: StandIn, binding: str) -> None:
    engine = standin_engine(standin, binding, header_of("tensorrt"))
    engine._payload = b"damaged"
    with pytest.raises(EngineFileError, match="build"), engine:
        pass


def test_memory_comes_back(standin: StandIn, binding: str) -> None:
    header = header_of("tensorrt")
    large = replace(header, spec=replace(header.spec, height=1024, width=2048))
    images = np.zeros((1, 1024, 2048, 3), np.uint8)

    def one() -> None:
        with standin_engine(standin, binding, large, EngineOptions(depth=3)) as engine:
            engine.infer(images)

    with open_device(binding=binding) as device:
        one()  # modules stay loaded, and the driver's own pools may grow
        before = device.memory()[0]
        for _ in range(3):
            one()
        assert before - device.memory()[0] < 16 << 20  # each has 6 MiB for frames and 2 for answers, three times


def device_of(binding: str) -> str:
    with open_device(binding=binding) as device:
        return device.name
