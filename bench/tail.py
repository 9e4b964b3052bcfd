"""From scores to class maps on a CPU, in the graph or beside it: ``python bench/tail.py``.

What is timed begins with a convolution of 1x1, as the tail of a network does, so that the scores lie in memory as the
runtime likes them; its weights are the identity, so that they are those given. Ways, interleaved and repeated:

    scores        the convolution alone: what every way pays
    argmax        and Resize, ArgMax, Cast in the graph
    topk          the same with TopK(k=1, sorted=0) in ArgMax's place
    topk-sorted   with TopK(k=1, sorted=1)
    host          and `rtpsp.class_mapper.ClassMapper`, in one thread

Scores are the shipped model's on frames of the simulator (11 classes, 45x60), else synthetic: regions of one class each
with smooth noise over all of them; ``mixed`` is the share of blocks between cells that more than one class wins.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtpsp import zoo
from rtpsp.class_mapper import ClassMapper
from rtpsp.fit import plan_fit
from rtpsp.graph.classmap import to_class_map, to_scores
from rtpsp.graph.verify import to_image
from rtpsp.header import SCORES
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.machine import usable_threads
from rtpsp.onnx_file import load_model, model_bytes
from rtpsp.runtimes import import_onnxruntime, import_openvino
from rtpsp.sim.street import Street
from rtpsp.spec import ModelSpec
from rtpsp.timing import now
from rtpsp.upsampling import Grid, confidence_map, reference_class_map, upsample

Scores = NDArray[np.float32]
Run = Callable[[Scores], Any]

STRIDE = 8
CLASSES = (11, 19, 40, 150)
CELLS = ((45, 60), (90, 120))
IMAGES = 4
RUNTIMES = ("openvino f32", "openvino bf16", "onnxruntime")
CONFIDENT = ("argmax+confidence", "host+confidence")


@dataclass(frozen=True)
class Case:
    """Scores to work on: float32 [1, classes, h, w] each."""

    name: str
    images: list[Scores]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(classes, h, w)."""
        _, classes, height, width = self.images[0].shape
        return classes, height, width


def shipped() -> Case:
    """Scores of the shipped model on a drawn street."""
    model, spec = load_model(zoo.model_path())
    session = import_onnxruntime().InferenceSession(
        model_bytes(to_scores(model, spec)), providers=["CPUExecutionProvider"]
    )
    street, plan = Street(480, 640, seed=1), plan_fit((480, 640), spec)
    frames = [plan.to_model(street.draw(15 * number))[np.newaxis] for number in range(IMAGES)]
    return Case("shipped model", [session.run([SCORES], {"image": to_image(frame, spec)})[0] for frame in frames])


def synthetic(classes: int, cells: tuple[int, int]) -> Case:
    """Regions around random sites, a class each, with borders as soft as a network's."""
    height, width = cells
    images = []
    for seed in range(IMAGES):
        random = np.random.default_rng(seed)
        sites = random.uniform(0, 1, (40, 2)) * cells
        owners = random.choice(min(classes, 25), 40)
        rows, columns = np.mgrid[:height, :width]
        distance = (rows[..., None] - sites[:, 0]) ** 2 + (columns[..., None] - sites[:, 1]) ** 2
        regions = owners[distance.argmin(axis=2)]
        scores = np.empty((1, classes, height, width), np.float32)
        for label, plane in enumerate(scores[0]):
            inside = cv2.GaussianBlur((regions == label).astype(np.float32), (0, 0), 1.2)
            coarse = random.normal(0, 1.5, (7, 9)).astype(np.float32)
            smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            plane[...] = 12 * inside + smooth + random.normal(0, 0.2, cells)
        images.append(scores)
    return Case("synthetic", images)


def mixed(case: Case) -> float:
    """Share of the squares between four cells whose winners differ."""
    winners = np.concatenate(case.images).argmax(axis=1)
    corner = winners[:, :-1, :-1]
    differ = (corner != winners[:, 1:, :-1]) | (corner != winners[:, :-1, 1:]) | (corner != winners[:, 1:, 1:])
    return float(differ.mean())


def tail(case: Case, way: str) -> bytes:
    """The graph of a way."""
    classes, *cells = case.shape
    names = tuple(f"class {label}" for label in range(classes))
    spec = ModelSpec(
        "tail", "none", STRIDE * cells[0], STRIDE * cells[1], LabelSet("numbers", names, distinct_palette(classes))
    )
    shape, kind = ir.Shape((1, classes, *cells)), ir.TensorType(ir.DataType.FLOAT)
    entry = ir.Value(name="features", shape=shape, type=kind)
    identity = np.eye(classes, dtype=np.float32).reshape(classes, classes, 1, 1)
    weights = ir.Value(name="weights", const_value=ir.tensor(identity, name="weights"))
    logits = ir.Value(name="logits", shape=shape, type=kind)
    node = ir.node("Conv", [entry, weights], outputs=[logits])
    graph = ir.Graph([entry], [logits], nodes=[node], initializers=[weights], opset_imports={"": 19}, name="tail")
    model = ir.Model(graph, ir_version=9)
    if way.startswith("argmax"):
        return model_bytes(to_class_map(model, spec, confidence=way in CONFIDENT))
    if way == "topk" or way == "topk-sorted":
        return model_bytes(to_class_map(model, spec, winner=way))  # type: ignore[arg-type]
    return model_bytes(to_scores(model, spec))


