"""``rtpsp build-engine``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtpsp.calibration_cache import METHODS
from rtpsp.cli import foreign
from rtpsp.cli._signals import importing
from rtpsp.cli.console import Capability, stderr, stdout, steps
from rtpsp.cli.outputs import check_outputs
from rtpsp.engine import BACKENDS
from rtpsp.engine.tensorrt_options import MAX_AUX_STREAMS, MAX_WORKSPACE
from rtpsp.errors import UsageError
from rtpsp.header import MAX_BATCH

if TYPE_CHECKING:
    from rich.table import Table

    from rtpsp.build import Built
    from rtpsp.engine.tensorrt_options import PlanOptions
    from rtpsp.header import Precision, Target
    from rtpsp.sensitivity import Part

_OF_FRAMES = ("calib_images", "calib_split", "calib_method")
_OF_INT8 = ("calib", *_OF_FRAMES, "calib_cache", "min_agreement", "max_miou_drop")
EXCLUSIVE = (("fp32", "fp16", "int8"), ("calib", "calib_cache"), ("rgb", "bgr"))
DEPENDENT = {"int8": _OF_INT8, "calib": _OF_FRAMES}
_OF_TENSORRT = (
    "workspace", "optimisation_level", "aux_streams", "timing_cache", "hardware_compatible", "version_compatible",
    "target", "tf32",
)  # fmt: skip
SECTIONS = {
    "Precision": ("fp32", "fp16", "int8"), "INT8": _OF_INT8, "Models from elsewhere": foreign.NAMES,
    "TensorRT": _OF_TENSORRT,
}  # fmt: skip


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
    "--backend", type=click.Choice(list(BACKENDS)), help="What runs it.  [default: the best that this machine has]"
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
@click.option(
    "--batch", type=click.IntRange(1, MAX_BATCH), metavar="N", default=1, show_default=True,
    help="Frames of one inference; run, eval and compare take engines of one.",
)  # fmt: skip
@foreign.foreign_options
@click.option(
    "--workspace", type=click.IntRange(1, MAX_WORKSPACE >> 20), metavar="MIB",
    help="GPU memory for a layer.  [default: all]",
)  # fmt: skip
@click.option(
    "--optimisation-level", type=click.IntRange(0, 5), metavar="0-5", help="How long the builder looks.  [default: 3]"
)
@click.option(
    "--aux-streams", type=click.IntRange(0, MAX_AUX_STREAMS), metavar="N",
    help="Streams beside the first.  [default: chosen]",
)  # fmt: skip
@click.option(
    "--timing-cache/--no-timing-cache", default=None,
    help="Keep what TensorRT timed beside the engines, so that the next build is quicker.  [default: with tensorrt]",
)  # fmt: skip
@click.option(
    "--hardware-compatible", type=click.Choice(("ampere+", "same")),
    help="Run on Ampere and later, or on every GPU of this compute capability, for some speed.",
)  # fmt: skip
@click.option("--version-compatible", is_flag=True, help="Let later releases of TensorRT load it, for some speed.")
@click.option(
    "--target", multiple=True, type=Capability(),
    help="Compute capability to build for, with tensorrt-rtx; repeat it for several.  [default: sm80 and later]",
)  # fmt: skip
@click.option("--tf32", is_flag=True, help="Let FP32 convolutions multiply 10-bit mantissas, for speed.")
def command(model: Path | None, output: Path | None, **given: Any) -> None:
    """Turn MODEL, an ONNX PSPNet, into an engine. Without MODEL: the shipped one.

    A model from 'rtpsp export' brings its size, classes and normalisation. Of one from elsewhere these are said here;
    what can be told from its graph, is.

    Without a precision: INT8 for a model that brings its ranges, else the faster of FP32 and FP16 on this machine; on a
    GPU FP16, but INT8 where frames or ranges are given.
    INT8 takes frames to measure ranges on: a fifth of them is held out, and on these its answers are compared with
    FP32's; where too many differ, the parts that lose most stay in floating point.
    """
    with importing():
        from rtpsp import build, zoo
        from rtpsp.engine import default_backend
        from rtpsp.int8 import Int8Options
    check_outputs(
        {"-o": output, "--save-model": given["save_model"]},
        {
            "the model": model, "the ranges": given["calib_cache"], "the frames": given["calib"],
            "the list of labels": given["labels"],
        },
    )  # fmt: skip
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
    backend = given["backend"] or default_backend()
    options = build.BuildOptions(
        chosen, backend, given["confidence"], given["threads"], given["head"], given["tail"], int8, given["batch"],
        _plan(given, backend),
    )  # fmt: skip
    subject = foreign.take_over(model or zoo.model_path(), given)
    with steps("build-engine") as tell:
        built = build.build_engine(subject, output, options, tell)
    _tell(built)


def _plan(given: dict[str, Any], backend: str) -> PlanOptions:
    from rtpsp.build import usual_plan
    from rtpsp.engine.tensorrt_api import LOGGER
    from rtpsp.engine.tensorrt_options import PlanOptions
    from rtpsp.places import timing_folder

    usual, timed = usual_plan(backend), given["timing_cache"]
    return PlanOptions(
        workspace=(given["workspace"] or 0) << 20, optimisation_level=given["optimisation_level"],
        aux_streams=given["aux_streams"], tf32=given["tf32"],
        timing_cache=usual.timing_cache if timed is None else timing_folder() if timed else None,
        hardware=given["hardware_compatible"] or "", version_compatible=given["version_compatible"],
        targets=given["target"] or usual.targets, verbose=logging.getLogger(LOGGER).isEnabledFor(logging.DEBUG),
    )  # fmt: skip


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


def _tell(built: Built) -> None:
    header = built.header
    backend = header.backend
    if header.precision != "fp32" and built.ran == "f32" and not header.target.needs_gpu:
        units = "half-precision units" if header.precision == "fp16" else "integer convolutions"
        stderr.print(f"rtpsp: {backend} has no {units} to use on this CPU: the engine runs in f32 here")
    if built.quantised is not None and built.quantised.parts:
        stdout.print(parts_table(built.quantised.parts))
    size = f"{built.path.stat().st_size / 1e6:.1f} MB"
    batch = header.options.get("batch", 1)
    use = f"rtpsp run --camera --engine {built.path}   (or --source FILE)"
    if batch != 1:
        use = (
            f"rtpsp.load_engine(...) in your own code, {batch} frames at a time; run, eval and compare take single ones"
        )
    lines = [*built.notes]
    if built.why_not_run:
        lines += [
            f"{backend}, {header.precision}, {size}{_for(header.target)}",
            f"could not be run here ({built.why_not_run}); its graph has, by ONNX Runtime, a class agreement with the "
            f"FP32 graph of {built.agreement:.3%} on a synthetic frame",
            f"next: copy it to the GPU machine; there: {use}",
        ]
    else:
        lines += [
            f"{backend}, {header.precision}, runs in {built.ran}, {size}{_for(header.target)}, class agreement with "
            f"the FP32 graph {built.agreement:.3%} on a synthetic frame (accuracy: rtpsp eval)",
            f"next: {use}",
        ]
    told = "".join(f"  {line}\n" for line in lines)
    stdout.print(f"{built.path}\n{told}", end="", soft_wrap=True, markup=False)


def _for(target: Target) -> str:
    """The GPUs that it runs on; nothing of an engine for a CPU."""
    if not target.needs_gpu:
        return ""
    later = " or later" if target.or_later else ""
    return f", for compute capability {', '.join(target.compute_capabilities)}{later}"


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
