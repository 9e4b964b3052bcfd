"""``rtpsp bench``: its options; what it does with them stands in `rtpsp.cli.benching`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import Size
from rtpsp.cli.outputs import json_option

SECTIONS = {
    "What to measure": (
        "engine", "model", "size", "output_stride", "classes", "precisions", "backends", "calib", "source", "data",
        "split",
    ),
    "What else to find out": (
        "growth", "sizes", "batch", "baseline", "layers", "peers", "cameras", "bound",
    ),
    "For how long": ("duration", "warmup", "threads", "quick"),
    "Outputs": ("json_path", "html_path"),
}  # fmt: skip
DEPENDENT = {"data": ("split",), "cameras": ("bound",), "model": ("size", "output_stride", "classes")}


class Several(click.ParamType):  # type: ignore[type-arg]  # as rtpsp.cli.console.Size
    """Values with commas between them, each of another type; gives a tuple."""

    def __init__(self, one: Callable[[str], Any], name: str) -> None:
        self._one, self.name = one, f"{name},..."

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it is written."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        try:
            return tuple(dict.fromkeys(self._one(word) for word in words))
        except (ValueError, click.BadParameter) as error:
            said = error.message if isinstance(error, click.BadParameter) else str(error)
            self.fail(f"{value!r}: {said}; several are given with commas between them", param, ctx)


def _name(word: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+", word):
        raise ValueError(f"{word!r} is not a name")
    return word


def _number(least: int) -> Callable[[str], int]:
    def convert(word: str) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", word, re.ASCII) or int(word) < least:
            raise ValueError(f"{word!r} is not a whole number from {least} on")
        return int(word)

    return convert


def _size(word: str) -> tuple[int, int]:
    return Size().convert(word, None, None)


@click.command("bench")
@click.argument("engines", metavar="[ENGINE]...", nargs=-1)
@click.option("--engine", "engine", metavar="FILE", multiple=True, help="An engine file, as ENGINE is; more than once.")
@click.option(
    "--model", metavar="FILE|ARCH",
    help="Build engines of this model file, or of pspnet18, 34, 50, 101 or 152 with random weights: speed needs none.",
)  # fmt: skip
@click.option("--size", type=Size(), help="Input of a network with random weights.  [default: 720x960]")
@click.option(
    "--output-stride", type=click.Choice(["8", "16"]), default="8", show_default=True,
    help="Of a network with random weights.",
)  # fmt: skip
@click.option(
    "--classes", type=click.IntRange(2), default=11, show_default=True, metavar="N",
    help="Of a network with random weights.",
)  # fmt: skip
@click.option(
    "--precisions", type=Several(_name, "NAME"), default=(),
    help="Build and compare fp32, fp16 and int8, or some of them: a card of what each gains and loses.",
)  # fmt: skip
@click.option(
    "--backends", type=Several(_name, "NAME"), default=(),
    help="Build and compare for these backends; all is every one that runs here.",
)  # fmt: skip
@click.option("--calib", metavar="DIR|LIST|URI", help="Frames for INT8's ranges, for a model file that brings none.")
@click.option(
    "--source", metavar="URI", help="What engines and the loop see.  [default: a street of 480x640 (HxW) from memory]"
)
@click.option(
    "--data", metavar="DIR|LIST|URI", help="Labelled images, as rtpsp eval takes them: then the card tells mIoU."
)
@click.option("--split", help="Which part of a folder of labelled images.  [default: val]")
@click.option("--growth", is_flag=True, help="Latency and memory against pixels, batch and threads.")
@click.option("--sizes", type=Several(_size, "HxW"), default=(), help="Growth over these input sizes alone.")
@click.option("--batch", type=Several(_number(1), "N"), default=(), help="Growth over so many frames at once alone.")
@click.option(
    "--baseline", type=Several(_name, "NAME"), default=(),
    help="Published figures beside this machine's, with what differs; list prints them, all takes all.",
)  # fmt: skip
@click.option(
    "--layers", is_flag=True, help="The most expensive layers, each with its share of what this machine can do."
)
@click.option(
    "--peers", is_flag=True, help="Other libraries with the same weights, in turn with ours; from a checkout."
)
@click.option("--cameras", is_flag=True, help="How many cameras of 30 fps fit, and what keeps more from fitting.")
@click.option(
    "--bound", type=click.FloatRange(0, min_open=True), metavar="MS",
    help="Oldest that 95 % of the cameras' frames may be when they are answered.  [default: 100 ms]",
)  # fmt: skip
@click.option(
    "--duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="How long each engine, and the loop, is measured.  [default: 10; 1 with --quick]",
)  # fmt: skip
@click.option(
    "--warmup", type=click.FloatRange(0), metavar="SECONDS",
    help="How long each runs before it is measured.  [default: 2; 0.3 with --quick]",
)  # fmt: skip
@click.option(
    "--threads", type=Several(_number(0), "N"), default=(),
    help="CPU threads; several numbers are growth over them.  [default: all]",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="A look in seconds: what is measured, and no figure to rely on.")
@json_option
@click.option(
    "--html", "html_path", type=click.Path(dir_okay=False, path_type=Path),
    help="Write it all as one page to this file, with plots; it needs no network.",
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Measure ENGINE, or the shipped model's: its latency alone, then the live loop around it without any output.

    \b
    rtpsp bench
    rtpsp bench mine.engine other.engine
    rtpsp bench --precisions fp32,int8 --html bench.html
    rtpsp bench --model pspnet50 --size 720x960 --layers

    An engine that does not answer as the model does in FP32 is not timed. Several take turns on each frame, and their
    ratio is taken pair by pair. Ctrl-C ends it early: what was measured by then is printed and written.
    """
    with importing():
        from rtpsp.cli.benching import measure
    measure(ctx, given)
