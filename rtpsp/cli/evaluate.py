"""``rtpsp eval``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtpsp import files
from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.evaluated import accuracy_table, against_values, frames_line, video_lines
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, json_option, write_json
from rtpsp.errors import UsageError
from rtpsp.stream.names import expanded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rtpsp.arrays import Image
    from rtpsp.engine.base import Engine
    from rtpsp.fit import MaskSize
    from rtpsp.smoothing import Smoother

SECTIONS = {"Video": ("video", "window", "smooth", "plot")}


@click.command("eval")
@click.argument("engine", required=False)
@click.option(
    "--data",
    required=True,
    metavar="DIR|LIST|URI",
    help="SPLIT/ + SPLITannot/, images/ + labels/, a list of pairs, or sim://street?frames=60&step=15.",
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
@click.option(
    "--video", is_flag=True, help="The images are a video's, in the order of time: measure flicker and mIoU over time."
)
@click.option(
    "--window", type=click.IntRange(1), metavar="N", help="Frames of a sliding window of mIoU.  [default: 15]"
)
@click.option(
    "--smooth", is_flag=True,
    help="Filter the scores over time, as it lowers flicker; takes an engine that gives scores, which 'build-engine' "
    "builds by itself where they are coarser than the model's input, else with --tail host.",
)  # fmt: skip
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw mIoU and flicker over time.",
)
@click.option("--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads.  [default: all]")
@json_option
def command(
    engine: str | None,
    data: str,
    split: str,
    against: str | None,
    confusion: Path | None,
    mask_size: MaskSize,
    video: bool,
    window: int | None,
    smooth: bool,
    plot: Path | None,
    threads: int,
    json_path: Path | None,
) -> None:
    """Measure ENGINE, or the shipped model's, on labelled images: mIoU, IoU of each class, pixel accuracy.

    DATA is a folder in SegNet's layout, val/0001.png beside valannot/0001.png; a folder with images/ and labels/; a
    text file with an image and its labels on each line; or the simulator. Labels are PNGs of class ids, void included,
    or of the colours that the engine's label set has; accuracy is measured at their own size.

    With --video, flicker is the share of pixels whose class changes from one frame to the next where that of the labels
    does not. Names say which frames follow each other: drive_0017.png, drive_0018.png. The simulator then gives every
    frame (step=1), where it else gives every 15th.
    """
    _check_options(video, against, {"--window": window, "--smooth": smooth, "--plot": plot})
    with importing():
        from rich.progress import Progress

        from rtpsp.agreement import check_same_classes, evaluate_pair
        from rtpsp.data.dataset import open_dataset
        from rtpsp.data.simulated import each_frame
        from rtpsp.default import to_engine_path
        from rtpsp.engine import load_engine
        from rtpsp.engine.base import EngineOptions, check_mask_size, check_scores
        from rtpsp.evaluate import evaluate, segmenter

        if confusion:
            from rtpsp import plots
        if video:
            from rtpsp.runs import find_runs
            from rtpsp.smoothing import Smoother
            from rtpsp.temporal import WINDOW, evaluate_video
        if plot:
            from rtpsp import plots_temporal
    inputs = {"the engine": engine, "the other engine": against, "the data": data}
    check_outputs({"--confusion": confusion, "--plot": plot, "--json": json_path}, inputs)
    if confusion:
        confusion = _png_path(confusion, "--confusion")
    if plot:
        plot = _png_path(plot, "--plot")
    check_writable(json_path)
    data = each_frame(data) if video else data
    samples = open_dataset(data, split)
    if video:
        find_runs(samples.names)  # before an engine is built
    with steps("building the engine") as tell:
        path = to_engine_path(engine, tell)
    paths = [path, to_engine_path(against)] if against else [path]
    engines = [load_engine(given, EngineOptions(threads=threads)) for given in paths]
    for loaded in engines:
        if loaded.batch != 1:
            raise UsageError(f"engine takes batches of {loaded.batch}, eval needs 1: build it without a batch")
        check_mask_size(mask_size, loaded)
        if smooth:
            check_scores(loaded, "--smooth")
    spec = engines[0].spec
    planes = max(loaded.spec.planes for loaded in engines)
    samples = open_dataset(data, split, labels=spec.labels, planes=planes)  # as these models read it
    if against:
        check_same_classes(spec.labels, engines[1].spec.labels, (path.name, paths[1].name))
    with ExitStack() as stack:
        for loaded in engines:
            stack.enter_context(loaded)
        progress = stack.enter_context(Progress(console=stderr, transient=True, disable=not stderr.is_terminal))
        task = progress.add_task("eval", total=len(samples))
        smoother = Smoother() if smooth else None
        mine, *others = [segmenter(_infer(loaded, mask_size, smoother), loaded.spec, mask_size) for loaded in engines]

        def done(images: int, total: int) -> None:
            progress.update(task, completed=images)

        over_time = pair = None
        if video:
            forget = smoother.reset if smoother else None
            over_time = evaluate_video(mine, samples, spec.labels, window or WINDOW, done, forget)
        elif others:
            pair = evaluate_pair(others[0], mine, samples, spec.labels, done)
        result = (
            over_time.evaluation if over_time else pair.second if pair else evaluate(mine, samples, spec.labels, done)
        )
    assert result is not None
    told = [_told(given.name, loaded) for given, loaded in zip(paths, engines, strict=True)]
    where = f"{data}, split {samples.split}" if samples.split else data
    if confusion:
        picture = plots.confusion_png(result, f"{path.name}, ran in {engines[0].ran}\n{where}")
        files.write_atomically(confusion, picture, hint=_hint("--confusion"), make_folder=True)
    if plot:
        assert over_time is not None
        title = f"{path.name}, ran in {engines[0].ran}{', smoothed' if smooth else ''}\n{where}: {frames_line(result)}"
        picture = plots_temporal.video_png(over_time, title)
        files.write_atomically(plot, picture, hint=_hint("--plot"), make_folder=True)
    if json_path:
        values = {**told[0], "data": data, "split": samples.split, "mask_size": mask_size}
        values |= {"smooth": smooth, **over_time.to_dict()} if over_time else result.to_dict()
        if pair:
            values["against"] = {**told[1], **against_values(pair)}
        write_json(json_path, values)
    if json_path == STDOUT:
        return
    stdout.print(accuracy_table(result, pair, over_time))
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
    if over_time:
        stdout.print(video_lines(over_time, smooth), markup=False, soft_wrap=True)
    for what, picture_path in (("confusion matrix", confusion), ("plot", plot)):
        if picture_path:
            stdout.print(f"{what}: {picture_path}", markup=False, soft_wrap=True)


def _check_options(video: bool, against: str | None, for_video: Mapping[str, Any]) -> None:
    """What measures a video is asked for only with one, and of one engine."""
    asked = [option for option, value in for_video.items() if value]
    if asked and not video:
        raise UsageError(f"{asked[0]} is about the frames of a video: add --video")
    if video and against:
        raise UsageError("--video measures one engine, --against compares two: run eval once for each")


def _png_path(path: Path, option: str) -> Path:
    if path == STDOUT or path.suffix.lower() != ".png":
        raise UsageError(f"{option} is {path}, expected the name of a picture that ends in .png")
    path = Path(expanded(path))
    files.check_writable(path, hint=_hint(option))
    return path


def _hint(option: str) -> str:
    return f"give another place with {option}"


def _infer(engine: Engine, mask_size: MaskSize, smoother: Smoother | None) -> Callable[[Image], NDArray[Any]]:
    def infer(frames: Image) -> NDArray[Any]:
        refine = None if smoother is None else lambda scores: smoother(scores, frames[0])
        result = engine.collect(engine.submit(frames), refine)
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
