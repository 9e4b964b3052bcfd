"""PSPNet to a model file: ONNX with its spec inside, readable names, and the same bytes for the same input."""

from __future__ import annotations

import ast
import contextlib
import copy
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor, nn

from rtpsp.errors import MissingError, ModelError, UsageError
from rtpsp.labels import LabelSet
from rtpsp.model.checkpoint import load_checkpoint
from rtpsp.model.pspnet import BINS, PSPNet, feature_size
from rtpsp.onnx_file import INPUT, OUTPUT, check_model, save_model
from rtpsp.pooling import pooling_matrix
from rtpsp.spec import SPEC_KEY, Channels, Fit, ModelSpec, Resize

Weights = Literal["fp32", "fp16"]

OPSET = 19  # the first with FP16 scales of Q/DQ; TensorRT 10, OpenVINO 2026 and ONNX Runtime all read it
IR_VERSION = 9  # the ONNX IR that came with opset 19
FLOAT16_MAX = 65504.0


def export(model: PSPNet, spec: ModelSpec, path: str | os.PathLike[str], weights: Weights = "fp32") -> None:
    """Writes a PSPNet as a model file.

    Args:
        model: The network, on any device; not modified.
        spec: What the file says of itself; its size becomes the graph's static size.
        path: Where; written by rename, an existing file is replaced.
        weights: ``fp16`` stores convolution weights as FP16 with a Cast to float in the graph: half the size, computed
            in FP32 all the same, and exact for weights that were FP16 before.

    Raises:
        ModelError: Model and spec disagree, or a weight does not fit FP16.
        MissingError: The package onnxscript is missing.
        OutputError: The file cannot be written.
    """
    save_model(to_onnx(model, spec, weights), spec, path)


def export_checkpoint(
    checkpoint: str | os.PathLike[str],
    arch: str,
    size: tuple[int, int],
    labels: LabelSet,
    path: str | os.PathLike[str],
    *,
    weights: Weights = "fp32",
    output_stride: int = 8,
    name: str | None = None,
    channels: Channels = "rgb",
    fit: Fit = "stretch",
    resize: Resize = "area",
    licence: str = "",
) -> ModelSpec:
    """Writes a trained checkpoint as a model file, normalised as ImageNet backbones are.

    Args:
        checkpoint: A state dict of ours.
        arch: Name in `rtpsp.model.pspnet.ARCHS`.
        size: Model input (height, width) in pixels.
        labels: The classes it was trained on, in id order.
        path: Where to write.
        weights: As in `export`.
        output_stride: 8 or 16, as it was trained.
        name: Short name; default the file's stem.
        channels: As in `ModelSpec`.
        fit: As in `ModelSpec`.
        resize: As in `ModelSpec`.
        licence: Licence of the weights in one line.

    Returns:
        The spec that the file carries.

    Raises:
        ModelError: The checkpoint cannot be read or is of another architecture or class count.
        UsageError: Unknown architecture or stride.
        MissingError: The package onnxscript is missing.
        OutputError: The file cannot be written.
    """
    spec = ModelSpec(
        name=Path(path).stem if name is None else name,
        arch=arch,
        height=size[0],
        width=size[1],
        labels=labels,
        output_stride=output_stride,
        channels=channels,
        fit=fit,
        resize=resize,
        licence=licence,
    )
    export(load_checkpoint(checkpoint, arch, len(labels), output_stride), spec, path, weights)
    return spec


def to_onnx(model: PSPNet, spec: ModelSpec, weights: Weights = "fp32") -> ir.Model:
    """The graph that `export` writes.

    The pyramid's poolings become products with constant matrices (`rtpsp.pooling`), because the exporter has no exact
    form for sizes that the bins do not divide. Batch norms stay nodes of their own: folding them here would round
    FP16-stored weights a second time.

    Raises:
        ModelError: Model and spec disagree, or a weight does not fit FP16.
        UsageError: `weights` is neither ``fp32`` nor ``fp16``.
        MissingError: The package onnxscript is missing.
    """
    if weights not in ("fp32", "fp16"):
        raise UsageError(f"weights is {weights!r}, expected fp32 or fp16")
    if model.classes != len(spec.labels):
        raise ModelError(
            f"the model has {model.classes} classes and the label set {len(spec.labels)}: give its own set"
        )
    if model.arch.name != spec.arch:
        raise ModelError(f"the model is a {model.arch.name}, the spec says {spec.arch}: give the spec of this model")
    if model.output_stride != spec.output_stride:
        raise ModelError(f"the model has output stride {model.output_stride}, the spec says {spec.output_stride}")
    if weights == "fp16":
        _check_fp16(model)
    twin = copy.deepcopy(model).cpu().float().eval()
    twin.pools = MatrixPools(feature_size(spec.size, spec.output_stride))
    graph = _trace(twin, spec.size)
    _simplify(graph)
    _name(graph)
    _strip(graph)
    if weights == "fp16":
        _store_fp16(graph)
    graph.metadata_props[SPEC_KEY] = spec.to_json()
    check_model(graph, spec)
    return graph


