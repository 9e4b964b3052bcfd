"""Four sources, one of which dies and returns: what do the others notice? ``python bench/sources.py``

Simulated cameras share one engine, once all of them healthy and once with the first one away for a third of the time.
Rate and age of the three others are compared, third by third: before, while it is away, after.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import rtpsp
from rtpsp.bench.noise import Noise
from rtpsp.bench.report import head
from rtpsp.stream.frame import Rendered
from rtpsp.timing import Rate, now, summarise

CAMERA = "sim://street?w=320&h=240&fps={fps}&live=1&seed={seed}"
THIRDS = ("before", "away", "after")
SETTLING = 1.0
"""Seconds at the beginning that do not count."""


class Ages(rtpsp.Sink):
    """Notes when each frame was handed over, and how old it was then."""

    view = "overlay"

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, float]] = []
        self.absences = 0

    def write(self, item: Rendered) -> None:
        """Note one frame."""
        at = now()
        self.seen.append((item.frame.source, at, at - item.stamps.captured))

    def absent(self, item: rtpsp.Absent) -> None:
        """Count a picture that says so."""
        self.absences += 1


def run(engine: rtpsp.Engine | Path, fps: float, third: float, dies: bool) -> dict[str, Any]:
    """One run, and what came of it by source and third."""
    seconds = SETTLING + 3 * third
    uris = [CAMERA.format(fps=fps, seed=seed) for seed in range(4)]
    uris[0] += f"&die={SETTLING + third:g}s&die_for={third:g}s" if dies else ""
    sink = Ages()
    how = rtpsp.RunOptions(source=rtpsp.SourceOptions(reconnect=rtpsp.Reconnect(longest=1.0)))
    pipeline = rtpsp.open_pipeline([f"{uri}&frames={round(fps * seconds)}" for uri in uris], engine, [sink], how)
    report = pipeline.run()
    for frames in (report.frames, *(source.frames for source in report.sources)):
        assert frames.received == frames.shown + sum(frames.dropped.values()) + frames.discarded
    begin = sink.seen[0][1] + SETTLING
    found: dict[str, Any] = {"absences": sink.absences, "report": report.to_dict(), "sources": []}
    for source in range(4):
        thirds = {}
        for number, name in enumerate(THIRDS):
            rate, ages = Rate(), []
            for of, at, age in sink.seen:
                if of == source and begin + number * third <= at < begin + (number + 1) * third:
                    rate.add(at)
                    ages.append(age)
            summary = summarise(ages)
            thirds[name] = {"fps": rate.fps and round(rate.fps, 2), "age_ms": summary and summary.to_dict()}
        found["sources"].append(thirds)
    return found


def _cell(of: dict[str, Any]) -> str:
    if of["fps"] is None or of["age_ms"] is None:
        return "-"
    return f"{of['fps']:.1f} fps, {of['age_ms']['median']:.0f} ms"


@click.command()
@click.option("--engine", help="An engine file.  [default: a fake one of --latency]")
@click.option("--latency", default=8.0, show_default=True, help="Milliseconds of the fake engine.")
@click.option("--fps", default=10.0, show_default=True, help="Of each camera; together less than the engine can do.")
@click.option("--third", default=20.0, show_default=True, help="Seconds of each third.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(engine: str | None, latency: float, fps: float, third: float, json_path: Path | None) -> None:
    """Compare a run in which a source dies and returns with one in which none does."""
    used = engine or f"fake:{latency:g}"
    runs: dict[str, Any] = {}
    table = Table(title=f"four cameras of {fps:g} fps; rate and median age in each third of {third:g} s")
    for column in ("run", "source", *THIRDS):
        table.add_column(column, justify="right")
    with Noise() as noise:
        for name, dies in (("all healthy", False), ("the first dies", True)):
            using = Path(engine) if engine else rtpsp.FakeEngine(latency=latency / 1e3)
            runs[name] = run(using, fps, third, dies)
    for name, found in runs.items():
        for source, thirds in enumerate(found["sources"]):
            table.add_row(name if not source else "", str(source), *(_cell(thirds[each]) for each in THIRDS))
    Console(width=120).print(table)
    if json_path:
        figures = head("python bench/sources.py", f"four simulated cameras of {fps:g} fps, engine {used}", noise)
        del figures["machine"]["features"]
        json_path.write_text(json.dumps(figures | {"runs": runs}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
