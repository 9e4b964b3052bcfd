"""Checkpoints of the published packages, loaded by rtpsp: do the networks answer as those they were saved from?

    pip install --no-deps --target DIR segmentation_models_pytorch mmsegmentation mmcv-lite mmengine addict yapf \\
        platformdirs termcolor torchvision
    python bench/published.py DIR [--semseg CLONE] [--case NAME ...] [--size HxW] [--threads 2] [--json FILE]

``tests/model/published.py`` has these networks written again, by the hand that wrote rtpsp's: it could share a
misreading. Here the modules of the packages themselves are built at full width, with random weights and batch-norm
statistics measured on random images, saved and opened by `rtpsp.model.checkpoint.open_checkpoint`. Of the packages only
the modules of encoder and head are loaded, because their ``__init__`` asks for model hubs and compiled operators.
hszhao/semseg is no package: a clone of it takes part where one is given. The exit code is 6 when the relative error of
a case is above 1e-4.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtpsp.cli.console import Size
from rtpsp.model.checkpoint import open_checkpoint

CLASSES = 19
MAX_ERROR = 1e-4
SMP, MM = "segmentation_models_pytorch", "mmseg"


def load(folder: Path, name: str) -> Any:
    """A module of a package without running the ``__init__`` of the packages that it lies in."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if parent not in sys.modules:
            sys.modules[parent] = ModuleType(parent)
            sys.modules[parent].__path__ = [str(folder.joinpath(*parts[:depth]))]
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], sys.modules[parent])
    module = importlib.import_module(name)
    setattr(sys.modules[".".join(parts[:-1])], parts[-1], module)
    return module


class Smp(nn.Module):
    """Encoder, decoder and head, put together as the package's ``PSPNet`` does it."""

    def __init__(self, folder: Path, encoder: str, depth: int = 3) -> None:
        super().__init__()
        load(folder, f"{SMP}.base.modules")
        heads = load(folder, f"{SMP}.base.heads")
        decoder = load(folder, f"{SMP}.decoders.pspnet.decoder")
        # torchvision's own ``__init__`` wants compiled operators, its presets want transforms; a ResNet wants neither
        presets = sys.modules.setdefault(
            "torchvision.transforms._presets", ModuleType("torchvision.transforms._presets")
        )
        presets.ImageClassification = Any  # type: ignore[attr-defined]
        load(folder, "torchvision.models.resnet")
        resnet = load(folder, f"{SMP}.encoders.resnet")
        params = resnet.resnet_encoders[encoder]["params"]
        self.encoder = resnet.ResNetEncoder(**params, depth=depth)
        self.decoder = decoder.PSPDecoder(params["out_channels"][: depth + 1])
        self.segmentation_head = heads.SegmentationHead(512, CLASSES, kernel_size=3, upsampling=2**depth)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.segmentation_head(self.decoder(self.encoder(image)))
        return scores


