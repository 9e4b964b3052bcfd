"""PSPNets with random weights, as graphs: speed needs no trained ones, and a camera box has no torch to export any.

What is written is, node by node and name by name, what `rtpsp.model.export` writes of the same architecture once its
batch norms are folded (`rtpsp.graph.fold`): the split head, INT8 and its groups meet nothing that they would not meet
in a trained network. Weights are drawn by `rtpsp.graph.network_weights`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.graph.editing import typed
from rtpsp.onnx_file import INPUT, OUTPUT
from rtpsp.pooling import pooling_matrix
from rtpsp.spec import SPEC_KEY, ModelSpec

FloatArray = npt.NDArray[np.float32]

BINS = (1, 2, 3, 6)  # the paper's pyramid (Zhao et al., arXiv 1612.01105, section 3.2)
OPSET = 19  # that of exports
IR_VERSION = 9  # the ONNX IR that came with it


class Architecture(Protocol):
    """What is asked of a row of `rtpsp.model.arch.ARCHS`, of rtpsp's own form."""

    @property
    def name(self) -> str: ...
    @property
    def block(self) -> str: ...
    @property
    def blocks(self) -> Sequence[int]: ...
    @property
    def width(self) -> int: ...
    @property
    def head_channels(self) -> int: ...
    @property
    def stem_channels(self) -> Sequence[int]: ...
    def steps(self, output_stride: int) -> Sequence[tuple[int, int]]: ...


