"""What the split head is worth: its error, its arithmetic, and its time beside a plain head's.

    python bench/head.py [--case pspnet50-720x960 ...] [--precision f32 ...] [--rounds 10] [--threads 2] [--json FILE]

Cases are PSPNet-50 at 720x960 and 512x1024 with random weights (`randomise_statistics`) and the shipped PSPNet-18 at
360x480. Error and agreement are those of `rtpsp.graph.verify` between the plain and the split graph under ONNX
Runtime; multiply-adds are counted from the graphs (`rtpsp.graph.work`). Times are of the whole network, frames in and
class maps out, in OpenVINO: all variants are compiled first and run in turn, A B C A B C, so that each sees the same
machine. A ratio is the median over the rounds of plain / variant; ``cpu`` is that of processor time, which
other loads on the machine disturb less. The variants:

    plain     one convolution over the concatenation, as every exporter writes it
    padded    the same with 64 channels of zeros more: neighbouring pixels are then not a power of two of bytes apart,
              which a cache of few ways stores in the same few places
    summed    the features' convolution plus one over the concatenated upsampled maps: nothing is saved, but each is
              half as deep
    split     `rtpsp.graph.pyramid.split_head`
    merged    the same with `rtpsp.graph.pyramid_pools.merge_pools` before it

``int8`` is `rtpsp.graph.quantize.quantise` with ranges of one sample frame, the rest in f32: its speed does not depend
on them. ``--quick`` is the shipped model alone, in few rounds.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from rtpsp.graph.classmap import to_class_map
from rtpsp.graph.editing import add_initializer, constant, drop_unused, infer_shapes, typed_like
from rtpsp.graph.fold import fold
from rtpsp.graph.frames import to_frames
from rtpsp.graph.pyramid import Head, find_heads, split_head
from rtpsp.graph.pyramid_pools import merge_pools
from rtpsp.graph.quantize import IntegerFormat, quantise
from rtpsp.graph.ranges import collect, to_ranges
from rtpsp.graph.verify import compare, sample_frames
from rtpsp.graph.work import multiply_adds
from rtpsp.header import FRAMES
from rtpsp.labels import CITYSCAPES
from rtpsp.model.export import to_onnx
from rtpsp.model.pspnet import build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.onnx_file import load_model, model_bytes
from rtpsp.runtimes import import_openvino
from rtpsp.spec import ModelSpec
from rtpsp.zoo import model_path

SHIPPED = "shipped"
CASES = ("pspnet50-720x960", "pspnet50-512x1024", SHIPPED)
PRECISIONS = ("f32", "bf16", "int8")
VARIANTS = ("plain", "padded", "summed", "split", "merged")
FOR_FLOATS = ("padded", "summed")
"""Variants that ask why a plain head in floats may be slow; a graph of theirs has tensors without a range."""
PADDING = 64


def load(case: str) -> tuple[ir.Model, ModelSpec]:
    """The folded graph of a case and its spec."""
    if case == SHIPPED:
        model, spec = load_model(model_path())
        return fold(model), spec
    arch, _, size = case.partition("-")
    height, width = (int(side) for side in size.split("x"))
    network = build(arch, len(CITYSCAPES))
    randomise_statistics(network, seed=1)
    spec = ModelSpec(arch, arch, height, width, CITYSCAPES)
    return fold(to_onnx(network, spec)), spec


def pad_head(model: ir.Model, head: Head) -> ir.Model:
    """The plain head with channels of zeros at the end of the concatenation."""
    model = model.clone()
    conv, weight = _find(model, head)
    concat = conv.inputs[0].producer() if conv.inputs[0] else None
    assert concat is not None and concat.outputs[0].shape is not None
    batch, _, *size = concat.outputs[0].shape.numpy()
    zeros = add_initializer(model, "padding", np.zeros((batch, PADDING, *size), np.float32))
    joined = ir.node("Concat", [*concat.inputs, zeros], concat.attributes, name="padded")
    joined.outputs[0].name = "padded"
    model.graph.insert_before(conv, joined)
    conv.replace_input_with(0, joined.outputs[0])
    wide = np.pad(weight, ((0, 0), (0, PADDING), (0, 0), (0, 0)))
    conv.replace_input_with(1, add_initializer(model, "padded.weight", wide))
    return _finished(model)


def sum_head(model: ir.Model, head: Head) -> ir.Model:
    """The plain head as a sum of two convolutions, both at full size. The features come first, as in our exports."""
    model = model.clone()
    conv, weight = _find(model, head)
    concat = conv.inputs[0].producer() if conv.inputs[0] else None
    assert concat is not None and [value.name for value in concat.inputs if value][:1] == list(head.features)
    count = weight.shape[1] - sum(channels for _, channels, *_ in head.maps)
    maps = ir.node("Concat", concat.inputs[1:], concat.attributes, name="maps")
    share = add_initializer(model, "maps.weight", weight[:, count:])
    second = ir.node("Conv", [maps.outputs[0], share], conv.attributes, name="maps/conv")
    result = conv.outputs[0]
    total = typed_like(result)
    ir.convenience.replace_all_uses_with(result, total, replace_graph_outputs=True)
    maps.outputs[0].name, second.outputs[0].name, result.name = "maps", "maps/conv", "features/conv"
    conv.replace_input_with(0, concat.inputs[0])
    conv.replace_input_with(1, add_initializer(model, "features.weight", weight[:, :count]))
    add = ir.node("Add", [result, second.outputs[0]], outputs=[total], name="sum")
    model.graph.insert_after(conv, [maps, second, add])
    return _finished(model)


def _find(model: ir.Model, head: Head) -> tuple[ir.Node, np.ndarray[Any, np.dtype[np.float32]]]:
    conv = next(node for node in model.graph if node.name == head.conv)
    weight = constant(conv.inputs[1])
    assert weight is not None
    return conv, weight


def _finished(model: ir.Model) -> ir.Model:
    drop_unused(model)
    infer_shapes(model)
    return model


def variants(model: ir.Model, names: Sequence[str] = VARIANTS) -> dict[str, ir.Model]:
    """The same network with each head."""
    (head,) = find_heads(model)
    makers: dict[str, Callable[[], ir.Model]] = {
        "plain": lambda: model,
        "padded": lambda: pad_head(model, head),
        "summed": lambda: sum_head(model, head),
        "split": lambda: split_head(model),
        "merged": lambda: split_head(merge_pools(model)),
    }
    return {name: makers[name]() for name in names}


def compare_case(case: str, threads: int) -> dict[str, Any]:
    """Error, agreement, arithmetic and nodes of one case."""
    plain, spec = load(case)
    (head,) = find_heads(plain)
    split = split_head(plain)
    comparison = compare(plain, split, spec, sample_frames(spec, 1), threads)
    before, after = multiply_adds(plain), multiply_adds(split)
    return {
        "case": case,
        "max_error_relative": comparison.max_error_relative,
        "class_agreement": comparison.class_agreement,
        "gmac_plain": round(before / 1e9, 2),
        "gmac_split": round(after / 1e9, 2),
        "gmac_head": round(head.multiply_adds / 1e9, 2),
        "gmac_head_split": round(head.multiply_adds_split / 1e9, 2),
        "ratio_by_arithmetic": round(before / after, 3),
        "nodes_plain": len(plain.graph),
        "nodes_split": len(split.graph),
    }


def measure_case(
    case: str,
    precision: str,
    rounds: int,
    threads: int,
    names: Sequence[str] = VARIANTS,
) -> dict[str, Any]:
    """Times of one case in one precision, all variants in turn.

    Args:
        case: One of `CASES`, or an architecture and a size like them.
        precision: ``int8``, or OpenVINO's inference precision: f32, bf16 or f16.
        rounds: How often each variant runs, after two runs that are not counted.
        threads: For OpenVINO.
        names: Which variants.
    """
    if precision == "int8":
        names = [name for name in names if name not in FOR_FLOATS]
    plain, spec = load(case)
    openvino = import_openvino()
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
        "INFERENCE_NUM_THREADS": threads,
    }
    ranges = {}
    if precision == "int8":
        ranges = to_ranges(collect(plain, spec, [sample_frames(spec, 1)], threads), "minmax")
    requests = {}
    for name, graph in variants(plain, names).items():
        lowered = to_class_map(to_frames(graph, spec), spec)
        if ranges:
            lowered = quantise(lowered, ranges, IntegerFormat(unsigned=True))
        compiled = core.compile_model(core.read_model(model_bytes(lowered)), "CPU", settings)
        requests[name] = compiled.create_infer_request()
        del lowered, graph
        gc.collect()
    frames = {FRAMES: sample_frames(spec, 1)}
    wall: dict[str, list[float]] = {name: [] for name in requests}
    processor: dict[str, list[float]] = {name: [] for name in requests}
    for turn in range(rounds + 2):
        for name, request in requests.items():
            start, busy = time.perf_counter(), time.process_time()
            request.infer(frames)
            took, used = time.perf_counter() - start, time.process_time() - busy
            if turn >= 2:
                wall[name].append(took)
                processor[name].append(used)
    first = names[0]

    def ratio(times: dict[str, list[float]], name: str) -> float:
        return round(float(np.median(np.array(times[first]) / np.array(times[name]))), 3)

    return {
        "case": case,
        "precision": precision,
        "rounds": rounds,
        "threads": threads,
        "median_ms": {name: round(float(np.median(times)) * 1e3, 1) for name, times in wall.items()},
        "min_ms": {name: round(min(times) * 1e3, 1) for name, times in wall.items()},
        "ratio": {name: ratio(wall, name) for name in requests},
        "ratio_cpu": {name: ratio(processor, name) for name in requests},
    }


@click.command()
@click.option("--case", "cases", multiple=True, default=CASES, show_default=True, help="ARCH-HxW, or 'shipped'.")
@click.option("--precision", "precisions", multiple=True, default=PRECISIONS, show_default=True)
@click.option("--variant", "names", multiple=True, default=VARIANTS, type=click.Choice(VARIANTS), show_default=True)
@click.option("--rounds", default=10, show_default=True, help="Runs of each variant.")
@click.option("--threads", default=2, show_default=True)
@click.option("--quick", is_flag=True, help="The shipped model alone, in three rounds.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here as well.")
def main(
    cases: Sequence[str],
    precisions: Sequence[str],
    names: Sequence[str],
    rounds: int,
    threads: int,
    quick: bool,
    output: Path | None,
) -> None:
    """Error, arithmetic and time of the split head."""
    if quick:
        cases, rounds = (SHIPPED,), min(rounds, 3)
    console = Console()
    errors, times = [], []
    for case in cases:
        errors.append(compare_case(case, threads))
        console.print_json(json.dumps(errors[-1]))
        for precision in precisions:
            times.append(measure_case(case, precision, rounds, threads, names))
            console.print_json(json.dumps(times[-1]))
            gc.collect()
    table = Table("case", "precision", "variant", "median ms", "min ms", f"{names[0]} / it", "cpu")
    for row in times:
        for name in row["ratio"]:
            figures = (row["median_ms"][name], row["min_ms"][name], row["ratio"][name], row["ratio_cpu"][name])
            table.add_row(row["case"], row["precision"], name, *map(str, figures))
    console.print(table)
    if output is not None:
        versions = {name: version(name) for name in ("torch", "onnx", "openvino", "onnxruntime", "numpy")}
        result = {"versions": versions, "exactness": errors, "times": times}
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
