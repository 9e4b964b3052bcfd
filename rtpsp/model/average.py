"""The average of a network's weights over the steps of a training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from rtpsp.model.pspnet import PSPNet

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(model: PSPNet, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics, on the model's device.

    After n steps the decay is the smaller of `decay` and (1 + n) / (10 + n), so that the random beginning is soon
    forgotten (TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).

    Args:
        model: Read now, and at each ``update_parameters``.
        decay: A step; 0 keeps the newest weights.
    """

    @torch.no_grad()
    def average(kept: Tensors, new: Tensors, steps: Tensor | int) -> None:
        done = int(steps)
        weight = 1 - min(decay, (1 + done) / (10 + done))
        for old, current in zip(kept, new, strict=True):
            if old.is_floating_point():
                old.lerp_(current, weight)
            else:  # batch norm's count of batches
                old.copy_(current)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
