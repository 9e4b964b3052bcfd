"""What this machine can do at most: rates of large matrix products in the library that runs the engine, and of a copy.

A peak is measured, not computed from clocks and units: a frequency that falls under wide vector instructions, a
neighbour on a shared machine and the library's best kernel are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp import machine
from rtpsp.bench.parts import GraphNodes
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.profile import ProfiledEngine, profiled_class
from rtpsp.header import CLASS_MAP, FRAMES, EngineHeader, Precision
from rtpsp.labels import LabelSet
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import ModelSpec
from rtpsp.timing import now


@dataclass(frozen=True)
class PeakWork:
    """What is computed and copied to see how fast it goes. The default is large enough for it.

    Attributes:
        side: Height and width of what is convolved, in pixels.
        shapes: Convolutions as (kernel, input channels, output channels), each on the result of the one before it.
            Those of 1x1 are plain products of a matrix of 2304 rows; those of 3x3 are a PSPNet's own largest.
        copied: Bytes of each side of the copy, far beyond the caches that one process has to itself; less is taken
            where memory is scarce.
    """

    side: int = 48
    shapes: tuple[tuple[int, int, int], ...] = ((3, 256, 256), (1, 256, 2048), (1, 2048, 512), (3, 512, 512))
    copied: int = 1 << 28


_OPTIONS: dict[Precision, dict[str, Any]] = {"fp32": {}, "fp16": {}, "int8": {"int8": {"scales": "fp32"}}}
"""As the builder has them: by the last ONNX Runtime knows that its optimiser serves."""


def peak_format(name: str) -> str:
    """Under which format a layer's peak stands: products of unsigned bytes with signed ones are ``i8``."""
    return "i8" if name == "u8" else name


@dataclass(frozen=True)
class Peaks:
    """Rates that were reached.

    Attributes:
        rates: Multiply-adds a second by number format (`peak_format`), the best of `PeakWork.shapes`; formats that this
            processor or backend has no convolutions for are not there.
        shapes: Which of them it was, in words.
        bandwidth: Bytes a second of a large copy with all threads, read plus written, as STREAM counts them (J. D.
            McCalpin, 1995).
    """

    rates: dict[str, float]
    shapes: dict[str, str]
    bandwidth: float


