"""PSPNet on dilated ResNet-18, -34, -50, -101 and -152.

Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017 (arXiv 1612.01105). Names inside the backbone
follow torchvision (``backbone.layer3.0.conv1``), so that its ImageNet weights load by key.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtpsp.errors import UsageError
from rtpsp.model.arch import ARCHS as ARCHS
from rtpsp.model.arch import BINS as BINS
from rtpsp.model.arch import DROPOUT as DROPOUT
from rtpsp.model.arch import PLANES as PLANES
from rtpsp.model.arch import Arch as Arch
from rtpsp.model.arch import Form as Form
from rtpsp.model.backbone import Backbone, conv3x3
from rtpsp.model.backbone import BasicBlock as BasicBlock
from rtpsp.model.backbone import Bottleneck as Bottleneck


class AdaptivePools(nn.Module):
    """The pyramid's poolings; export replaces this module by constant matrices of the same result."""

    def forward(self, features: Tensor) -> list[Tensor]:
        return [F.adaptive_avg_pool2d(features, bins) for bins in BINS]


class Branch(nn.Module):
    """1x1 convolution, batch norm, ReLU and upsampling of one pyramid level; `plain` has a bias and no batch norm."""

    def __init__(self, inputs: int, outputs: int, plain: bool = False, align_corners: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=plain)
        self.bn: nn.Module = nn.Identity() if plain else nn.BatchNorm2d(outputs)
        self.align_corners = align_corners

    def forward(self, pooled: Tensor, size: torch.Size) -> Tensor:
        return _upsample(F.relu(self.bn(self.conv(pooled))), size, self.align_corners)


class Head(nn.Module):
    """Convolution, batch norm, ReLU, dropout and a classifier; kernels of `kernel` and `classifier` pixels a side."""

    def __init__(
        self, inputs: int, width: int, classes: int, kernel: int = 3, classifier: int = 1, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.conv = conv3x3(inputs, width) if kernel == 3 else nn.Conv2d(inputs, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, classes, classifier, padding=classifier // 2)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(F.relu(self.bn(self.conv(features)))))
        return logits


class PSPNet(nn.Module):
    """PSPNet with an auxiliary head on layer3 that only training sees.

    Attributes:
        arch: Row of the architecture table it was built from, with its form.
        classes: Number of classes.
        output_stride: Input pixels a side for one cell of the feature map.
        inputs: Planes of the image: 1, 3 or 4.
        backbone: The ResNet.
        pyramid: One branch a bin.
        head: What fuses the pyramid and classifies.
        aux: The auxiliary head; None where the form has none.
    """

    def __init__(self, arch: Arch, classes: int, output_stride: int, inputs: int = 3) -> None:
        super().__init__()
        self.arch, self.classes, self.output_stride, self.inputs = arch, classes, output_stride, inputs
        form = arch.form
        self.backbone = Backbone(arch, output_stride, inputs)
        channels = self.backbone.out_channels
        width = form.branch_channels or channels // len(BINS)
        self.pools: nn.Module = AdaptivePools()
        self.pyramid = nn.ModuleList(
            Branch(channels, width, form.plain_bin1 and bins == 1, form.align_corners) for bins in BINS
        )
        fused = channels + width * len(BINS)
        self.head = Head(fused, arch.head_channels, classes, form.fusion, form.classifier, form.dropout)
        self.aux = Head(channels // 2, channels // 8, classes) if form.auxiliary else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Class scores of every pixel.

        Args:
            image: float [N, inputs, H, W], normalised, in the channel order of the spec.

        Returns:
            Logits, float [N, classes, H, W]; in training mode the pair of logits and auxiliary logits, same shape,
            where there is an auxiliary head.
        """
        size, form = image.shape[-2:], self.arch.form
        before, features = self.backbone(image)
        maps = [features]
        for branch, pooled in zip(self.pyramid, self.pools(features), strict=True):
            maps.append(branch(pooled, features.shape[-2:]))
        if form.features_last:
            maps = [*maps[1:], features]
        logits = _upsample(self.head(torch.cat(maps, dim=1)), size, form.align_corners)
        if not self.training or self.aux is None:
            return logits
        return logits, _upsample(self.aux(before), size, form.align_corners)


def build(arch: str | Arch, classes: int, output_stride: int = 8, inputs: int = 3) -> PSPNet:
    """An untrained PSPNet.

    Args:
        arch: Name in `ARCHS`, or a row of one's own.
        classes: Number of classes, at least 1.
        output_stride: Input pixels a side for one cell of the feature map: 8 or 16; 32 in the forms of others.
        inputs: Planes of the image: 1, 3 or 4.

    Raises:
        UsageError: Unknown architecture, stride or number of planes, or no class.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UsageError(f"no architecture {arch!r}: use one of {', '.join(ARCHS)}")
        arch = ARCHS[arch]
    if output_stride not in ((8, 16) if arch.form == Form() else (8, 16, 32)):
        raise UsageError(f"output stride is {output_stride}, expected 8 or 16")
    if classes < 1:
        raise UsageError(f"a model needs at least 1 class, got {classes}")
    if inputs not in PLANES:
        raise UsageError(f"{inputs} input planes, expected 1 (grey), 3 (colour) or 4 (colour and one more)")
    return PSPNet(arch, classes, output_stride, inputs)


def feature_size(size: tuple[int, int], output_stride: int) -> tuple[int, int]:
    """Height and width of the feature map that the pyramid pools: each stride of 2 halves, rounding up.

    Args:
        size: Input (height, width) in pixels.
        output_stride: 8, 16 or 32.
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

    with torch.device("meta"):
        twin = build(model.arch, model.classes, model.output_stride, model.inputs).eval()
    for module in twin.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    twin(torch.empty(1, model.inputs, *size, device="meta"))
    return total


def parameter_count(model: PSPNet) -> int:
    """Trained values that an inference uses: all but the auxiliary head's."""
    return sum(value.numel() for name, value in model.named_parameters() if not name.startswith("aux."))


def _upsample(features: Tensor, size: torch.Size, align_corners: bool) -> Tensor:
    return F.interpolate(features, size, mode="bilinear", align_corners=align_corners)
