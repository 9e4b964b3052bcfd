"""``rtpsp build-engine``."""

from __future__ import annotations

from pathlib import Path

import click

from rtpsp import build, zoo
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.engine import BACKENDS, DEFAULT_BACKEND
from rtpsp.spec import Precision


@click.command("build-engine")
@click.argument("model", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--fp32", "precision", flag_value="fp32", help="Full precision.")
@click.option(
    "--fp16", "precision", flag_value="fp16", help="Half precision: on a CPU its own half format, bf16 or f16."
)
@click.option(
    "--backend", type=click.Choice(list(BACKENDS)), default=DEFAULT_BACKEND, show_default=True, help="What runs it."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the engine.")
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads; 0 takes all.")
def command(model: Path | None, precision: Precision | None, backend: str, output: Path | None, threads: int) -> None:
    """Turn MODEL, an ONNX PSPNet from 'rtpsp export', into an engine. Without MODEL: the shipped one.

    Without --fp32 or --fp16 it is the faster of the two that this machine has units for.
    """
    chosen = precision or build.default_precision(backend)
    options = build.BuildOptions(precision=chosen, backend=backend, threads=threads)
    with steps("build-engine") as tell:
        built = build.build_engine(model or zoo.model_path(), output, options, tell)
    asked_half = built.header.precision != "fp32"
    if asked_half and built.ran == "f32":
        stderr.print(f"rtpsp: {backend} has no half-precision units to use on this CPU: the engine runs in f32 here")
    size = built.path.stat().st_size / 1e6
    stdout.print(
        f"{built.path}\n  {backend}, asked for {chosen}, runs in {built.ran}, {size:.1f} MB, class agreement with the "
        f"FP32 graph {built.agreement:.3%} on a synthetic frame (accuracy: rtpsp eval)",
        soft_wrap=True, markup=False,
    )  # fmt: skip
