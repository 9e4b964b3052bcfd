"""How far an exported PSPNet is from its PyTorch original: every architecture at every size, at full width.

    python bench/parity.py [--arch pspnet18 ...] [--size 360x480 ...] [--threads 2] [--json FILE]

Weights are random with batch-norm statistics as a trained network has them (`randomise_statistics`). The scores of the
exported graph under ONNX Runtime, its optimisations off, are compared with PyTorch's in float32, on one frame:
relative error = max|a - b| / max|b|, class agreement = share of pixels with the same class. All 16 rows take
about 15 minutes on two cores; the exit code is 6 when a row is above 1e-4 or below 99.99 %.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from rtpsp.errors import BoundNotMet
from rtpsp.graph.verify import MAX_ERROR, MIN_AGREEMENT, Outputs, measure, run, sample_frames, to_image
from rtpsp.labels import CITYSCAPES
from rtpsp.model.export import OPSET, to_onnx
from rtpsp.model.pspnet import ARCHS, build, multiply_adds
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.spec import ModelSpec

SIZES = ("360x480", "480x640", "512x1024", "713x713")


@dataclass(frozen=True)
class Row:
    """One architecture at one size.

    Attributes:
        arch: Architecture.
        height: Input height in pixels.
        width: Input width in pixels.
        gmac: Multiply-adds of one inference, in 10^9.
        max_error_relative: Of the scores.
        class_agreement: Share of pixels, 0..1.
        classes_seen: How many classes win somewhere: agreement over one class would say nothing.
    """

    arch: str
    height: int
    width: int
    gmac: float
    max_error_relative: float
    class_agreement: float
    classes_seen: int

    @property
    def passed(self) -> bool:
        """Within the bounds of `rtpsp.graph.verify`."""
        return self.max_error_relative <= MAX_ERROR and self.class_agreement >= MIN_AGREEMENT


def measure_row(arch: str, size: tuple[int, int], threads: int) -> Row:
    """Builds, exports and compares one network."""
    model = build(arch, len(CITYSCAPES))
    randomise_statistics(model, seed=1)
    spec = ModelSpec(arch, arch, *size, CITYSCAPES)
    frames = sample_frames(spec, 1)
    with torch.no_grad():
        logits = model(torch.from_numpy(to_image(frames, spec))).numpy()
    reference = Outputs(logits, logits.argmax(axis=1))
    comparison = measure(reference, run(to_onnx(model, spec), spec, frames, threads))
    assert comparison.max_error_relative is not None
    return Row(
        arch,
        *size,
        gmac=round(multiply_adds(model, size) / 1e9, 1),
        max_error_relative=comparison.max_error_relative,
        class_agreement=comparison.class_agreement,
        classes_seen=len(set(reference.class_map.ravel().tolist())),
    )


def to_size(text: str) -> tuple[int, int]:
    """``HxW`` to (height, width)."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"size is {text!r}, expected HxW, e.g. 360x480")
    return int(height), int(width)


def main() -> int:
    """Prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description="ONNX Runtime against PyTorch, at full width.")
    parser.add_argument("--arch", nargs="+", choices=list(ARCHS), default=list(ARCHS))
    parser.add_argument("--size", nargs="+", type=to_size, default=[to_size(size) for size in SIZES], metavar="HxW")
    parser.add_argument("--threads", type=int, default=0, help="inside an operator; 0 leaves it to the runtimes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows: list[Row] = []
    print(f"{'model':10} {'HxW':>9} {'GMAC':>7} {'max rel. error':>15} {'agreement':>11} {'classes':>8} {'s':>5}")
    for arch in options.arch:
        for size in options.size:
            start = time.monotonic()
            row = measure_row(arch, size, options.threads)
            rows.append(row)
            took = time.monotonic() - start
            print(
                f"{arch:10} {f'{row.height}x{row.width}':>9} {row.gmac:7.1f} {row.max_error_relative:15.2e} "
                f"{row.class_agreement:11.4%} {row.classes_seen:8} {took:5.0f}{'' if row.passed else '  ABOVE BOUND'}",
                flush=True,
            )
            gc.collect()  # one network at a time: a -152 and its copy for export are 650 MB
    if options.json:
        versions = {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")}
        result = {"opset": OPSET, "versions": versions, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.passed for row in rows) else BoundNotMet.exit_code


if __name__ == "__main__":
    sys.exit(main())
