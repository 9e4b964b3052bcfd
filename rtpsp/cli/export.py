"""``rtpsp export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from rtpsp.cli.console import Size, stdout
from rtpsp.cli.outputs import check_outputs
from rtpsp.errors import MissingError, UsageError
from rtpsp.labels import LABEL_SETS, to_label_set
from rtpsp.spec import Channels, Fit, Resize

ARCHS = ("pspnet18", "pspnet50", "pspnet101", "pspnet152")


@click.command("export")
@click.argument("checkpoint", type=click.Path(dir_okay=False, readable=False, path_type=Path))
@click.option("--arch", type=click.Choice(ARCHS), required=True, help="What the checkpoint is.")
@click.option("--size", type=Size(), required=True, help="Model input, e.g. 360x480.")
@click.option(
    "--labels",
    required=True,
    metavar="SET|FILE",
    help=f"Its classes: {', '.join(sorted(LABEL_SETS))}, or a text file with a name a line, in id order.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The ONNX file.")
@click.option(
    "--output-stride",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="Input pixels for one of the feature map, as it was trained.",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="How weights are stored; they are computed with in FP32 either way.",
)
@click.option(
    "--fit",
    type=click.Choice(get_args(Fit)),
    default="stretch",
    show_default=True,
    help="How frames of another shape are fitted: their aspect ratio lost, kept with bars, or kept with a cut.",
)
@click.option(
    "--resize", type=click.Choice(get_args(Resize)), default="area", show_default=True, help="How frames are scaled."
)
@click.option(
    "--channels",
    type=click.Choice(get_args(Channels)),
    default="rgb",
    show_default=True,
    help="Channel order that it was trained with.",
)
@click.option("--name", help="Name of the model; by default the file's.")
@click.option("--licence", default="", help="Licence of the weights, in one line.")
def command(checkpoint: Path, arch: str, size: tuple[int, int], labels: str, output: Path, **given: Any) -> None:
    """Turn CHECKPOINT, a PyTorch state dict, into an ONNX model that knows its size, classes and normalisation."""
    check_outputs({"-o": output}, {"the checkpoint": checkpoint, "the list of labels": labels})
    if checkpoint.suffix == ".onnx":
        raise UsageError(f"{checkpoint} is an ONNX model already: rtpsp build-engine {checkpoint}")
    label_set = to_label_set(labels)
    try:
        from rtpsp.model.export import export_checkpoint
    except ImportError as error:
        raise MissingError(
            f"export needs PyTorch ({error}): in the checkout, pip install '.[train]' -c constraints.txt"
        ) from error
    given["output_stride"] = int(given["output_stride"])
    spec = export_checkpoint(checkpoint, arch, size, label_set, output, **given)
    stdout.print(
        f"{output}\n  {spec.name}: {arch}, {spec.height}x{spec.width}, {len(spec.labels)} classes, "
        f"{output.stat().st_size / 1e6:.1f} MB\n  next: rtpsp build-engine {output}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
