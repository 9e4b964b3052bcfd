"""``rtpsp export``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import click

from rtpsp.cli.console import Size, stdout
from rtpsp.cli.foreign import Values
from rtpsp.cli.outputs import check_outputs
from rtpsp.errors import MissingError, UsageError
from rtpsp.labels import LABEL_SETS, to_label_set
from rtpsp.spec import Channels, Fit, Resize

ARCHS = ("pspnet18", "pspnet34", "pspnet50", "pspnet101", "pspnet152")
SECTIONS = {
    "Of the checkpoint, where it does not say": (
        "arch", "labels", "size", "output_stride", "align_corners", "mean", "std", "channels",
    ),
}  # fmt: skip


@click.command("export")
@click.argument("checkpoint", type=click.Path(readable=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The ONNX file.")
@click.option("--arch", type=click.Choice(ARCHS), help="What it should be.  [default: whatever it is]")
@click.option(
    "--labels",
    metavar="SET|FILE",
    help=f"Its classes: {', '.join(sorted(LABEL_SETS))}, or a text file with a name a line, in id order.  "
    "[default: those that it names]",
)
@click.option("--size", type=Size(), help="Model input, e.g. 360x480.  [default: that of its training, if it says so]")
@click.option(
    "--output-stride",
    type=click.Choice(["8", "16", "32"]),
    help="Input pixels for one of the feature map, as it was trained.  [default: what it says, else 8]",
)
@click.option(
    "--align-corners/--no-align-corners",
    default=None,
    help="How it upsamples, as it was trained.  [default: what it says, else what its code base does]",
)
@click.option(
    "--mean",
    type=Values(),
    help="What is subtracted from its input, a value a plane, on 0..1 or 0..255.  [default: what it says, else "
    "ImageNet's]",
)
@click.option("--std", type=Values(), help="What its input is divided by then, on the same scale.")
@click.option(
    "--channels",
    type=click.Choice(get_args(Channels)),
    help="Channel order that it was trained with.  [default: what it says, else rgb, of one plane grey, of four rgbx]",
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
    help="How frames of another shape are fitted: their aspect ratio lost, kept with bars, or kept with a cut.  "
    "[default: stretch]",
)
@click.option("--resize", type=click.Choice(get_args(Resize)), help="How frames are scaled.  [default: area]")
@click.option("--name", help="Name of the model; by default the file's.")
@click.option("--licence", help="Licence of the weights, in one line.")
def command(checkpoint: Path, output: Path, **given: Any) -> None:
    """Turn CHECKPOINT, a trained PSPNet, into an ONNX model that knows its size, classes and normalisation.

    Checkpoints of 'rtpsp train', hszhao/semseg, mmsegmentation and segmentation_models_pytorch are recognised, as .pth
    or .safetensors; no code of theirs is run.
    """
    labels = given.pop("labels")
    check_outputs({"-o": output}, {"the checkpoint": checkpoint, "the list of labels": labels})
    if checkpoint.suffix == ".onnx":
        raise UsageError(f"{checkpoint} is an ONNX model already: rtpsp build-engine {checkpoint}")
    if os.path.isdir(checkpoint):
        inner = checkpoint / "model.pth"
        hint = f"give {inner}" if os.path.isfile(inner) else "give a .pth or .safetensors checkpoint"
        raise UsageError(f"{checkpoint} is a folder, a checkpoint was expected: {hint}")
    label_set = None if labels is None else to_label_set(labels)
    try:
        from rtpsp.model.export import export_checkpoint
    except ImportError as error:
        raise MissingError(
            f"export needs PyTorch ({error}): in the checkout, pip install '.[train]' -c constraints.txt"
        ) from error
    stride, arch, size = given.pop("output_stride"), given.pop("arch"), given.pop("size")
    told: list[str] = []
    spec = export_checkpoint(
        checkpoint, arch, size, label_set, output, output_stride=None if stride is None else int(stride),
        tell=told.append, **given,
    )  # fmt: skip
    means, stds = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    lines = [
        *(line for text in told for line in text.splitlines()),
        f"{spec.name}: {spec.arch}, {spec.height}x{spec.width}, {len(spec.labels)} classes of {spec.labels.name}, "
        f"{spec.channels}, mean {means}, std {stds}, {output.stat().st_size / 1e6:.1f} MB",
        f"next: rtpsp build-engine {output}",
    ]
    stdout.print("\n  ".join([str(output), *lines]), markup=False, soft_wrap=True)
