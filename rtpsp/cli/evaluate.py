"""``rtpsp eval``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from rtpsp import files
from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.figures import percentages
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, json_option, write_json
from rtpsp.errors import UsageError
from rtpsp.stream.names import expanded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rtpsp.agreement import Pair
    from rtpsp.arrays import Image
    from rtpsp.engine.base import Engine
    from rtpsp.evaluate import Evaluation
    from rtpsp.fit import MaskSize

_PICTURE_HINT = "give another place with --confusion"


@click.command("eval")
@click.argument("engine", required=False)
@click.option(
    "--data",
    required=True,
    metavar="DIR|LIST|URI",
    help="SPLIT/ + SPLITannot/, images/ + labels/, a list of pairs, or sim://street?frames=60.",
)
@click.option("--split", default="val", show_default=True, help="Which part of a folder.")
@click.option(
    "--against", metavar="OTHER", help="Another engine of the same classes: how often both agree, and who is right."
)
@click.option(
    "--confusion",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw what each class was taken for.",
)
@click.option(
    "--mask-size", type=click.Choice(["model", "frame"]), default="model", show_default=True,
    help="Decide classes at the model's size, or at each label's own (engines built with --tail host).",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads.  [default: all]")
@json_option
def command(
    engine: str | None,
    data: str,
    split: str,
    against: str | None,
    confusion: Path | None,
    mask_size: MaskSize,
    threads: int,
    json_path: Path | None,
) -> None:
    """Measure ENGINE, or the shipped model's, on labelled images: mIoU, IoU of each class, pixel accuracy.

    DATA is a folder in SegNet's layout, val/0001.png beside valannot/0001.png; a folder with images/ and labels/; a
    text file with an image and its labels on each line; or the simulator. Labels are PNGs of class ids, void included;
    accuracy is measured at their own size.
    """
    with importing():
        from rich.progress import Progress

        from rtpsp.agreement import check_same_classes, evaluate_pair
        from rtpsp.data.dataset import open_dataset
        from rtpsp.default import to_engine_path
        from rtpsp.engine import load_engine
        from rtpsp.engine.base import EngineOptions, check_mask_size
        from rtpsp.evaluate import evaluate, segmenter

        if confusion:
            from rtpsp import plots
    inputs = {"the engine": engine, "the other engine": against, "the data": data}
    check_outputs({"--confusion": confusion, "--json": json_path}, inputs)
    if confusion:
        confusion = _png_path(confusion)
    check_writable(json_path)
    samples = open_dataset(data, split)
    with steps("building the engine") as tell:
        path = to_engine_path(engine, tell)
    paths = [path, to_engine_path(against)] if against else [path]
    engines = [load_engine(given, EngineOptions(threads=threads)) for given in paths]
    for loaded in engines:
        if loaded.batch != 1:
            raise UsageError(f"engine takes batches of {loaded.batch}, eval needs 1: build it without a batch")
        check_mask_size(mask_size, loaded)
    spec = engines[0].spec
    if against:
        check_same_classes(spec.labels, engines[1].spec.labels, (path.name, paths[1].name))
    with ExitStack() as stack:
        for loaded in engines:
            stack.enter_context(loaded)
        progress = stack.enter_context(Progress(console=stderr, transient=True, disable=not stderr.is_terminal))
        task = progress.add_task("eval", total=len(samples))
        mine, *others = [segmenter(_infer(loaded, mask_size), loaded.spec, mask_size) for loaded in engines]

        def done(images: int, total: int) -> None:
            progress.update(task, completed=images)

        pair = evaluate_pair(others[0], mine, samples, spec.labels, done) if others else None
        result = pair.second if pair else evaluate(mine, samples, spec.labels, done)
    assert result is not None
    told = [_told(given.name, loaded) for given, loaded in zip(paths, engines, strict=True)]
    where = f"{data}, split {samples.split}" if samples.split else data
    if confusion:
        picture = plots.confusion_png(result, f"{path.name}, ran in {engines[0].ran}\n{where}")
        files.write_atomically(confusion, picture, hint=_PICTURE_HINT, make_folder=True)
    if json_path:
        values = {**told[0], "data": data, "split": samples.split, "mask_size": mask_size, **result.to_dict()}
        if pair:
            values["against"] = {**told[1], **_against(pair)}
        write_json(json_path, values)
    if json_path == STDOUT:
        return
    stdout.print(_table(result, pair))
    stdout.print(
        f"{_line(told[0])}\n"
        f"{where}: {result.images} images, {len(spec.labels)} classes, ignored label {spec.labels.ignore}, "
        f"fit {spec.fit} to {spec.height}x{spec.width}, mask size {mask_size}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if pair:
        stdout.print(
            f"against {_line(told[1])}: both agree on {pair.agreement.words}, void ones too",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if confusion:
        stdout.print(f"confusion matrix: {confusion}", markup=False, soft_wrap=True)


def _png_path(path: Path) -> Path:
    if path == STDOUT or path.suffix.lower() != ".png":
        raise UsageError(f"--confusion is {path}, expected the name of a picture that ends in .png")
    path = Path(expanded(path))
    files.check_writable(path, hint=_PICTURE_HINT)
    return path


def _infer(engine: Engine, mask_size: MaskSize) -> Callable[[Image], NDArray[Any]]:
    def infer(frames: Image) -> NDArray[Any]:
        result = engine.infer(frames)
        if mask_size == "model":
            return result.class_map
        assert result.scores is not None
        return result.scores

    return infer


def _told(name: str, engine: Engine) -> dict[str, Any]:
    header = engine.header
    return {"engine": name, "backend": header.backend, "precision": header.precision, "ran": engine.ran}


def _line(told: dict[str, Any]) -> str:
    return f"{told['engine']}: {told['backend']}, asked for {told['precision']}, ran in {told['ran']}"


def _against(pair: Pair) -> dict[str, Any]:
    """What ``--json`` says of the other engine; differences are the engine's figure minus the other's."""
    assert pair.first is not None and pair.miou_difference is not None
    told = pair.first.to_dict()
    differences = zip(pair.agreement.labels.names, pair.iou_differences, strict=True)
    return {
        **{name: told[name] for name in ("miou", "pixel_accuracy", "per_class_iou", "unanswered")},
        "miou_difference": round(pair.miou_difference, 3),
        "per_class_iou_difference": {name: None if by is None else round(by, 3) for name, by in differences},
        **pair.agreement.to_dict(),
    }


def _table(result: Evaluation, pair: Pair | None) -> Table:
    table = Table()
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    columns: list[Sequence[float | None]] = [[*result.per_class_iou, result.miou, result.pixel_accuracy]]
    if pair and pair.first:
        for heading in ("other's", "difference", "agreement %"):
            table.add_column(heading, justify="right")
        other = pair.first
        columns += [
            [*other.per_class_iou, other.miou, other.pixel_accuracy],
            [*pair.iou_differences, pair.miou_difference, result.pixel_accuracy - other.pixel_accuracy],
            [*pair.agreement.per_class, None, pair.agreement.overall],
        ]
    names = [*result.labels.names, "mIoU", "pixel accuracy"]
    for place, (name, *figures) in enumerate(zip(names, *columns, strict=True)):
        if place == len(result.labels):
            table.add_section()
        table.add_row(name, *percentages(figures, signed=2))
    return table
