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
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.facts import nvml
from gpu.flavours import TARGETS
from gpu.models import VARIANTS, Variant, frames_of, variants
from gpu.part import Job, Skip, figures, rounded
from gpu.peers import cuda_torch, graphed, timed, torch_network

if TYPE_CHECKING:
    from rtpsp.engine.base import Engine, Result, Ticket
    from rtpsp.header import EngineHeader


def build(job: Job) -> dict[str, Any]:
    """Every variant of a network through our builder: seconds, bytes; the engine files are left for the other parts."""
    from rtpsp.engine.file import write_engine_file
    from rtpsp.engine.tensorrt_builder import PlanOptions, build_plan
    from rtpsp.errors import RtpspError
    from rtpsp.header import EngineHeader
    from rtpsp.spec import ModelSpec

    flavour, network = job.arguments
    spec = ModelSpec.from_json((job.work / f"{network}.spec.json").read_text(encoding="utf-8"))
    runs_on = job.results.get(f"accepts-{flavour}", {}).get("data", {}).get("runs_on", ())
    targets = TARGETS[runs_on[0]] if runs_on else ()
    for variant in variants(job.quick):
        model = (job.work / f"{network}-{variant}.onnx").read_bytes()
        begin = time.monotonic()
        try:
            plan = build_plan(flavour, model, PlanOptions(targets=targets))
        except RtpspError as error:
            job.keep(**{str(variant): {"error": str(error)}})
            continue
        took = time.monotonic() - begin
        header = EngineHeader(
            spec, flavour, variant.precision, hashlib.sha256(model).hexdigest(), dict(plan.versions),
            options={"batch": 1, "confidence": False, "head": variant.head, "tail": variant.tail}, target=plan.target,
        )  # fmt: skip
        write_engine_file(_path(job, flavour, network, str(variant)), header, plan.data)
        told = {"build_seconds": round(took, 2), "plan_mib": rounded(len(plan.data) / 2**20), "notes": plan.notes}
        job.keep(**{str(variant): told})
    if not any("plan_mib" in found for found in job.data.values()):
        raise RuntimeError(f"{flavour} builds none of {network}'s engines: {next(iter(job.data.values()))['error']}")
    return {}


def alone(job: Job) -> dict[str, Any]:
    """One engine: does it answer as the FP32 graph, what does it take in time and memory, with and without a graph."""
    from rtpsp.engine.cuda import open_device

    flavour, network, name = job.arguments
    path = _path(job, flavour, network, name)
    if not path.exists():
        raise Skip("it was not built")
    stored = np.load(job.work / f"{network}.npz")
    job.keep(state_before=nvml())
    with open_device() as device:
        free, _ = device.memory()
        begin = time.monotonic()
        with open_engine(path) as engine:
            job.keep(first_open_seconds=round(time.monotonic() - begin, 2), ran=engine.ran)
            found = [engine.infer(frame[None]).class_map[0] for frame in stored["frames"]]
            job.keep(agreement=rounded(float(np.mean(np.stack(found) == stored["class_map"])), 6))
            job.keep(memory_mib=rounded((free - device.memory()[0]) / 2**20))
            _measure(job, engine, stored["frames"], "device_graph", "wall_depth_1")
    variant = _variant(name)
    if variant.precision == "fp32":  # the slowest, and the one that nobody takes for its speed
        return {"state_after": nvml()}
    begin = time.monotonic()
    with open_engine(path, cuda_graph=False) as engine:
        job.keep(open_seconds=round(time.monotonic() - begin, 2))
        _measure(job, engine, stored["frames"], "device", "wall_depth_1_without_graph")
    with open_engine(path, spin=True) as engine:
        _measure(job, engine, stored["frames"], "", "wall_depth_1_spinning")
    with open_engine(path, depth=2) as engine:
        job.keep(fps_depth_2=throughput(job, engine, stored["frames"]))
    if variant.tail == "host":
        for depth in (1, 2):
            with open_engine(path, depth=depth, device_io="on") as engine:
                job.keep(**{f"device_io_depth_{depth}": frames_through(job, engine)})
    return {"state_after": nvml()}


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


