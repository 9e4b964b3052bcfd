"""Benchmarks: the latency of an engine, and the rate of the live loop around it.

Both exclude warm-up. The loop's cost is what the loop adds to a frame: 1/fps of the loop with a null sink, minus 1/fps
of the engine alone, measured one after the other in the same process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from rtpsp.arrays import Image
from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.errors import UsageError
from rtpsp.fit import plan_fit
from rtpsp.live import RunOptions, run
from rtpsp.machine import usable_threads
from rtpsp.planes import to_planes
from rtpsp.spec import Planes
from rtpsp.stream.frame import Frame
from rtpsp.stream.report import RunReport
from rtpsp.stream.sink import NullSink
from rtpsp.stream.source import Source, SourceInfo
from rtpsp.timing import Rate, Series, Summary, now

Progress = Callable[[float], None]
"""Told how much of the measurement is done, 0..1."""

FRAME_SIZE = (480, 640)
FRAMES_KEPT = 8
"""Distinct frames to time with: real ones, since constant input is too kind to caches and to sparse activations."""


@dataclass(frozen=True)
class BenchOptions:
    """How long to measure.

    Attributes:
        warmup: Seconds of inference before anything counts.
        duration: Seconds that count.
        threads: CPU threads; 0 takes all.
        source: URI for the loop; None takes frames of a street that are drawn before the measurement, with its grey for
            a fourth plane.
    """

    warmup: float = 2.0
    duration: float = 10.0
    threads: int = 0
    source: str | None = None


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    Attributes:
        engine: Model, size, backend, precision and the number format that ran.
        latency: Of one batch, from submitting it to having its class map.
        engine_fps: Batches a second, one at a time.
        loop: The live loop with a null sink.
    """

    engine: dict[str, Any]
    latency: Summary
    engine_fps: float
    loop: RunReport

    @property
    def loop_cost(self) -> float | None:
        """Milliseconds that the loop adds to a frame; None when it showed fewer than two."""
        return None if self.loop.fps is None else 1e3 / self.loop.fps - 1e3 / self.engine_fps

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        cost = self.loop_cost
        return {
            "engine": self.engine,
            "latency_ms": self.latency.to_dict(),
            "engine_fps": round(self.engine_fps, 3),
            "loop_cost_ms": None if cost is None else round(cost, 3),
            "loop": self.loop.to_dict(),
        }


def bench(path: Path, options: BenchOptions | None = None, progress: Progress | None = None) -> BenchReport:
    """Measure an engine file: alone, then in the loop.

    Args:
        path: The engine file.
        options: How long.
        progress: Called after every batch of the engine's own measurement.

    Raises:
        RtpspError: The engine or the source fails.
    """
    options = options or BenchOptions()
    engine_options = EngineOptions(threads=options.threads or usable_threads())
    engine = load_engine(path, engine_options)
    if engine.batch != 1:
        raise UsageError(f"engine takes batches of {engine.batch}, the live loop needs 1: build it without a batch")
    pictures = _real_frames(engine.spec.planes)
    with engine:
        latency, fps = _time_engine(engine, pictures, options, progress)
    frames = max(30, round(fps * options.duration))
    report = run(
        options.source or PictureSource(pictures, frames),
        load_engine(path, engine_options),
        [NullSink()],
        RunOptions(threads=options.threads, max_frames=frames),
    )
    return BenchReport(report.engine, latency, fps, report)


class PictureSource(Source):
    """Pictures from memory, over and over: what is left is the loop's own cost, with neither decoding nor drawing.

    Args:
        pictures: uint8 [H, W, planes] each, all of one size and with the model's planes.
        count: Frames until the end.
    """

    def __init__(self, pictures: list[Image], count: int) -> None:
        height, width, planes = pictures[0].shape
        self.info = SourceInfo(
            "a drawn street from memory", "sim", height, width, frames=count, planes=cast(Planes, planes)
        )
        self._pictures, self._count, self._next = pictures, count, 0

    def read(self) -> Frame | None:
        if self._next == self._count:
            return None
        index, self._next = self._next, self._next + 1
        picture = self._pictures[index % len(self._pictures)]

        def to_bgr(out: Image | None) -> Image:
            if out is None:
                return picture.copy()
            out[...] = picture
            return out

        return Frame(index, index / 30, now(), self.info.height, self.info.width, to_bgr)

    def close(self) -> None:
        """Nothing is held."""


def _time_engine(
    engine: Engine, pictures: list[Image], options: BenchOptions, progress: Progress | None
) -> tuple[Summary, float]:
    plan = plan_fit(FRAME_SIZE, engine.spec)
    batches = [plan.to_model(picture)[None] for picture in pictures]
    begin = now()
    while now() - begin < options.warmup:
        engine.infer(batches[0])
    series, rate = Series(), Rate()
    begin = now()
    rate.add(begin)
    while (elapsed := now() - begin) < options.duration or len(series) < 2:
        result = engine.infer(batches[len(series) % len(batches)])
        series.add(result.collected - result.submitted)
        rate.add(result.collected)
        if progress:
            progress(min(1.0, elapsed / options.duration))
    summary = series.summary()
    assert summary is not None and rate.fps is not None
    return summary, rate.fps


def _real_frames(planes: Planes) -> list[Image]:
    from rtpsp.sim.street import Street

    street = Street(*FRAME_SIZE, seed=1)
    pictures = [street.draw(15 * number) for number in range(FRAMES_KEPT)]
    if planes == 4:
        return [np.concatenate([picture, to_planes(picture, 1)], axis=2) for picture in pictures]
    return [to_planes(picture, planes) for picture in pictures]
