"""What a training minimises."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rtpsp.model.augment import IGNORED
from rtpsp.model.train_options import Balance


def class_weights(pixels: NDArray[np.int64] | NDArray[np.float64], balance: Balance) -> Tensor | None:
    """Weights of the classes in the loss, such that an average pixel weighs 1.

    Args:
        pixels: [classes], how many an epoch has of each.
        balance: As in `rtpsp.model.train_options.TrainOptions`.

    Returns:
        float32 [classes], 0 for a class that is not there; None for ``none``.
    """
    if balance == "none":
        return None
    share = pixels / pixels.sum()
    there = share > 0
    rare = np.zeros_like(share)
    if balance == "sqrt":
        rare[there] = 1 / np.sqrt(share[there])
    else:
        rare[there] = np.median(share[there]) / share[there]
    return torch.from_numpy((rare / (share * rare).sum()).astype(np.float32))


def label_loss(logits: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    """Cross entropy over the pixels that count; 0 where none does.

    Args:
        logits: [N, classes, h, w], any float type.
        truth: int64 [N, h, w], with `IGNORED`.
        weights: float32 [classes], or None.
    """
    total = F.cross_entropy(logits.float(), truth, weights, ignore_index=IGNORED, reduction="sum")
    counted = truth != IGNORED
    if weights is None:
        return total / counted.sum().clamp(min=1)
    return total / weights[truth.clamp(min=0)][counted].sum().clamp(min=1e-6)


def teacher_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of a student's classes from its teachers', mean over the pixels they speak of.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), section 2: both
    softened by the temperature, the loss multiplied by its square.

    Args:
        logits: The student's, [N, classes, h, w].
        taught: The teachers' probabilities at that temperature, float32, the same shape, or coarser, and the scores are
            averaged to it. All 0 at a pixel of which they did not speak; the loss is 0 if they spoke of none.
        temperature: Above 0.
    """
    scores = logits.float() / temperature
    if scores.shape[-2:] != taught.shape[-2:]:
        scores = F.interpolate(scores, taught.shape[-2:], mode="area")
    total = taught.sum(dim=1, keepdim=True)
    spoken = total > 0.5
    wanted = torch.where(spoken, taught / total.clamp(min=0.5), torch.zeros_like(taught))
    divergence = F.kl_div(F.log_softmax(scores, dim=1), wanted, reduction="none").sum(dim=1)
    return divergence.sum() / spoken.sum().clamp(min=1) * temperature**2
