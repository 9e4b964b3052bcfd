"""``rtpsp build-engine``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.outputs import check_outputs
from rtpsp.engine import BACKENDS, DEFAULT_BACKEND
from rtpsp.errors import UsageError

if TYPE_CHECKING:
    from rtpsp.header import Precision

EXCLUSIVE = (("fp32", "fp16"),)


@click.command("build-engine")
@click.argument("model", required=False, type=click.Path(dir_okay=False, readable=False, path_type=Path))
@click.option("--fp32", is_flag=True, help="Full precision.")
@click.option("--fp16", is_flag=True, help="Half precision: on a CPU its own half format, bf16 or f16.")
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
def command(
    model: Path | None, fp32: bool, fp16: bool, backend: str, confidence: bool, output: Path | None, threads: int
) -> None:
    """Turn MODEL, an ONNX PSPNet from 'rtpsp export', into an engine. Without MODEL: the shipped one.

    Without --fp32 or --fp16 it is the faster of the two that this machine has units for.
    """
    with importing():
        from rtpsp import build, zoo
    check_outputs({"-o": output}, {"the model": model})
    if fp32 and fp16:
        raise UsageError("got both --fp32 and --fp16, expected one: an engine has one precision")
    chosen: Precision = "fp32" if fp32 else "fp16" if fp16 else build.default_precision(backend)
    options = build.BuildOptions(chosen, backend, confidence, threads)
    with steps("build-engine") as tell:
        built = build.build_engine(model or zoo.model_path(), output, options, tell)
    asked_half = built.header.precision != "fp32"
    if asked_half and built.ran == "f32":
        stderr.print(f"rtpsp: {backend} has no half-precision units to use on this CPU: the engine runs in f32 here")
    size = built.path.stat().st_size / 1e6
    stdout.print(
        f"{built.path}\n"
        f"  {backend}, asked for {chosen}, runs in {built.ran}, {size:.1f} MB, class agreement with the FP32 graph "
        f"{built.agreement:.3%} on a synthetic frame (accuracy: rtpsp eval)\n"
        f"  next: rtpsp run --camera --engine {built.path}   (or --source FILE)",
        soft_wrap=True,
        markup=False,
    )
