"""Teachers who are asked once: what they said follows every cut of its image, and is all that a step needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rtpsp.errors import InputError
from rtpsp.fit import plan_fit
from rtpsp.model.answers import Answers
from rtpsp.model.augment import IGNORED, Augmentation
from rtpsp.model.batches import CELL
from rtpsp.model.losses import teacher_loss
from rtpsp.model.pspnet import build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.model.teachers import Teachers
from rtpsp.model.train_options import TrainOptions
from rtpsp.spec import Fit, ModelSpec
from tests.shapes import SHAPES, draw, narrowed, spec

CPU = torch.device("cpu")


def perfect(truth: NDArray[np.uint8], model: ModelSpec) -> NDArray[np.uint8]:
    """The answer of somebody who knows: the truth as the model's input shows it, averaged over cells."""
    plan = plan_fit((truth.shape[0], truth.shape[1]), model)
    shown = np.stack(
        [plan.to_model(np.repeat((truth == c)[..., None] * np.uint8(255), 3, 2))[..., 0] for c in range(3)]
    )
    rows, columns = -(-model.height // CELL), -(-model.width // CELL)
    return np.asarray(shown.reshape(3, rows, CELL, columns, CELL).mean((2, 4)).transpose(1, 2, 0), np.uint8)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(64, 96), (90, 80)])
def test_an_answer_follows_its_image(fit: Fit, size: tuple[int, int]) -> None:
    """Where the cut's labels are of one class around a cell, it says that class; beyond the image it is silent."""
    model = spec(fit=fit)
    augment = Augmentation(model, TrainOptions(crop=(48, 40), scale=(0.5, 2.0), colour=0.0))
    sample = draw(3, size)
    truth = np.where(sample.truth == 255, 2, sample.truth).astype(np.uint8)
    answer = perfect(truth, model)
    judged, silent, wrong, loud = 0, 0, 0, 0
    for seed in range(40):
        seen = augment(sample.image, truth, np.random.default_rng(seed))
        followed = augment.follow(seen.view, answer, CELL)
        assert followed.shape == (12, 10, 3) and followed.dtype == np.uint8
        cells = seen.truth.reshape(12, CELL, 10, CELL).transpose(0, 2, 1, 3).reshape(12, 10, -1)
        flat = cells.min(2) == cells.max(2)
        inner = flat.copy()  # with its neighbours: what the answer mixed at a border is another matter
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(cells[..., 0], step, axis) == cells[..., 0]
                inner &= np.roll(flat, step, axis)
        inner[[0, -1]] = inner[:, [0, -1]] = False
        outside = flat & (cells[..., 0] == IGNORED)
        inner &= ~outside
        judged, silent = judged + inner.sum(), silent + outside.sum()
        wrong += int((followed.argmax(2) != cells[..., 0])[inner].sum())
        loud += int(followed[outside].any(-1).sum())
    assert judged > 500 and wrong <= 0.01 * judged
    assert silent > 50 and loud == 0


def test_half_a_pixel_would_show() -> None:
    """A ramp of probability comes back as the same ramp, at the places that the cut shows."""
    model = spec()
    augment = Augmentation(model, TrainOptions(crop=(32, 32), scale=(0.7, 1.6), colour=0.0, flip=0.5))
    columns = (np.arange(24) + 0.5) * CELL  # where each value is measured, in pixels of the input
    answer = np.zeros((16, 24, 3), np.uint8)
    answer[..., 0] = np.round(2 * columns)
    image = np.zeros((64, 96, 3), np.uint8)
    mirrored = set()
    for seed in range(20):
        view = augment(image, np.zeros((64, 96), np.uint8), np.random.default_rng(seed)).view
        mirrored.add(view.mirrored)
        places = (np.arange(8) + 0.5) * CELL
        places = 32 - places if view.mirrored else places
        expected = 2 * (view.offset[1] + places) * 96 / view.size[1]
        got = augment.follow(view, answer, CELL)[4, :, 0].astype(float)
        inside = (expected > 2 * columns[0]) & (expected < 2 * columns[-1])
        assert np.abs(got - expected)[inside].max() <= 1.1
    assert mirrored == {False, True}


def teachers(seed: int) -> Teachers:
    model = build(narrowed(), len(SHAPES))
    randomise_statistics(model, seed)
    return Teachers([(model, spec())], CPU, (1.0, 1.5), flip=True)


def test_each_image_is_asked_about_once_and_the_answer_kept(tmp_path: Path) -> None:
    samples, asked = [draw(seed) for seed in range(3)], teachers(1)
    answers = Answers(tmp_path / "answers", spec(), 2.0)
    seen: list[tuple[int, int]] = []
    told = lambda step, done, total: seen.append((done, total))  # noqa: E731
    assert not answers.ask(asked, torch.float32, samples, told, lambda: len(seen) == 2)
    assert seen == [(1, 3), (2, 3)] and len(list((tmp_path / "answers").iterdir())) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "answers").iterdir()}
    assert answers.ask(asked, torch.float32, samples, lambda *_: None, lambda: False)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    answer = answers.get(samples[1].image)
    assert answer is not None and answer.shape == (16, 24, 3)
    said = asked.probabilities(torch.from_numpy(samples[1].image[None]), 2.0)[0].numpy()
    mean = said.reshape(3, 16, CELL, 24, CELL).mean((2, 4)).transpose(1, 2, 0)
    assert np.abs(answer / 255 - mean).max() <= 0.5 / 255 + 1e-6
    assert answers.get(draw(9).image) is None


def test_a_damaged_or_foreign_answer_is_told(tmp_path: Path) -> None:
    image = draw(0).image
    Answers(tmp_path, spec(), 1.0).ask(teachers(2), torch.float32, [draw(0)], lambda *_: None, lambda: False)
    (path,) = tmp_path.iterdir()
    with pytest.raises(InputError, match="answer of another model"):
        Answers(tmp_path, spec(height=128), 1.0).get(image)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="damaged"):
        Answers(tmp_path, spec(), 1.0).get(image)


def test_the_loss_counts_only_what_they_spoke_of() -> None:
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 8, 12, generator=random)
    taught = torch.softmax(torch.randn(2, 3, 2, 3, generator=random), 1)
    scores = logits.reshape(2, 3, 2, 4, 3, 4).mean((3, 5))
    own = torch.log_softmax(scores, 1)
    each = (taught * (taught.log() - own)).sum(1)
    torch.testing.assert_close(teacher_loss(logits, taught, 1.0), each.mean())
    silent = taught.clone()
    silent[1] = 0
    torch.testing.assert_close(teacher_loss(logits, silent, 1.0), each[0].mean())
    assert float(teacher_loss(logits, torch.zeros_like(taught), 1.0)) == 0