def kernel_times(engine: Engine, runs: int) -> list[float]:
    """Milliseconds of inferences on the device, without transfers."""
    from rtpsp.engine.tensorrt_backend import TensorRTEngine

    assert isinstance(engine, TensorRTEngine)
    return engine.kernel_times(runs)


def frame_size(job: Job) -> tuple[int, int]:
    """Height and width of a camera's frames, for what a device does with whole ones."""
    return (120, 160) if job.quick else (720, 960)


def throughput(job: Job, engine: Engine, frames: np.ndarray[Any, Any]) -> float:
    """Inferences a second with as many in flight as the engine's depth, from page-locked memory."""
    buffers = [engine.frame_buffer() for _ in range(engine.depth)]
    for index, buffer in enumerate(buffers):
        buffer[...] = frames[index % len(frames)]
    waiting: list[Ticket] = []
    results: list[Result] = []
    for turn in range(job.warm + job.runs):
        if len(waiting) == engine.depth:
            results.append(engine.collect(waiting.pop(0)))
        waiting.append(engine.submit(buffers[turn % len(buffers)]))
    return _fps([*results, *map(engine.collect, waiting)][job.warm :])


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
    waiting: list[Ticket] = []
    results: list[Result] = []
    for turn in range(job.warm + job.runs):
        if len(waiting) == engine.depth:
            results.append(engine.collect(waiting.pop(0)))
        waiting.append(engine.submit_frame(pictures[turn % len(pictures)], plan, drawing))
    results = [*results, *map(engine.collect, waiting)][job.warm :]
    return {**_figures(results), "fps": _fps(results), "frame": list(size)}


def _measure(job: Job, engine: Engine, frames: np.ndarray[Any, Any], device: str, wall: str) -> None:
    if device:
        job.keep(**{device: figures(kernel_times(engine, job.warm + job.runs)[job.warm :])})
    buffer = engine.frame_buffer()
    buffer[...] = frames[:1]
    job.keep(**{wall: _figures([engine.infer(buffer) for _ in range(job.warm + job.runs)][job.warm :])})


def race(job: Job) -> dict[str, Any]:
    """All engines of a network that went well, and torch's graph, in turn in one process: by the device's events.

    Ratios are torch's time over an engine's, pair by pair: above 1 the engine is faster.
    """
    from rtpsp.comparison import Ratio

    flavour, network = job.arguments
    names = [str(variant) for variant in VARIANTS]
    names = [name for name in names if job.results.get(f"engine-{flavour}-{network}-{name}", {}).get("status") == "ok"]
    if not names:
        raise Skip("no engine went well alone")
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        entrants = {name: stack.enter_context(open_engine(_path(job, flavour, network, name))) for name in names}
        torch = _torch_entrant(job, network, stack)
        for turn in range(job.warm + job.runs):
            for name, engine in entrants.items():
                (took,) = kernel_times(engine, 1)
                times.setdefault(name, []).append(took)
            if torch is not None:
                times.setdefault("torch-fp16", []).append(torch())
            if turn == job.warm - 1:
                for taken in times.values():
                    taken.clear()
    job.keep(device_graph={name: figures(taken) for name, taken in times.items()})
    reference = times.pop("torch-fp16", None)
    if reference is None:
        return {}
    return {"torch_over": {name: Ratio.of(reference, taken).to_dict() for name, taken in times.items()}}


def _torch_entrant(job: Job, network: str, stack: ExitStack) -> Callable[[], float] | None:
    """What times one replay of torch's graph in milliseconds; None without torch or where it fails, which is noted."""
    try:
        torch = cuda_torch()
        model, spec = torch_network(network)
        replay, *_ = stack.enter_context(graphed(model, torch.from_numpy(frames_of(spec, 1)).cuda()))
    except (ImportError, RuntimeError, Skip) as error:
        job.keep(without_torch=f"{type(error).__name__}: {error}")
        return None
    return partial(timed, replay)


def _path(job: Job, flavour: str, network: str, variant: str) -> Path:
    return job.work / f"{network}-{variant}.{flavour}.engine"
