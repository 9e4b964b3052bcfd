"""Makes the ranges that come with the shipped model, with what they cost for each format of integers.

    python bench/ranges.py --data camvid

Ranges are measured on four fifths of 300 frames of the training split, the cost on the rest: with 8-bit weights, with
the 7-bit ones of CPUs whose products saturate, for which more parts may have to stay in floating point, and with the
signed data of GPUs, by ONNX Runtime.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import click
from rich.console import Console

from rtpsp import zoo
from rtpsp.build import BuildOptions, to_header
from rtpsp.cli.console import steps
from rtpsp.graph.quantize import IntegerFormat
from rtpsp.graph.verify import sample_frames
from rtpsp.int8 import Int8Options, quantise_model
from rtpsp.maker import Maker
from rtpsp.onnx_file import load_model

MIN_AGREEMENT = 0.993
MAX_MIOU_DROP = 0.3
FORMATS = (
    ("openvino", IntegerFormat(unsigned=True, weight_bits=8)),
    ("openvino", IntegerFormat(unsigned=True, weight_bits=7)),
    ("tensorrt-rtx", IntegerFormat()),
)


@click.command()
@click.option("--data", required=True, help="A labelled folder with the part 'train'.")
@click.option("--threads", type=int, default=0)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=zoo.cache_path())
def main(data: str, threads: int, output: Path) -> None:
    """Write the shipped model's cache of ranges."""
    graph, spec = load_model(zoo.model_path())
    options = Int8Options(calib=data, min_agreement=MIN_AGREEMENT, max_miou_drop=MAX_MIOU_DROP)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder, patch.dict("os.environ", RTPSP_CALIB=folder):
        for backend, integers in FORMATS:
            header = to_header(spec, BuildOptions("int8", backend))
            maker = Maker(graph, spec, header, sample_frames(spec, 1), "host", threads)
            with (
                patch("rtpsp.int8._integers", lambda backend, integers=integers: (integers, "")),
                steps("int8") as tell,
            ):
                found = quantise_model(maker, options, "auto", tell)
            console.print(f"{integers}: {found.notes}, in float: {sorted(found.form.keep)}", markup=False)
            if found.failed:
                raise click.ClickException(found.failed)
        (cache,) = Path(folder).glob(f"{spec.name}-*.json")
        shutil.copyfile(cache, output)


if __name__ == "__main__":
    main()
