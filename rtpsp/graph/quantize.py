"""INT8 as Q/DQ nodes in the graph: explicit quantisation, which every backend reads alike.

Q and DQ stand for QuantizeLinear and DequantizeLinear, a pair of which rounds a tensor to 256 steps. Scales are those
of symmetric quantisation, zero point 0: ``x ~ scale * clip(round(x / scale))`` with scale = amax / 127, or amax / 255
where the integers are unsigned (Wu et al., arXiv 2004.09602, section 3). What is quantised, and why; the figures behind
it stand in ``bench/README.md``:

    convolutions            data and weights; the weights have a scale for each output channel
    residual Add            its skip input alone: the other is a convolution's own result and stays inside its kernel
    MaxPool                 a pair before it, where it commutes with rounding, so that the stem writes bytes; signed
                            formats get a second pair of the same scale behind it, which changes nothing and without
                            which OpenVINO 2026.4 computes nonsense
    Concat of the pyramid   one pair behind it: every input gets the same scale, and nothing is quantised twice
    classifier              float: its scores are what argmax compares
    pooling, upsampling     float: constant matrices on few pixels
    bias                    float
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rtpsp.calibration_cache import TensorRange
from rtpsp.errors import DataError
from rtpsp.graph.editing import add_initializer, constant, drop_unused, typed

_KEEPS_SIGN = frozenset(
    {
        "AveragePool", "DequantizeLinear", "Gather", "GlobalAveragePool", "Identity", "MaxPool", "QuantizeLinear",
        "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_FULL, _SAFE = 127, 64  # 255 * 64 + 255 * 64 is the largest sum below 2**15


@dataclass(frozen=True)
class IntegerFormat:
    """Which integers the target multiplies.

    Attributes:
        unsigned: Tensors that a ReLU made are stored as UINT8, twice as fine as INT8. CPUs multiply unsigned by signed
            bytes; TensorRT has signed ones alone.
        weight_bits: 8; or 7 for a CPU whose sums of two such products saturate (`rtpsp.engine.saturation`).
    """

    unsigned: bool = False
    weight_bits: int = 8

    def __str__(self) -> str:
        return f"{'u8' if self.unsigned else 's8'} data, {self.weight_bits}-bit weights"


def quantise(
    model: ir.Model, ranges: Mapping[str, TensorRange], fmt: IntegerFormat | None = None, keep: Collection[str] = ()
) -> ir.Model:
    """Puts Q/DQ pairs into an FP32 graph, whose head may be split.

    Args:
        model: A graph with folded batch norms (`rtpsp.graph.ranges.canonical`), lowered or not; not modified.
        ranges: By tensor name, of the `canonical` graph.
        fmt: Which integers; signed ones by default, which every backend takes.
        keep: Names of convolutions that stay in floating point, with the sums that they feed.

    Returns:
        The graph with INT8 weights; all tensor names survive.

    Raises:
        DataError: A tensor that has to be stored has no range.
    """
    model = model.clone()
    rounder = _Rounder(model, ranges, fmt or IntegerFormat())
    convs = [conv for conv in quantisable(model) if conv.name not in keep]
    for conv in convs:
        rounder.data(conv)
        rounder.weights(conv)
    for conv in convs:
        rounder.skip(conv)
    drop_unused(model)
    return model


def quantisable(model: ir.Model) -> list[ir.Node]:
    """The convolutions that INT8 may run: those with constant FP32 weights, but for those that give the scores."""
    last = _score_convolutions(model)
    return [node for node in model.graph if node.op_type == "Conv" and _is_float(node.inputs[1]) and node not in last]


def _is_float(weight: ir.Value | None) -> bool:
    array = constant(weight)
    return array is not None and array.dtype == np.float32


def _score_convolutions(model: ir.Model) -> set[ir.Node]:
    """The convolutions behind which there is no other, whatever the graph does with the scores."""
    found: set[ir.Node] = set()
    waiting = [value.producer() for value in model.graph.outputs]
    seen: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.op_type == "Conv":
            found.add(node)
        else:
            waiting += [value.producer() for value in node.inputs if value is not None]
    return found


class _Rounder:
    """Adds pairs to one graph; each tensor gets at most one."""

    def __init__(self, model: ir.Model, ranges: Mapping[str, TensorRange], fmt: IntegerFormat) -> None:
        self._model, self._ranges, self._format = model, ranges, fmt
        self._rounded: dict[str, ir.Value] = {}
        self._depth = _depths(model)

    def data(self, conv: ir.Node) -> None:
        data = conv.inputs[0]
        assert data is not None
        pool, found = data.producer(), None
        before = pool.inputs[0] if pool is not None and pool.op_type == "MaxPool" else None
        if pool is not None and before is not None:
            if not _is_dequantised(before):
                found = self._ranges.get(before.name or "") or self._range(data)  # its own, where others read it too
                pool.replace_input_with(0, self._round(before, found))
            if self._format.unsigned:
                return
        conv.replace_input_with(0, self._round(data, found))

    def weights(self, conv: ir.Node) -> None:
        weight = conv.inputs[1]
        array = constant(weight)
        assert weight is not None and array is not None
        top = _FULL if self._format.weight_bits == 8 else _SAFE
        peaks = np.abs(array).reshape(len(array), -1).max(axis=1)
        scale = (np.where(peaks > 0, peaks, 1.0) / top).astype(np.float32)
        channels = (-1, *[1] * (array.ndim - 1))
        integers = np.clip(np.rint(array / scale.reshape(channels)), -top, top).astype(np.int8)
        name = f"{weight.name}/{conv.name}" if len(weight.uses()) > 1 else f"{weight.name}"
        stored = add_initializer(self._model, f"{name}/int8", integers)
        scales = add_initializer(self._model, f"{name}/scale", scale)
        zeros = add_initializer(self._model, f"{name}/zero", np.zeros(len(array), np.int8))
        full = typed(f"{name}/dequantised", ir.DataType.FLOAT, *array.shape)
        node = ir.node("DequantizeLinear", [stored, scales, zeros], {"axis": 0}, outputs=[full], name=full.name)
        self._model.graph.insert_before(conv, node)
        conv.replace_input_with(1, full)

    def skip(self, conv: ir.Node) -> None:
        """Rounds the other input of a sum that a quantised convolution feeds, where that one is a residual block's."""
        for node, place in list(conv.outputs[0].uses()):
            other = node.inputs[1 - place] if node.op_type == "Add" else None
            if other is None or other.name not in self._ranges or other.is_initializer() or _is_dequantised(other):
                continue
            producer = other.producer()
            if producer is not None and producer.op_type == "Conv" and self._deeper(producer, conv):
                continue  # it is the skip of the two convolutions that is rounded, and this one is the skip
            if any(value is not None and _is_dequantised(value) for value in node.inputs):
                continue
            if self._format.unsigned and other.name not in self._rounded and _is_pooled_steps(producer):
                continue  # its values are whole steps already
            node.replace_input_with(1 - place, self._round(other))

    def _deeper(self, first: ir.Node, second: ir.Node) -> bool:
        one, other = self._depth[first.outputs[0].name or ""], self._depth[second.outputs[0].name or ""]
        return one > other or (one == other and (first.name or "") > (second.name or ""))

    def _round(self, value: ir.Value, found: TensorRange | None = None) -> ir.Value:
        assert value.name is not None
        if value.name not in self._rounded:
            self._rounded[value.name] = self._pair(value, found or self._range(value))
        return self._rounded[value.name]

    def _range(self, value: ir.Value) -> TensorRange:
        found = self._ranges.get(value.name or "")
        producer = value.producer()
        if found is None and producer is not None and producer.op_type == "Concat":  # what a split head leaves of it
            parts = [self._range(part) for part in producer.inputs if part is not None]
            return TensorRange(None, None, max(part.amax for part in parts))
        if found is None:
            raise DataError(
                f"the ranges have none for {value.name!r}: they are of another graph; calibrate again with --calib"
            )
        return found

    def _pair(self, value: ir.Value, found: TensorRange) -> ir.Value:
        unsigned = self._format.unsigned and not_negative(value)
        levels, dtype = (255, np.dtype(np.uint8)) if unsigned else (_FULL, np.dtype(np.int8))
        amax = found.amax or 1.0  # a dead tensor is 0 in any scale
        scale = add_initializer(self._model, f"{value.name}/scale", np.array(amax / levels, np.float32))
        zero = add_initializer(self._model, f"{value.name}/zero", np.zeros((), dtype))
        integers, rounded = ir.Value(name=f"{value.name}/quantised"), ir.Value(name=f"{value.name}/dequantised")
        integers.shape, integers.dtype = value.shape, ir.DataType.UINT8 if unsigned else ir.DataType.INT8
        rounded.shape, rounded.dtype = value.shape, ir.DataType.FLOAT
        nodes = [
            ir.node("QuantizeLinear", [value, scale, zero], outputs=[integers], name=integers.name),
            ir.node("DequantizeLinear", [integers, scale, zero], outputs=[rounded], name=rounded.name),
        ]
        producer = value.producer()
        if producer is None:
            self._model.graph.insert_before(self._model.graph[0], nodes)
        else:
            self._model.graph.insert_after(producer, nodes)
        return rounded


