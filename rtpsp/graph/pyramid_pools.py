"""The pyramid's pooling as two matrix products for all of its maps together, however it was written.

Adaptive average pooling leaves an exporter in many forms: windows where the bins divide the map, hundreds of gathers
and sums where they do not, a matrix product each. All of them are linear and separable, ``P = rows F columns^T``, so
that their responses to lines of ones are their definition. One product over the rows of all bins and one over the
columns, channels last as in `rtpsp.graph.pyramid_products`, read the features once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.graph.editing import constant, drop_unused, static_shape
from rtpsp.graph.pyramid_maps import FloatArray, Matrix, Respond, Unsuitable, explains, run_alone
from rtpsp.graph.pyramid_match import Match, matches, name_of, prepared
from rtpsp.graph.pyramid_nodes import Nodes

POINTWISE = frozenset(
    {
        "BatchNormalization", "Clip", "Conv", "Dropout", "Elu", "HardSwish", "Identity", "LeakyRelu", "PRelu", "Relu",
        "Sigmoid",
    }
)  # fmt: skip
"""What a branch does to its pooled map on the way to the upsampling; a Conv among them has 1x1 taps."""


class PoolsNotFound(ModelError):
    """No pooling of a graph can be written as matrix products; the text says what was looked for and what was found."""


@dataclass(frozen=True)
class _Pool:
    """A pooled map that is ``rows @ features @ columns.T`` in every channel."""

    pooled: ir.Value
    readers: tuple[ir.Node, ...]
    rows: Matrix
    columns: Matrix


def merge_pools(model: ir.Model) -> ir.Model:
    """Pools the maps of every pyramid by two matrix products in place of what did it.

    Args:
        model: Any graph of static shapes, folded or not, its head not split yet; not modified.

    Returns:
        A graph of the same inputs and outputs; the pooled maps keep their names. Compare it with the given one
        (`rtpsp.graph.verify`) before use.

    Raises:
        PoolsNotFound: No map of a pyramid is pooled linearly and separably from its features.
        HeadNotFound: The graph's shapes are neither given nor can be inferred.
        MissingError: onnxruntime is not installed.
    """
    model = prepared(model)
    heads = [match for match in matches(model) if isinstance(match, Match)]
    merged, reasons = False, list[str]()
    for match in heads:
        for features in (part.value for part in match.parts if part.upsampled is None):
            pools: list[_Pool] = []
            for part in match.parts:
                try:
                    if part.upsampled is not None:
                        pools.append(_read_pool(model, _pooled(part.upsampled.source), features))
                except Unsuitable as reason:
                    reasons.append(str(reason))
            if pools:
                _merge(model, name_of(match.conv), features, pools)
                merged = True
    if not merged:
        raise PoolsNotFound(
            f"no pooling to merge: found {'; '.join(reasons[:3]) or 'no pyramid'}, expected maps pooled linearly and "
            f"separably from the features that they are concatenated with: keep the graph as it is"
        )
    drop_unused(model)
    return model


def _pooled(source: ir.Value) -> ir.Value:
    """What the first convolution of a branch reads; the branch's own map where it has none."""
    pooled, value, shape = source, source, static_shape(source)
    while (node := value.producer()) is not None and node.op_type in POINTWISE and not node.domain:
        before = node.inputs[0]
        sides = static_shape(before)
        if before is None or sides is None or shape is None or sides[2:] != shape[2:]:
            break
        value = before
        if node.op_type == "Conv":
            pooled = before
    return pooled


