"""PSPNet to a model file: ONNX with its spec inside, readable names, and the same bytes for the same input."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from rtpsp.errors import MissingError, ModelError, UsageError
from rtpsp.labels import LabelSet
from rtpsp.model.checkpoint import open_checkpoint
from rtpsp.model.onnx_graph import name_after_modules, quiet, simplify, store_fp16, strip
from rtpsp.model.pspnet import BINS, PSPNet, feature_size
from rtpsp.model.trained import Told, spec_of, told_of_labels
from rtpsp.onnx_file import INPUT, OUTPUT, check_model, save_model
from rtpsp.pooling import pooling_matrix
from rtpsp.spec import SPEC_KEY, ModelSpec

if TYPE_CHECKING:
    from typing import Unpack

Weights = Literal["fp32", "fp16"]

OPSET = 19  # the first with FP16 scales of Q/DQ; TensorRT 10, OpenVINO 2026 and ONNX Runtime all read it
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
    arch: str | None,
    size: tuple[int, int] | None,
    labels: LabelSet | None,
    path: str | os.PathLike[str],
    *,
    weights: Weights = "fp32",
    output_stride: int | None = None,
    align_corners: bool | None = None,
    tell: Callable[[str], None] | None = None,
    **told: Unpack[Told],
) -> ModelSpec:
    """Writes a trained checkpoint as a model file.

    Args:
        checkpoint: Of any layout that `rtpsp.model.checkpoint.open_checkpoint` knows.
        arch: What it should be; None for whatever it is.
        size: Model input (height, width) in pixels; None for what the file says.
        labels: The classes it was trained on, in id order; None for those that the file names.
        path: Where to write.
        weights: As in `export`.
        output_stride: As in `open_checkpoint`.
        align_corners: As in `open_checkpoint`.
        tell: Called with what was recognised, before anything is written.
        told: Further fields of the spec (`rtpsp.model.trained.Told`); the name is the written file's by default.

    Returns:
        The spec that the file carries.

    Raises:
        ModelError: The checkpoint cannot be read or is of another architecture or class count.
        UsageError: Unknown architecture or stride, a size that does not suit, or something that has to be given.
        MissingError: The package onnxscript or safetensors is missing.
        OutputError: The file cannot be written.
    """
    opened = open_checkpoint(checkpoint, arch=arch, output_stride=output_stride, align_corners=align_corners)
    if tell is not None:
        tell("\n".join(filter(None, (opened.told(), told_of_labels(opened, labels)))))
    told["name"] = told.get("name") or Path(path).stem
    spec = spec_of(opened, size=size, labels=labels, **told)
    export(opened.model, spec, path, weights)
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
    if model.inputs != spec.planes:
        raise ModelError(
            f"the model takes images of {model.inputs} planes, the spec's mean has {spec.planes} values: give as many"
        )
    if model.output_stride != spec.output_stride:
        raise ModelError(f"the model has output stride {model.output_stride}, the spec says {spec.output_stride}")
    if weights == "fp16":
        _check_fp16(model)
    twin = copy.deepcopy(model).cpu().float().eval()
    twin.pools = MatrixPools(feature_size(spec.size, spec.output_stride))
    graph = _trace(twin, spec.size)
    simplify(graph)
    name_after_modules(graph)
    strip(graph)
    if weights == "fp16":
        store_fp16(graph)
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
    with quiet():
        program = torch.onnx.export(
            model,
            (torch.zeros(1, model.inputs, *size),),
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
