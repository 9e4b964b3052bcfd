"""``rtpsp bench``."""

from __future__ import annotations

from pathlib import Path

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps, summary_table, write_json


@click.command("bench")
@click.argument("engine", required=False)
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Seconds.")
@click.option("--warmup", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds that do not count.")
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads; 0 takes all.")
@click.option("--source", metavar="URI", help="Frames for the loop; by default a street of 480x640 from memory.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too."
)
def command(
    engine: str | None, duration: float, warmup: float, threads: int, source: str | None, json_path: Path | None
) -> None:
    """Measure ENGINE, or the shipped model's: latency alone, then the live loop around it with a null sink."""
    with importing():
        from rich.progress import Progress

        from rtpsp.bench import BenchOptions, bench
        from rtpsp.default import to_engine_path
    with steps("building the engine") as tell:
        path = to_engine_path(engine, tell)
    options = BenchOptions(warmup, duration, threads, source)
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("bench", total=1.0)
        report = bench(path, options, lambda share: progress.update(task, completed=share))
    stdout.print(summary_table("", {"engine": report.latency, **report.loop.stages}))
    cost = report.loop_cost
    stdout.print(
        f"engine  {path.name}, ran in {report.engine['ran']}: {report.engine_fps:.2f} fps\n"
        f"loop    {report.loop.fps or 0:.2f} fps over {report.loop.frames.shown} frames of {report.loop.source.uri}, "
        f"null sink; the loop costs {'-' if cost is None else f'{cost:.1f}'} ms a frame",
        markup=False,
        soft_wrap=True,
    )
    if json_path:
        write_json(json_path, report.to_dict())
