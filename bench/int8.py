"""INT8 on labelled images: what each choice of the quantiser costs in accuracy and brings in speed.

    python bench/int8.py --data camvid

Ranges are measured on one split and everything else on another. Speeds are ratios of latencies in OpenVINO, A B A B in
one process, pair by pair; FP32 and bf16 run the same graph, with the same head and tail.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from rtpsp import zoo
from rtpsp.arrays import ClassMap
from rtpsp.build import BuildOptions, to_header
from rtpsp.calibration_cache import METHODS, CalibrationCache
from rtpsp.comparison import Ratio
from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.engine.base import Engine
from rtpsp.evaluate import evaluate, segmenter
from rtpsp.fit import plan_fit
from rtpsp.graph import quantize
from rtpsp.graph.groups import groups
from rtpsp.graph.quantize import IntegerFormat
from rtpsp.graph.ranges import canonical, collect, to_ranges
from rtpsp.graph.verify import sample_frames
from rtpsp.maker import Form, Maker
from rtpsp.onnx_file import load_model
from rtpsp.timing import now

CPU = IntegerFormat(unsigned=True)


@dataclass(frozen=True)
class Variant:
    """One way to make the INT8 graph.

    Attributes:
        name: In the table.
        integers: The format.
        method: How ranges are chosen.
        keep: Groups that stay in floating point.
        without: Makes the change, as a context in which the graph is quantised.
        head: Plain or split.
    """

    name: str
    integers: IntegerFormat = CPU
    method: str = "mse"
    keep: Collection[str] = ()
    without: Callable[[], Any] = nullcontext
    head: Any = "split"


def _patched(name: str, function: Callable[..., Any]) -> Callable[[], Any]:
    return lambda: patch.object(quantize._Rounder, name, function)


def _behind_the_pool(self: Any, conv: ir.Node) -> None:
    assert conv.inputs[0] is not None
    conv.replace_input_with(0, self._round(conv.inputs[0]))


VARIANTS = (
    Variant("as built"),
    Variant("plain head", head="plain"),
    *(Variant(f"ranges by {method}", method=method) for method in METHODS if method != "mse"),
    Variant("signed data (as TensorRT takes it)", IntegerFormat()),
    Variant("7-bit weights (CPUs that saturate)", IntegerFormat(unsigned=True, weight_bits=7)),
    Variant("skips in float", without=_patched("skip", lambda self, conv: None)),
    Variant("pair behind the MaxPool alone", without=_patched("data", _behind_the_pool)),
    Variant("pyramid's branches in float", keep=("pyramid/0", "pyramid/1", "pyramid/2", "pyramid/3")),
    Variant("stem in float", keep=("backbone",)),
    Variant("head's convolution in float", keep=("head",)),
    Variant(
        "classifier in INT8 too",
        without=lambda: patch.object(quantize, "_score_convolutions", lambda model: set()),
    ),
)


class Bench:
    """The model, its histograms, and the images."""

    def __init__(self, samples: Dataset, calibration: Dataset, threads: int, console: Console) -> None:
        graph, self.spec = load_model(zoo.model_path())
        self.plain = canonical(graph)
        self.samples, self.threads = samples, threads
        self.histograms = collect(
            self.plain, self.spec, (self._fit(sample.image)[None] for sample in calibration), threads,
            lambda done: console.print(f"calibrated on {done}", end="\r"),
        )  # fmt: skip
        self.images = len(calibration)
        header = to_header(self.spec, BuildOptions("int8"), "bench")
        self.maker = Maker(graph, self.spec, header, sample_frames(self.spec, 1), "host", threads)

    def _fit(self, image: Any) -> Any:
        return plan_fit(image.shape[:2], self.spec).to_model(image)

    def engine(self, variant: Variant) -> Engine:
        """An INT8 engine."""
        ranges = to_ranges(self.histograms, variant.method)
        self.maker.ranges = CalibrationCache(
            self.spec.name, "0" * 64, "0" * 64, self.images, variant.method, "bench", ranges
        )
        self.maker.integers = variant.integers
        parted = groups(self.maker.lowered(variant.head))
        keep = frozenset(name for group in variant.keep for name in parted[group])
        with variant.without():
            return self.maker.engine(Form("int8", variant.head, keep))

    def answers(self, engine: Engine) -> list[ClassMap]:
        """Class maps of all images."""
        with engine:
            segment = segmenter(lambda frames: engine.infer(frames).class_map, self.spec)
            return [segment(sample.image) for sample in self.samples]

    def accuracy(self, answers: Sequence[ClassMap]) -> float:
        """mIoU in percent."""
        given = iter(answers)
        return evaluate(lambda image: next(given), self.samples, self.spec.labels).miou

    def ratios(self, engines: Sequence[Engine], pairs: int) -> list[Ratio]:
        """Latency of the first over that of each, all in turn."""
        frames = [self._fit(self.samples[place].image)[None] for place in range(0, len(self.samples), 13)]
        seconds: list[list[float]] = [[] for _ in engines]
        with ExitStack() as stack:
            for engine in engines:
                stack.enter_context(engine)
            for turn in range(pairs + 2):
                for engine, taken in zip(engines, seconds, strict=True):
                    begin = now()
                    engine.infer(frames[turn % len(frames)])
                    taken.append(now() - begin)
        return [Ratio.of(seconds[0][2:], taken[2:]) for taken in seconds]


def runtime_nodes(engine: Engine) -> dict[str, int]:
    """What OpenVINO runs, by kind, format of its input and of its output; constants and views left out."""
    with engine:
        compiled: Any = engine._compiled  # type: ignore[attr-defined]
        infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    rows = [
        f"{info['layerType'].value} {info['runtimePrecision'].value} to {info['outputPrecisions'].value}"
        for info in infos
        if info["layerType"].value not in ("Const", "Constant", "Reshape", "Input", "Output")
    ]
    return dict(Counter(rows).most_common())


@click.command()
@click.option("--data", required=True, help="As for rtpsp eval.")
@click.option("--split", default="val", show_default=True)
@click.option("--calib-split", default="train", show_default=True, help="What ranges are measured on.")
@click.option("--calib-images", type=int, default=300, show_default=True, help="How many of it, evenly spaced.")
@click.option("--every", type=int, default=1, show_default=True, help="Take every Nth image of the split.")
@click.option("--pairs", type=int, default=40, show_default=True, help="Pairs of inferences for each ratio.")
@click.option("--threads", type=int, default=0)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(
    data: str, split: str, calib_split: str, calib_images: int, every: int, pairs: int, threads: int,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Measure the shipped model's INT8 engines."""
    console = Console(width=150)
    whole = open_dataset(data, calib_split)
    count = min(calib_images, len(whole))
    chosen = replace(whole, entries=tuple(whole.entries[place * len(whole) // count] for place in range(count)))
    bench = Bench(open_dataset(data, split)[::every], chosen, threads, console)
    floats = {name: bench.maker.engine(Form(precision, "split")) for name, precision in _FLOATS}
    reference = bench.answers(floats["FP32"])
    wanted = bench.accuracy(reference)
    rows: list[dict[str, Any]] = []

    def add(name: str, engine: Engine, ratio: Ratio | None) -> None:
        answers = bench.answers(engine)
        same = [float(np.mean(one == other)) for one, other in zip(answers, reference, strict=True)]
        miou = bench.accuracy(answers)
        row = {
            "name": name, "miou": round(miou, 3), "drop": round(wanted - miou, 3), "agreement": float(np.mean(same)),
            "worst": min(same), "p5": float(np.quantile(same, 0.05)),
            "as_fast_as_built": None if ratio is None else ratio.to_dict(),
        }  # fmt: skip
        rows.append(row)
        console.print(row)

    built = bench.engine(VARIANTS[0])
    speeds = bench.ratios([built, floats["FP32"], floats["FP16"]], pairs)
    speed = {"int8_over_fp32": 1 / speeds[1].median, "int8_over_half": 1 / speeds[2].median}
    for (name, _), ratio in zip(_FLOATS, speeds[1:], strict=True):
        add(f"{name}, ran in {'f32' if name == 'FP32' else 'the half format'}", floats[name], ratio)
    for variant in VARIANTS:
        engine = bench.engine(variant)
        add(f"INT8, {variant.name}", engine, bench.ratios([bench.engine(VARIANTS[0]), engine], pairs)[1])
    told = {
        "model": bench.spec.name, "data": data, "split": split, "images": len(bench.samples),
        "calibrated_on": f"{count} of {calib_split}", "pairs": pairs, **speed,
        "runs": runtime_nodes(bench.engine(VARIANTS[0])), "second_opinion": second_opinion(bench), "rows": rows,
    }  # fmt: skip
    table = Table(title=f"{bench.spec.name} on {data}, split {split}, {len(bench.samples)} images")
    for column in ("", "mIoU", "drop", "agreement %", "worst frame %", "as fast as built"):
        table.add_column(column)
    for row in rows:
        ratio = row["as_fast_as_built"]
        figures = (f"{row['miou']:.2f}", f"{row['drop']:+.2f}", f"{100 * row['agreement']:.3f}")
        table.add_row(row["name"], *figures, f"{100 * row['worst']:.2f}", f"{ratio['median']:.3f}" if ratio else "-")
    console.print(table)
    console.print({key: value for key, value in told.items() if key != "rows"})
    if json_path:
        json_path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


_FLOATS: tuple[tuple[str, Any], ...] = (("FP32", "fp32"), ("FP16", "fp16"))


def second_opinion(bench: Bench) -> dict[str, float]:
    """Class agreement of ONNX Runtime with OpenVINO on the same INT8 graph, fused as its engine does and not at all."""
    from rtpsp.graph.verify import run

    bench.engine(VARIANTS[0])
    graph = bench.maker.graph_of(Form("int8", "split"))
    some = replace(bench.samples, entries=bench.samples.entries[:: max(1, len(bench.samples) // 20)])
    frames = np.stack([bench._fit(sample.image) for sample in some])
    with bench.engine(VARIANTS[0]) as engine:
        ours = np.concatenate([engine.infer(frame[None]).class_map for frame in frames])
    other = Maker(
        bench.maker.graph, bench.spec, replace(bench.maker.header, backend="onnxruntime"), bench.maker.frames, "host",
        bench.threads,
    )  # fmt: skip
    other.ranges, other.integers = bench.maker.ranges, bench.maker.integers
    with other.engine(Form("int8", "split")) as engine:
        theirs = np.concatenate([engine.infer(frame[None]).class_map for frame in frames])
    plain = run(graph, bench.spec, frames, bench.threads).class_map
    return {"optimised": float(np.mean(ours == theirs)), "not_optimised": float(np.mean(ours == plain))}


if __name__ == "__main__":
    main()
