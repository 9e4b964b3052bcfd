"""rtpsp itself, in a process like the peers': an engine file, and the live loop around it."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from peer_job import ClassMap, Frame, Job, Loaded

import rtpsp
from rtpsp.machine import usable_threads
from rtpsp.timing import now


class Shown(rtpsp.NullSink):
    """Asks for a picture, notes when it was there and throws it away."""

    view = "overlay"

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def write(self, item: rtpsp.Rendered) -> None:
        """Note the time."""
        self.stamps.append(now())


def load(job: Job) -> Loaded:
    """The engine, opened for good; the loop opens it anew in its own thread, before its first frame counts."""
    threads = job.threads or usable_threads()
    engine = rtpsp.load_engine(job.engine, rtpsp.EngineOptions(threads=threads))
    engine.__enter__()
    frames = np.load(job.frames, mmap_mode="r")
    plan = rtpsp.plan_fit(frames.shape[1:3], engine.spec)

    def segment(frame: Frame) -> ClassMap:
        return engine.infer(plan.to_model(frame)[None]).class_map[0]

    def loop(frames: int) -> list[float]:
        shown = Shown()
        options = rtpsp.RunOptions(threads=job.threads, max_frames=frames, policy="every")
        rtpsp.run(job.video, job.engine, [shown], options)
        return shown.stamps

    return Loaded(
        segment, engine.ran, threads, {"rtpsp": version("rtpsp")}, loop, lambda: engine.__exit__(None, None, None)
    )
