"""The split head: the pyramid's share of the fusing convolution on its few cells instead of on every pixel.

A PSPNet's head convolves ``concat(F, up(p1), up(p2), up(p3), up(p6))``: half of its input channels are upsampled maps
of at most 36 cells. A convolution is linear, so the share of the features F and that of the maps can be computed apart
and added; `rtpsp.graph.pyramid_products` has the second one in about a hundredth of the arithmetic. The rewrite is
exact up to rounding, whatever the kernel, the order of the branches, their number, sizes and widths, and however they
are pooled; `rtpsp.graph.pyramid_maps` reads the upsampling off the graph.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.graph.editing import (
    add_initializer,
    drop_unused,
    only_use,
    set_constant,
    static_shape,
    typed,
    typed_like,
)
from rtpsp.graph.pyramid_match import Head, HeadNotFound, Match, matches, name_of, prepared
from rtpsp.graph.pyramid_nodes import Nodes
from rtpsp.graph.pyramid_products import Branch, add_products

FloatArray = npt.NDArray[np.float32]

__all__ = ["Head", "HeadNotFound", "find_heads", "split_head"]


def find_heads(model: ir.Model) -> tuple[Head, ...]:
    """Every convolution behind a concatenation, with what `split_head` would do.

    Args:
        model: Any graph of static shapes; not modified.

    Raises:
        HeadNotFound: The graph's shapes are neither given nor can be inferred.
        MissingError: onnxruntime is not installed.
    """
    found = matches(prepared(model))
    return tuple(match if isinstance(match, Head) else match.head for match in found)


def split_head(model: ir.Model) -> ir.Model:
    """Computes the pyramid's share of the fusing convolution from its cells.

    The convolution keeps its node's name and the names of its weights and reads the features alone; the sum of both
    shares has the name that the convolution's result had. What is added is named ``{convolution}/split/...`` and holds
    no convolution: a quantiser leaves it in float.

    Args:
        model: Any graph of static shapes, folded (`rtpsp.graph.fold`) or not; not modified.

    Returns:
        A graph of the same inputs and outputs. Compare it with the given one (`rtpsp.graph.verify`) before use.

    Raises:
        HeadNotFound: There is no such convolution, or it saves nothing.
        MissingError: onnxruntime is not installed.
    """
    model = prepared(model)
    found = matches(model)
    fitting = [match for match in found if isinstance(match, Match)]
    if not fitting:
        seen = "; ".join(f"{head.conv!r}: {head.reason}" for head in found[:3] if isinstance(head, Head))
        raise HeadNotFound(
            f"no head to split: found {seen or 'no convolution that reads a concatenation'}, expected a convolution "
            f"that alone reads a concatenation of features and of upsampled small maps: keep the plain head"
        )
    for match in fitting:
        _split(model, match)
    drop_unused(model)
    return model


def _split(model: ir.Model, match: Match) -> None:
    conv, result = match.conv, match.conv.outputs[0]
    nodes = Nodes(model, f"{name_of(conv)}/split")
    prefix = nodes.prefix
    branches = [Branch(part.upsampled, match.weight[:, part.channels]) for part in match.parts if part.upsampled]
    kept = [part for part in match.parts if part.upsampled is None]
    planes = add_products(nodes, branches, match.window)
    nodes.insert_before(conv)
    features = kept[0].value
    if len(kept) > 1:
        shape = static_shape(features)
        assert shape is not None
        channels = sum(part.width for part in kept)
        features = typed(f"{prefix}/concatenated", ir.DataType.FLOAT, shape[0], channels, *shape[2:])
        parts = [part.value for part in kept]
        concat = ir.node("Concat", parts, {"axis": 1}, outputs=[features], name=features.name)
        model.graph.insert_before(conv, concat)
    conv.replace_input_with(0, features)
    _set_weight(model, conv, prefix, np.concatenate([match.weight[:, part.channels] for part in kept], axis=1))
    total = typed_like(result)
    ir.convenience.replace_all_uses_with(result, total, replace_graph_outputs=True)
    result.name, result.shape, result.dtype = f"{prefix}/features", planes.shape, ir.DataType.FLOAT
    total.shape, total.dtype = planes.shape, ir.DataType.FLOAT
    model.graph.insert_after(conv, ir.node("Add", [result, planes], outputs=[total], name=f"{prefix}/sum"))


def _set_weight(model: ir.Model, conv: ir.Node, prefix: str, array: FloatArray) -> None:
    """Gives the convolution other weights, under the name of the ones it had where nothing else reads these."""
    value = conv.inputs[1]
    assert value is not None
    cast = value.producer()
    if only_use(value) is None:
        conv.replace_input_with(1, add_initializer(model, f"{prefix}/weight", array))
    elif cast is None:
        set_constant(value, array)
    else:
        name = str(value.name)
        full = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
        conv.replace_input_with(1, full)
        model.graph.remove(cast, safe=True)
        model.graph.register_initializer(full)
