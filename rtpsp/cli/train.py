"""``rtpsp train``."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from rtpsp.cli._signals import EXIT_OF, NAMES, Handler, importing, install, restore
from rtpsp.cli.console import Size, stderr, stdout
from rtpsp.cli.export import ARCHS
from rtpsp.cli.foreign import Values
from rtpsp.errors import MissingError, UsageError
from rtpsp.labels import LABEL_SETS, to_label_set
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD, Channels, Fit, ModelSpec, Resize

if TYPE_CHECKING:
    from rtpsp.cli.training_progress import Reporter
    from rtpsp.train_job import TrainJob

SECTIONS = {
    "Data": ("data", "labels", "split", "val_split", "mix", "watch"),
    "Model": ("arch", "size", "output_stride", "init", "channels", "mean", "std", "fit", "resize", "name", "licence"),
    "Learning": (
        "epochs", "batch", "lr", "head_lr", "warmup", "momentum", "weight_decay", "aux", "balance", "ema",
        "validate_every", "seed",
    ),
    "Augmentation": ("crop", "scale", "colour", "flip"),
    "Distillation": ("teacher", "distil", "temperature", "teacher_scales", "teacher_flip", "teacher_once"),
    "Machine": ("device", "precision", "threads"),
}  # fmt: skip

EXCLUSIVE = (("resume", "output"),)
_HERE = {"resume", "device", "threads", "data"}
"""What --resume can be given with: of the machine, not of the recipe; where the data is now is of it too."""
_OF_TEACHERS = ("distil", "temperature", "teacher_scales", "teacher_flip", "teacher_once")
_OF_OPTIONS = (
    "epochs", "batch", "lr", "head_lr", "warmup", "momentum", "weight_decay", "aux", "balance", "ema", "validate_every",
    "seed", "crop", "scale", "colour", "flip", "distil", "temperature", "teacher_flip", "teacher_once", "precision",
)  # fmt: skip


F = TypeVar("F", bound=Callable[..., Any])


def _number(name: str, default: float, text: str) -> Callable[[F], F]:
    """A number of `TrainOptions`, which knows its bounds."""
    return click.option(f"--{name}", type=type(default), metavar="N", default=default, show_default=True, help=text)


@click.command("train")
@click.option(
    "--data", metavar="DIR", help="Images and labels: SPLIT/ + SPLITannot/, images/ + labels/, or lists SPLIT.txt."
)
@click.option(
    "--labels",
    metavar="SET|FILE",
    help=f"The classes: {', '.join(sorted(LABEL_SETS))}, or a text file with a name a line, in id order; with colours "
    f"where labels are coloured.",
)
@click.option("--split", default="train", show_default=True, help="Part to learn from.")
@click.option("--val-split", default="val", show_default=True, help="Part to validate on, or none.")
@click.option(
    "--mix", nargs=2, type=(str, float), multiple=True, metavar="DATA SHARE",
    help="More to learn from, and its share beside --data, 0 to 0.5; repeatable.",
)  # fmt: skip
@click.option("--watch", multiple=True, metavar="DATA", help="More to validate on; repeatable.")
@click.option("--arch", type=click.Choice(ARCHS), default="pspnet18", show_default=True, help="The network.")
@click.option("--size", type=Size(), help="Model input, e.g. 360x480.")
@click.option(
    "--output-stride", type=click.Choice(["8", "16"]), default="8", show_default=True,
    help="Input pixels for one of the feature map: 16 is a third of the work.",
)  # fmt: skip
@click.option("--init", metavar="FILE", help="Begin with this checkpoint, or this ResNet's weights.")
@click.option(
    "--channels", type=click.Choice(get_args(Channels)), default="rgb", show_default=True,
    help="Planes of an image, in the order that the network sees.",
)  # fmt: skip
@click.option("--mean", type=Values(), help="Of each plane, on 0..1.  [default: ImageNet's; grey: their mean]")
@click.option("--std", type=Values(), help="Of each plane, on 0..1.  [default: as --mean]")
@click.option(
    "--fit", type=click.Choice(get_args(Fit)), default="stretch", show_default=True, help="As in rtpsp export."
)
@click.option("--resize", type=click.Choice(get_args(Resize)), default="area", show_default=True, help="As there.")
@click.option("--name", help="Name of the model; by default the folder's.")
@click.option("--licence", default="", help="Licence of the weights, in one line.")
@_number("epochs", 60, "Passes over the data.")
@_number("batch", 8, "Images a step.")
@_number("lr", 0.01, "Learning rate of the backbone at its height; it falls to zero.")
@_number("head-lr", 10.0, "How many times as fast pyramid and head learn.")
@_number("warmup", 0.02, "Share of all steps in which the rate rises.")
@_number("momentum", 0.9, "Of SGD.")
@_number("weight-decay", 1e-4, "Of the convolutions' weights.")
@_number("aux", 0.4, "Weight of the auxiliary loss.")
@click.option(
    "--balance", type=click.Choice(["none", "sqrt", "median"]), default="sqrt", show_default=True,
    help="How much more rare classes weigh: not, by the root of their rarity, by median frequency.",
)  # fmt: skip
@_number("ema", 0.998, "Decay a step of the average of weights that is kept; 0 for none.")
@_number("validate-every", 5, "Epochs between validations.")
@_number("seed", 1, "Of all that is drawn at random.")
@click.option("--crop", type=Size(), help="What a step sees of an image.  [default: the model's size]")
@click.option(
    "--scale", nargs=2, type=float, default=(0.5, 2.0), show_default=True, metavar="MIN MAX",
    help="Factors between which images are scaled.",
)  # fmt: skip
@_number("colour", 0.5, "Strength of changes of light and colour.")
@_number("flip", 0.5, "Share of mirrored images.")
@click.option("--teacher", multiple=True, metavar="FILE", help="A checkpoint to learn from; repeatable.")
@_number("distil", 0.5, "The teachers' part of the loss; the labels have the rest.")
@_number("temperature", 1.0, "By which scores are divided before they are compared.")
@click.option("--teacher-scales", type=Values(), default="1", show_default=True, help="At which teachers look.")
@click.option("--teacher-flip", is_flag=True, help="Teachers look at the mirrored image too.")
@click.option(
    "--teacher-once", is_flag=True,
    help="Ask teachers once about each whole image of --data, not at each step: much cheaper, and kept in the folder.",
)  # fmt: skip
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1.  [default: cuda where there is one]")
@click.option(
    "--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True,
    help="Of products; auto takes bf16 where the processor has units for it.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(0), metavar="N", default=0, help="CPU threads.  [default: all]")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of this training.")
@click.option(
    "--resume", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Go on with the training in this folder, as it was asked for; with --data DIR if the data has moved.",
)  # fmt: skip
def command(resume: Path | None, output: Path | None, **given: Any) -> None:
    """Train a PSPNet on images and their labels; needs --data, --labels, --size and -o.

    The folder of a training holds model.pth, the averaged weights of the last epoch, best.pth of the best one,
    log.csv, curve.png, and what --resume needs. Ctrl-C saves, and --resume goes on where it was.
    """
    asked = set(click.get_current_context().meta.get("rtpsp.given", {}))
    if resume is not None:
        extra = sorted(asked - _HERE - {"verbose", "debug", "config", "dump_config"})
        if extra:
            option = f"--{extra[0].replace('_', '-')}"
            more = f"; to train on: --init {resume / 'model.pth'} -o another" if "epochs" in extra else ""
            raise UsageError(
                f"got {option} beside --resume, which goes on with what was asked for at first: leave it out{more}"
            )
    elif not given["teacher"] and (lone := [name for name in _OF_TEACHERS if name in asked]):
        raise UsageError(f"--{lone[0].replace('_', '-')} has no meaning without --teacher: give one, or leave it out")
    job = None if resume is not None else _job(output, given)
    with importing():
        try:
            from rtpsp import training
            from rtpsp.cli.training_progress import Reporter
            from rtpsp.model.train_records import Stopped
        except ImportError as error:
            raise MissingError(
                f"training needs PyTorch ({error}): in the checkout, pip install '.[train]' -c constraints.txt"
            ) from error
    folder = resume or output
    assert folder is not None
    machine = {"device": given["device"], "threads": given["threads"]}
    signals: list[int] = []
    reporter = Reporter(lambda: bool(signals))
    with _noted(signals, reporter), reporter as listener:
        try:
            if job is None:
                trainer = training.resume(folder, listener, data=given["data"], **machine)
            else:
                trainer = training.train(job, folder, listener, **machine)
        except Stopped:
            trainer = None
        except BaseException:
            if signals and reporter.saved:  # Ctrl-C again, or what was to be saved could not be
                at, steps = reporter.saved
                _say(f"saved last at step {at} of {steps}; go on with: rtpsp train --resume {folder}")
            raise
    if trainer is None:
        _say(f"stopped and saved; go on with: rtpsp train --resume {folder}")
        raise click.exceptions.Exit(EXIT_OF[signal.Signals(signals[0])])
    epochs = len(trainer.history)
    stdout.print(
        f"{folder / 'model.pth'}\n  {trainer.spec.name}: {trainer.spec.arch}, {epochs} epoch{'s' * (epochs > 1)}, "
        f"the curve is {folder / 'curve.png'}\n  next: rtpsp export {folder / 'model.pth'} -o {trainer.spec.name}.onnx",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _say(text: str) -> None:
    stderr.print(text, markup=False, soft_wrap=True)


def _say_at_once(text: str) -> None:
    """From a signal's handler, which may have come in the middle of a print: rich and its buffer are left alone."""
    over = "\r\x1b[2K" if stderr.is_terminal else ""  # the bar is drawn again below
    with contextlib.suppress(OSError):
        os.write(2, f"{over}{text}\n".encode())


