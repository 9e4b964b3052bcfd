"""TensorRT's engines: built, each measured alone, and all of a network in turn beside torch.

The wall clock holds what the host does for an answer: of an engine that gives scores, the class map.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gpu.facts import busy_state
from gpu.models import VARIANTS, Variant, frames_of
from gpu.part import MOST_SECONDS, Job, Skip, figures, rounded
from gpu.peers import cuda_torch, graphed, timed, torch_network
from gpu.table import TARGETS, runs_on

if TYPE_CHECKING:
    from rtpsp.engine.base import Engine, Result, Ticket
    from rtpsp.graph.lower import Tail
    from rtpsp.header import EngineHeader

AGREEMENT = {
    "pspnet18": {"fp32": 0.99, "fp16": 0.99, "int8": 0.97},
    "pspnet50": {"fp32": 0.98, "fp16": 0.98, "int8": 0.85},
}
"""Least share of pixels that an engine decides as its FP32 graph does. On a CPU FP16 does with 0.9999 and 0.998 of
them, INT8 with 0.994 and 0.93: the second network's weights are random, but it tells seven classes apart."""
TORCH = {"torch-fp16-scores": "host", "torch-fp16-classes": "graph"}
"""Torch's entrants, by the tail of the engines that do the same work."""


def build(job: Job) -> dict[str, Any]:
    """One variant of a network through our builder: seconds, bytes; the engine file is left for the other parts."""
    from rtpsp.engine.file import write_engine_file
    from rtpsp.engine.tensorrt_api import FLAVOURS
    from rtpsp.engine.tensorrt_builder import PlanOptions, build_plan
    from rtpsp.header import EngineHeader
    from rtpsp.spec import ModelSpec

    flavour, network, name = job.arguments
    variant = _variant(name)
    spec = ModelSpec.from_json((job.work / f"{network}.spec.json").read_text(encoding="utf-8"))
    targets = TARGETS[flavour][next(iter(runs_on(job.results, flavour)), "default")]
    timings = None if FLAVOURS[flavour].rtx else job.work / "timings"  # what a variant measured, the next need not
    model = (job.work / f"{network}-{name}.onnx").read_bytes()
    begin = time.monotonic()
    plan = build_plan(flavour, model, PlanOptions(targets=targets, timing_cache=timings))
    took = time.monotonic() - begin
    header = EngineHeader(
        spec, flavour, variant.precision, hashlib.sha256(model).hexdigest(), dict(plan.versions),
        options={"batch": 1, "confidence": False, "head": variant.head, "tail": variant.tail}, target=plan.target,
    )  # fmt: skip
    write_engine_file(_path(job, flavour, network, name), header, plan.data)
    return {"build_seconds": round(took, 2), "plan_mib": rounded(len(plan.data) / 2**20), "notes": plan.notes}


def alone(job: Job) -> dict[str, Any]:
    """One engine: does it answer as the FP32 graph, what does it take in time and memory, with and without a graph.

    Figures stand in the order of their worth. Where the answers are wrong, that is said after all has been measured.
    """
    from rtpsp.engine.cuda import open_device

    flavour, network, name = job.arguments
    variant, path = _variant(name), _path(job, flavour, network, name)
    stored = np.load(job.work / f"{network}.npz")
    frames, expected = stored["frames"], stored["class_map"]
    with open_device() as device:
        free, _ = device.memory()
        begin = time.monotonic()
        with open_engine(path) as engine:
            job.keep(first_open_seconds=round(time.monotonic() - begin, 2), ran=engine.ran)
            found = np.concatenate([engine.infer(frame[None]).class_map for frame in frames])
            job.keep(agreement=rounded(float(np.mean(found == expected)), 6), frames=len(frames))
            job.keep(pixels_of_class=_counts(engine, found), pixels_of_class_expected=_counts(engine, expected))
            job.keep(memory_mib=rounded((free - device.memory()[0]) / 2**20))
            job.keep(device_graph=figures(kernel_times(job, engine)))
            job.keep(state=busy_state(partial(kernel_time, engine)))
            job.keep(wall_depth_1=_wall(job, engine, frames))
    if variant.precision != "fp32":  # the slowest, and the one that nobody takes for its speed
        begin = time.monotonic()
        with open_engine(path, cuda_graph=False) as engine:
            job.keep(open_seconds=round(time.monotonic() - begin, 2))
            job.keep(device=figures(kernel_times(job, engine)))
            job.keep(wall_depth_1_without_graph=_wall(job, engine, frames))
        if variant.tail == "host":
            for depth in (2, 1):
                with open_engine(path, depth=depth, device_io="on") as engine:
                    job.keep(**{f"device_io_depth_{depth}": frames_through(job, engine)})
        with open_engine(path, depth=2) as engine:
            job.keep(fps_depth_2=throughput(job, engine, frames))
        with open_engine(path, spin=True) as engine:
            job.keep(wall_depth_1_spinning=_wall(job, engine, frames))
    least = AGREEMENT[network][variant.precision]
    if job.data["agreement"] < least:
        raise AssertionError(f"{job.data['agreement']} of the pixels are as the FP32 graph has them, less than {least}")
    return {}


def _counts(engine: Engine, class_map: np.ndarray[Any, Any]) -> list[int]:
    """So that an agreement can be judged: one class everywhere agrees with itself."""
    counts: list[int] = np.bincount(class_map.ravel(), minlength=len(engine.spec.labels)).tolist()
    return counts


def _variant(name: str) -> Variant:
    return next(variant for variant in VARIANTS if str(variant) == name)