def _check_fp16(model: PSPNet) -> None:
    for name, module in model.named_modules():
        peak = float(module.weight.detach().abs().max()) if isinstance(module, nn.Conv2d) else 0.0
        if not peak <= FLOAT16_MAX:
            raise ModelError(f"{name}.weight reaches {peak:g}, FP16 ends at {FLOAT16_MAX:g}: export with fp32")


class MatrixPools(nn.Module):
    """The pyramid's poolings as matrix products: one over the width for all bins, then one a bin over the height."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        columns = np.concatenate([pooling_matrix(width, bins) for bins in BINS]).T
        self.register_buffer("columns", torch.from_numpy(columns.copy()), persistent=False)
        for bins in BINS:
            self.register_buffer(f"rows{bins}", torch.from_numpy(pooling_matrix(height, bins)), persistent=False)

    def forward(self, features: Tensor) -> list[Tensor]:
        strips = torch.split(torch.matmul(features, self.get_buffer("columns")), list(BINS), dim=3)
        rows = [self.get_buffer(f"rows{bins}") for bins in BINS]
        return [torch.matmul(row, strip) for row, strip in zip(rows, strips, strict=True)]


def _trace(model: PSPNet, size: tuple[int, int]) -> ir.Model:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError("export needs the package onnxscript: pip install onnxscript") from error
    with _quiet():
        program = torch.onnx.export(
            model,
            (torch.zeros(1, 3, *size),),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,  # it would fold the batch norms
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    traced: ir.Model = program.model
    return traced


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's notes on torchvision's operators and its uses of deprecated calls from users: not theirs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(level)


def _simplify(model: ir.Model) -> None:
    """Folds what the exporter left to compute at run time although it is constant."""
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in model.graph:
        bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
        if bias is not None and bias.const_value is not None and not bias.const_value.numpy().any():
            node.resize_inputs(2)  # the exporter gives every convolution a bias, of zeros where the module has none
    common.RemoveUnusedNodesPass()(model)


def _name(model: ir.Model) -> None:
    """Names nodes and tensors after the module that made them: ``backbone/layer1/0/conv1``."""
    used: Counter[str] = Counter()
    kept = {*model.graph.inputs, *model.graph.outputs}
    for node in model.graph:
        name = _scope(node)
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name] - 1}"
        for position, output in enumerate(node.outputs):
            if output not in kept:
                output.name = node.name if len(node.outputs) == 1 else f"{node.name}/{position}"
        for value in node.inputs:
            role = {"Resize": "sizes", "Split": "split"}.get(node.op_type)
            if role and value is not None and value.is_initializer() and len(value.uses()) == 1:
                value.name = f"{node.name}/{role}"


def _scope(node: ir.Node) -> str:
    """The path of the module behind a node, and the operator unless the module is nothing but that operator."""
    scopes, kinds = _listed(node, "pkg.torch.onnx.name_scopes"), _listed(node, "pkg.torch.onnx.class_hierarchy")
    if len(scopes) < 2:  # made by constant folding: it belongs where its input comes from
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        scopes = [] if producer is None else _listed(producer, "pkg.torch.onnx.name_scopes")
        kinds = []
    module = scopes[-2].replace(".", "/") if len(scopes) > 1 else ""
    single = len(kinds) > 1 and kinds[-2].startswith("torch.nn.modules")
    return "/".join(filter(None, [module, "" if single else node.op_type.lower()]))


def _listed(node: ir.Node, key: str) -> list[str]:
    values: list[str] = ast.literal_eval(node.metadata_props.get(key, "[]"))
    return values


def _strip(model: ir.Model) -> None:
    """Leaves nothing of the machine or the moment: source paths, stack traces, versions."""
    common.ClearMetadataAndDocStringPass()(model)
    model.graph.name, model.graph.doc_string = "pspnet", None
    model.producer_name, model.producer_version = "rtpsp", None
    model.ir_version = IR_VERSION
    for holder in (model, model.graph, *model.graph):
        holder.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
    for value in (*model.graph.inputs, *(out for node in model.graph for out in node.outputs)):
        value.metadata_props.clear()
    used = {domain for domain in model.opset_imports if any(node.domain == domain for node in model.graph)}
    for domain in set(model.opset_imports) - used:
        del model.opset_imports[domain]


def _store_fp16(model: ir.Model) -> None:
    """Stores convolution weights as FP16 behind a Cast; the rest is small or, as pooling matrices, must be exact."""
    for node in list(model.graph):
        if node.op_type != "Conv":
            continue
        weight = node.inputs[1]
        assert weight is not None and weight.const_value is not None and weight.name is not None
        array = weight.const_value.numpy()
        name = weight.name
        half = ir.Value(name=f"{name}.fp16", const_value=ir.tensor(array.astype(np.float16), name=f"{name}.fp16"))
        half.shape, half.dtype = weight.shape, ir.DataType.FLOAT16
        del model.graph.initializers[name]
        model.graph.register_initializer(half)
        full = ir.Value(name=name, shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT))
        cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, outputs=[full], name=f"{name}.fp32")
        model.graph.insert_before(node, cast)
        weight.replace_all_uses_with(full)