def _job(output: Path | None, given: dict[str, Any]) -> TrainJob:
    """What was asked for, checked before PyTorch is loaded."""
    from rtpsp.model.train_options import TrainOptions  # these two load no PyTorch
    from rtpsp.train_job import TrainJob

    options = {"--data": given["data"], "--labels": given["labels"], "--size": given["size"], "-o": output}
    missing = [name for name, value in options.items() if value is None]
    if missing:
        raise UsageError(
            f"got no {' and no '.join(missing)}: e.g. "
            "rtpsp train --data DIR --labels camvid --size 360x480 -o runs/first"
        )
    assert output is not None
    learning = TrainOptions(**{name: given[name] for name in _OF_OPTIONS}, teacher_scales=given["teacher_scales"])
    spec = ModelSpec(
        name=given["name"] or output.resolve().name,
        arch=given["arch"],
        height=given["size"][0],
        width=given["size"][1],
        labels=to_label_set(given["labels"]),
        output_stride=int(given["output_stride"]),
        fit=given["fit"],
        resize=given["resize"],
        licence=given["licence"],
        **_planes(given),
    )
    return TrainJob(
        data=given["data"],
        spec=spec,
        split=given["split"],
        val_split=None if given["val_split"] == "none" else given["val_split"],
        mix=given["mix"],
        watch=given["watch"],
        init=given["init"],
        teachers=given["teacher"],
        options=learning,
    )


