"""``rtpsp build-engine``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtpsp.calibration_cache import METHODS
from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.outputs import check_outputs
from rtpsp.engine import BACKENDS, DEFAULT_BACKEND
from rtpsp.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from rtpsp.build import Built
    from rtpsp.header import Precision
    from rtpsp.sensitivity import Part

_OF_FRAMES = ("calib_images", "calib_split", "calib_method")
_OF_INT8 = ("calib", *_OF_FRAMES, "calib_cache", "min_agreement", "max_miou_drop")
EXCLUSIVE = (("fp32", "fp16", "int8"), ("calib", "calib_cache"))
DEPENDENT = {"int8": _OF_INT8, "calib": _OF_FRAMES}
SECTIONS = {"Precision": ("fp32", "fp16", "int8"), "INT8": _OF_INT8}


@click.command("build-engine")
@click.argument("model", required=False, type=click.Path(dir_okay=False, readable=False, path_type=Path))
@click.option("--fp32", is_flag=True, help="Full precision.")
@click.option("--fp16", is_flag=True, help="Half precision: on a CPU its own half format, bf16 or f16.")
@click.option(
    "--int8", is_flag=True, help="Integers, with ranges from --calib or --calib-cache; the shipped model has its own."
)
@click.option(
    "--calib",
    metavar="DIR|LIST|VIDEO|CAMERA",
    help="Frames like those the engine will see. With labels, mIoU is measured too.",
)
@click.option(
    "--calib-images",
    type=click.IntRange(1, 4096),  # choosing takes memory and time by its square
    metavar="N",
    help="How many of them: those that differ most.  [default: 300]",
)
@click.option("--calib-split", metavar="SPLIT", help="Which part of a labelled folder.  [default: train, or val]")
@click.option("--calib-method", type=click.Choice(METHODS), help="How ranges are chosen.  [default: mse]")
@click.option(
    "--calib-cache", type=click.Path(dir_okay=False, path_type=Path), help="Ranges that were measured before."
)
@click.option(
    "--min-agreement", type=click.FloatRange(0, 100), metavar="PERCENT",
    help="Least share of pixels with FP32's class; parts stay in float until it holds.  [default with --calib: 98.5]",
)  # fmt: skip
@click.option(
    "--max-miou-drop", type=click.FloatRange(0), metavar="POINTS",
    help="Most mIoU that may be lost, with labels in --calib.  [default with labels: 0.5]",
)  # fmt: skip
@click.option(
    "--head", type=click.Choice(("auto", "plain", "split")), default="auto", show_default=True,
    help="The pyramid's head in one convolution, or its small maps apart; auto times both.",
)  # fmt: skip
@click.option(
    "--tail", type=click.Choice(("auto", "graph", "host")), default="auto", show_default=True,
    help="Class maps by the graph, or by the host from the graph's scores.",
)  # fmt: skip
@click.option(
    "--backend", type=click.Choice(list(BACKENDS)), default=DEFAULT_BACKEND, show_default=True, help="What runs it."
)
@click.option(
    "--confidence",
    is_flag=True,
    help="Give each pixel's probability beside its class, for 'rtpsp run --min-confidence'.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The engine file.  [default: named after what it is, in the folder of engines]",
)
@click.option("--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads.  [default: all]")
def command(model: Path | None, output: Path | None, **given: Any) -> None:
    """Turn MODEL, an ONNX PSPNet from 'rtpsp export', into an engine. Without MODEL: the shipped one.

    Without a precision: INT8 for a model that brings its ranges, else the faster of FP32 and FP16 on this machine.
    INT8 takes frames to measure ranges on: a fifth of them is held out, and on these its answers are compared with
    FP32's; where too many differ, the parts that lose most stay in floating point.
    """
    with importing():
        from rtpsp import build, zoo
        from rtpsp.int8 import Int8Options
    check_outputs(
        {"-o": output}, {"the model": model, "the ranges": given["calib_cache"], "the frames": given["calib"]}
    )
    chosen = _precision(given)
    least = given["min_agreement"]
    if least is not None and 0 < least <= 1:  # most who write 0.99 mean 99
        raise UsageError(f"--min-agreement {least:g} would be {least:g} %, expected a share in percent, such as 99")
    usual = Int8Options()
    int8 = Int8Options(
        calib=given["calib"], images=given["calib_images"] or usual.images, split=given["calib_split"],
        cache=given["calib_cache"], method=given["calib_method"] or usual.method,
        min_agreement=None if least is None else least / 100, max_miou_drop=given["max_miou_drop"],
    )  # fmt: skip
    options = build.BuildOptions(
        chosen, given["backend"], given["confidence"], given["threads"], given["head"], given["tail"], int8
    )
    with steps("build-engine") as tell:
        built = build.build_engine(model or zoo.model_path(), output, options, tell)
    _tell(built, given["backend"])


def _precision(given: dict[str, Any]) -> Precision | None:
    names: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    asked = [name for name in names if given[name]]
    if len(asked) > 1:
        flags = " and ".join(f"--{name}" for name in asked)
        raise UsageError(f"got {flags}, expected one: an engine has one precision")
    for_int8 = [name for name in _OF_INT8 if given[name] is not None]
    if for_int8 and asked not in (["int8"], []):
        raise UsageError(f"{_flag(for_int8[0])} is for INT8, and --{asked[0]} was asked for: leave one out")
    for_frames = [name for name in _OF_FRAMES if given[name] is not None]
    if for_frames and given["calib"] is None:
        raise UsageError(f"{_flag(for_frames[0])} is about frames, and there are none: give them with --calib")
    return asked[0] if asked else "int8" if for_int8 else None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _tell(built: Built, backend: str) -> None:
    header = built.header
    if header.precision != "fp32" and built.ran == "f32":
        units = "half-precision units" if header.precision == "fp16" else "integer convolutions"
        stderr.print(f"rtpsp: {backend} has no {units} to use on this CPU: the engine runs in f32 here")
    if built.quantised is not None and built.quantised.parts:
        stdout.print(parts_table(built.quantised.parts))
    size = built.path.stat().st_size / 1e6
    notes = "".join(f"  {note}\n" for note in built.notes)
    stdout.print(
        f"{built.path}\n{notes}"
        f"  {backend}, {header.precision}, runs in {built.ran}, {size:.1f} MB, class agreement with the FP32 graph "
        f"{built.agreement:.3%} on a synthetic frame (accuracy: rtpsp eval)\n"
        f"  next: rtpsp run --camera --engine {built.path}   (or --source FILE)",
        soft_wrap=True,
        markup=False,
    )


def parts_table(parts: Iterable[Part]) -> Table:
    """What each part of a network loses in INT8, and in what it runs; a dash where nobody measured."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="pixels that change when a part alone runs in INT8", title_justify="left")
    table.add_column("part")
    table.add_column("convolutions", justify="right")
    table.add_column("pixels %", justify="right")
    table.add_column("runs in")
    for part in parts:
        loss = "-" if part.loss is None else f"{100 * part.loss:.3f}"
        table.add_row(Text(part.group), str(part.convolutions), loss, "INT8" if part.int8 else "float")
    return table