def open_engine(path: Path, **options: Any) -> Engine:
    """An engine of this check, not yet open. Whatever is known about its GPU, it is to be tried."""
    from rtpsp.engine import engine_class
    from rtpsp.engine.base import EngineOptions
    from rtpsp.engine.file import read_engine_file

    file = read_engine_file(path)
    header: EngineHeader = file.header
    return engine_class(header.backend)(header, file.payload(), EngineOptions(**{"device_io": "off", **options}))


def kernel_times(job: Job, engine: Engine) -> list[float]:
    """Milliseconds of inferences on the device, without transfers, after warm-up."""
    return job.repeated(lambda turn: kernel_time(engine))


def kernel_time(engine: Engine) -> float:
    """Milliseconds of one."""
    from rtpsp.engine.tensorrt_backend import TensorRTEngine

    assert isinstance(engine, TensorRTEngine)
    (took,) = engine.kernel_times(1)
    return took


def frame_size(job: Job) -> tuple[int, int]:
    """Height and width of a camera's frames, for what a device does with whole ones."""
    return (120, 160) if job.quick else (720, 960)


def throughput(job: Job, engine: Engine, frames: np.ndarray[Any, Any]) -> float:
    """Inferences a second with as many in flight as the engine's depth, from page-locked memory."""
    buffers = [engine.frame_buffer() for _ in range(engine.depth)]
    for index, buffer in enumerate(buffers):
        buffer[...] = frames[index % len(frames)]
    return _fps(_in_flight(job, engine, lambda turn: engine.submit(buffers[turn % len(buffers)])))


def _in_flight(job: Job, engine: Engine, submit: Callable[[int], Ticket]) -> list[Result]:
    """Results with as many inferences in flight as the engine's depth, but for the first ones."""
    job.warm_up(lambda: engine.collect(submit(0)))
    waiting: list[Ticket] = []
    results: list[Result] = []
    end = time.monotonic() + MOST_SECONDS
    for turn in range(engine.depth + job.runs):
        if len(waiting) == engine.depth:
            results.append(engine.collect(waiting.pop(0)))
        waiting.append(submit(turn))
        if len(results) > engine.depth and time.monotonic() > end:
            break
    return [*results, *map(engine.collect, waiting)][engine.depth :]


def _fps(results: list[Result]) -> float:
    """(n - 1) / (last - first) over the times at which the answers were there, as `rtpsp.timing` defines it."""
    return rounded((len(results) - 1) / max(results[-1].collected - results[0].collected, 1e-9))


def _figures(results: list[Result]) -> dict[str, float | int]:
    return figures([1e3 * (result.collected - result.submitted) for result in results])


def frames_through(job: Job, engine: Engine) -> dict[str, Any]:
    """Whole camera frames in, pictures out, all on the device: wall clock of each, and frames a second."""
    from rtpsp.drawing import Drawing
    from rtpsp.fit import plan_fit
    from rtpsp.sim import Street

    size = frame_size(job)
    street = Street(*size, seed=2)
    pictures = [street.draw(9 * index) for index in range(4)]
    plan, drawing = plan_fit(size, engine.spec), Drawing("overlay")
    results = _in_flight(job, engine, lambda turn: engine.submit_frame(pictures[turn % len(pictures)], plan, drawing))
    return {**_figures(results), "fps": _fps(results), "frame": list(size)}


def _wall(job: Job, engine: Engine, frames: np.ndarray[Any, Any]) -> dict[str, float | int]:
    buffer = engine.frame_buffer()
    buffer[...] = frames[:1]
    return _figures(job.repeated(lambda turn: engine.infer(buffer)))


def race(job: Job) -> dict[str, Any]:
    """A network's engines that went well so far, and torch's graphs, in turn in one process: by the device's events.

    Ratios are torch's time over an engine's, pair by pair: above 1 the engine is faster. An engine that gives scores is
    compared with torch up to the scores, one that gives class maps with all of it.
    """
    from rtpsp.comparison import Ratio

    flavour, network = job.arguments
    ran = {variant: f"engine-{flavour}-{network}-{variant}" for variant in VARIANTS}
    variants = [variant for variant, part in ran.items() if job.results.get(part, {}).get("status") == "ok"]
    if not variants:
        raise Skip("no engine went well alone")
    with ExitStack() as stack:
        entrants: dict[str, Callable[[], float]] = {}
        for variant in variants:
            engine = stack.enter_context(open_engine(_path(job, flavour, network, str(variant))))
            entrants[str(variant)] = partial(kernel_time, engine)
        entrants |= _torch_entrants(job, network, stack)
        for entrant in entrants.values():
            job.warm_up(entrant)
        rounds = job.repeated(lambda turn: [entrant() for entrant in entrants.values()])
    times = dict(zip(entrants, map(list, zip(*rounds, strict=True)), strict=True))
    job.keep(device_graph={name: figures(taken) for name, taken in times.items()})
    ratios = {}
    for name, tail in TORCH.items():
        for variant in variants if name in times else ():
            if variant.tail == tail:
                ratios[str(variant)] = Ratio.of(times[name], times[str(variant)]).to_dict()
    return {"torch_over": ratios}


def _torch_entrants(job: Job, network: str, stack: ExitStack) -> dict[str, Callable[[], float]]:
    """What time one replay of each of torch's graphs, in milliseconds; why there is none is noted."""
    found: dict[str, Callable[[], float]] = {}
    try:
        torch = cuda_torch()
        for name, tail in TORCH.items():
            model, spec = torch_network(network, tail=cast("Tail", tail))
            replay, *_ = stack.enter_context(graphed(model, torch.from_numpy(frames_of(spec, 1)).cuda()))
            found[name] = partial(timed, replay)
    except (ImportError, RuntimeError, AssertionError, Skip) as error:
        job.keep(without_torch=f"{type(error).__name__}: {error}")
    return found


def _path(job: Job, flavour: str, network: str, variant: str) -> Path:
    return job.work / f"{network}-{variant}.{flavour}.engine"