def _planes(given: dict[str, Any]) -> dict[str, Any]:
    """Channels and normalisation.

    Raises:
        UsageError: Nothing is known of a fourth plane.
    """
    from rtpsp.model.train_options import GREY_MEAN, GREY_STD  # it loads no PyTorch

    channels = given["channels"]
    named = {"mean": given["mean"] or IMAGENET_MEAN, "std": given["std"] or IMAGENET_STD}
    for name, values in named.items():
        if given[name] is None and channels == "grey":
            named[name] = GREY_MEAN if name == "mean" else GREY_STD
        elif given[name] is None and channels.endswith("x"):
            raise UsageError(f"--channels {channels} without --{name}: give four numbers, the last of the fourth plane")
        elif channels == "bgr" and given[name] is None:
            named[name] = values[::-1]
    return {"channels": channels, **named}


@contextlib.contextmanager
def _noted(signals: list[int], reporter: Reporter) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM of a training under way is noted; before that, and after one, they act as always."""
    before: dict[signal.Signals, Handler] = {number: signal.getsignal(number) for number in NAMES}

    def note(number: int, frame: FrameType | None) -> None:
        restore(before)
        if reporter.under_way:
            signals.append(number)
            _say_at_once("finishing this step, then saving; Ctrl-C again stops now")
        else:
            signal.raise_signal(number)

    install(note)
    try:
        yield
    finally:
        restore(before)
