"""Layers as a runtime timed them, in the terms of the network and with what they multiply and move."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rtpsp.bench.parts import GraphNode, GraphNodes, part_of
from rtpsp.engine.profile import BYTES, RanLayer

_MULTIPLIES = re.compile(r"conv(?!er)|matmul|gemm|fullyconnected", re.IGNORECASE)  # a Convert converts
_MAY_MULTIPLY = "Subgraph"
"""OpenVINO's kind of many small nodes that it compiles into one, products among them."""


@dataclass(frozen=True)
class LayerRow:
    """A layer.

    Attributes:
        name: Of the graph's node that it is, or is mostly; the runtime's own where it added the layer.
        part: Of the network, one of `rtpsp.bench.parts.PARTS`.
        what: What it does, in words.
        kind: The runtime's word for it.
        format: Number format that it computes in.
        macs: Multiply-adds; 0 where it multiplies nothing, None where it is a product that the graph does not tell of.
        seconds: What it takes.
        bytes: What it reads and writes, by shapes and formats: caches may keep it from the memory. None where unknown.
    """

    name: str
    part: str
    what: str
    kind: str
    format: str
    macs: int | None
    seconds: float
    bytes: int | None

    @property
    def rate(self) -> float | None:
        """Multiply-adds a second; None without products or without time, which runtimes count in microseconds."""
        return self.macs / self.seconds if self.macs and self.seconds else None

    @property
    def intensity(self) -> float | None:
        """Multiply-adds a byte; None without products or where its bytes are unknown."""
        return self.macs / self.bytes if self.macs and self.bytes else None


def to_rows(layers: Sequence[RanLayer], graph: GraphNodes, rounds: Iterable[int]) -> tuple[LayerRow, ...]:
    """Finds each layer's nodes in the graph.

    A layer whose names tell no part, such as one that only changes the order of data, counts to the part of the layer
    that ran before it. A node counts for the first layer that it is found in.

    Args:
        layers: In the order in which they ran.
        graph: Of the engine.
        rounds: Which inferences to take the mean of.
    """
    taken = list(rounds)
    claimed: set[str] = set()
    rows: list[LayerRow] = []
    for layer in layers:
        nodes = graph.named(layer.sources)
        products = [node for node in _products(layer, nodes, graph) if node.name not in claimed]
        claimed |= {node.name for node in products}
        macs: int | None = sum(node.macs for node in products)
        if not products and _MULTIPLIES.search(layer.kind):
            macs = None
        part = next(filter(None, (*(node.part for node in (*products, *nodes)), part_of(layer.name))), "")
        if not part:
            part = rows[-1].part if rows else "other"
        size = layer.bytes
        if size is not None and layer.packed:
            size += sum(node.weights for node in products) * BYTES.get(layer.format, 4)
        rows.append(
            LayerRow(
                name=next((node.name for node in (*products, *nodes)), layer.name),
                part=part,
                what=products[0].what if products else ", ".join(dict.fromkeys(n.kind for n in nodes)) or layer.kind,
                kind=layer.kind,
                format=layer.format,
                macs=macs,
                seconds=sum(layer.seconds[place] for place in taken) / len(taken),
                bytes=size,
            )
        )
    return tuple(rows)


def _products(layer: RanLayer, nodes: Sequence[GraphNode], graph: GraphNodes) -> list[GraphNode]:
    """The convolutions and matrix products in a layer.

    Not every layer that has a product's name is one: what rounds its result may be called after it, too.
    """
    certain = _MULTIPLIES.search(layer.kind) is not None
    if not certain and layer.kind != _MAY_MULTIPLY:
        return []
    found = [node for node in nodes if node.macs]
    if not found and certain:
        before = graph.product_before(layer.sources)
        found = [before] if before else []
    return found
