"""Our runtime whatever TensorRT says: ring, events, graphs, failure and freeing, around a kernel of a set length."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.engines import frame_size, frames_through, kernel_time, kernel_times, throughput
from gpu.facts import busy_state
from gpu.kernels import spec_of
from gpu.loop import run_loop
from gpu.part import Job, figures, rounded

if TYPE_CHECKING:
    from rtpsp.engine.base import Engine
    from rtpsp.engine.tensorrt_backend import TensorRTEngine

KERNEL_MS = 2.0
BIG, SMALL = (1024, 2048), (96, 128)
TRIES = 10
LOST_MIB = 16.0
"""The driver's own pools may grow by so much; ten engines that leave one of their larger buffers lose more."""


def overlap(job: Job) -> dict[str, Any]:
    """Do copies hide behind the kernel, what does our part cost, do graphs capture, is everything freed?"""
    size = SMALL if job.quick else BIG
    job.keep(kernel_ms=KERNEL_MS, frame=list(size))
    frames = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    with engine(job, size, KERNEL_MS) as opened:
        measured = figures(kernel_times(job, opened))
        job.keep(kernel_device=measured, transfers_and_kernel_wall=wall(job, opened, frames))
        job.keep(state=busy_state(partial(kernel_time, opened)))
    for depth in (1, 2, 3):
        with engine(job, size, KERNEL_MS, depth=depth) as opened:
            job.keep(**{f"fps_depth_{depth}": throughput(job, opened, frames)})
    alone = 1e3 / job.data["fps_depth_1"] - measured["median_ms"]
    beside = 1e3 / job.data["fps_depth_2"] - measured["median_ms"]
    job.keep(beside_the_kernel_depth_1_ms=rounded(alone), beside_the_kernel_depth_2_ms=rounded(beside))
    _overheads(job)
    _checks(job)
    job.keep(after_failures=_failures(job))
    _whole_frames(job)
    _leak(job, size)
    return {}


def _overheads(job: Job) -> None:
    """A kernel of no length and a small frame: what is left is launching, waiting and Python."""
    small = np.random.default_rng(2).integers(0, 256, (2, *SMALL, 3), np.uint8)
    ways: dict[str, dict[str, Any]] = {
        "graph": {}, "no_graph": {"cuda_graph": False}, "graph_spinning": {"spin": True},
    }  # fmt: skip
    for name, options in ways.items():
        with warnings() as told, engine(job, SMALL, 0.0, **options) as opened:
            figure = {"wall": wall(job, opened, small), "device": figures(kernel_times(job, opened))}
        job.keep(**{f"overhead_{name}": figure, f"overhead_{name}_warnings": told})


def _checks(job: Job) -> None:
    """Answers are right for every frame with three in flight, each slot being used many times."""
    random = np.random.default_rng()
    with engine(job, SMALL, 0.2, depth=3) as opened:
        given = [random.integers(0, 255, (1, *SMALL, 3), np.uint8) for _ in range(60)]
        waiting, wrong = [], 0
        for index, frames in enumerate(given):
            waiting.append((index, opened.submit(frames)))
            if len(waiting) == 3:
                index, ticket = waiting.pop(0)
                wrong += int(np.count_nonzero(opened.collect(ticket).class_map != given[index].argmax(3)))
        for index, ticket in waiting:
            wrong += int(np.count_nonzero(opened.collect(ticket).class_map != given[index].argmax(3)))
    job.keep(wrong_pixels=wrong)
    if wrong:
        raise AssertionError(
            f"{wrong} pixels of 60 frames are wrong with three in flight: a copy or kernel came too early"
        )


