"""PSPNets as their authors wrote them, written again from the published sources, narrow, for their checkpoints' tests.

Nothing here is taken from `rtpsp.model`: names of entries, strides, dilations and interpolation follow hszhao/semseg,
open-mmlab/mmsegmentation and qubvel-org/segmentation_models.pytorch. ``bench/published.py`` holds the networks of the
packages themselves against rtpsp.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BINS = (1, 2, 3, 6)


class Basic(nn.Module):
    """torchvision's BasicBlock; `dilations` of its two convolutions."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, first, first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, second, second, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottle(nn.Module):
    """torchvision's Bottleneck."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        first, _ = dilations
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, first, first, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn3(self.conv3(self.bn2(self.conv2(out)).relu()))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


def layer(
    depth: int, inputs: int, planes: int, count: int, stride: int, dilations: Sequence[tuple[int, int]]
) -> nn.Sequential:
    """One stage; `dilations` of the first block and of the others."""
    kind: Any = Basic if depth < 50 else Bottle
    outputs = planes * kind.expansion
    blocks = [kind(inputs, planes, stride, dilations[0])]
    if stride != 1 or inputs != outputs:
        blocks[0].downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    blocks += [kind(outputs, planes, 1, dilations[1]) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def deep_stem(inputs: int, widths: Sequence[int]) -> list[nn.Module]:
    """Three 3x3 convolutions, the first of stride 2, each with batch norm and ReLU."""
    modules: list[nn.Module] = []
    for place, width in enumerate(widths):
        before = inputs if place == 0 else widths[place - 1]
        modules += [
            nn.Conv2d(before, width, 3, 2 if place == 0 else 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        ]  # fmt: skip
    return modules


class Semseg(nn.Module):
    """hszhao/semseg, ``model/pspnet.py``: made strided, its layer3 and layer4 are dilated afterwards."""

    def __init__(self, depth: int, classes: int, width: int = 8, deep: bool = True) -> None:
        super().__init__()
        stem: list[nn.Module] = (
            deep_stem(3, (width, width, 2 * width))
            if deep
            else [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        )
        self.layer0 = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1))
        channels, plain = (2 * width if deep else width), ((1, 1), (1, 1))
        for level, count in enumerate(BLOCKS[depth]):
            made = layer(depth, channels, width << level, count, 1 if level == 0 else 2, plain)
            self.add_module(f"layer{level + 1}", made)
            channels = (width << level) * 4
        for level, dilation in ((3, 2), (4, 4)):
            for name, module in self.get_submodule(f"layer{level}").named_modules():
                if "conv2" in name and isinstance(module, nn.Conv2d):
                    module.dilation, module.padding, module.stride = (dilation,) * 2, (dilation,) * 2, (1, 1)
                elif "downsample.0" in name and isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
        self.ppm = nn.Module()
        self.ppm.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins), nn.Conv2d(channels, channels // 4, 1, bias=False),
                nn.BatchNorm2d(channels // 4), nn.ReLU(),
            )
            for bins in BINS
        )  # fmt: skip
        self.cls, self.aux = (
            nn.Sequential(
                nn.Conv2d(inputs, middle, 3, padding=1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
                nn.Dropout2d(0.1), nn.Conv2d(middle, classes, 1),
            )
            for inputs, middle in ((2 * channels, 8 * width), (channels // 2, 4 * width))
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        assert all((side - 1) % 8 == 0 for side in size)
        for level in range(5):
            x = self.get_submodule(f"layer{level}")(x)
        branches: Any = self.ppm.features
        maps = [x, *(F.interpolate(f(x), x.shape[2:], mode="bilinear", align_corners=True) for f in branches)]
        return F.interpolate(self.cls(torch.cat(maps, 1)), size, mode="bilinear", align_corners=True)


class ConvModule(nn.Module):
    """mmcv's: convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class MmBackbone(nn.Module):
    """mmsegmentation's ResNetV1c, or ResNet without the deep stem: contracted dilation, basic blocks dilated once."""

    def __init__(self, depth: int, width: int, deep: bool, strides: Sequence[int], dilations: Sequence[int]) -> None:
        super().__init__()
        self.deep = deep
        if deep:
            self.stem = nn.Sequential(*deep_stem(3, (width // 2, width // 2, width)))
        else:
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
        channels, expansion = width, 1 if depth < 50 else 4
        for level, count in enumerate(BLOCKS[depth]):
            dilation = dilations[level]
            pair = ((dilation // 2 if dilation > 1 else 1, 1), (dilation, 1))
            made = layer(depth, channels, width << level, count, strides[level], pair)
            self.add_module(f"layer{level + 1}", made)
            channels = (width << level) * expansion

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) if self.deep else F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        for level in range(1, 5):
            x = self.get_submodule(f"layer{level}")(x)
        return x


class Mmsegmentation(nn.Module):
    """``EncoderDecoder`` of a ResNet, a ``PSPHead`` and an auxiliary ``FCNHead``."""

    def __init__(
        self,
        depth: int,
        classes: int,
        width: int = 8,
        deep: bool = True,
        align_corners: bool = False,
        strides: Sequence[int] = (1, 2, 1, 1),
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        outputs, self.align_corners = outputs or classes, align_corners
        self.backbone = MmBackbone(depth, width, deep, strides, (1, 1, 2, 4))
        channels = width * 8 * (1 if depth < 50 else 4)
        head = nn.Module()
        head.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), ConvModule(channels, channels // 4, 1)) for bins in BINS
        )
        head.bottleneck = ConvModule(2 * channels, channels // 4, 3)
        head.conv_seg = nn.Conv2d(channels // 4, outputs, 1)
        auxiliary = nn.Module()
        auxiliary.convs = nn.Sequential(ConvModule(channels // 2, channels // 8, 3))
        auxiliary.conv_seg = nn.Conv2d(channels // 8, outputs, 1)
        self.decode_head: Any = head
        self.auxiliary_head = auxiliary

    def forward(self, image: Tensor) -> Tensor:
        x, head = self.backbone(image), self.decode_head
        aligned: dict[str, Any] = {"mode": "bilinear", "align_corners": self.align_corners}
        maps = [x, *(F.interpolate(psp(x), x.shape[2:], **aligned) for psp in head.psp_modules)]
        return F.interpolate(head.conv_seg(head.bottleneck(torch.cat(maps, 1))), image.shape[2:], **aligned)


class Smp(nn.Module):
    """segmentation_models_pytorch's PSPNet: an encoder whose last layers nobody reads, 1x1 fusion, a 3x3 classifier."""

    def __init__(self, depth: int, classes: int, width: int = 8, stages: int = 3, inputs: int = 3) -> None:
        super().__init__()
        encoder = nn.Module()
        encoder.conv1 = nn.Conv2d(inputs, width, 7, 2, 3, bias=False)
        encoder.bn1 = nn.BatchNorm2d(width)
        channels, self.stages = width, stages
        for level, count in enumerate(BLOCKS[depth]):
            made = layer(depth, channels, width << level, count, 1 if level == 0 else 2, ((1, 1), (1, 1)))
            encoder.add_module(f"layer{level + 1}", made)
            channels = (width << level) * (1 if depth < 50 else 4)
        features = (width << (stages - 2)) * (1 if depth < 50 else 4)
        self.encoder: Any = encoder
        self.decoder: Any = nn.Module()
        self.decoder.psp = nn.Module()
        self.decoder.psp.blocks = nn.ModuleList()
        for bins in BINS:
            block: Any = nn.Module()
            norm: nn.Module = nn.Identity() if bins == 1 else nn.BatchNorm2d(features // 4)
            convolution = nn.Conv2d(features, features // 4, 1, bias=bins == 1)
            block.pool = nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Sequential(convolution, norm, nn.ReLU()))
            self.decoder.psp.blocks.append(block)
        middle = 8 * width
        self.decoder.conv = nn.Sequential(
            nn.Conv2d(2 * features, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU()
        )
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(middle, classes, 3, padding=1),
            nn.Upsample(mode="bilinear", scale_factor=2**stages, align_corners=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.encoder.bn1(self.encoder.conv1(image))), 3, 2, 1)
        for level in range(1, self.stages):
            x = self.encoder.get_submodule(f"layer{level}")(x)
        maps = [
            F.interpolate(block.pool(x), x.shape[2:], mode="bilinear", align_corners=True)
            for block in self.decoder.psp.blocks
        ]
        scores: Tensor = self.segmentation_head(self.decoder.conv(torch.cat([*maps, x], 1)))
        return scores


@torch.no_grad()
def settled(model: nn.Module, inputs: int = 3, seed: int = 0) -> nn.Module:
    """Gives a network statistics like those of a trained one, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.2, generator=generator)
            module.weight.mul_(0.3 if name.endswith(("bn2", "bn3")) else 1.0)
            module.momentum = None
    model.train()
    model(
        torch.randn(
            4,
            inputs,
            65 if isinstance(model, Semseg) else 64,
            97 if isinstance(model, Semseg) else 96,
            generator=generator,
        )
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.clamp_(min=0.1 * float(module.running_var.mean()))
    return model.eval()


def state_of(model: nn.Module, prefix: str = "") -> OrderedDict[str, Tensor]:
    """Its state dict with a prefix before every name."""
    return OrderedDict((prefix + name, value) for name, value in model.state_dict().items())
