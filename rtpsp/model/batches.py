"""Batches of one epoch, made ahead by threads; which pixels they hold depends on the seed and their place alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtpsp.arrays import ClassMap, Image
from rtpsp.model.augment import Augmentation, Cut

CELL = 4  # pixels of the model's input a side for one value of an answer: twice as fine as the finest feature map
AHEAD = 2  # batches that are being made while one is learnt from


class Labelled(Protocol):
    """A labelled image; `rtpsp.data.sample.Sample` is one."""

    @property
    def name(self) -> str:
        """What an error calls it."""

    @property
    def image(self) -> Image:
        """uint8 [H, W, planes]."""

    @property
    def truth(self) -> ClassMap:
        """[H, W] class ids."""


class TrainingSet(Protocol):
    """What is learnt from, epoch by epoch."""

    def epoch(self, number: int) -> Sequence[Labelled]:
        """The images of an epoch in the order of that epoch, each loaded when it is asked for, by any thread.

        The same number gives the same images in the same order.
        """


class Batch(NamedTuple):
    """What one step learns from.

    Attributes:
        images: uint8 [N, h, w, planes].
        truth: int64 [N, h, w].
        taught: What teachers said of it, uint8 [N, rows, columns, classes], probabilities times 255; 0 throughout where
            nobody was asked. None where nobody was asked at all.
    """

    images: Tensor
    truth: Tensor
    taught: Tensor | None = None


Recall = Callable[[Image], NDArray[np.uint8] | None]
"""An image to what teachers said of it, uint8 [h, w, classes] of the model's whole input; None if nobody was asked."""


def step_count(images: int, batch: int) -> int:
    """Steps of an epoch: the last batch is filled up from the epoch's beginning, cut anew."""
    return -(-images // batch)


def batches(
    samples: Sequence[Labelled],
    augment: Augmentation,
    epoch: int,
    first: int,
    pool: ThreadPoolExecutor,
    recall: Recall | None = None,
) -> Iterator[Batch]:
    """The batches of an epoch from one on.

    Args:
        samples: The epoch's images in order.
        augment: How each is cut; its options give the batch and the seed.
        epoch: Its number, from 0.
        first: The batch to begin with, from 0: those before it have been learnt from.
        pool: What makes them.
        recall: What teachers said.

    Raises:
        DataError: An image cannot be read.
    """
    size, seed = augment.options.batch, augment.options.seed

    def cut(place: int) -> tuple[Cut, NDArray[np.uint8] | None]:
        sample = samples[place % len(samples)]
        image = sample.image
        seen = augment(image, sample.truth, np.random.default_rng((seed, epoch, place)))
        if recall is None:
            return seen, None
        answer = recall(image)
        return seen, augment.no_answer(CELL) if answer is None else augment.follow(seen.view, answer, CELL)

    waiting: deque[list[Future[tuple[Cut, NDArray[np.uint8] | None]]]] = deque()
    ahead = iter(range(first, step_count(len(samples), size)))

    def order() -> None:
        number = next(ahead, None)
        if number is not None:
            waiting.append([pool.submit(cut, number * size + place) for place in range(size)])

    try:
        for _ in range(AHEAD):
            order()
        while waiting:
            cuts = [future.result() for future in waiting.popleft()]
            order()
            images = torch.from_numpy(np.stack([seen.image for seen, _ in cuts]))
            truth = torch.from_numpy(np.stack([seen.truth for seen, _ in cuts]))
            said = [answer for _, answer in cuts if answer is not None]
            yield Batch(images, truth, torch.from_numpy(np.stack(said)) if said else None)
    finally:
        for futures in waiting:
            for future in futures:
                future.cancel()