class PeakMeter:
    """Measures a bit at a time, so that it can take turns with something else; used inside ``with``.

    Args:
        backend: Name in the backend table, of one whose engines can be profiled.
        threads: Of every engine and of the copy.
        work: What is computed and copied.

    Raises:
        UsageError: The backend does not tell the times of layers.
    """

    def __init__(self, backend: str, threads: int, work: PeakWork | None = None) -> None:
        work = work or PeakWork()
        self._threads = threads
        make = profiled_class(backend)
        self._graphs: list[GraphNodes] = []
        self._engines: list[ProfiledEngine] = []
        for precision in _OPTIONS:
            payload = model_bytes(_products(work, precision == "int8"))
            spec = ModelSpec("peak", "large products", work.side, work.side, LabelSet("one", ("any",), ((0, 0, 0),)))
            header = EngineHeader(spec, backend, precision, "none", options=_OPTIONS[precision])
            self._graphs.append(GraphNodes(payload))
            self._engines.append(cast(ProfiledEngine, make(header, payload, EngineOptions(threads=threads))))
        self._frames = np.random.default_rng(1).integers(0, 256, (1, work.side, work.side, 3), np.uint8)
        size = min(work.copied, machine.memory().available // 8)
        self._source, self._target = np.ones(size, np.uint8), np.zeros(size, np.uint8)  # both touched: pages are there
        self._copies: list[float] = []
        self._open = ExitStack()

    def __enter__(self) -> PeakMeter:
        with ExitStack() as stack:
            for engine in self._engines:
                stack.enter_context(engine)
                engine.infer(self._frames)
            self._pool = stack.enter_context(ThreadPoolExecutor(self._threads))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def turn(self) -> None:
        """Every product and the copy once."""
        for engine in self._engines:
            engine.infer_counted(self._frames)
        self._copies.append(self._copy())

    def peaks(self) -> Peaks:
        """What was reached, after at least one turn; once, at the end."""
        rates: dict[str, float] = {}
        shapes: dict[str, str] = {}
        for graph, engine in zip(self._graphs, self._engines, strict=True):
            for layer in engine.layers():
                product = next((node for node in graph.named(layer.sources) if node.macs), None)
                time = quiet_mean(layer.seconds)
                form = peak_format(layer.format)
                if product and time and product.macs / time > rates.get(form, 0.0):
                    rates[form], shapes[form] = product.macs / time, product.what
        return Peaks(rates, shapes, 2 * self._source.size / quiet_mean(self._copies))

    def _copy(self) -> float:
        step = -(-self._source.size // self._threads)
        begin = now()
        list(self._pool.map(partial(self._copy_part, step), range(0, self._source.size, step)))
        return now() - begin

    def _copy_part(self, step: int, start: int) -> None:
        np.copyto(self._target[start : start + step], self._source[start : start + step])  # without Python's lock


def quiet(durations: Sequence[float]) -> list[int]:
    """Which of a series to take on a machine that others use too: the shorter half, by place, the median included."""
    ordered = sorted(range(len(durations)), key=durations.__getitem__)
    return sorted(ordered[: len(ordered) // 2 + 1])


def quiet_mean(durations: Sequence[float]) -> float:
    """Mean of `quiet` ones."""
    taken = quiet(durations)
    return sum(durations[place] for place in taken) / len(taken)


def _products(work: PeakWork, integers: bool) -> ir.Model:
    """A lowered graph as the builder makes them, of the convolutions one after the other."""
    side = work.side
    random = np.random.default_rng(0)
    given: dict[str, ir.Value] = {}
    nodes: list[ir.Node] = []

    def keep(name: str, array: npt.NDArray[Any]) -> ir.Value:
        given[name] = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        return given[name]

    def add(kind: str, name: str, *inputs: ir.Value, **attributes: int | list[int]) -> ir.Value:
        nodes.append(ir.node(kind, list(inputs), attributes, name=name))
        nodes[-1].outputs[0].name = name
        return nodes[-1].outputs[0]

    def rounded(name: str, value: ir.Value) -> ir.Value:
        if not integers:
            return value
        stored = add("QuantizeLinear", f"{name}/quantised", value, one, zero)
        return add("DequantizeLinear", f"{name}/dequantised", stored, one, zero)

    def weight(name: str, shape: tuple[int, ...]) -> ir.Value:
        """Positive, and together 1 on average: what goes in as bytes comes out within their range."""
        values = random.uniform(0, 2, shape).astype(np.float32)
        if not integers:
            return keep(name, values / np.prod(shape[1:], dtype=np.float32))
        stored = keep(f"{name}/stored", (values * 63).astype(np.int8))
        scale = keep(f"{name}/scale", np.full(shape[0], 1 / (63 * np.prod(shape[1:])), np.float32))
        return add("DequantizeLinear", name, stored, scale, keep(f"{name}/zero", np.zeros(shape[0], np.int8)), axis=0)

    one, zero = keep("one", np.array(1, np.float32)), keep("zero", np.array(0, np.uint8))
    bytes_ = ir.TensorType(ir.DataType.UINT8)
    frames = ir.Value(name=FRAMES, shape=ir.Shape((1, side, side, 3)), type=bytes_)
    image = add("Transpose", "planes", add("Cast", "float", frames, to=int(ir.DataType.FLOAT)), perm=[0, 3, 1, 2])
    value = add("Gather", "channels", image, keep("places", np.arange(work.shapes[0][1]) % 3), axis=1)
    for place, (kernel, before, after) in enumerate(work.shapes):
        name = f"product{place}"
        kept = weight(f"{name}/weight", (after, before, kernel, kernel))
        value = add("Conv", name, rounded(f"{name}/image", value), kept, pads=[kernel // 2] * 4)
    answer = add("Gather", "first", rounded("last", value), keep("place", np.array(0, np.int64)), axis=1)
    class_map = add("Cast", CLASS_MAP, answer, to=int(ir.DataType.UINT8))
    class_map.shape, class_map.type = ir.Shape((1, side, side)), bytes_
    graph = ir.Graph(
        [frames], [class_map], nodes=nodes, initializers=list(given.values()), opset_imports={"": 19}, name="peak"
    )
    return ir.Model(graph, ir_version=9)