def _failures(job: Job) -> dict[str, Any]:
    """An inference that is refused in mid-run: the error comes, all is freed, and the next engine works."""
    from rtpsp.engine.standin import StandIn
    from rtpsp.errors import RtpspError

    found: dict[str, Any] = {}
    frames = np.zeros((1, *SMALL, 3), np.uint8)
    for call, number in {"execute_async_v3": 6, "create_execution_context": 2, "deserialize_cuda_engine": 1}.items():
        standin = StandIn({call: number})
        error = "none"
        try:
            with engine(job, SMALL, 0.1, standin=standin, cuda_graph=False) as opened:
                for _ in range(10):
                    opened.infer(frames)
        except RtpspError as raised:
            error = f"{type(raised).__name__}: {raised}"
        gc.collect()
        found[call] = {"error": error, "alive": +standin.alive, "freed_too_late": standin.late}
        if error == "none" or found[call]["alive"] or standin.late:
            raise AssertionError(f"after {call} was refused: {found[call]}")
    with engine(job, SMALL, 0.1) as opened:
        opened.infer(frames)
    return found


def _whole_frames(job: Job) -> None:
    """Camera frames in and pictures out on the device, and the live loop around it."""
    for depth in (1, 2):
        with engine(job, SMALL, KERNEL_MS, tail="host", depth=depth, device_io="on") as opened:
            job.keep(**{f"device_io_depth_{depth}": frames_through(job, opened)})
    count = 20 if job.quick else 200
    for device_io in ("on", "off"):
        live = engine(job, SMALL, KERNEL_MS, tail="host", depth=2, device_io=device_io)
        job.keep(**{f"loop_device_io_{device_io}": run_loop(live, count, frame_size(job))})


def _leak(job: Job, size: tuple[int, int]) -> None:
    """Free memory after an engine, and after more of the same: opened, used and closed."""
    from rtpsp.engine.cuda import open_device

    (binding,) = job.arguments
    frames = np.zeros((1, *size, 3), np.uint8)

    def one() -> None:
        with engine(job, size, 0.0, depth=2) as opened:
            opened.infer(frames)

    with open_device(binding=binding) as device:
        one()  # what the driver keeps of the first, it keeps
        before = device.memory()[0]
        for _ in range(TRIES):
            one()
        lost = (before - device.memory()[0]) / 2**20
    job.keep(memory_after_mib={"lost_mib": rounded(lost), "engines": TRIES})
    if lost > LOST_MIB:
        raise AssertionError(f"{TRIES} engines that were closed left {lost:.0f} MiB of the GPU's memory in use")


def engine(
    job: Job, size: tuple[int, int], milliseconds: float, *, tail: str = "graph", standin: Any = None, **options: Any
) -> TensorRTEngine:
    """An engine of the stand-in that keeps the GPU for so long, through the part's binding; not open."""
    from rtpsp.engine.base import EngineOptions
    from rtpsp.engine.standin import StandIn, standin_plan
    from rtpsp.engine.tensorrt_backend import TensorRTEngine
    from rtpsp.header import EngineHeader

    (binding,) = job.arguments
    standin = standin or StandIn()
    header = EngineHeader(
        spec_of("stretch", "area", size, 11), "tensorrt", "fp32", "", options={"batch": 1, "tail": tail}
    )
    given = EngineOptions(**{"device_io": "off", **options})
    payload = standin_plan(header, round(milliseconds * 1e6))
    return TensorRTEngine(header, payload, given, trt=standin, device=partial(standin.device, binding=binding))


def wall(job: Job, opened: Engine, frames: np.ndarray[Any, Any]) -> dict[str, float | int]:
    """Wall clock from handing a page-locked frame over to having its answer."""
    buffer = opened.frame_buffer()
    buffer[...] = frames[:1]

    def one(turn: int) -> float:
        begin = time.perf_counter()
        opened.collect(opened.submit(buffer))
        return 1e3 * (time.perf_counter() - begin)

    return figures(job.repeated(one))


@contextmanager
def warnings() -> Iterator[list[str]]:
    """Texts of the warnings that rtpsp logs meanwhile."""
    told: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logging.getLogger("rtpsp").addHandler(handler)
    try:
        yield told
    finally:
        logging.getLogger("rtpsp").removeHandler(handler)
