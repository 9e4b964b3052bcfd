"""The architecture table, and what the published implementations of one architecture do differently."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

BINS = (1, 2, 3, 6)  # the paper's pyramid, section 3.2
DROPOUT = 0.1  # the authors' code; the paper names none

PLANES = (1, 3, 4)  # of an image: grey, colour, colour and one more

Block = Literal["basic", "bottleneck"]
Dilation = Literal["whole", "contracted"]


@dataclass(frozen=True)
class Form:
    """How an implementation writes a PSPNet, where they differ; the default is rtpsp's own.

    Not all of it can be told from shapes: two networks of one state dict may answer differently. Which form belongs to
    which code base is written in `rtpsp.model.layouts`.

    Attributes:
        stages: ResNet layers before the pyramid: 4, or fewer for a lighter encoder.
        stem: Channels of the deep stem's three convolutions; None for width, width and twice the width.
        dilation: Of a dilated layer's 3x3 convolutions: ``whole`` is all of them alike; ``contracted`` is half of it in
            the first block, and none in the second convolution of a basic block.
        dilations: Of layer3 and layer4 where these do not follow from the output stride.
        align_corners: As in PyTorch's ``interpolate``, for the pyramid and for the logits.
        fusion: Side of the kernel that fuses the pyramid, 3 or 1.
        features_last: The features are concatenated behind the pyramid's maps instead of before them.
        plain_bin1: The branch of one cell has a bias in place of a batch norm.
        branch_channels: Width of each branch; None for an equal share of the features'.
        classifier: Side of the classifier's kernel, 1 or 3.
        dropout: Share of channels that training drops before the classifier.
        auxiliary: There is an auxiliary head on layer3.
    """

    stages: int = 4
    stem: tuple[int, int, int] | None = None
    dilation: Dilation = "whole"
    dilations: tuple[int, int] | None = None
    align_corners: bool = False
    fusion: Literal[1, 3] = 3
    features_last: bool = False
    plain_bin1: bool = False
    branch_channels: int | None = None
    classifier: Literal[1, 3] = 1
    dropout: float = DROPOUT
    auxiliary: bool = True


@dataclass(frozen=True)
class Arch:
    """One row of the architecture table.

    Attributes:
        name: As users type it, e.g. ``pspnet50``.
        block: ``basic`` is two 3x3 convolutions, ``bottleneck`` 1x1, 3x3 and 1x1 with four times the channels out.
        blocks: Blocks in layer1 to layer4.
        stem: ``plain`` is one 7x7 convolution, ``deep`` three 3x3 ones.
        head_channels: Width of the convolution that fuses the pyramid.
        width: Channels of layer1 inside a block; layers 2 to 4 have 2, 4 and 8 times as many.
        form: How it is written.
    """

    name: str
    block: Block
    blocks: tuple[int, int, int, int]
    stem: Literal["plain", "deep"]
    head_channels: int
    width: int = 64
    form: Form = field(default_factory=Form)

    @property
    def stem_channels(self) -> tuple[int, ...]:
        """Channels of each convolution of the stem."""
        if self.stem == "plain":
            return (self.width,)
        return self.form.stem or (self.width, self.width, 2 * self.width)

    @property
    def out_channels(self) -> int:
        """Channels of the features that the pyramid pools."""
        return self.width * (1 << (self.form.stages - 1)) * (1 if self.block == "basic" else 4)

    def steps(self, output_stride: int) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of each layer that is used.

        Args:
            output_stride: 8 or 16, or 32, which dilates nothing by itself.
        """
        strides, dilations = {8: ((1, 1), (2, 4)), 16: ((2, 1), (1, 2)), 32: ((2, 2), (1, 1))}[output_stride]
        dilations = self.form.dilations or dilations
        return ((1, 1), (2, 1), *zip(strides, dilations, strict=True))[: self.form.stages]

    def narrowed(self, factor: int) -> Arch:
        """The same network with `factor` times fewer channels everywhere: for tests, not for use."""
        stem, branch = self.form.stem, self.form.branch_channels
        form = replace(
            self.form,
            stem=None if stem is None else (stem[0] // factor, stem[1] // factor, stem[2] // factor),
            branch_channels=None if branch is None else branch // factor,
        )
        return replace(self, width=self.width // factor, head_channels=self.head_channels // factor, form=form)


ARCHS = {
    arch.name: arch
    for arch in (
        Arch("pspnet18", "basic", (2, 2, 2, 2), "plain", 256),
        Arch("pspnet34", "basic", (3, 4, 6, 3), "plain", 256),
        Arch("pspnet50", "bottleneck", (3, 4, 6, 3), "deep", 512),
        Arch("pspnet101", "bottleneck", (3, 4, 23, 3), "deep", 512),
        Arch("pspnet152", "bottleneck", (3, 8, 36, 3), "deep", 512),
    )
}
