"""What ``rtpsp build-engine`` is told of a model that another program exported."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import Size, stdout
from rtpsp.errors import UsageError
from rtpsp.labels import LABEL_SETS, to_label_set
from rtpsp.spec import Fit, Resize

if TYPE_CHECKING:
    from rtpsp.foreign import Adapted

NAMES = (
    "labels", "mean", "std", "rgb", "bgr", "size", "fit", "resize", "name", "licence", "output_tensor", "save_model",
)  # fmt: skip


class Values(click.ParamType):  # type: ignore[type-arg]  # as Size
    """Numbers with commas between, one a plane: ``0.485,0.456,0.406``."""

    name = "A,B,C"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it is written."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            values = tuple(float(word) for word in str(value).replace(",", " ").split())
        except ValueError:
            values = ()
        if not values or not all(map(math.isfinite, values)):
            self.fail(f"{value!r} is no list of numbers: give one a plane, e.g. 0.485,0.456,0.406", param, ctx)
        return values


_OPTIONS = (
    click.option(
        "--labels", metavar="SET|FILE",
        help=f"Its classes: {', '.join(sorted(LABEL_SETS))}, or a text file with a name a line, in id order.",
    ),
    click.option(
        "--mean", type=Values(),
        help="What is subtracted from its input, a value a plane, on 0..1 or 0..255.  [default: ImageNet's]",
    ),
    click.option(
        "--std", type=Values(), help="What its input is divided by then, on the same scale.  [default: ImageNet's]"
    ),
    click.option("--rgb", is_flag=True, help="It takes red first.  [default: this, if its mean says nothing else]"),
    click.option("--bgr", is_flag=True, help="It takes blue first."),
    click.option("--size", type=Size(), help="Its input, where its graph leaves the size open, e.g. 512x1024."),
    click.option(
        "--fit", type=click.Choice(get_args(Fit)), help="How frames of another shape are fitted.  [default: stretch]"
    ),
    click.option("--resize", type=click.Choice(get_args(Resize)), help="How frames are scaled.  [default: area]"),
    click.option("--name", help="Name of the model; by default the file's."),
    click.option("--licence", help="Licence of the weights, in one line."),
    click.option("--output-tensor", metavar="NAME", help="Which of several outputs is the answer."),
    click.option(
        "--save-model", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        help="Keep it as an ONNX model that brings all of this, which need not be said again then.",
    ),
)  # fmt: skip


def foreign_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of `NAMES`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def take_over(model: Path, given: dict[str, Any]) -> Path | Adapted:
    """The model as the build takes it; of one from elsewhere it is told what it was taken for.

    Args:
        model: An ONNX file.
        given: The options' values, by `NAMES`.

    Raises:
        UsageError: Something has to be said or cannot be.
        ModelError: The file is no segmenter, or of other classes.
        BoundNotMet: It could not be taken over without changing its answers.
        OutputError: It cannot be kept.
    """
    with importing():
        from rtpsp.foreign import Given, adapt, brings_spec
        from rtpsp.onnx_file import save_model

    if given["rgb"] and given["bgr"]:
        raise UsageError("got --rgb and --bgr, expected one: a model takes its colours in one order")
    said = Given(
        labels=to_label_set(given["labels"]) if given["labels"] else None, mean=given["mean"], std=given["std"],
        order="rgb" if given["rgb"] else "bgr" if given["bgr"] else None, size=given["size"], fit=given["fit"],
        resize=given["resize"], name=given["name"], licence=given["licence"], output=given["output_tensor"],
    )  # fmt: skip
    kept = given["save_model"]
    if not said.flags and kept is None and brings_spec(model):
        return model
    adapted = adapt(model, said, "--save-model" if kept else None)
    stdout.print(adapted.told, soft_wrap=True, markup=False)
    if kept is None:
        return adapted
    save_model(adapted.graph, adapted.spec, kept)
    stdout.print(f"{kept}: the model with what was said of it", soft_wrap=True, markup=False)
    return Path(kept)  # which the engine then names, and from which it can be built again