def _read_pool(model: ir.Model, pooled: ir.Value, features: ir.Value) -> _Pool:
    shape = static_shape(features)
    assert shape is not None
    nodes = _between(model, pooled, features)
    respond = run_alone(model, nodes, features, pooled)
    rows, columns = _lines(respond, shape, 2), _lines(respond, shape, 3)
    total = rows.sum(axis=0)
    r, s = np.unravel_index(np.abs(total).argmax(), total.shape)
    if total[r, s] == 0.0 or not np.isfinite(total[r, s]):
        raise Unsuitable(f"{pooled.name} does not answer to {features.name}")
    # a line of ones at row y gives rows[r, y] times the sum of columns[s]; the total takes both sums out again
    factors = rows[:, :, s].T, columns[:, r, :].T / total[r, s]
    if not explains(factors, respond, shape):
        raise Unsuitable(
            f"{pooled.name} follows from {features.name}, but not by one pair of matrices in every channel"
        )
    return _Pool(pooled, tuple(node for node in nodes if features in node.inputs), *factors)


def _between(model: ir.Model, pooled: ir.Value, features: ir.Value) -> list[ir.Node]:
    """The nodes that compute a pooled map from the features, in the graph's order."""
    found: set[ir.Node] = set()
    waiting = [pooled]
    while waiting:
        value = waiting.pop()
        if value is features or constant(value) is not None:
            continue
        node = value.producer()
        if node is None:
            raise Unsuitable(f"{pooled.name} does not follow from {features.name} alone")
        if node not in found:
            found.add(node)
            waiting += [value for value in node.inputs if value is not None]
    if not found or static_shape(pooled) is None:
        raise Unsuitable(f"{pooled.name} is not pooled from {features.name}")
    return [node for node in model.graph if node in found]


def _lines(respond: Respond, shape: Sequence[int], axis: int) -> Matrix:
    """Responses to a line of ones across the map at each place of an axis, [size, h, w]."""
    channels, size = shape[1], shape[axis]
    responses: list[FloatArray] = []
    for start in range(0, size, channels):
        places = np.arange(start, min(start + channels, size))
        ones = np.zeros(shape, np.float32)
        np.moveaxis(ones, axis, 2)[0, places - start, places] = 1.0
        responses.append(respond(ones)[0, : len(places)])
    return np.concatenate(responses).astype(np.float64)


def _merge(model: ir.Model, name: str, features: ir.Value, pools: Sequence[_Pool]) -> None:
    shape = static_shape(features)
    assert shape is not None
    batch, channels, height, width = shape
    nodes = Nodes(model, f"{name}/pools")
    strips, longest = sum(len(pool.rows) for pool in pools), max(len(pool.columns) for pool in pools)
    columns = np.zeros((strips, longest, width))
    start = 0
    for pool in pools:
        columns[start : start + len(pool.rows), : len(pool.columns)] = pool.columns
        start += len(pool.rows)
    last = nodes.add("Transpose", "last", [features], (batch, height, width, channels), perm=[0, 2, 3, 1])
    lines = nodes.reshape("lines", last, batch, height, width * channels)
    rows = nodes.keep("rows", np.concatenate([pool.rows for pool in pools]))
    down = nodes.add("MatMul", "down", [rows, lines], (batch, strips, width * channels))
    cut = nodes.reshape("strips", down, batch, strips, width, channels)
    across = nodes.add("MatMul", "across", [nodes.keep("columns", columns), cut], (batch, strips, longest, channels))
    cells = nodes.reshape("cells", across, batch, strips * longest, channels)
    start = 0
    for index, pool in enumerate(pools):
        size = len(pool.rows), len(pool.columns)
        places = (start + np.arange(size[0], dtype=np.int64))[:, None] * longest + np.arange(size[1], dtype=np.int64)
        taken = nodes.keep(f"map{index}/places", places)
        map_ = nodes.add("Gather", f"map{index}/last", [cells, taken], (batch, *size, channels), axis=1)
        pooled = nodes.add("Transpose", f"map{index}", [map_], (batch, channels, *size), perm=[0, 3, 1, 2])
        ir.convenience.replace_all_uses_with(pool.pooled, pooled, replace_graph_outputs=True)
        pooled.name, pool.pooled.name = pool.pooled.name, f"{nodes.prefix}/map{index}/before"
        start += size[0]
    readers = {reader for pool in pools for reader in pool.readers}
    nodes.insert_before(next(node for node in model.graph if node in readers))
