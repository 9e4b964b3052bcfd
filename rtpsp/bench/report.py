"""What a benchmark reports: figures of engines, and the dict that becomes JSON; ``bench/README.md`` has its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from rtpsp import machine
from rtpsp.bench.loop import LoopFigures
from rtpsp.bench.noise import Noise
from rtpsp.bench.ratios import PairRatio
from rtpsp.bench.subjects import Skipped
from rtpsp.bench.timeline import Timeline
from rtpsp.engine import BACKENDS
from rtpsp.runtimes import installed_version

SCHEMA = 2
"""Of the report; 1 was that of one engine and its loop, without a number in it."""
SECTIONS = ("engines", "ratios", "loop", "card", "baseline", "growth", "layers", "peers", "cameras", "skipped")
_HEAD = {
    "schema": int, "command": str, "rtpsp": str, "versions": dict, "when": str, "machine": dict, "noise": dict,
    "frames": str,
}  # fmt: skip
_ENGINE = (
    "name", "model", "model_digest", "height", "width", "backend", "precision", "ran", "threads", "batch",
    "file_bytes", "latency_ms", "fps", "windows_ms", "stable", "parts_ms", "peak_memory_bytes", "agreement_percent",
    "samples_ms",
)  # fmt: skip
_RATIO = ("first", "second", "count", "median", "p10", "p25", "p75", "p90", "interval")
_SUMMARY = ("count", "min", "mean", "median", "max", "p90", "p95", "p99")


@dataclass(frozen=True)
class EngineFigures:
    """One engine.

    Attributes:
        told: Name, model, size, backend, precision, number format that ran, threads, batch, size of the file.
        timeline: Of its inferences.
        agreement: Percent of pixels that get the class that the FP32 reference gives; None where there is none.
        against: What that reference was, in words.
        parts: Milliseconds of each part of an inference, where the backend can tell them apart.
        memory: Peak of a process that only runs it, in bytes; None where it was not measured.
    """

    told: Mapping[str, Any]
    timeline: Timeline
    agreement: float | None = None
    against: str = ""
    parts: Mapping[str, float] | None = None
    memory: int | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return str(self.told["name"])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        agreement = None if self.agreement is None else round(self.agreement, 3)
        figures = self.timeline.to_dict()
        samples = figures.pop("samples_ms")
        return {
            **self.told, **figures, "parts_ms": None if self.parts is None else dict(self.parts),
            "peak_memory_bytes": self.memory, "agreement_percent": agreement, "agreement_with": self.against,
            "samples_ms": samples,
        }  # fmt: skip


@dataclass(frozen=True)
class NamedRatio:
    """Durations of the first over those of the second: above 1 where the second is faster."""

    first: str
    second: str
    ratio: PairRatio

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"first": self.first, "second": self.second, **self.ratio.to_dict()}


@dataclass(frozen=True)
class BenchReport:
    """What was measured of engines and of the loop around the first of them.

    Attributes:
        engines: In the order in which they were given.
        ratios: Of the first of them over each other one.
        loop: None where it was left out, or came to nothing.
        skipped: What could not be measured.
        noise: What else the machine did.
        frames: What the engines saw, in words.
        interrupted: Whether a person ended it early: figures are those of what was done by then.
    """

    engines: tuple[EngineFigures, ...]
    ratios: tuple[NamedRatio, ...]
    loop: LoopFigures | None
    skipped: tuple[Skipped, ...]
    noise: Noise
    frames: str
    interrupted: bool = False
    sections: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """The whole report as plain JSON values; ``bench/README.md`` says what each is."""
        return {
            **head(command, self.frames, self.noise),
            "interrupted": self.interrupted,
            "engines": [engine.to_dict() for engine in self.engines],
            "ratios": [ratio.to_dict() for ratio in self.ratios],
            **({} if self.loop is None else {"loop": self.loop.to_dict()}),
            **({} if not self.skipped else {"skipped": [each.to_dict() for each in self.skipped]}),
            **self.sections,
        }


def head(command: str, frames: str, noise: Noise) -> dict[str, Any]:
    """What every report begins with.

    Args:
        command: The command line that made it.
        frames: What was looked at, in words.
        noise: What else the machine did.
    """
    versions = package_versions()
    return {
        "schema": SCHEMA,
        "command": command,
        "rtpsp": versions["rtpsp"],
        "versions": versions,
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": machine_facts(),
        "noise": noise.to_dict(),
        "frames": frames,
    }


def package_versions() -> dict[str, str]:
    """Of rtpsp, of what it runs engines with, and of what it sees with; only of packages that are installed."""
    names = ("rtpsp", *dict.fromkeys(backend.package for backend in BACKENDS.values()), "numpy", "opencv-python", "av")
    return {name: version for name in names if (version := installed_version(name)) is not None}


def machine_facts() -> dict[str, Any]:
    """This machine, as far as figures depend on it; memory in bytes."""
    cpu, memory = machine.cpu(), machine.memory()
    return {
        "cpu": cpu.model,
        "architecture": cpu.architecture,
        "cores": cpu.cores,
        "threads": cpu.usable,
        "features": sorted(cpu.features),
        "memory_bytes": memory.total if memory.limit is None else min(memory.total, memory.limit),
        "gpus": [
            {"name": gpu.name, "compute_capability": gpu.compute_capability, "driver": gpu.driver,
             "memory_bytes": gpu.memory}
            for gpu in machine.gpus()
        ],
    }  # fmt: skip


def problems(report: Any) -> list[str]:
    """What is wrong with a report of `SCHEMA`, a line each; nothing where it is as ``bench/README.md`` says.

    Args:
        report: As read from JSON.
    """
    if not isinstance(report, dict):
        return [f"a report is a {type(report).__name__}, expected an object"]
    if report.get("schema") != SCHEMA:
        return [f"schema is {report.get('schema')!r}, expected {SCHEMA}: measure again"]
    found = [
        f"{name} is {report.get(name)!r:.40}, expected {kind.__name__}"
        for name, kind in _HEAD.items()
        if not isinstance(report.get(name), kind)
    ]
    known = {*_HEAD, *SECTIONS, "interrupted", "quick"}
    found += [f"{name} is no section of a report" for name in report if name not in known]
    for name, keys in (("engines", _ENGINE), ("ratios", _RATIO)):
        for place, row in enumerate(report.get(name, ())):
            found += _missing(f"{name}[{place}]", row, keys)
    for place, row in enumerate(report.get("engines", ())):
        found += _missing(f"engines[{place}].latency_ms", row.get("latency_ms"), _SUMMARY)
        if len(row.get("samples_ms", ())) > 2000:
            found.append(f"engines[{place}] has {len(row['samples_ms'])} samples, expected at most 2000")
    loop = report.get("loop")
    if loop is not None:
        found += _missing(
            "loop", loop, ("cost_ms", "cost_percent", "cost_interval_ms", "age_series", "stages_ms", "fps")
        )
    return found


def _missing(where: str, row: Any, keys: Sequence[str]) -> list[str]:
    if not isinstance(row, dict):
        return [f"{where} is {row!r:.40}, expected an object"]
    return [f"{where} has no {key}" for key in keys if key not in row]
