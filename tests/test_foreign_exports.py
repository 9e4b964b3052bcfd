"""PSPNets of other projects, as both of torch's exporters write them, taken over: the same answers, and every pass."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpsp.foreign import Adapted, Given, adapt
from rtpsp.graph.lint import lint
from rtpsp.graph.lower import Head, lower
from rtpsp.graph.precision import to_half
from rtpsp.graph.tensorrt import to_tensorrt
from rtpsp.graph.verify import run, sample_frames, to_image
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.spec import ModelSpec

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.graph.pspnets import CLASSES, Mmsegmentation, Smp

LABELS = LabelSet("set", tuple(f"class{index}" for index in range(CLASSES)), distinct_palette(CLASSES))


class Strided(nn.Module):
    """A network behind a stem of stride 4, its scores upsampled to the image's size, and what follows them."""

    def __init__(
        self, network: nn.Module, align_corners: bool, end: Callable[[Tensor], Any] = lambda full: full
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 5, stride=4, padding=2), nn.BatchNorm2d(3), nn.ReLU())
        self.network, self.align_corners, self.end = network, align_corners, end

    @property
    def classifier(self) -> nn.Conv2d:
        """The last convolution, which both of the networks have under a name of their own."""
        last = self.network.conv_seg if isinstance(self.network, Mmsegmentation) else self.network.head
        assert isinstance(last, nn.Conv2d)
        return last

    def scores(self, image: Tensor) -> Tensor:
        scores: Tensor = self.network(self.stem(image))
        return scores

    def forward(self, image: Tensor) -> Any:
        scores = self.scores(image)
        return self.end(F.interpolate(scores, image.shape[2:], mode="bilinear", align_corners=self.align_corners))


def with_auxiliary(full: Tensor) -> tuple[Tensor, Tensor]:
    return full, full.neg()


def class_ids(full: Tensor) -> Tensor:
    return full.argmax(dim=1)


NETWORKS: dict[str, Callable[[], Strided]] = {
    "mmsegmentation, its class ids": lambda: Strided(Mmsegmentation(False), False, class_ids),
    "semseg, with corners aligned": lambda: Strided(Mmsegmentation(True), True, with_auxiliary),
    "segmentation_models_pytorch": lambda: Strided(Smp(width=32), True),
    "torch's probabilities": lambda: Strided(Mmsegmentation(False), False, lambda full: full.softmax(dim=1)),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What exporters have to say is not what is tested."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def save(path: Path, name: str, dynamo: bool, opset: int, size: tuple[int, int], dynamic: bool = False) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    frames = sample_frames(ModelSpec("any", "any", *size, LABELS), count=1)
    bias = network.classifier.bias
    assert bias is not None
    with torch.no_grad():  # about as many pixels of each class
        bias -= network.scores(torch.from_numpy(frames / 255).permute(0, 3, 1, 2).float()).mean(dim=(0, 2, 3))
    axes = {"x": {0: "n", 2: "h", 3: "w"}} if dynamic and not dynamo else None
    sides = torch.export.Dim.DYNAMIC
    shapes = ({0: None, 1: None, 2: sides, 3: sides},) if dynamic and dynamo else None
    names = ["y", "second"] if "aligned" in name else ["y"]
    with quiet():
        torch.onnx.export(
            network, (torch.zeros(1, 3, *size),), str(path), dynamo=dynamo, opset_version=opset, input_names=["x"],
            output_names=names, dynamic_axes=axes, dynamic_shapes=shapes, external_data=False, verbose=False,
        )  # fmt: skip
    return network


Taken = tuple[Adapted, nn.Module]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Taken]:
    """Exports a network and takes the file over; each once."""

    @cache
    def take(name: str, dynamo: bool, opset: int, size: tuple[int, int], dynamic: bool = False) -> Taken:
        path = tmp_path_factory.mktemp("export") / "x.onnx"
        network = save(path, name, dynamo, opset, size, dynamic)
        output = "y" if "aligned" in name else None
        return adapt(path, Given(LABELS, output=output, size=size if dynamic else None)), network

    return take


def check(adapted: Adapted, network: nn.Module) -> None:
    """Against torch itself, plain and split."""
    frames = sample_frames(adapted.spec, count=1)
    with torch.no_grad():
        answer = network(torch.from_numpy(to_image(frames, adapted.spec)))
    answer = answer[0] if isinstance(answer, tuple) else answer
    expected = answer.numpy() if answer.ndim == 3 else answer.argmax(dim=1).numpy()
    assert len(np.unique(expected)) > 2
    heads: tuple[Head, ...] = ("plain", "split")
    for head in heads:
        graph = lower(adapted.graph, adapted.spec, head=head, confidence=True)
        answers = run(graph, adapted.spec, frames)
        assert np.mean(answers.class_map == expected) > 0.999 and answers.confidence is not None
    if "probabilities" in adapted.told:
        assert answers.confidence is not None
        assert np.abs(answers.confidence - 255 * answer.amax(dim=1).numpy()).max() <= 2


@pytest.mark.parametrize(
    ("name", "dynamo", "opset", "size", "dynamic"),
    [
        # all heads as dynamo writes them: graph/test_pyramid_exports.py
        ("mmsegmentation, its class ids", True, 20, (96, 144), True),
        ("mmsegmentation, its class ids", False, 11, (96, 144), False),
        ("semseg, with corners aligned", False, 13, (93, 117), False),
        ("segmentation_models_pytorch", False, 12, (96, 120), False),
        ("torch's probabilities", False, 17, (48, 96), False),
    ],
)
def test_it_answers_as_torch_does(
    taken: Callable[..., Taken], name: str, dynamo: bool, opset: int, size: tuple[int, int], dynamic: bool
) -> None:
    adapted, network = taken(name, dynamo, opset, size, dynamic)
    two = "aligned" in name
    assert "\n  its pyramid has maps of 1x1, 2x2, 3x3, 6x6 over features of" in adapted.told
    assert adapted.spec.output_stride == 4 and adapted.spec.arch == "pspnet"
    assert ("'second' is left out" in adapted.told) == two
    assert ("(--size)" in adapted.told) == dynamic
    check(adapted, network)


@pytest.mark.skipif(find_spec("tensorrt_rtx_bindings") is None, reason="needs the extra tensorrt-rtx")
@pytest.mark.parametrize(
    "export",
    [("mmsegmentation, its class ids", False, 11, (96, 144)), ("segmentation_models_pytorch", False, 12, (96, 120))],
    ids=lambda export: export[0],
)
def test_nvidias_parser_takes_it(taken: Callable[..., Taken], export: tuple[Any, ...]) -> None:
    from tests.graph.rtx import build

    adapted, _ = taken(*export)
    graph = to_half(lower(adapted.graph, adapted.spec, head="split", verify=False))
    assert lint(graph) == []
    assert build(to_tensorrt(graph)).outputs == {"class_map": "UINT8"}
