"""Dilated ResNets.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. Names follow torchvision
(``layer3.0.conv1``); the deep stem adds ``conv2``, ``bn2``, ``conv3``, ``bn3`` as the PSPNet authors' own code does.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from rtpsp.model.arch import Arch


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a skip, each with a dilation of its own."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, second: int | None = None) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride, dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, 1, dilation if second is None else second)
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
        self.conv2 = conv3x3(width, width, stride, dilation)
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
    """A ResNet without its classifier, layer4 (and layer3) dilated instead of strided.

    Attributes:
        layer3: Like layer1, layer2 and layer4, blocks in sequence; the last ones may be missing (`Form`).
        layer4: See `layer3`.
        out_channels: Channels of the features that it ends with.
    """

    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, arch: Arch, output_stride: int, inputs: int = 3) -> None:
        super().__init__()
        stem = arch.stem_channels
        self.deep = arch.stem == "deep"
        if self.deep:
            self.conv1 = conv3x3(inputs, stem[0], 2)
            self.bn1 = nn.BatchNorm2d(stem[0])
            self.conv2 = conv3x3(stem[0], stem[1])
            self.bn2 = nn.BatchNorm2d(stem[1])
            self.conv3 = conv3x3(stem[1], stem[2])
            self.bn3 = nn.BatchNorm2d(stem[2])
        else:
            self.conv1 = nn.Conv2d(inputs, stem[0], 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(stem[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = stem[-1]
        for level, (stride, dilation) in enumerate(arch.steps(output_stride)):
            blocks: list[nn.Module] = []
            for position in range(arch.blocks[level]):
                width = arch.width * 2**level
                blocks.append(_block(arch, channels, width, stride if position == 0 else 1, dilation, position == 0))
                channels = width * (1 if arch.block == "basic" else 4)
            self.add_module(f"layer{level + 1}", nn.Sequential(*blocks))
        self.stages = arch.form.stages
        self.out_channels = channels

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the last layer but one, and of the last."""
        out = F.relu(self.bn1(self.conv1(image)))
        if self.deep:
            out = F.relu(self.bn2(self.conv2(out)))
            out = F.relu(self.bn3(self.conv3(out)))
        before = out = self.maxpool(out)
        for level in range(1, self.stages + 1):
            before, out = out, self.get_submodule(f"layer{level}")(out)
        return before, out


def conv3x3(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size but for its stride."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _block(arch: Arch, inputs: int, width: int, stride: int, dilation: int, first: bool) -> nn.Module:
    contracted = arch.form.dilation == "contracted"
    if contracted and first:
        dilation = max(dilation // 2, 1)
    if arch.block == "basic":
        return BasicBlock(inputs, width, stride, dilation, second=1 if contracted else None)
    return Bottleneck(inputs, width, stride, dilation)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
