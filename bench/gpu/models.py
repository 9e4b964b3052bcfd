"""The networks that are measured: lowered, typed and quantised as `rtpsp.build` does it, and the answers to expect."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.part import Job, rounded

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.graph.lower import Head, Tail
    from rtpsp.header import Precision
    from rtpsp.spec import ModelSpec

NETWORKS = ("pspnet18", "pspnet50")
SIZES = {"pspnet18": (360, 480), "pspnet50": (720, 960)}
BITS = {"fp32": 32, "fp16": 16, "int8": 8}


@dataclass(frozen=True)
class Variant:
    """One engine of a network."""

    precision: Precision
    head: Head
    tail: Tail

    def __str__(self) -> str:
        return f"{self.precision}-{self.head}-{'scores' if self.tail == 'host' else 'classes'}"


FIRST = (Variant("fp16", "split", "host"), Variant("int8", "split", "host"))
"""The fastest that give scores, which is what the kernels of device IO begin with."""
REST = (
    *(Variant(precision, "split", "graph") for precision in ("fp16", "int8")),
    *(Variant(precision, "plain", "host") for precision in ("fp16", "int8")),
    *(Variant("fp32", head, "host") for head in ("split", "plain")),
)
VARIANTS = (*FIRST, *REST)


def variants(quick: bool) -> tuple[Variant, ...]:
    """Those that are built, in the order of their worth: all, or one of each precision."""
    return tuple(one for one in VARIANTS if (one.head, one.tail) == ("split", "host")) if quick else VARIANTS


def load(network: str) -> tuple[ir.Model, ModelSpec]:
    """The shipped PSPNet-18, or PSPNet-50 with random weights, which are as fast as any."""
    from rtpsp.onnx_file import load_model
    from rtpsp.zoo import model_path

    if network == "pspnet18":
        return load_model(model_path())
    from rtpsp.labels import CAMVID
    from rtpsp.model.export import to_onnx
    from rtpsp.model.pspnet import build
    from rtpsp.model.synthetic import randomise_statistics
    from rtpsp.spec import ModelSpec

    height, width = SIZES[network]
    model = build(network, len(CAMVID))
    randomise_statistics(model, seed=1)
    spec = ModelSpec(network, network, height, width, CAMVID)
    return to_onnx(model, spec), spec


def frames_of(spec: ModelSpec, count: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [count, H, W, 3]: the drawn street at the model's size."""
    from rtpsp.sim import Street

    street = Street(spec.height, spec.width, seed=1)
    return np.stack([street.draw(17 * index) for index in range(count)])


def prepare(job: Job) -> dict[str, Any]:
    """Writes every variant's graph, the answers of the FP32 graph by ONNX Runtime, and counts the arithmetic."""
    from rtpsp.graph.lower import lower
    from rtpsp.graph.ranges import canonical, collect, to_ranges
    from rtpsp.graph.verify import run
    from rtpsp.onnx_file import model_bytes

    (network,) = job.arguments
    begin = time.monotonic()
    model, spec = load(network)
    graph = canonical(model)
    frames = frames_of(spec, 2 if network == "pspnet18" and not job.quick else 1)
    answers = run(graph, spec, frames)
    np.savez(job.work / f"{network}.npz", frames=frames, class_map=answers.class_map)
    (job.work / f"{network}.spec.json").write_text(spec.to_json(), encoding="utf-8")
    if network == "pspnet18":
        from rtpsp.calibration_cache import read_cache
        from rtpsp.zoo import cache_path

        ranges, told = read_cache(cache_path()).ranges, "the shipped model's own"
    else:
        ranges = to_ranges(collect(graph, spec, [frames[:1]]), "minmax")
        told = "minimum and maximum of one drawn frame: good for speed, not for accuracy"
    job.keep(ranges=told, size=list(spec.size), classes=len(spec.labels), variants=[])
    lowered = {}
    for variant in variants(job.quick):
        key = (variant.head, variant.tail)
        if key not in lowered:
            lowered[key] = lower(model, spec, head=variant.head, tail=variant.tail, verify=False)
            job.keep(**{f"work_{variant.head}": arithmetic(lowered[key])})
        typed = to_tensorrt(lowered[key], variant.precision, ranges)
        (job.work / f"{network}-{variant}.onnx").write_bytes(model_bytes(typed))
        job.keep(variants=[*job.data["variants"], str(variant)])
    return {"seconds_to_prepare": round(time.monotonic() - begin, 1)}


def to_tensorrt(lowered: ir.Model, precision: Precision, ranges: Any) -> ir.Model:
    """The graph that TensorRT gets, as `rtpsp.build` makes it."""
    from rtpsp.graph.precision import to_half
    from rtpsp.graph.quantize import IntegerFormat, quantise
    from rtpsp.graph.tensorrt import to_tensorrt as last_pass

    if precision == "int8":
        lowered = quantise(lowered, ranges, IntegerFormat())
    if precision != "fp32":
        lowered = to_half(lowered)
    return last_pass(lowered)


def arithmetic(graph: ir.Model) -> dict[str, Any]:
    """Multiply-adds in all and by convolution or product, with the values that each reads and writes.

    Returns:
        ``gmac``; ``weights`` as a count of values; ``layers``: lists of multiply-adds, values of data, values of
        weights, for floors.
    """
    from rtpsp.graph.editing import infer_shapes, static_shape
    from rtpsp.graph.work import COUNTED, node_multiply_adds

    graph = graph.clone()
    infer_shapes(graph)
    layers = []
    for node in graph.graph:
        if node.op_type not in COUNTED:
            continue
        sizes = [int(np.prod(static_shape(value) or (0,))) for value in (*node.inputs[:2], node.outputs[0])]
        constant = node.inputs[1] is not None and node.inputs[1].producer() is None
        data = sizes[0] + sizes[2] + (0 if constant else sizes[1])
        layers.append([node_multiply_adds(node), data, sizes[1] if constant else 0])
    return {
        "gmac": rounded(sum(layer[0] for layer in layers) / 1e9, 6),
        "weights": sum(layer[2] for layer in layers),
        "layers": layers,
    }