def open_graph(payload: bytes, runtime: str, threads: int) -> Run:
    """A callable that gives all outputs."""
    if runtime == "onnxruntime":
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = ort.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
        return lambda scores: session.run(None, {"features": scores})
    ov = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": runtime.split()[1],
        "INFERENCE_NUM_THREADS": threads,
    }
    request = ov.Core().compile_model(ov.Core().read_model(payload), "CPU", settings).create_infer_request()

    def infer(scores: Scores) -> Any:
        request.set_input_tensor(ov.Tensor(scores, shared_memory=True))
        request.infer()
        return [request.get_output_tensor(index).data for index in range(len(request.model_outputs))]

    return infer


def ways_of(case: Case, runtime: str, threads: int, confidence: bool) -> dict[str, Run]:
    """Every way as one callable from scores to a class map."""
    classes, *cells = case.shape
    names = ["scores", "argmax", "topk", "topk-sorted", *(["argmax+confidence"] if confidence else [])]
    ways = {name: open_graph(tail(case, name), runtime, threads) for name in names}
    grid = Grid.whole((cells[0], cells[1]), (STRIDE * cells[0], STRIDE * cells[1]))
    mapper = ClassMapper(grid, "uint8" if classes <= 256 else "int32")
    alone = ways["scores"]

    def host(scores: Scores) -> Any:
        return [mapper(np.asarray(alone(scores)[0])[0])]

    def host_confidence(scores: Scores) -> Any:
        given = np.asarray(alone(scores)[0])[0]
        return [mapper(given), confidence_map(given, grid)]

    return ways | {"host": host} | ({"host+confidence": host_confidence} if confidence else {})


def disagreement(case: Case, way: Run, alone: Run) -> tuple[float, float]:
    """Share of pixels that differ from the reference of the scores as computed, and the largest gap there, of the
    largest score."""
    share, gap = 0.0, 0.0
    for scores in case.images[:2]:
        grid = Grid.whole(case.shape[1:], (STRIDE * case.shape[1], STRIDE * case.shape[2]))
        found, given = np.array(way(scores)[0]).reshape(grid.size), np.array(alone(scores)[0])[0]
        expected, full = reference_class_map(given, grid), upsample(given, grid)
        rows, columns = np.nonzero(expected != found)
        losses = full[expected[rows, columns], rows, columns] - full[found[rows, columns], rows, columns]
        share = max(share, rows.size / expected.size)
        gap = max(gap, float(losses.max(initial=0)) / float(np.abs(full).max()))
    return share, gap


@click.command()
@click.option("--repeat", default=15, show_default=True, help="Rounds through all ways.")
@click.option("--threads", default=0, help="Threads of the runtime.  [default: all]")
@click.option("--runtime", "runtimes", type=click.Choice(RUNTIMES), multiple=True, default=RUNTIMES)
@click.option("--classes", "counts", type=int, multiple=True, default=CLASSES)
@click.option("--confidence", is_flag=True, help="The ways that give one, too.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(
    repeat: int,
    threads: int,
    runtimes: tuple[str, ...],
    counts: tuple[int, ...],
    confidence: bool,
    json_path: Path | None,
) -> None:
    """Measure every way on every runtime, class count and size."""
    threads = threads or usable_threads()
    cases = [shipped()] if 11 in counts else []
    cases += [synthetic(classes, cells) for classes in counts for cells in CELLS]
    rows: list[dict[str, Any]] = []
    console = Console(width=160)
    table = Table(title=f"ms from features to class map, median of {repeat} rounds, {threads} threads")
    names = ["scores", "argmax", "topk", "topk-sorted", "host", *(CONFIDENT if confidence else ())]
    for column in ("runtime", "scores of", "classes", "cells", "mixed", *names):
        table.add_column(column, justify="right")
    for case in cases:
        for runtime in runtimes:
            ways = ways_of(case, runtime, threads, confidence)
            times: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(-2, repeat):  # the first two warm up
                for name in names:
                    begin = now()
                    ways[name](case.images[turn % len(case.images)])
                    if turn >= 0:
                        times[name].append(1e3 * (now() - begin))
            medians = {name: statistics.median(values) for name, values in times.items()}
            wrong = {name: disagreement(case, ways[name], ways["scores"]) for name in names if name != "scores"}
            classes, height, width = case.shape
            told = {
                "runtime": runtime,
                "scores": case.name,
                "classes": classes,
                "cells": [height, width],
                "mixed": round(mixed(case), 4),
                "median_ms": {name: round(value, 3) for name, value in medians.items()},
                "min_ms": {name: round(min(values), 3) for name, values in times.items()},
                "differs_from_reference": {name: share for name, (share, _) in wrong.items()},
                "largest_gap_there": {name: gap for name, (_, gap) in wrong.items()},
            }
            rows.append(told)
            cells = [f"{medians[name]:.2f}" for name in names]
            console.print(told, soft_wrap=True)
            table.add_row(runtime, case.name, str(classes), f"{height}x{width}", f"{mixed(case):.2f}", *cells)
    console.print(table)
    if json_path:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
        json_path.write_text(
            json.dumps({**machine, "threads": threads, "rows": rows}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
