"""Losses against their formulas in NumPy, and pixels that count nowhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rtpsp.model.augment import IGNORED
from rtpsp.model.losses import class_weights, label_loss, teacher_loss
from rtpsp.model.train_options import Balance

RANDOM = np.random.default_rng(2)
LOGITS = RANDOM.normal(0, 3, (2, 4, 5, 6)).astype(np.float32)
TRUTH = RANDOM.integers(0, 4, (2, 5, 6))
TRUTH[0, :2] = IGNORED
PIXELS = np.array([10, 0, 1000, 90], np.int64)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.5, 3.0, 0.0], np.float32)])
def test_cross_entropy_is_the_weighted_mean_over_pixels_that_count(weights: np.ndarray | None) -> None:
    rows = [(n, *at) for n, *at in np.argwhere(TRUTH != IGNORED)]
    weight = np.ones(4) if weights is None else weights
    picked = [-log_softmax(LOGITS)[n, TRUTH[n, y, x], y, x] * weight[TRUTH[n, y, x]] for n, y, x in rows]
    expected = sum(picked) / sum(weight[TRUTH[n, y, x]] for n, y, x in rows)
    given = None if weights is None else torch.from_numpy(weights)
    loss = label_loss(torch.from_numpy(LOGITS), torch.from_numpy(TRUTH), given)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "value"),
    [(None, IGNORED), (torch.tensor([1.0, 0.0, 1.0, 1.0]), IGNORED), (torch.tensor([1.0, 0.0, 1.0, 1.0]), 1)],
)
def test_where_nothing_counts_the_loss_is_zero_and_teaches_nothing(weights: torch.Tensor | None, value: int) -> None:
    logits = torch.from_numpy(LOGITS).requires_grad_()
    loss = label_loss(logits, torch.full((2, 5, 6), value), weights)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation lacks it
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def test_half_precision_scores_are_compared_in_full() -> None:
    logits = torch.from_numpy(LOGITS).bfloat16()
    loss = label_loss(logits, torch.from_numpy(TRUTH), None)
    assert loss.dtype == torch.float32 and loss == label_loss(logits.float(), torch.from_numpy(TRUTH), None)


@pytest.mark.parametrize(("balance", "power"), [("sqrt", 0.5), ("median", 1.0)])
def test_rare_classes_weigh_by_their_rarity(balance: Balance, power: float) -> None:
    weights = class_weights(PIXELS, balance)
    assert weights is not None and weights.dtype == torch.float32
    found = weights.numpy()
    assert found[1] == 0, "a class that is nowhere"
    assert found[0] / found[2] == pytest.approx(100**power) and found[3] / found[2] == pytest.approx(
        (1000 / 90) ** power
    )
    assert (found * PIXELS).sum() / PIXELS.sum() == pytest.approx(1), "an average pixel weighs 1"


def test_no_balance_is_no_weights() -> None:
    assert class_weights(PIXELS, "none") is None


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_teachers_loss_is_their_divergence(temperature: float) -> None:
    student = torch.from_numpy(LOGITS)
    own = torch.softmax(student / temperature, 1)
    assert float(teacher_loss(student, own, temperature)) == pytest.approx(0, abs=1e-6)
    taught = np.exp(log_softmax(RANDOM.normal(0, 2, LOGITS.shape)))
    taught[:, 0] = 0  # a teacher may be certain
    taught /= taught.sum(axis=1, keepdims=True)
    terms = np.where(taught > 0, taught * (np.log(np.maximum(taught, 1e-30)) - log_softmax(LOGITS / temperature)), 0)
    expected = terms.sum(axis=1).mean() * temperature**2
    loss = teacher_loss(student, torch.from_numpy(taught.astype(np.float32)), temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-4) and expected > 0
