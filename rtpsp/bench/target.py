"""Which engine, and with how many threads, gives an asked-for rate on this machine: measured for seconds, then kept.

What may be taken is a ladder (`rtpsp.bench.ladder`); what is measured of each rung is the loop itself, for a second, on
frames from memory (`rtpsp.bench.probe`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtpsp import machine, zoo
from rtpsp.bench.frames import street_pictures
from rtpsp.bench.ladder import RESERVE, UNUSABLE, Rung, Tried, climb, ladder_of, rung_of, thread_counts
from rtpsp.bench.probe import PROBE_SECONDS, loop_rate
from rtpsp.build import BuildOptions, package_versions, usual_plan
from rtpsp.default import default_engine, engine_of, to_engine_path
from rtpsp.engine import BACKENDS
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import OutputError, UsageError
from rtpsp.files import sha256_of, write_atomically
from rtpsp.header import EngineHeader
from rtpsp.live import RunOptions
from rtpsp.places import engines_folder

if TYPE_CHECKING:
    from rtpsp.build import Progress
    from rtpsp.stream.frame import View
    from rtpsp.stream.report import RunReport


_PICTURES = 2
"""Distinct frames that are looked at; to draw one takes as long as several inferences."""


@dataclass(frozen=True)
class Target:
    """What was chosen.

    Attributes:
        fps: The target, in frames a second.
        engine: The engine file to run.
        chosen: What the probe measured of it, and with how many threads.
        tried: All that was measured, in that order.
        kept: Where the choice is kept for the next start.
        again: Whether it was kept there already, so that nothing was measured now.
        own: Whether the engine was the user's own, for which there are threads alone to choose.
    """

    fps: float
    engine: Path
    chosen: Tried
    tried: tuple[Tried, ...]
    kept: Path
    again: bool = False
    own: bool = False

    @property
    def reached(self) -> bool:
        """Whether the probe reached the target with its reserve."""
        return self.chosen.fps >= RESERVE * self.fps

    @property
    def words(self) -> str:
        """The choice and why, in a line."""
        rung, threads = self.chosen.rung, self.chosen.threads
        did = f"{self.chosen.fps:.1f} fps in a probe{' of an earlier start' if self.again else ''}"
        what = f"{rung}, {threads} thread{'' if threads == 1 else 's'}: {did}"
        others = [f"{one.rung} with {one.threads}: {one.fps:.1f}" for one in self.tried if one != self.chosen]
        beside = f" ({'; '.join(others)})" if others else ""
        if rung.size != self.tried[0].rung.size:
            beside += "; smaller frames lose small things, 'rtpsp eval' on the engine tells how many"
        if self.reached:
            return f"target  {self.fps:g} fps: {what}{beside}"
        if self.chosen.fps >= self.fps:
            return f"target  {self.fps:g} fps is just in reach, without a reserve: {what}{beside}"
        own = "an engine of lower precision or a smaller size (without --engine they are tried), " if self.own else ""
        return (
            f"target  {self.fps:g} fps is out of reach here, the fastest is taken: {what}{beside}; what would help: "
            f"{own}more cores, an NVIDIA GPU, or a lower target"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, for a run's report."""
        return {
            "target_fps": self.fps, "reached": self.reached, "chosen": self.chosen.to_dict(),
            "tried": [one.to_dict() for one in self.tried], "from_earlier_start": self.again,
        }  # fmt: skip

    def held(self, report: RunReport) -> bool | None:
        """Whether a run held the target; None where that cannot be told, or where the source gave no more."""
        if report.fps is None or report.fps >= self.fps:
            return None if report.fps is None else True
        rate = report.source.fps
        all_shown = report.policy == "latest" and not sum(report.frames.dropped.values())
        return None if all_shown or (rate is not None and report.fps >= 0.97 * rate) else False

    def settle(self, report: RunReport) -> str:
        """How a run went, in a line; a choice that did not hold is forgotten."""
        held = self.held(report)
        if report.fps is None:
            return f"target  {self.fps:g} fps: too few frames to tell"
        did = f"target  {self.fps:g} fps: {report.fps:.1f} fps"
        if held is None:
            return f"{did}, all that the source gave"
        if held:
            return f"{did}, held"
        with contextlib.suppress(OSError):
            self.kept.unlink(missing_ok=True)
        return f"{did}, missed; the next start measures again"