def not_negative(value: ir.Value | None) -> bool:
    """Whether a tensor can hold no negative value, whatever the frame: told by the graph, not by what was seen."""
    node = None if value is None else value.producer()
    if node is None:
        return False
    if node.op_type == "Relu":
        return True
    if node.op_type in ("MatMul", "Mul"):
        arrays = [constant(factor) for factor in node.inputs]
        others = [factor for factor, array in zip(node.inputs, arrays, strict=True) if array is None]
        return (
            len(others) == 1 and all(bool((a >= 0).all()) for a in arrays if a is not None) and not_negative(others[0])
        )
    if node.op_type == "Resize":  # cubic interpolation overshoots
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
        return mode != "cubic" and not_negative(node.inputs[0])
    if node.op_type == "Concat":
        return all(not_negative(part) for part in node.inputs)
    return node.op_type in _KEEPS_SIGN and not_negative(node.inputs[0])


def _is_pooled_steps(producer: ir.Node | None) -> bool:
    return producer is not None and producer.op_type == "MaxPool" and _is_dequantised(producer.inputs[0])


def _is_dequantised(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _depths(model: ir.Model) -> dict[str, int]:
    """How many convolutions lie on the longest way to each tensor."""
    depths: dict[str, int] = {}
    for node in model.graph:
        above = max((depths.get(value.name or "", 0) for value in node.inputs if value is not None), default=0)
        for output in node.outputs:
            depths[output.name or ""] = above + (node.op_type == "Conv")
    return depths
