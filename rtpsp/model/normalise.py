"""Frames as a network in training sees them; for one that is exported the graph does the same."""

from __future__ import annotations

import torch
from torch import Tensor

from rtpsp.spec import ModelSpec


class Normaliser:
    """uint8 frames to a network's input.

    Args:
        spec: The network's mean, standard deviation and channel order.
        device: Where the result lies.
    """

    def __init__(self, spec: ModelSpec, device: torch.device) -> None:
        self._device, self._flips = device, spec.channels.startswith("rgb")
        std = torch.tensor(spec.std, device=device)
        self._scale = (1 / (255 * std)).view(1, -1, 1, 1)
        self._shift = (torch.tensor(spec.mean, device=device) / std).view(1, -1, 1, 1)

    def __call__(self, frames: Tensor) -> Tensor:
        """(x / 255 - mean) / std, float32 [N, planes, H, W], channels last, of uint8 [N, H, W, planes] BGR frames."""
        image = frames.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        if self._flips:
            image = torch.cat([image[:, :3].flip(1), image[:, 3:]], dim=1)
        return (image * self._scale - self._shift).contiguous(memory_format=torch.channels_last)
