"""Which convolutions of a graph are judged together when INT8 costs too much: a residual block, a pyramid branch."""

from __future__ import annotations

import re

import onnx_ir as ir

from rtpsp.graph.quantize import quantisable

_LEAF = re.compile(r"(?:^|/)(?:Conv|conv|downsample)(?:_?[0-9]+)?(?:/[0-9]+)?$")
"""The last part of a convolution's name, which tells it from the others of its block."""


def groups(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Names of the convolutions that INT8 may run, by group, in the graph's order.

    A group is what the names put into one module: ``backbone/layer1/0/conv1`` and ``…/conv2`` are the block
    ``backbone/layer1/0``. A convolution whose name tells no module is a group of its own.

    Args:
        model: A plain FP32 graph, with its head split or not: the groups are the same.
    """
    found: dict[str, list[str]] = {}
    for conv in quantisable(model):
        name = conv.name or ""
        found.setdefault(_module(name), []).append(name)
    return {group: tuple(names) for group, names in found.items()}


def _module(name: str) -> str:
    parts = name.strip("/")
    while (shorter := _LEAF.sub("", parts)) and shorter != parts:
        parts = shorter
    return parts