class Mm(nn.Module):
    """Backbone and heads, put together as the package's ``EncoderDecoder`` does it."""

    def __init__(self, folder: Path, depth: int, deep: bool, **head: Any) -> None:
        super().__init__()
        utils = load(folder, f"{MM}.models.utils.res_layer")
        sys.modules[f"{MM}.models.utils"].ResLayer = utils.ResLayer  # type: ignore[attr-defined]
        sys.modules[f"{MM}.models.utils"].resize = load(folder, f"{MM}.models.utils.wrappers").resize  # type: ignore[attr-defined]
        backbone = load(folder, f"{MM}.models.backbones.resnet")
        self.backbone = (backbone.ResNetV1c if deep else backbone.ResNet)(
            depth=depth, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=True
        )
        self.decode_head, self.auxiliary_head = self._heads(folder, depth, head)
        self.align_corners = head.get("align_corners", False)
        self.resize = sys.modules[f"{MM}.models.utils"].resize

    @staticmethod
    def _heads(folder: Path, depth: int, head: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
        for name in ("builder", "losses"):  # of losses and samplers, which an inference has none of
            stub = sys.modules.setdefault(f"{MM}.models.{name}", ModuleType(f"{MM}.models.{name}"))
            stub.build_loss = stub.accuracy = lambda *args, **kwargs: nn.Identity()  # type: ignore[attr-defined]
        for name in ("structures", "utils"):
            stub = sys.modules.setdefault(f"{MM}.{name}", ModuleType(f"{MM}.{name}"))
            stub.build_pixel_sampler = stub.ConfigType = stub.SampleList = Any  # type: ignore[attr-defined]
        psp = load(folder, f"{MM}.models.decode_heads.psp_head")
        fcn = load(folder, f"{MM}.models.decode_heads.fcn_head")
        channels = 2048 if depth >= 50 else 512
        norm = {"norm_cfg": {"type": "BN"}, "num_classes": CLASSES, **head}
        return (
            psp.PSPHead(in_channels=channels, in_index=3, channels=channels // 4, **norm),
            fcn.FCNHead(
                in_channels=channels // 2, in_index=2, channels=channels // 8, num_convs=1, concat_input=False, **norm
            ),
        )

    def forward(self, image: Tensor) -> Tensor:
        features = self.backbone(image)
        self.auxiliary_head(features)
        scores: Tensor = self.resize(
            self.decode_head(features), image.shape[2:], mode="bilinear", align_corners=self.align_corners
        )
        return scores


class Semseg(nn.Module):
    """The clone's ``PSPNet``, whose inference asserts nothing but a size."""

    def __init__(self, clone: Path, layers: int) -> None:
        super().__init__()
        sys.path.insert(0, str(clone))
        self.inner = importlib.import_module("model.pspnet").PSPNet(layers=layers, classes=CLASSES, pretrained=False)

    def forward(self, image: Tensor) -> Tensor:
        if self.training:
            scores: Tensor = self.inner(image, torch.zeros(len(image), *image.shape[2:], dtype=torch.long))[1]
            return scores
        scores = self.inner(image)
        return scores

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of the network."""
        return self.inner.state_dict(*args, **kwargs)


CASES: dict[str, tuple[Callable[[Path], nn.Module], tuple[int, int]]] = {
    "smp-resnet18": (lambda folder: Smp(folder, "resnet18"), (480, 640)),
    "smp-resnet34": (lambda folder: Smp(folder, "resnet34"), (480, 640)),
    "smp-resnet50": (lambda folder: Smp(folder, "resnet50"), (480, 640)),
    "smp-resnet18-depth5": (lambda folder: Smp(folder, "resnet18", 5), (480, 640)),
    "mmseg-r18-d8": (lambda folder: Mm(folder, 18, True), (512, 1024)),
    "mmseg-r18b-d8": (lambda folder: Mm(folder, 18, False), (512, 1024)),
    "mmseg-r50-d8": (lambda folder: Mm(folder, 50, True), (512, 1024)),
    "mmseg-r50-d8-769": (lambda folder: Mm(folder, 50, True, align_corners=True), (769, 769)),
    "mmseg-r101-d8": (lambda folder: Mm(folder, 101, True), (512, 1024)),
    "semseg-50": (lambda clone: Semseg(clone, 50), (473, 473)),
    "semseg-101": (lambda clone: Semseg(clone, 101), (713, 713)),
}


@torch.no_grad()
def settle(model: nn.Module, size: tuple[int, int] = (97, 129)) -> nn.Module:
    """Gives a network statistics as its features have them."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.weight.mul_(0.3 if ".layer" in name and name.endswith(("bn2", "bn3")) else 1.0)
            module.momentum = None
    model.train()
    coarse = torch.randn(2, 3, 9, 9)
    model(F.interpolate(coarse, size, mode="bilinear") + 0.3 * torch.randn(2, 3, *size))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.clamp_(min=0.1 * float(module.running_var.mean()))
    return model.eval()


@torch.no_grad()
def compare(name: str, source: Path, size: tuple[int, int] | None) -> dict[str, Any]:
    """One network against rtpsp's reading of its checkpoint."""
    torch.manual_seed(0)
    make, usual = CASES[name]
    model = settle(make(source), (96, 128) if name.startswith("smp") else (97, 129))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pth"
        torch.save({"state_dict": model.state_dict()}, path)
        opened = open_checkpoint(path, align_corners=True if name.endswith("-769") else None)
    size = size or usual
    image = F.interpolate(torch.randn(1, 3, 7, 9), size, mode="bilinear") + 0.3 * torch.randn(1, 3, *size)
    expected, answer = model(image), opened.model(image)
    return {
        "case": name,
        "layout": opened.layout.name,
        "arch": opened.model.arch.name,
        "size": list(size),
        "max_error_relative": float((answer - expected).abs().max() / expected.abs().max()),
        "class_agreement": float((answer.argmax(1) == expected.argmax(1)).double().mean()),
        "classes_seen": len(expected.argmax(1).unique()),
    }


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--semseg", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A clone.")
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), help="These alone.")
@click.option("--size", type=Size(), help="Of every case, in place of its own.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here as well.")
def main(
    folder: Path,
    semseg: Path | None,
    cases: tuple[str, ...],
    size: tuple[int, int] | None,
    threads: int,
    output: Path | None,
) -> None:
    """Open checkpoints of the packages in FOLDER and compare."""
    sys.path.append(str(folder))  # behind everything: torch and NumPy are this environment's
    torch.set_num_threads(threads)
    results = []
    for name in cases or CASES:
        source = semseg if name.startswith("semseg") else folder
        if source is not None:
            results.append(compare(name, source, size))
            click.echo(json.dumps(results[-1]))
    if output is not None:
        output.write_text(json.dumps({"torch": torch.__version__, "cases": results}, indent=1) + "\n", encoding="utf-8")
    if any(not result["max_error_relative"] <= MAX_ERROR for result in results):
        raise SystemExit(6)


if __name__ == "__main__":
    main()
