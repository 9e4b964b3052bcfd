"""PSPNet on dilated ResNet-18, -50, -101 and -152.

Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017 (arXiv 1612.01105); He, Zhang, Ren, Sun, "Deep
Residual Learning for Image Recognition", CVPR 2016. Names inside the backbone follow torchvision
(``backbone.layer3.0.conv1``), so that its ImageNet weights load by key; the deep stem of -50 and up adds ``conv2``,
``bn2``, ``conv3``, ``bn3`` as the authors' own code does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtpsp.errors import UsageError

BINS = (1, 2, 3, 6)  # the paper's pyramid, section 3.2
DROPOUT = 0.1  # the authors' code; the paper names none


@dataclass(frozen=True)
class Arch:
    """One row of the architecture table.

    Attributes:
        name: As users type it, e.g. ``pspnet50``.
        block: ``basic`` is two 3x3 convolutions, ``bottleneck`` 1x1, 3x3 and 1x1 with four times the channels out.
        blocks: Blocks in layer1 to layer4.
        stem: ``plain`` is one 7x7 convolution, ``deep`` three 3x3 ones.
        head_channels: Width of the 3x3 convolution that fuses the pyramid.
        width: Channels of layer1 inside a block; layers 2 to 4 have 2, 4 and 8 times as many.
    """

    name: str
    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, int, int, int]
    stem: Literal["plain", "deep"]
    head_channels: int
    width: int = 64

    def narrowed(self, factor: int) -> Arch:
        """The same network with `factor` times fewer channels everywhere: for tests, not for use."""
        return replace(self, width=self.width // factor, head_channels=self.head_channels // factor)


ARCHS = {
    arch.name: arch
    for arch in (
        Arch("pspnet18", "basic", (2, 2, 2, 2), "plain", 256),
        Arch("pspnet50", "bottleneck", (3, 4, 6, 3), "deep", 512),
        Arch("pspnet101", "bottleneck", (3, 4, 23, 3), "deep", 512),
        Arch("pspnet152", "bottleneck", (3, 8, 36, 3), "deep", 512),
    )
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a skip; both are dilated."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride, dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        skip = features if self.downsample is None else self.downsample(features)
        out = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(out)) + skip)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a skip; the stride is the 3x3's, as in torchvision."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _downsample(inputs, width * self.expansion, stride)

    def forward(self, features: Tensor) -> Tensor:
        skip = features if self.downsample is None else self.downsample(features)
        out = F.relu(self.bn1(self.conv1(features)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + skip)


class Backbone(nn.Module):
    """A ResNet without its classifier, layer4 (and layer3) dilated instead of strided."""

    def __init__(self, arch: Arch, output_stride: int) -> None:
        super().__init__()
        width = arch.width
        if arch.stem == "deep":
            self.conv1 = _conv3x3(3, width, 2)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = _conv3x3(width, width)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = _conv3x3(width, 2 * width)
            self.bn3 = nn.BatchNorm2d(2 * width)
        else:
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
        self.deep = arch.stem == "deep"
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        # (stride, dilation) of layer3 and layer4; every convolution of a layer has the layer's dilation
        strided = {8: ((1, 2), (1, 4)), 16: ((2, 1), (1, 2))}
        steps = ((1, 1), (2, 1), *strided[output_stride])
        block = BasicBlock if arch.block == "basic" else Bottleneck
        channels = 2 * width if self.deep else width
        layers = []
        for level, (count, (stride, dilation)) in enumerate(zip(arch.blocks, steps, strict=True)):
            inner = width * 2**level
            blocks: list[nn.Module] = []
            for position in range(count):
                blocks.append(block(channels, inner, stride if position == 0 else 1, dilation))
                channels = inner * block.expansion
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.out_channels = channels

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of layer3 and of layer4."""
        out = F.relu(self.bn1(self.conv1(image)))
        if self.deep:
            out = F.relu(self.bn2(self.conv2(out)))
            out = F.relu(self.bn3(self.conv3(out)))
        layer3: Tensor = self.layer3(self.layer2(self.layer1(self.maxpool(out))))
        return layer3, self.layer4(layer3)


