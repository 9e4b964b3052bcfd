"""Batches: what they hold depends on seed and place alone, and they are made when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from rtpsp.errors import DataError
from rtpsp.model.augment import Augmentation
from rtpsp.model.batches import AHEAD, Batch, batches, step_count
from rtpsp.model.train_options import TrainOptions
from tests.shapes import Shape, draw, spec

SAMPLES = [draw(seed) for seed in range(5)]


def made(first: int = 0, epoch: int = 0, threads: int = 2, samples: Any = SAMPLES, **options: Any) -> list[Batch]:
    augment = Augmentation(spec(), TrainOptions(**{"batch": 2, **options}))
    with ThreadPoolExecutor(threads) as pool:
        return list(batches(samples, augment, epoch, first, pool))


def same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and torch.equal(a.truth, b.truth) for a, b in zip(one, other, strict=True)
    )


def test_an_epoch_can_begin_anywhere_with_any_number_of_threads() -> None:
    whole = made()
    assert [tuple(batch.images.shape) for batch in whole] == [(2, 64, 96, 3)] * 3
    assert whole[0].images.dtype == torch.uint8 and whole[0].truth.dtype == torch.int64
    assert same(made(threads=1), whole) and same(made(threads=5), whole)
    assert same(made(first=2), whole[2:]) and made(first=3) == []


def test_seed_and_epoch_change_all_cuts() -> None:
    whole = made()
    for other in (made(seed=2), made(epoch=1)):
        assert not any(torch.equal(a.images, b.images) for a, b in zip(whole, other, strict=True))


def test_the_last_batch_is_filled_from_the_beginning_with_other_cuts() -> None:
    still: dict[str, Any] = {"scale": (1, 1), "colour": 0.0, "flip": 0.0}
    last = made(**still)[-1]
    assert torch.equal(last.images[1], made(**still)[0].images[0])
    assert not torch.equal(made()[-1].images[1], made()[0].images[0])
    (only,) = made(samples=SAMPLES[:1], batch=4)  # a set smaller than a batch
    assert only.images.shape[0] == 4 and not torch.equal(only.images[0], only.images[1])
    assert [step_count(images, 4) for images in (1, 4, 5, 8)] == [1, 1, 2, 2]


class Counted(Sequence[Shape]):
    """Counts what is loaded; one sample may be damaged."""

    def __init__(self, images: int, damaged: int | None = None) -> None:
        self.images, self.damaged, self.loaded = images, damaged, 0

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: Any) -> Any:
        self.loaded += 1
        if index == self.damaged:
            raise DataError("03.png cannot be read")
        return SAMPLES[index % len(SAMPLES)]


def test_images_are_loaded_a_little_ahead_and_no_more() -> None:
    samples, augment = Counted(100), Augmentation(spec(), TrainOptions(batch=2))
    with ThreadPoolExecutor(2) as pool:
        ahead = batches(samples, augment, 0, 0, pool)
        next(ahead)
    assert samples.loaded == 2 * (AHEAD + 1)


def test_a_damaged_image_ends_it_with_its_own_error() -> None:
    with pytest.raises(DataError, match=r"03\.png"):
        made(samples=Counted(8, damaged=3))
