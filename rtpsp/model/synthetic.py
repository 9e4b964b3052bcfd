"""Untrained networks that behave like trained ones: for tests, parity and speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtpsp.model.pspnet import BasicBlock, Bottleneck, PSPNet


@torch.no_grad()
def randomise_statistics(model: PSPNet, seed: int = 0) -> None:
    """Gives an untrained network batch-norm statistics like those of a trained one: for tests and speed, not accuracy.

    Scales and shifts are drawn, then running means and variances are measured on smooth random images, so that every
    layer's activations have the spread that its batch norm expects. A fresh network has mean 0 and variance 1
    everywhere: its activations explode with depth, and a wrong fold of the batch norm would not show.

    Args:
        model: Changed in place; left in eval mode.
        seed: The same seed gives the same network, up to rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.normal_(norm.bias, std=0.2, generator=generator)
    for module in model.modules():
        if isinstance(module, (BasicBlock, Bottleneck)):  # training leaves a block a correction of its skip, no more
            last = module.bn2 if isinstance(module, BasicBlock) else module.bn3
            last.weight.mul_(0.3)
    coarse = torch.randn(4, model.inputs, 9, 9, generator=generator)
    images = F.interpolate(coarse, (97, 97), mode="bilinear", align_corners=False)
    images = images + 0.3 * torch.randn(images.shape, generator=generator)
    model.train()
    with _momentum(norms, 1.0):
        model(images)
    for norm in norms:
        variance = cast(Tensor, norm.running_var)
        # four values a channel under bin 1 can lie so close together that dividing by their spread is no statistic
        variance.clamp_(min=0.1 * float(variance.mean()))
    model.eval()
    bias = cast(Tensor, model.head.classifier.bias)
    bias -= model(images).mean(dim=(0, 2, 3))  # level scores: otherwise one class wins everywhere and no error shows


@contextmanager
def _momentum(norms: list[nn.BatchNorm2d], value: float) -> Iterator[None]:
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = value
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