class Writer:
    """Writes nodes with their results' shapes, under the names that an export gives them.

    Args:
        weights: Gives the constants of a convolution, by its name.
    """

    def __init__(self, weights: Callable[[str, tuple[int, ...]], FloatArray]) -> None:
        self.nodes: list[ir.Node] = []
        self._weights = weights
        self._constants: list[ir.Value] = []
        self._used: Counter[str] = Counter()

    def add(
        self, kind: str, name: str, inputs: Sequence[ir.Value | None], shape: Sequence[int], **given: Any
    ) -> ir.Value:
        """A node and its result; a name that is taken gets a number, as an export does it."""
        self._used[name] += 1
        name = name if self._used[name] == 1 else f"{name}_{self._used[name] - 1}"
        result = typed(name, ir.DataType.FLOAT, *shape)
        self.nodes.append(ir.node(kind, inputs, given, outputs=[result], name=name))
        return result

    def constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        """A constant under this name."""
        tensor = ir.tensor(np.require(array, requirements="C"), name=name)
        value = typed(name, tensor.dtype, *array.shape)
        value.const_value = tensor
        self._constants.append(value)
        return value

    def conv(
        self, name: str, value: ir.Value, channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1,
        norm: str | None = None,
    ) -> ir.Value:  # fmt: skip
        """A convolution with a bias that keeps the size but for its stride.

        Args:
            name: Of the module, ``backbone.layer1.0.conv1``.
            value: [N, C, h, w].
            channels: Of the result.
            kernel: Pixels a side.
            stride: Pixels of the input for one of the result.
            dilation: Pixels of the input between two that the kernel meets.
            norm: Name of the batch norm that is folded in: the result has it. None is a convolution with its own bias.
        """
        batch, inputs, height, width = shape_of(value)
        weight = self.constant(f"{name}.weight", self._weights(f"{name}.weight", (channels, inputs, kernel, kernel)))
        place = f"{name}.weight/bias" if norm else f"{name}.bias"
        bias = self.constant(place, self._weights(place, (channels,)))
        shape = (batch, channels, -(-height // stride), -(-width // stride))
        pad = dilation * (kernel // 2)
        result = self.add(
            "Conv", (norm or name).replace(".", "/"), [value, weight, bias], shape, group=1, pads=[pad] * 4,
            auto_pad="NOTSET", strides=[stride] * 2, dilations=[dilation] * 2, kernel_shape=[kernel] * 2,
        )  # fmt: skip
        self.nodes[-1].name = name.replace(".", "/")
        return result

    def relu(self, scope: str, value: ir.Value) -> ir.Value:
        """The ReLU of a module, or the next one."""
        return self.add("Relu", f"{scope}/relu", [value], shape_of(value))

    def resize(self, name: str, value: ir.Value, size: tuple[int, int]) -> ir.Value:
        """Bilinear interpolation between half-pixel centres."""
        shape = (*shape_of(value)[:2], *size)
        sizes = self.constant(f"{name}/sizes", np.array(shape, np.int64))
        return self.add(
            "Resize", name, [value, None, None, sizes], shape, keep_aspect_ratio_policy="stretch", antialias=0,
            extrapolation_value=0.0, exclude_outside=0, nearest_mode="floor",
            coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75, mode="linear",
        )  # fmt: skip

    def model(self, entry: ir.Value, results: Sequence[ir.Value]) -> ir.Model:
        """The whole graph."""
        graph = ir.Graph(
            [entry], results, nodes=self.nodes, initializers=self._constants, opset_imports={"": OPSET}, name="pspnet"
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="rtpsp")


def to_graph(arch: Architecture, spec: ModelSpec, weights: Callable[[str, tuple[int, ...]], FloatArray]) -> ir.Model:
    """A model file's graph.

    Args:
        arch: The architecture.
        spec: Gives size, planes, number of classes and output stride.
        weights: Gives each constant of a convolution, float32, by its name and shape:
            ``backbone.conv1.weight`` [out, in, k, k] and ``backbone.conv1.weight/bias`` [out].

    Returns:
        A graph as `rtpsp.onnx_file` describes it, with the spec inside.
    """
    writer = Writer(weights)
    image = typed(INPUT, ir.DataType.FLOAT, 1, spec.planes, *spec.size)
    scores = write_scores(writer, arch, spec, image)
    logits = writer.resize("resize", scores, spec.size)
    logits.name = OUTPUT
    model = writer.model(image, [logits])
    model.metadata_props[SPEC_KEY] = spec.to_json()
    return model


def write_scores(writer: Writer, arch: Architecture, spec: ModelSpec, image: ir.Value) -> ir.Value:
    """From the image to the scores of the feature map's cells, [N, classes, h, w]."""
    features = _backbone(writer, arch, spec.output_stride, image)
    maps = [features, *_pyramid(writer, features)]
    channels = sum(shape_of(value)[1] for value in maps)
    batch, _, height, width = shape_of(features)
    joined = writer.add("Concat", "concat", maps, (batch, channels, height, width), axis=1)
    fused = writer.conv("head.conv", joined, arch.head_channels, 3, norm="head.bn")
    return writer.conv("head.classifier", writer.relu("head", fused), len(spec.labels))


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape that a `Writer` gave a value."""
    assert value.shape is not None
    return value.shape.numpy()


def _backbone(writer: Writer, arch: Architecture, output_stride: int, image: ir.Value) -> ir.Value:
    """He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; dilated, as in the paper."""
    value = image
    for number, channels in enumerate(arch.stem_channels, 1):
        kernel, stride = (7 if arch.stem_channels[1:] == () else 3), (2 if number == 1 else 1)
        value = writer.conv(f"backbone.conv{number}", value, channels, kernel, stride, norm=f"backbone.bn{number}")
        value = writer.relu("backbone", value)
    batch, channels, height, width = shape_of(value)
    value = writer.add(
        "MaxPool", "backbone/maxpool", [value], (batch, channels, -(-height // 2), -(-width // 2)), storage_order=0,
        dilations=[1, 1], ceil_mode=0, pads=[1, 1, 1, 1], auto_pad="NOTSET", strides=[2, 2], kernel_shape=[3, 3],
    )  # fmt: skip
    for level, (stride, dilation) in enumerate(arch.steps(output_stride)):
        for position in range(arch.blocks[level]):
            place = f"backbone.layer{level + 1}.{position}"
            value = _block(writer, arch, place, value, arch.width << level, stride if position == 0 else 1, dilation)
    return value


def _block(
    writer: Writer, arch: Architecture, place: str, value: ir.Value, width: int, stride: int, dilation: int
) -> ir.Value:
    scope, channels = place.replace(".", "/"), width * (1 if arch.block == "basic" else 4)
    skip = value
    if shape_of(value)[1] != channels or stride != 1:
        skip = writer.conv(f"{place}.downsample.0", value, channels, stride=stride, norm=f"{place}.downsample.1")
    # of each convolution: channels, kernel, stride, dilation; the stride is the 3x3's, as in torchvision
    steps = [(width, 3, stride, dilation), (width, 3, 1, dilation)]
    if arch.block != "basic":
        steps = [(width, 1, 1, 1), (width, 3, stride, dilation), (channels, 1, 1, 1)]
    for number, (out, kernel, step, apart) in enumerate(steps, 1):
        value = writer.conv(f"{place}.conv{number}", value, out, kernel, step, apart, norm=f"{place}.bn{number}")
        if number < len(steps):
            value = writer.relu(scope, value)
    return writer.relu(scope, writer.add("Add", f"{scope}/add", [value, skip], shape_of(value)))


def _pyramid(writer: Writer, features: ir.Value) -> list[ir.Value]:
    """The pooled maps, mixed and upsampled; pooling is two products with constant matrices (`rtpsp.pooling`)."""
    batch, channels, height, width = shape_of(features)
    columns = np.concatenate([pooling_matrix(width, bins) for bins in BINS]).T
    across = writer.constant("pools.columns", columns)
    strips = writer.add("MatMul", "pools/matmul", [features, across], (batch, channels, height, sum(BINS)))
    split = writer.constant("pools/split/split", np.array(BINS, np.int64))
    pieces = [
        typed(f"pools/split/{i}", ir.DataType.FLOAT, batch, channels, height, bins) for i, bins in enumerate(BINS)
    ]
    writer.nodes.append(ir.node("Split", [strips, split], {"axis": 3}, outputs=pieces, name="pools/split"))
    pooled = []
    for bins, piece in zip(BINS, pieces, strict=True):
        rows = writer.constant(f"pools.rows{bins}", pooling_matrix(height, bins))
        pooled.append(writer.add("MatMul", "pools/matmul", [rows, piece], (batch, channels, bins, bins)))
    maps = []
    for level, value in enumerate(pooled):
        place = f"pyramid.{level}"
        mixed = writer.conv(f"{place}.conv", value, channels // len(BINS), norm=f"{place}.bn")
        active = writer.relu(f"pyramid/{level}", mixed)
        maps.append(writer.resize(f"pyramid/{level}/resize", active, (height, width)))
    return maps
