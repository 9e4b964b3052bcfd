"""Small PSPNets that this project did not write: by hand with any head, and modules of others as torch exports them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor, nn
from torch.nn import functional as F

from rtpsp.graph.editing import infer_shapes
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.onnx_file import INPUT, OUTPUT, model_bytes
from rtpsp.pooling import pooling_matrix
from rtpsp.runtimes import import_onnxruntime
from rtpsp.spec import SPEC_KEY, ModelSpec

SIZE = (24, 30)  # all bins of the paper divide it
CLASSES = 5
FEATURES = 12
FloatArray = npt.NDArray[np.float32]
Pool = Literal["matrix", "average", "mean", "area", "slices"]
HALF_PIXEL = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


@dataclass(frozen=True)
class Recipe:
    """A head, as other projects may write it.

    Attributes:
        bins: Height and width of each pooled map.
        order: Where the features stand in the concatenation: 0 first, -1 last; None for none. Two places, two tensors.
        widths: Channels of each branch; the last one is repeated.
        kernel: Of the fusing convolution.
        dilations: Of the same.
        pads: Of the same.
        bias: The convolution has one.
        pool: How the maps are pooled.
        resize: Attributes of the upsampling Resize.
        up: How maps are upsampled: Resize by sizes or scales, or what there is for one cell.
        attributes: Further attributes of the convolution.
        norm: A batch norm behind the convolution.
        half: The convolution's weights are stored as FP16 behind a Cast.
    """

    bins: Sequence[tuple[int, int]] = ((1, 1), (2, 2), (3, 3), (6, 6))
    order: Sequence[int] = (0,)
    widths: Sequence[int] = (3,)
    kernel: tuple[int, int] = (3, 3)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    bias: bool = True
    pool: Pool = "matrix"
    resize: dict[str, Any] = field(default_factory=lambda: dict(HALF_PIXEL))
    up: Literal["sizes", "scales", "expand", "tile"] = "sizes"
    attributes: dict[str, Any] = field(default_factory=dict)
    norm: bool = False
    half: bool = False


def build_spec() -> ModelSpec:
    """Of the graphs made by hand."""
    colours = distinct_palette(CLASSES)
    labels = LabelSet("numbers", tuple(f"class{index}" for index in range(CLASSES)), colours)
    return ModelSpec("foreign", "pspnet18", *SIZE, labels)


class Writer:
    """Nodes and constants of a graph, one by one, with random weights."""

    def __init__(self, seed: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        """A constant under this name."""
        self.constants.append(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
        return self.constants[-1]

    def integers(self, name: str, *values: int) -> ir.Value:
        """A constant of int64."""
        return self.constant(name, np.array(values, np.int64))

    def weights(self, name: str, *shape: int) -> ir.Value:
        """A random constant, scaled so that activations keep their spread."""
        scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 1.0
        return self.constant(name, (self.random.normal(size=shape) * scale).astype(np.float32))

    def add(self, kind: str, name: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A node and its result, both of this name."""
        output = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT))
        self.nodes.append(ir.node(kind, inputs, attributes, outputs=[output], name=name))
        return output

    def model(self, entry: ir.Value, result: ir.Value, opset: int = 19) -> ir.Model:
        """The whole graph, its shapes inferred."""
        graph = ir.Graph(
            [entry], [result], nodes=self.nodes, initializers=self.constants, opset_imports={"": opset}, name="pspnet"
        )
        model = ir.Model(graph, ir_version=9)
        infer_shapes(model)
        return model


