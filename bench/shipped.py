"""The shipped model on labelled images, from checkpoint to engine: what each step costs in accuracy.

    python bench/shipped.py CHECKPOINT --data camvid

One row each for PyTorch in float32, the ONNX file under ONNX Runtime, and the engines that 'rtpsp build-engine' makes:
mIoU, pixel accuracy, and class agreement with PyTorch over every pixel of the set (its images being of one size).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from rtpsp import zoo
from rtpsp.arrays import ClassMap, Image
from rtpsp.build import BuildOptions, build_engine
from rtpsp.data.dataset import open_dataset
from rtpsp.engine import load_engine
from rtpsp.evaluate import evaluate, segmenter
from rtpsp.graph.verify import run, to_image
from rtpsp.model.checkpoint import load_checkpoint
from rtpsp.onnx_file import load_model

Infer = Callable[[Image], ClassMap]


@contextmanager
def engine(options: BuildOptions) -> Iterator[tuple[str, Infer]]:
    """An engine of the shipped model, built afresh, with the number format that ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = build_engine(zoo.model_path(), Path(folder) / "x.engine", options).path
        with load_engine(path) as opened:
            yield opened.ran, lambda frames: opened.infer(frames).class_map


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", required=True, help="As for rtpsp eval.")
@click.option("--split", default="val", show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(checkpoint: Path, data: str, split: str, json_path: Path | None) -> None:
    """Compare the shipped model's engines with the checkpoint it came from."""
    graph, spec = load_model(zoo.model_path())
    model = load_checkpoint(checkpoint, spec.arch, len(spec.labels), spec.output_stride).eval()
    samples = open_dataset(data, split)

    def by_torch(frames: Image) -> ClassMap:
        with torch.inference_mode():
            scores = model(torch.from_numpy(to_image(frames, spec)))
        answer: ClassMap = scores.argmax(1).numpy().astype(np.uint8)
        return answer

    def by_onnx(frames: Image) -> ClassMap:
        return run(graph, spec, frames).class_map

    reference: list[ClassMap] = []
    rows: list[dict[str, object]] = []

    def measure(name: str, infer: Infer) -> None:
        segment = segmenter(infer, spec)
        answers = [segment(sample.image) for sample in samples]
        given = iter(answers)
        result = evaluate(lambda image: next(given), samples, spec.labels)
        reference.extend(answers if not reference else [])
        same = float(np.mean([np.mean(one == other) for one, other in zip(answers, reference, strict=True)]))
        told = {"name": name, "miou": round(result.miou, 3), "pixel_accuracy": round(result.pixel_accuracy, 3)}
        rows.append({**told, "agreement_with_pytorch": same, "images": result.images})

    measure("PyTorch, float32", by_torch)
    measure("the ONNX file, ONNX Runtime", by_onnx)
    for options in (
        BuildOptions("fp32"), BuildOptions("fp16"), BuildOptions("int8"), BuildOptions("fp32", "onnxruntime"),
        BuildOptions("int8", "onnxruntime"),
    ):  # fmt: skip
        with engine(options) as (ran, infer):
            measure(f"engine, {options.backend} {options.precision}, ran in {ran}", infer)
    table = Table(title=f"{spec.name} on {data}, split {split}")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(f"{value:.7f}" if isinstance(value, float) and value <= 1 else str(value) for value in row.values())
        )
    Console(width=140).print(table)
    if json_path:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
