"""What FP16 costs in answers, and what each FP32 island buys: class agreement with FP32 over real frames.

    python bench/half.py --data camvid [--every 4] [--arch pspnet18 --arch pspnet50] [--threads 2] [--json FILE]

Without ``--arch`` the shipped model, else networks with random weights (`randomise_statistics`). No CPU runtime does
what a typed FP16 graph says: ONNX Runtime computes chains of nodes in FP32 and rounds where they end, OpenVINO has one
format for the whole graph. So the FP16 arithmetic is written out: every tensor that the graph types FP16 is rounded to
it, in a graph that ONNX Runtime computes in FP32, its optimisations off. Sums inside a convolution are FP32, as tensor
cores make them; those of matrix products either way, since TensorRT may accumulate an FP16 product in FP16 (rows
``..., FP16 sums``). The row ``OpenVINO f16`` is this machine's own FP16 arithmetic, where its CPU has it (avx512_fp16).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import click
import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from rtpsp import zoo
from rtpsp.arrays import ClassMap, Image
from rtpsp.data.dataset import open_dataset
from rtpsp.fit import plan_fit
from rtpsp.graph.editing import add_initializer, constant, set_constant
from rtpsp.graph.lower import load_model, lower, model_bytes
from rtpsp.graph.precision import Island, to_half
from rtpsp.graph.verify import run
from rtpsp.header import CLASS_MAP
from rtpsp.labels import CAMVID
from rtpsp.model.export import to_onnx
from rtpsp.model.pspnet import ARCHS, build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.runtimes import import_openvino
from rtpsp.spec import ModelSpec

SIZE = (360, 480)

_FULL, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_KINDS = (("half", _HALF), ("full", _FULL))

EVERY: tuple[Island, ...] = get_args(Island)


@dataclass(frozen=True)
class Variant:
    """A way to type a network: its FP32 islands, the classifier among them or not, the sums of its matrix products."""

    name: str
    islands: tuple[Island, ...] = ()
    classifier: bool = False
    half_sums: bool = False


VARIANTS = (
    Variant("all FP16"),
    Variant("all FP16, FP16 sums", half_sums=True),
    *(Variant(f"{island} in FP32", (island,)) for island in EVERY),
    *(Variant(f"all but {island} in FP32", tuple(one for one in EVERY if one != island)) for island in EVERY),
    Variant("all three in FP32", EVERY),
    Variant("all three and the classifier in FP32", EVERY, classifier=True),
)


@dataclass(frozen=True)
class Row:
    """One way to type one network.

    Attributes:
        model: Its name.
        height: Input height in pixels.
        width: Input width in pixels.
        frames: How many were compared.
        variant: What stayed in FP32.
        casts: Cast nodes between FP16 and FP32 in the graph.
        changed: Pixels whose class is another than in FP32.
        agreement: Share of pixels, 0..1, with the class of FP32.
    """

    model: str
    height: int
    width: int
    frames: int
    variant: str
    casts: int | None
    changed: int
    agreement: float


def write_out(model: ir.Model, half_sums: bool = False) -> ir.Model:
    """The arithmetic of a typed graph as FP32 operators and explicit rounding.

    Args:
        model: From `to_half`; not modified.
        half_sums: Round every partial sum of an FP16 MatMul, one term after the other: no order is worse.
    """
    model = model.clone()
    for value in model.graph.initializers.values():
        array = constant(value)
        if array is not None and array.dtype == np.float16:
            value.type = ir.TensorType(_FULL)
            set_constant(value, array.astype(np.float32))
    for node in list(model.graph):
        halves = [value for value in node.outputs if value.dtype == _HALF]
        for value in halves:
            value.type = ir.TensorType(_FULL)
        if halves and node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(_FULL))
        for value in halves:
            exact, last = value, node
            if half_sums and node.op_type == "MatMul":
                exact, last = _sum_in_half(model, node)
            rounded, nodes = _round(exact, f"{value.name}/rounded")
            value.replace_all_uses_with(rounded)
            nodes[0].replace_input_with(0, exact)
            model.graph.insert_after(last, nodes)
    return model


def _round(value: ir.Value, name: str) -> tuple[ir.Value, list[ir.Node]]:
    half, full = (ir.Value(name=f"{name}/{kind}", type=ir.TensorType(dtype)) for kind, dtype in _KINDS)
    down = ir.node("Cast", [value], {"to": _HALF}, outputs=[half], name=half.name)
    return full, [down, ir.node("Cast", [half], {"to": _FULL}, outputs=[full], name=full.name)]


def _sum_in_half(model: ir.Model, product: ir.Node) -> tuple[ir.Value, ir.Node]:
    """``A @ B`` as columns of A times rows of B, rounded after each addition."""
    left, right = product.inputs
    array = constant(left) if constant(left) is not None else constant(right)
    assert array is not None
    terms = array.shape[-1] if array is constant(left) else array.shape[-2]
    total: ir.Value | None = None
    last = product
    for term in range(terms):
        name = f"{product.name}/{term}"
        index = add_initializer(model, f"{name}/index", np.array([term], np.int64))
        column = ir.node("Gather", [left, index], {"axis": -1}, name=f"{name}/column")
        row = ir.node("Gather", [right, index], {"axis": -2}, name=f"{name}/row")
        nodes = [column, row, ir.node("Mul", [column.outputs[0], row.outputs[0]], name=f"{name}/part")]
        if total is not None:
            nodes.append(ir.node("Add", [total, nodes[-1].outputs[0]], name=f"{name}/sum"))
        for node in nodes:
            node.outputs[0].name = node.name
        total, rounding = _round(nodes[-1].outputs[0], name)
        model.graph.insert_after(last, [*nodes, *rounding])
        last = rounding[-1]
    assert total is not None
    return total, last


def _types(node: ir.Node) -> set[ir.DataType | None]:
    return {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}


def networks(archs: Sequence[str], size: tuple[int, int]) -> Iterator[tuple[ir.Model, ModelSpec]]:
    """The shipped model, or networks with random weights."""
    if not archs:
        yield load_model(zoo.model_path())
    for arch in archs:
        model = build(arch, len(CAMVID))
        randomise_statistics(model, seed=1)
        spec = ModelSpec(arch, arch, *size, CAMVID)
        yield to_onnx(model, spec), spec


def by_openvino(model: ir.Model, frames: Image, threads: int) -> ClassMap | None:
    """Class maps in this machine's own FP16; None where its CPU has none."""
    ov = import_openvino()
    core = ov.Core()
    if "FP16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    settings = {"INFERENCE_PRECISION_HINT": "f16", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(core.read_model(model_bytes(model)), "CPU", settings)
    answer: ClassMap = np.concatenate([compiled(frame[None])[CLASS_MAP] for frame in frames])
    return answer