class AdaptivePools(nn.Module):
    """The pyramid's poolings; export replaces this module by constant matrices of the same result."""

    def forward(self, features: Tensor) -> list[Tensor]:
        return [F.adaptive_avg_pool2d(features, bins) for bins in BINS]


class Branch(nn.Module):
    """1x1 convolution, batch norm, ReLU and upsampling of one pyramid level."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, pooled: Tensor, size: torch.Size) -> Tensor:
        return _upsample(F.relu(self.bn(self.conv(pooled))), size)


class Head(nn.Module):
    """3x3 convolution, batch norm, ReLU, dropout and a 1x1 classifier."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv = _conv3x3(inputs, width)
        self.bn = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(F.relu(self.bn(self.conv(features)))))
        return logits


class PSPNet(nn.Module):
    """PSPNet with an auxiliary head on layer3 that only training sees.

    Attributes:
        arch: Row of the architecture table it was built from.
        classes: Number of classes.
        output_stride: Input pixels a side for one cell of the feature map.
    """

    def __init__(self, arch: Arch, classes: int, output_stride: int) -> None:
        super().__init__()
        self.arch, self.classes, self.output_stride = arch, classes, output_stride
        self.backbone = Backbone(arch, output_stride)
        channels = self.backbone.out_channels
        self.pools: nn.Module = AdaptivePools()
        self.pyramid = nn.ModuleList(Branch(channels, channels // len(BINS)) for _ in BINS)
        self.head = Head(2 * channels, arch.head_channels, classes)
        self.aux = Head(channels // 2, channels // 8, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Class scores of every pixel.

        Args:
            image: float [N, 3, H, W], normalised, in the channel order of the spec.

        Returns:
            Logits, float [N, classes, H, W]; in training mode the pair of logits and auxiliary logits, same shape.
        """
        size = image.shape[-2:]
        layer3, features = self.backbone(image)
        maps = [features]
        for branch, pooled in zip(self.pyramid, self.pools(features), strict=True):
            maps.append(branch(pooled, features.shape[-2:]))
        logits = _upsample(self.head(torch.cat(maps, dim=1)), size)
        return (logits, _upsample(self.aux(layer3), size)) if self.training else logits


def build(arch: str | Arch, classes: int, output_stride: int = 8) -> PSPNet:
    """An untrained PSPNet.

    Args:
        arch: Name in `ARCHS`, or a row of one's own.
        classes: Number of classes, at least 1.
        output_stride: Input pixels a side for one cell of the feature map: 8 or 16.

    Raises:
        UsageError: Unknown architecture or stride, or no class.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UsageError(f"no architecture {arch!r}: use one of {', '.join(ARCHS)}")
        arch = ARCHS[arch]
    if output_stride not in (8, 16):
        raise UsageError(f"output stride is {output_stride}, expected 8 or 16")
    if classes < 1:
        raise UsageError(f"a model needs at least 1 class, got {classes}")
    return PSPNet(arch, classes, output_stride)


def feature_size(size: tuple[int, int], output_stride: int) -> tuple[int, int]:
    """Height and width of the feature map that the pyramid pools: each stride of 2 halves, rounding up.

    Args:
        size: Input (height, width) in pixels.
        output_stride: 8 or 16.
    """
    height, width = (-(-side // output_stride) for side in size)
    return height, width


def multiply_adds(model: PSPNet, size: tuple[int, int]) -> int:
    """Multiply-add operations of all convolutions in one inference, without the auxiliary head.

    Args:
        model: The network; runs on the meta device, so nothing is computed.
        size: Input (height, width) in pixels.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        conv = cast(nn.Conv2d, module)
        total += output.numel() * conv.weight[0].numel()

    twin = build(model.arch, model.classes, model.output_stride).to("meta").eval()
    for module in twin.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    twin(torch.empty(1, 3, *size, device="meta"))
    return total


def parameter_count(model: PSPNet) -> int:
    """Trained values that an inference uses: all but the auxiliary head's."""
    return sum(value.numel() for name, value in model.named_parameters() if not name.startswith("aux."))


def _conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _upsample(features: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(features, size, mode="bilinear", align_corners=False)
