"""``rtpsp compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from rtpsp import files
from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, summary_table
from rtpsp.cli.figures import percentages
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, json_option, write_json
from rtpsp.errors import UsageError
from rtpsp.stream.names import expanded

if TYPE_CHECKING:
    from rtpsp.comparison import Comparison, Ratio, Side

EXCLUSIVE = (("data", "source"),)
DEPENDENT = {"data": ("split",)}


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "--data", metavar="DIR|LIST|URI", help="Labelled images, as rtpsp eval takes them: then it says who is right too."
)
@click.option("--split", help="Which part of a folder of labelled images.  [default: val]")
@click.option("--source", metavar="URI", help="A video, images, a camera or the simulator.  [default: a drawn street]")
@click.option(
    "--frames", type=click.IntRange(1), metavar="N",
    help="At most so many, spread over labelled images, or the first ones of a source.  [default: all; 100 of a "
    "source without an end]",
)  # fmt: skip
@click.option(
    "--worst", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write the five frames that differ most into this folder, with both answers side by side.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads of each engine.  [default: all]"
)
@json_option
def command(
    a: str,
    b: str,
    data: str | None,
    split: str | None,
    source: str | None,
    frames: int | None,
    worst: Path | None,
    threads: int,
    json_path: Path | None,
) -> None:
    """Hold the engines A and B against each other on the same frames.

    How often they agree, what B gains or loses on labelled images, and how much faster it is: both take turns on each
    frame, and the ratio of their latencies is taken pair by pair. They may have different input sizes and precisions,
    but not different classes.
    """
    with importing():
        from rich.progress import Progress

        from rtpsp.compare import CompareOptions, compare_engines
        from rtpsp.default import to_engine_path

        if worst:
            from rtpsp import plots
    inputs = {"engine A": a, "engine B": b, "the data": data, "the source": source}
    check_outputs({"--worst": worst, "--json": json_path}, inputs)
    if split is not None and data is None:
        raise UsageError("--split has no meaning without --data: give labelled images, or leave it out")
    options = CompareOptions(data, split or "val", source, frames, threads)
    first, second = to_engine_path(a), to_engine_path(b)
    check_writable(json_path)
    if worst:
        worst = Path(expanded(worst))
        files.check_writable(plots.worst_path(worst, 1), hint="give another folder with --worst")
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("compare", total=None)
        report = compare_engines(
            first, second, options, lambda done, total: progress.update(task, completed=done, total=total or None)
        )
        written = plots.write_worst(report, worst) if worst else ()
    if json_path:
        told = report.to_dict()
        for entry, path in zip(told["worst"], written, strict=False):
            entry["picture"] = str(path)
        write_json(json_path, told)
    if json_path == STDOUT:
        return
    _print(report)
    if worst:
        stdout.print(f"worst   {_worst(written)}", markup=False, soft_wrap=True)
    stdout.print(report.verdict, markup=False, soft_wrap=True)


def _print(report: Comparison) -> None:
    stdout.print(_classes(report))
    stdout.print(summary_table("", {"A": report.a.latency, "B": report.b.latency}))
    where = f"{report.frames}, split {report.split}" if report.split else report.frames
    stdout.print(
        f"A       {_told(report.a)}\nB       {_told(report.b)}\n"
        f"frames  {report.agreement.images} of {where}; threads of each: {report.threads}\n"
        f"ratio   {_spread(report.ratio)}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _classes(report: Comparison) -> Table:
    first, second = report.pair.first, report.pair.second
    table = Table()
    table.add_column("class")
    rows = [report.agreement.per_class]
    if first and second:
        rows = [first.per_class_iou, second.per_class_iou, report.pair.iou_differences, *rows]
    for heading in ("IoU % of A", "of B", "B - A")[: len(rows) - 1]:
        table.add_column(heading, justify="right")
    table.add_column("agreement %", justify="right")
    for name, *figures in zip(report.labels.names, *rows, strict=True):
        table.add_row(name, *percentages(figures, signed=2))
    table.add_section()
    overall: list[float | None] = [report.agreement.overall]
    if first and second:
        table.add_row("mIoU", *percentages([first.miou, second.miou, report.pair.miou_difference, None], signed=2))
        right = first.pixel_accuracy, second.pixel_accuracy
        overall = [*right, right[1] - right[0], *overall]
    table.add_row("all pixels", *percentages(overall, signed=2))
    return table


def _told(side: Side) -> str:
    told = side.engine
    return (
        f"{told['file']}: {told['model']} {told['height']}x{told['width']}, {told['backend']}, asked for "
        f"{told['precision']}, ran in {told['ran']}"
    )


def _spread(ratio: Ratio) -> str:
    ends = [(ratio.p10, ratio.p90, "four of five pairs"), (ratio.p25, ratio.p75, "half of the pairs")]
    low, high, of = next(
        ((low, high, of) for low, high, of in ends if low is not None), (ratio.min, ratio.max, "all pairs")
    )
    return (
        f"latency of A / latency of B: median {ratio.median:.3f} over {ratio.count} pairs in turn, "
        f"{low:.3f} to {high:.3f} in {of}"
    )


def _worst(written: tuple[Path, ...]) -> str:
    if not written:
        return "the engines never differ: no picture was written"
    last = f" to {written[-1].name}" if len(written) > 1 else ""
    return f"{written[0]}{last}"
