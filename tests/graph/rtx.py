"""TensorRT-RTX's parser and builder on a machine without a GPU: what it refuses, TensorRT's own parser refuses too."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import tensorrt_rtx_bindings as trt

from rtpsp.onnx_file import model_bytes


class Log(trt.ILogger):  # type: ignore[misc]  # the bindings are not typed
    """Keeps warnings and worse. INTERNAL_ERROR is no failure: the first build on a machine without GPU logs one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.Severity.WARNING:
            self.lines.append(f"{severity.name}: {message}")


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


class Refused(Exception):
    """The parser or the builder said no; the message is all that it said, with each node's name."""


def build(model: ir.Model) -> Built:
    """Parses a graph as a strongly typed network and builds it ahead of time for compute capability 8.9.

    Raises:
        Refused: With every error and its node.
    """
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model_bytes(model)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise Refused("\n".join([*(f"{error.node_name()}: {error.desc()}" for error in errors), *log.lines]))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Refused("\n".join(log.lines))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made_by = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    convs = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]

    def dequantised(layer: trt.ILayer, position: int) -> bool:
        tensor = layer.get_input(position)
        return tensor is not None and made_by[tensor.name].type == trt.LayerType.DEQUANTIZE

    return Built(
        bytes(plan),
        {tensor.name: tensor.dtype.name for tensor in map(network.get_input, range(network.num_inputs))},
        {tensor.name: tensor.dtype.name for tensor in map(network.get_output, range(network.num_outputs))},
        {layer.name: layer.get_input(0).dtype.name for layer in convs},
        frozenset(layer.name for layer in convs if dequantised(layer, 0) and dequantised(layer, 1)),
    )
