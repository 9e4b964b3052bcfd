"""Nodes that a rewrite adds to a graph, one by one, all named under one prefix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.graph.editing import add_initializer, typed


class Nodes:
    """New nodes of float32 results, which `insert_before` puts into the graph.

    Args:
        model: Changed in place.
        wanted: Prefix of the names of nodes, tensors and constants; with underscores where the graph has such names.
    """

    def __init__(self, model: ir.Model, wanted: str) -> None:
        taken = [*model.graph.initializers, *(str(value.name) for node in model.graph for value in node.outputs)]
        while any(name.startswith(f"{wanted}/") for name in taken):
            wanted += "_"
        self.prefix = wanted
        self._graph = model.graph
        self._model = model
        self._nodes: list[ir.Node] = []

    def add(
        self, kind: str, name: str, inputs: list[ir.Value], shape: tuple[int, ...], **attributes: int | list[int]
    ) -> ir.Value:
        """A node and its result of static shape, both of this name."""
        output = typed(f"{self.prefix}/{name}", ir.DataType.FLOAT, *shape)
        self._nodes.append(ir.node(kind, inputs, attributes, outputs=[output], name=output.name))
        return output

    def keep(self, name: str, array: npt.NDArray[np.floating] | npt.NDArray[np.int64]) -> ir.Value:
        """A constant, in float32 or int64."""
        stored = array if array.dtype == np.int64 else array.astype(np.float32)
        return add_initializer(self._model, f"{self.prefix}/{name}", stored)

    def reshape(self, name: str, value: ir.Value, *shape: int) -> ir.Value:
        """The same values in another shape, the batch first: there `rtpsp.graph.frames` changes it."""
        return self.add("Reshape", name, [value, self.keep(f"{name}/shape", np.array(shape, np.int64))], shape)

    def insert_before(self, node: ir.Node) -> None:
        """Puts what was added into the graph."""
        self._graph.insert_before(node, self._nodes)
        self._nodes = []
