"""The live loop on a clip in memory: frames a second with the engine's device doing the picture work, and without."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from gpu.engines import frame_size, open_engine
from gpu.models import VARIANTS
from gpu.part import Job, Skip, rounded
from rtpsp.arrays import Image
from rtpsp.bench import PictureSource
from rtpsp.stream.frame import Frame
from rtpsp.stream.sink import NullSink
from rtpsp.timing import now

if TYPE_CHECKING:
    from rtpsp.engine.base import Engine
    from rtpsp.fit import MaskSize

DISTINCT = 12
SECONDS = 5.0
"""A run takes no longer, however slow the host's part of it is."""


class Clip(PictureSource):
    """A drawn street from memory, for as many frames as were asked for, or `SECONDS`."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        super().__init__(_pictures(size), count)
        self._end = now() + SECONDS

    def read(self) -> Frame | None:
        return None if now() > self._end else super().read()


@cache
def _pictures(size: tuple[int, int]) -> list[Image]:
    from rtpsp.sim import Street

    street = Street(*size, seed=1)
    return [street.draw(index) for index in range(DISTINCT)]


class Shown(NullSink):
    """Asks for a picture and does nothing with it."""

    view = "overlay"


def loop(job: Job) -> dict[str, Any]:
    """The fastest engine with scores, by the parts before, in the loop: device IO on and off, one and two in flight.

    On and off do the same work: class maps of the frame's own size, interpolated from the scores. ``model_size`` is
    what the loop does by itself where device IO is off: class maps of the model's size, whose pixels are repeated.
    """
    flavour, network = job.arguments
    times = {}
    for variant in VARIANTS:
        found = job.results.get(f"engine-{flavour}-{network}-{variant}", {})
        if found.get("status") == "ok" and variant.tail == "host":
            times[str(variant)] = found["data"]["device_graph"]["median_ms"]
    if not times:
        raise Skip("no engine went well alone")
    best = min(times, key=lambda name: times[name])
    job.keep(engine=best)
    path = job.work / f"{network}-{best}.{flavour}.engine"
    count = 20 if job.quick else 600
    for depth in (1, 2):
        for device_io in ("on", "off"):
            engine = open_engine(path, device_io=device_io, depth=depth)
            job.keep(**{f"device_io_{device_io}_depth_{depth}": run_loop(engine, count, frame_size(job))})
    engine = open_engine(path, depth=2)
    job.keep(model_size_depth_2=run_loop(engine, count, frame_size(job), "model"))
    return {}


def run_loop(engine: Engine, frames: int, size: tuple[int, int], mask_size: MaskSize = "frame") -> dict[str, Any]:
    """One run with an overlay asked for: frames a second, and what each stage takes."""
    from rtpsp.live import RunOptions, run

    report = run(Clip(frames, size), engine, [Shown()], RunOptions(policy="every", mask_size=mask_size))
    stages = {f"{name}_median_ms": rounded(summary.median) for name, summary in report.stages.items()}
    fps = None if report.fps is None else rounded(report.fps)
    return {"fps": fps, "shown": report.frames.shown, "frame": list(size), **stages}