def build_model(recipe: Recipe | None = None) -> ir.Model:
    """A model file's graph by hand: one convolution for a backbone, a pyramid, the head of a recipe, a classifier."""
    recipe = recipe or Recipe()
    writer = Writer()
    image = ir.Value(name=INPUT, shape=ir.Shape((1, 3, *SIZE)), type=ir.TensorType(ir.DataType.FLOAT))
    stem = writer.add("Conv", "stem", [image, writer.weights("stem.weight", FEATURES, 3, 3, 3)], pads=[1, 1, 1, 1])
    features = writer.add("Relu", "features", [stem])
    parts: list[ir.Value] = []
    widths: list[int] = []
    for index, bins in enumerate(recipe.bins):
        width = recipe.widths[min(index, len(recipe.widths) - 1)]
        pooled = add_pool(writer, f"pool{index}", features, bins, recipe.pool)
        weights = writer.weights(f"branch{index}.weight", width, FEATURES, 1, 1)
        mixed = writer.add("Conv", f"branch{index}", [pooled, weights])
        small = writer.add("Relu", f"map{index}", [mixed])
        parts.append(add_upsampling(writer, f"up{index}", small, width, bins, recipe))
        widths.append(width)
    for count, place in enumerate(recipe.order):
        position = place if place >= 0 else len(parts) + 1 + place
        value = features if count == 0 else writer.add("Sigmoid", "more", [features])
        parts.insert(position, value)
        widths.insert(position, FEATURES)
    joined = writer.add("Concat", "concat", parts, axis=1)
    weight = writer.weights("head.weight", 8, sum(widths), *recipe.kernel)
    if recipe.half:
        assert weight.const_value is not None
        stored = weight.const_value.numpy().astype(np.float16)
        writer.constants.remove(weight)
        half = writer.constant("head.weight.fp16", stored)
        weight = writer.add("Cast", "head.weight", [half], to=ir.DataType.FLOAT)
    inputs = [joined, weight, *([writer.weights("head.bias", 8)] if recipe.bias else [])]
    places = {"dilations": list(recipe.dilations), "pads": list(recipe.pads)} | recipe.attributes
    fused = writer.add("Conv", "head", inputs, **{name: value for name, value in places.items() if value is not None})
    if recipe.norm:
        values = [writer.constant(f"bn.{part}", np.linspace(0.5, 1.5, 8).astype(np.float32)) for part in "gbmv"]
        fused = writer.add("BatchNormalization", "bn", [fused, *values])
    fused = writer.add("Relu", "relu", [fused])
    logits = writer.add("Conv", OUTPUT, [fused, writer.weights("classifier.weight", CLASSES, 8, 1, 1)])
    model = writer.model(image, logits)
    model.metadata_props[SPEC_KEY] = build_spec().to_json()
    return model


def add_pool(writer: Writer, name: str, features: ir.Value, bins: tuple[int, int], pool: Pool) -> ir.Value:
    """Average pooling to `bins`, in one of the forms that exporters write."""
    height, width = SIZE[0] // bins[0], SIZE[1] // bins[1]
    if pool == "average":
        if bins == (1, 1):
            return writer.add("GlobalAveragePool", name, [features])
        return writer.add("AveragePool", name, [features], kernel_shape=[height, width], strides=[height, width])
    if pool == "mean":
        cut = writer.integers(f"{name}/cut", 1, FEATURES, bins[0], height, bins[1], width)
        tiles = writer.add("Reshape", f"{name}/tiles", [features, cut])
        return writer.add("ReduceMean", name, [tiles, writer.integers(f"{name}/axes", 3, 5)], keepdims=0)
    if pool == "area":
        sizes = writer.integers(f"{name}/sizes", 1, FEATURES, *bins)
        return writer.add("Resize", name, [features, None, None, sizes], antialias=1, **HALF_PIXEL)
    if pool == "slices":
        rows = []
        for row in range(bins[0]):
            cells: list[ir.Value] = []
            for column in range(bins[1]):
                tile = f"{name}/{row}x{column}"
                start = writer.integers(f"{tile}/start", row * height, column * width)
                stop = writer.integers(f"{tile}/stop", (row + 1) * height, (column + 1) * width)
                axes = writer.integers(f"{tile}/axes", 2, 3)
                cut = writer.add("Slice", f"{tile}/cut", [features, start, stop, axes])
                cells.append(writer.add("ReduceMean", tile, [cut, axes], keepdims=1))
            rows.append(writer.add("Concat", f"{name}/{row}", cells, axis=3))
        return writer.add("Concat", name, rows, axis=2)
    down = writer.constant(f"{name}/down", pooling_matrix(SIZE[0], bins[0]))
    across = writer.constant(f"{name}/across", pooling_matrix(SIZE[1], bins[1]).T)
    return writer.add("MatMul", name, [writer.add("MatMul", f"{name}/strip", [down, features]), across])


