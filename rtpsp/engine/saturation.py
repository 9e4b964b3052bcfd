"""Whether a backend's INT8 products saturate on this CPU, found out by a convolution whose answer is known.

A CPU with dot-product instructions for bytes (VNNI, AMX, ARM's) adds four products in 32 bits. One without them has
``vpmaddubsw``, which adds two products of an unsigned and a signed byte in 16 bits and saturates: 255 * 127 * 2 = 64770
becomes 32767. Signed activations are no better: the kernels add 128 to them, and subtract what that adds at the end.

Weights from -64 to 64, which is 7 bits, never saturate, whatever the activations are: 255 * 64 * 2 = 32640. Nothing in
the answer tells that products saturated; only the accuracy does.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp import machine
from rtpsp.engine import BACKENDS, engine_class
from rtpsp.engine.base import EngineOptions
from rtpsp.header import CLASS_MAP, FRAMES, EngineHeader
from rtpsp.labels import LabelSet
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import ModelSpec

FULL_WEIGHT = 127
SAFE_WEIGHT = 64
"""Largest magnitudes of weights in 8 bits, and of those whose products never saturate."""

_SIZE = 8
_CHANNELS = 32  # as many as a kernel for bytes works on at once; with a few some backends take another one
_KERNEL = 3
_ANSWER = 100
_TOLERANCE = 0.02


def saturates(backend: str) -> bool:
    """Whether a backend's INT8 convolutions are wrong on this CPU with weights beyond `SAFE_WEIGHT`.

    Args:
        backend: Name in the backend table.

    Raises:
        EngineFileError: There is no such backend.
        MissingError: Its package is not installed.
    """
    return why_saturates(backend) is not None


@functools.cache
def why_saturates(backend: str) -> str | None:
    """None where `saturates` is false, else the reason in words; measured once a process, in some 100 ms.

    Raises:
        EngineFileError: There is no such backend.
        MissingError: Its package is not installed.
    """
    error = max(product_error(backend, FULL_WEIGHT, signed) for signed in (False, True))
    if error <= _TOLERANCE:
        return None
    units = machine.DOT_PRODUCTS & machine.cpu().features
    cause = "this CPU has no dot product of bytes (VNNI, AMX)"
    if units:
        cause = f"it does not use this CPU's {' and '.join(sorted(units))}"
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
        cause += f", as ONEDNN_MAX_CPU_ISA={limit} tells it" if limit else ""
    return (
        f"{BACKENDS[backend].package} adds INT8 products in 16 bits, where they saturate ({error:.0%} off at worst): "
        f"{cause}"
    )


def product_error(backend: str, weight: int, signed: bool) -> float:
    """How wrong an INT8 convolution comes out whose activations and weights are all as large as they get.

    Args:
        backend: Name in the backend table.
        weight: Every weight, as stored; from 1 to `FULL_WEIGHT`.
        signed: Activations are int8 instead of uint8; zero point 0 in either case.

    Returns:
        |a - b| / b, where b is the exact answer; 0 to the resolution of the output's INT8.

    Raises:
        EngineFileError: There is no such backend.
        MissingError: Its package is not installed.
    """
    level = 127 if signed else 255
    spec = ModelSpec("saturation", "one convolution", _SIZE, _SIZE, LabelSet("one", ("any",), ((0, 0, 0),)))
    header = EngineHeader(spec, backend, "int8", "none")
    payload = model_bytes(_one_convolution(level, weight, np.dtype(np.int8 if signed else np.uint8)))
    frames = np.full((1, _SIZE, _SIZE, 3), level, np.uint8)
    with engine_class(backend)(header, payload, EngineOptions(threads=1)) as engine:
        answer = int(engine.infer(frames).class_map[0, _SIZE // 2, _SIZE // 2])  # where no padding is in the sum
    return abs(answer - _ANSWER) / _ANSWER


def _one_convolution(level: int, weight: int, activations: np.dtype[np.uint8 | np.int8]) -> ir.Model:
    """A lowered graph as the builder makes them, of one quantised convolution; frames of `level` give `_ANSWER`."""
    scale = _ANSWER / (level * weight * _CHANNELS * _KERNEL**2)
    shape = (_CHANNELS, _CHANNELS, _KERNEL, _KERNEL)
    arrays: dict[str, npt.NDArray[Any]] = {
        "channels": np.zeros(_CHANNELS, np.int64),
        "one": np.array(1, np.float32),
        "zero": np.array(0, activations),
        "weights": np.full(shape, weight, np.int8),
        "scales": np.full(_CHANNELS, scale, np.float32),
        "zeros": np.zeros(_CHANNELS, np.int8),
        "bias": np.zeros(_CHANNELS, np.float32),
        "first": np.array(0, np.int64),
    }
    given = {name: ir.Value(name=name, const_value=ir.tensor(array, name=name)) for name, array in arrays.items()}
    bytes_ = ir.TensorType(ir.DataType.UINT8)
    frames = ir.Value(name=FRAMES, shape=ir.Shape((1, _SIZE, _SIZE, 3)), type=bytes_)
    nodes: list[ir.Node] = []

    def add(kind: str, *inputs: ir.Value, **attributes: int | list[int]) -> ir.Value:
        nodes.append(ir.node(kind, list(inputs), attributes))
        return nodes[-1].outputs[0]

    def rounded(value: ir.Value) -> ir.Value:
        stored = add("QuantizeLinear", value, given["one"], given["zero"])
        return add("DequantizeLinear", stored, given["one"], given["zero"])

    image = add("Transpose", add("Cast", frames, to=int(ir.DataType.FLOAT)), perm=[0, 3, 1, 2])
    kernel = add("DequantizeLinear", given["weights"], given["scales"], given["zeros"], axis=0)
    wide = rounded(add("Gather", image, given["channels"], axis=1))
    answer = rounded(add("Conv", wide, kernel, given["bias"], pads=[_KERNEL // 2] * 4))
    class_map = add("Cast", add("Gather", answer, given["first"], axis=1), to=int(ir.DataType.UINT8))
    class_map.name, class_map.shape, class_map.type = CLASS_MAP, ir.Shape((1, _SIZE, _SIZE)), bytes_
    graph = ir.Graph(
        [frames], [class_map], nodes=nodes, initializers=list(given.values()), opset_imports={"": 19}, name="saturation"
    )
    return ir.Model(graph, ir_version=9)
