"""``rtpsp eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, json_option, write_json
from rtpsp.errors import UsageError

if TYPE_CHECKING:
    from rtpsp.evaluate import Evaluation


@click.command("eval")
@click.argument("engine", required=False)
@click.option(
    "--data",
    required=True,
    metavar="DIR|LIST|URI",
    help="SPLIT/ + SPLITannot/, images/ + labels/, a list of pairs, or sim://street?frames=60.",
)
@click.option("--split", default="val", show_default=True, help="Which part of a folder.")
@click.option("--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads.  [default: all]")
@json_option
def command(engine: str | None, data: str, split: str, threads: int, json_path: Path | None) -> None:
    """Measure ENGINE, or the shipped model's, on labelled images: mIoU, IoU of each class, pixel accuracy.

    DATA is a folder in SegNet's layout, val/0001.png beside valannot/0001.png; a folder with images/ and labels/; a
    text file with an image and its labels on each line; or the simulator. Labels are PNGs of class ids, void included;
    accuracy is measured at their own size.
    """
    with importing():
        import numpy as np
        from rich.progress import Progress

        from rtpsp.data.dataset import open_dataset
        from rtpsp.default import to_engine_path
        from rtpsp.engine import load_engine
        from rtpsp.engine.base import EngineOptions
        from rtpsp.evaluate import evaluate, segmenter
    check_outputs({"--json": json_path}, {"the engine": engine, "the data": data})
    check_writable(json_path)
    samples = open_dataset(data, split)
    with steps("building the engine") as tell:
        path = to_engine_path(engine, tell)
    loaded = load_engine(path, EngineOptions(threads=threads))
    spec = loaded.spec
    if loaded.batch != 1:
        raise UsageError(f"engine takes batches of {loaded.batch}, eval needs 1: build it without a batch")
    with loaded, Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("eval", total=len(samples))
        segment = segmenter(lambda frames: np.asarray(loaded.infer(frames).class_map), spec)
        result = evaluate(segment, samples, spec.labels, lambda done, total: progress.update(task, completed=done))
        ran = loaded.ran
    header = loaded.header
    if json_path:
        told = {"engine": path.name, "backend": header.backend, "precision": header.precision, "ran": ran}
        write_json(json_path, {**told, "data": data, "split": samples.split, **result.to_dict()})
    if json_path == STDOUT:
        return
    _print(result)
    where = f"{data}, split {samples.split}" if samples.split else data
    stdout.print(
        f"{path.name}: {header.backend}, asked for {header.precision}, ran in {ran}\n"
        f"{where}: {result.images} images, {len(spec.labels)} classes, ignored label {spec.labels.ignore}, "
        f"fit {spec.fit} to {spec.height}x{spec.width}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _print(result: Evaluation) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, iou in zip(result.labels.names, result.per_class_iou, strict=True):
        table.add_row(name, "-" if iou is None else f"{iou:.2f}")
    table.add_section()
    table.add_row("mIoU", f"{result.miou:.2f}")
    table.add_row("pixel accuracy", f"{result.pixel_accuracy:.2f}")
    stdout.print(table)
