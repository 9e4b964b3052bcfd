"""``rtpsp bench``."""

from __future__ import annotations

from pathlib import Path

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps, summary_table
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, json_option, write_json


@click.command("bench")
@click.argument("engine", required=False)
@click.option(
    "--duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS", default=10.0, show_default=True,
    help="How long the engine, and then the loop, is measured.",
)  # fmt: skip
@click.option(
    "--warmup", type=click.FloatRange(0), metavar="SECONDS", default=2.0, show_default=True,
    help="How long each runs before it is measured.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads.  [default: all]")
@click.option("--source", metavar="URI", help="What the loop reads.  [default: a street of 480x640 (HxW) from memory]")
@json_option
def command(
    engine: str | None, duration: float, warmup: float, threads: int, source: str | None, json_path: Path | None
) -> None:
    """Measure ENGINE, or the shipped model's: its latency alone, then the live loop around it without any output."""
    with importing():
        from rich.progress import Progress

        from rtpsp.bench import BenchOptions, bench
        from rtpsp.default import to_engine_path
    check_outputs({"--json": json_path}, {"the engine": engine, "the source": source})
    check_writable(json_path)
    with steps("building the engine") as tell:
        path = to_engine_path(engine, tell)
    options = BenchOptions(warmup, duration, threads, source)
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("bench", total=1.0)
        report = bench(path, options, lambda share: progress.update(task, completed=share))
    if json_path:
        write_json(json_path, report.to_dict())
    if json_path == STDOUT:
        return
    stdout.print(summary_table("", {"engine": report.latency, **report.loop.stages}))
    stdout.print(
        f"engine  {path.name}, ran in {report.engine['ran']}: {report.engine_fps:.2f} fps\n"
        f"loop    {report.loop.fps or 0:.2f} fps over {report.loop.frames.shown} frames of {report.loop.source.uri}, "
        f"without output; {_cost(report.loop_cost)}",
        markup=False,
        soft_wrap=True,
    )


def _cost(cost: float | None) -> str:
    if cost is None:
        return "too few frames to tell what the loop costs"
    if cost < 0:  # the engine is measured before the loop: what else ran then is in its figure
        return f"the engine was slower alone, by {-cost:.1f} ms a frame: other programs were at work, measure again"
    return f"the loop costs {cost:.1f} ms a frame"
