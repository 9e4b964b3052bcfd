"""The split head on a decoder that this project did not write: segmentation_models_pytorch's own PSPNet decoder.

    pip install --no-deps --target DIR segmentation_models_pytorch
    python bench/foreign.py DIR [--channels 512] [--size 45x60] [--json FILE]

The package imports encoders and a model hub that a decoder does not need; only the modules of the decoder and of the
segmentation head are loaded from DIR. Weights are random, with batch-norm statistics measured on random features.
torch's dynamo exporter writes the graph, nothing of ours touches it before `rtpsp.graph.pyramid.split_head`, and ONNX
Runtime answers both. The exit code is 6 when the relative error is above 1e-4 or the class agreement below 99.99 %.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from rtpsp.errors import BoundNotMet
from rtpsp.graph.pyramid import find_heads, split_head
from rtpsp.graph.verify import Outputs, measure, require
from rtpsp.graph.work import multiply_adds
from rtpsp.onnx_file import model_bytes
from rtpsp.runtimes import import_onnxruntime

PACKAGE = "segmentation_models_pytorch"
CLASSES = 19


class Network(nn.Module):
    """The package's decoder and segmentation head, as its PSPNet puts them together."""

    def __init__(self, folder: Path, channels: int) -> None:
        super().__init__()
        heads = load(folder, "base.heads")  # first: the decoder imports from the package ``base``, which this prepares
        decoder = load(folder, "decoders.pspnet.decoder")
        self.decoder = decoder.PSPDecoder([channels])
        self.head = heads.SegmentationHead(512, CLASSES, kernel_size=3, upsampling=8)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.head(self.decoder([features]))
        return scores


def load(folder: Path, name: str) -> Any:
    """A module of the package without running the ``__init__`` of the packages that it lies in."""
    parts = [PACKAGE, *name.split(".")]
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if parent not in sys.modules:
            sys.modules[parent] = ModuleType(parent)
            sys.modules[parent].__path__ = [str(folder.joinpath(*parts[:depth]))]
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], sys.modules[parent])
    return importlib.import_module(".".join(parts))


def build(folder: Path, channels: int, size: tuple[int, int]) -> Network:
    """The network with statistics as its features have them."""
    torch.manual_seed(0)
    network = Network(folder, channels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    network.train()
    with torch.no_grad():
        network(torch.relu(torch.randn(4, channels, *size)))
    return network.eval()


def export(network: nn.Module, features: Tensor) -> ir.Model:
    """As anybody exports it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network, (features,), dynamo=True, output_names=["logits"], verbose=False)
    assert program is not None
    model: ir.Model = program.model
    return model


def answer(model: ir.Model, features: Tensor) -> Outputs:
    """Scores and classes by ONNX Runtime, its optimisations off."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model_bytes(model), options, providers=["CPUExecutionProvider"])
    logits = np.asarray(session.run(None, {session.get_inputs()[0].name: features.numpy()})[0], np.float32)
    return Outputs(logits, logits.argmax(axis=1))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--channels", default=512, show_default=True, help="Of the features.")
@click.option("--size", default="45x60", show_default=True, help="HxW of the features.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here as well.")
def main(folder: Path, channels: int, size: str, output: Path | None) -> None:
    """Export, split and compare the decoder in FOLDER."""
    height, width = (int(side) for side in size.split("x"))
    network = build(folder, channels, (height, width))
    features = torch.relu(torch.randn(1, channels, height, width))
    model = export(network, features)
    (head,) = find_heads(model)
    split = split_head(model)
    reference = answer(model, features)
    comparison = measure(reference, answer(split, features))
    version = next(found.version for found in distributions(path=[str(folder)]) if found.name == PACKAGE)
    result = {
        "package": f"{PACKAGE} {version}",
        "torch": torch.__version__,
        "features": [channels, height, width],
        "nodes": {kind: sum(node.op_type == kind for node in model.graph) for kind in ("Conv", "Resize", "Gather")},
        "nodes_before": len(model.graph),
        "nodes_after": len(split.graph),
        "head": {"conv": head.conv, "features": head.features, "maps": head.maps, "notes": head.notes},
        "gmac_before": multiply_adds(model) / 1e9,
        "gmac_after": multiply_adds(split) / 1e9,
        "max_error_relative": comparison.max_error_relative,
        "class_agreement": comparison.class_agreement,
        "classes_seen": len(np.unique(reference.class_map)),
    }
    click.echo(json.dumps(result, indent=1))
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    try:
        require(comparison, "splitting the head")
    except BoundNotMet as error:
        click.echo(error, err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