def add_upsampling(
    writer: Writer, name: str, small: ir.Value, channels: int, bins: tuple[int, int], recipe: Recipe
) -> ir.Value:
    """Upsampling to the features' size as the recipe says; a map of several cells is always resized."""
    if recipe.up == "expand" and bins == (1, 1):
        return writer.add("Expand", name, [small, writer.integers(f"{name}/shape", 1, 1, *SIZE)])
    if recipe.up == "tile" and bins == (1, 1):
        return writer.add("Tile", name, [small, writer.integers(f"{name}/repeats", 1, 1, *SIZE)])
    if recipe.up == "scales":
        scales = np.array([1, 1, SIZE[0] / bins[0], SIZE[1] / bins[1]], np.float32)
        return writer.add("Resize", name, [small, None, writer.constant(f"{name}/scales", scales)], **recipe.resize)
    sizes = writer.integers(f"{name}/sizes", 1, channels, *SIZE)
    return writer.add("Resize", name, [small, None, None, sizes], **recipe.resize)


def node(model: ir.Model, name: str) -> ir.Node:
    """The node of this name."""
    return next(node for node in model.graph if node.name == name)


def answer(model: ir.Model, seed: int = 0) -> FloatArray:
    """The first output for a random image, by ONNX Runtime, its optimisations off."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model_bytes(model), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    image = np.random.default_rng(seed).normal(size=entry.shape).astype(np.float32)
    return cast(FloatArray, session.run(None, {entry.name: image})[0])


def relative_error(model: ir.Model, reference: ir.Model) -> float:
    """max|a - b| / max|b| of both graphs' answers to one random image."""
    values, expected = answer(model), answer(reference)
    assert values.shape == expected.shape and np.abs(expected).max() > 0.01
    return float(np.abs(values - expected).max() / np.abs(expected).max())


class ConvModule(nn.Sequential):
    """Convolution, batch norm where asked for, ReLU: mmsegmentation's ConvModule, and smp's Conv2dReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, norm: bool = True) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not norm)]
        super().__init__(*layers, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU())


class Mmsegmentation(nn.Module):
    """A backbone of one layer and mmsegmentation's PSPHead: features first, a 3x3 bottleneck.

    open-mmlab/mmsegmentation, ``mmseg/models/decode_heads/psp_head.py``, written again from its description.
    """

    def __init__(self, align_corners: bool, bins: Sequence[int] = (1, 2, 3, 6), width: int = 8) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.stem = ConvModule(3, width, 3)
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(bin), ConvModule(width, 4)) for bin in bins)
        self.bottleneck = ConvModule(width + 4 * len(bins), width, 3)
        self.conv_seg = nn.Conv2d(width, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        outputs = [features]
        for pool in self.pools:
            outputs.append(
                F.interpolate(pool(features), features.shape[2:], mode="bilinear", align_corners=self.align_corners)
            )
        scores: Tensor = self.conv_seg(self.bottleneck(torch.cat(outputs, dim=1)))
        return scores


class Smp(nn.Module):
    """A backbone of one layer and segmentation_models_pytorch's decoder: 1x1 fusion, features last, corners aligned.

    qubvel/segmentation_models.pytorch, ``segmentation_models_pytorch/decoders/pspnet/decoder.py``, written again from
    its description; bin 1 has no batch norm.
    """

    def __init__(self, bins: Sequence[int] = (1, 2, 3, 6), width: int = 8) -> None:
        super().__init__()
        self.stem = ConvModule(3, width, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bin), ConvModule(width, width // 4, norm=bin != 1)) for bin in bins
        )
        self.conv = ConvModule(width + width // 4 * len(bins), width)
        self.head = nn.Conv2d(width, CLASSES, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        maps = [
            F.interpolate(block(features), features.shape[2:], mode="bilinear", align_corners=True)
            for block in self.blocks
        ]
        scores: Tensor = self.head(self.conv(torch.cat([*maps, features], dim=1)))
        return scores


def export(model: nn.Module, size: tuple[int, int], optimize: bool = True) -> ir.Model:
    """A module as torch's dynamo exporter writes it, without anything of ours."""
    torch.manual_seed(0)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model, (torch.zeros(1, 3, *size),), dynamo=True, opset_version=19, optimize=optimize, verbose=False
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    exported: ir.Model = program.model
    common.ClearMetadataAndDocStringPass()(exported)
    return exported