def choose_engine(
    target: float,
    options: RunOptions | None = None,
    engine: str | None = None,
    view: View | None = None,
    progress: Progress | None = None,
) -> Target:
    """Find what reaches a rate on this machine; what was found before, for the same question here, is taken at once.

    Args:
        target: Frames a second.
        options: How the run will go; its threads, where they are not 0, are taken as they are.
        engine: An engine file of the user's own, of which the threads alone are chosen; None takes the shipped model.
        view: The picture that will be drawn; None draws none.
        progress: Told of what is built and measured.

    Returns:
        The choice. Where nothing reaches the target it is the fastest.

    Raises:
        UsageError: The target is not above 0, or the engine lacks what the options need.
        RtpspError: As building an engine, or running it.
    """
    if not 0 < target < float("inf"):
        raise UsageError(f"the target is {target:g} fps, expected a number above 0, such as 15")
    options = options or RunOptions()
    tell = progress or (lambda step, done, total: None)
    budget = options.threads or machine.usable_threads()
    confidence = bool(options.min_confidence)
    first = to_engine_path(engine, progress, confidence=confidence) if engine else default_engine(
        progress, confidence=confidence
    )  # fmt: skip
    header = read_engine_file(first).header
    kept = engines_folder() / f"target-{_question(target, options, view, first, header, engine is not None)}.json"

    def build(rung: Rung) -> Path:
        return first if engine or rung == rung_of(header) else _built(rung, confidence, progress)

    known = _read(kept)
    if known is not None:
        tried, place = known
        with contextlib.suppress(*UNUSABLE):
            chosen = tried[place]
            return Target(target, build(chosen.rung), chosen, tried, kept, again=True, own=engine is not None)
    # a GPU's engine needs none of them, and what does, a decoder, is not in the probe
    counts = (budget,) if options.threads or BACKENDS[header.backend].gpu else thread_counts(budget)
    pictures = street_pictures(header.spec.planes, _PICTURES)

    def probe(path: Path, threads: int) -> float:
        tell("measure", 0, 1)
        return loop_rate(path, pictures, replace(options, threads=threads), view)

    chosen, tried, path = climb(target, ladder_of(header)[: 1 if engine else None], counts, build, probe)
    text = json.dumps({"tried": [one.to_dict() for one in tried], "chosen": tried.index(chosen)}, indent=1)
    with contextlib.suppress(OutputError):  # it is measured again then
        write_atomically(kept, text.encode(), hint="", make_folder=True)
    return Target(target, path, chosen, tried, kept, own=engine is not None)


def _built(rung: Rung, confidence: bool, progress: Progress | None) -> Path:
    options = BuildOptions(rung.precision, rung.backend, confidence, plan=usual_plan(rung.backend))
    return engine_of(options, progress, None if rung.size == zoo.model_spec().size else rung.size)


def _question(
    target: float, options: RunOptions, view: View | None, first: Path, header: EngineHeader, own: bool
) -> str:
    """A name for all that decides about the choice: a folder of engines may be that of several machines."""
    asked = {
        name: getattr(options, name)
        for name in ("threads", "depth", "min_confidence", "mask_size", "device_io", "smooth")
    }
    told = {
        "target": target, "seconds": PROBE_SECONDS, "reserve": RESERVE, "asked": asked, "view": view,
        "model": sha256_of(first) if own else header.model_digest, "versions": package_versions(header.backend),
        "cpu": machine.cpu().model, "threads": machine.usable_threads(),
        "gpus": [[gpu.name, gpu.driver] for gpu in machine.gpus()],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _read(kept: Path) -> tuple[tuple[Tried, ...], int] | None:
    try:
        told: Any = json.loads(kept.read_text(encoding="utf-8"))
        tried, place = tuple(Tried.from_dict(one) for one in told["tried"]), told["chosen"]
        return (tried, place) if type(place) is int and 0 <= place < len(tried) else None
    except (OSError, KeyError, TypeError, ValueError):
        return None