def measure(model: ir.Model, spec: ModelSpec, frames: Image, threads: int) -> Iterator[Row]:
    """All variants of one network."""
    plain = lower(model, spec, verify=False)
    reference = run(plain, spec, frames, threads).class_map

    def row(variant: str, answer: ClassMap, casts: int | None) -> Row:
        changed = int(np.count_nonzero(answer != reference))
        return Row(spec.name, *spec.size, len(frames), variant, casts, changed, 1 - changed / reference.size)

    classifier = [node.name or "" for node in plain.graph if node.op_type == "Conv"][-1]
    for variant in VARIANTS:
        half = to_half(plain, [classifier] if variant.classifier else (), variant.islands)
        casts = sum(node.op_type == "Cast" and _types(node) == {_FULL, _HALF} for node in half.graph)
        yield row(variant.name, run(write_out(half, variant.half_sums), spec, frames, threads).class_map, casts)
    answer = by_openvino(plain, frames, threads)
    if answer is not None:
        yield row("OpenVINO f16", answer, None)


@click.command()
@click.option("--data", required=True, help="As for rtpsp eval; labels are not used.")
@click.option("--split", default="val", show_default=True)
@click.option("--every", default=1, show_default=True, type=click.IntRange(min=1), help="Take one frame in so many.")
@click.option("--arch", "archs", multiple=True, type=click.Choice(list(ARCHS)), help="Random weights at 360x480.")
@click.option("--threads", default=0, show_default=True, help="0 leaves it to the runtimes.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(data: str, split: str, every: int, archs: tuple[str, ...], threads: int, json_path: Path | None) -> None:
    """Compare FP16 typings of a network with its FP32."""
    samples = open_dataset(data, split)[::every]
    console, rows = Console(width=140), []
    for model, spec in networks(archs, SIZE):
        frames = np.stack([plan_fit(sample.image.shape[:2], spec).to_model(sample.image) for sample in samples])
        table = Table(title=f"{spec.name} {spec.height}x{spec.width}, {len(frames)} frames of {split}")
        for column in ("variant", "casts", "changed pixels", "agreement"):
            table.add_column(column, justify="left" if column == "variant" else "right")
        for row in measure(model, spec, frames, threads):
            rows.append(row)
            table.add_row(
                row.variant, "" if row.casts is None else str(row.casts), str(row.changed), f"{row.agreement:.5%}"
            )
        console.print(table)
    if json_path:
        versions = {name: version(name) for name in ("onnx", "onnxruntime", "openvino", "numpy")}
        result = {"versions": versions, "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
