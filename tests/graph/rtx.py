"""TensorRT-RTX's parser and builder on a machine without a GPU: what it refuses, TensorRT's own parser refuses too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from rtpsp.engine.tensorrt_api import flavour_of, load, make_log
from rtpsp.engine.tensorrt_builder import make_builder, parse, serialise
from rtpsp.engine.tensorrt_options import PlanOptions, configure
from rtpsp.onnx_file import model_bytes

OPTIONS = PlanOptions(targets=("8.9",))


@dataclass(frozen=True)
class Built:
    """What the builder made of a graph.

    Attributes:
        plan: The engine's bytes.
        inputs: Types of the inputs by name.
        outputs: Types of the outputs by name.
        convolutions: Type of the data that each convolution reads, by the name of its node.
        quantised: Names of the convolutions whose data and weights come from a DequantizeLinear.
    """

    plan: bytes
    inputs: dict[str, str]
    outputs: dict[str, str]
    convolutions: dict[str, str]
    quantised: frozenset[str]


def build(model: ir.Model) -> Built:
    """Builds a graph by the steps of `rtpsp.engine.tensorrt_builder.build_plan`, to look into the network between them.

    Raises:
        ModelError: With every error and its node.
    """
    flavour = flavour_of("tensorrt-rtx")
    trt: Any = load(flavour.name)  # not its protocol, which has nothing of a network's layers
    log = make_log(trt)
    builder = make_builder(flavour, trt, log)
    network: Any = parse(flavour, trt, builder, model_bytes(model), log)
    plan = bytes(serialise(flavour, builder, network, configure(flavour, trt, builder, OPTIONS), log))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made_by = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    convs = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]

    def dequantised(layer: Any, position: int) -> bool:
        tensor = layer.get_input(position)
        return tensor is not None and made_by[tensor.name].type == trt.LayerType.DEQUANTIZE

    return Built(
        plan,
        {tensor.name: tensor.dtype.name for tensor in map(network.get_input, range(network.num_inputs))},
        {tensor.name: tensor.dtype.name for tensor in map(network.get_output, range(network.num_outputs))},
        {layer.name: layer.get_input(0).dtype.name for layer in convs},
        frozenset(layer.name for layer in convs if dequantised(layer, 0) and dequantised(layer, 1)),
    )
