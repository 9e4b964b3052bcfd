"""Batches of one epoch, made ahead by threads; which pixels they hold depends on the seed and their place alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtpsp.arrays import ClassMap, Image
from rtpsp.model.augment import Augmentation

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
    """

    images: Tensor
    truth: Tensor


def step_count(images: int, batch: int) -> int:
    """Steps of an epoch: the last batch is filled up from the epoch's beginning, cut anew."""
    return -(-images // batch)


def batches(
    samples: Sequence[Labelled], augment: Augmentation, epoch: int, first: int, pool: ThreadPoolExecutor
) -> Iterator[Batch]:
    """The batches of an epoch from one on.

    Args:
        samples: The epoch's images in order.
        augment: How each is cut; its options give the batch and the seed.
        epoch: Its number, from 0.
        first: The batch to begin with, from 0: those before it have been learnt from.
        pool: What makes them.

    Raises:
        DataError: An image cannot be read.
    """
    size, seed = augment.options.batch, augment.options.seed

    def cut(place: int) -> tuple[Image, NDArray[np.int64]]:
        sample = samples[place % len(samples)]
        return augment(sample.image, sample.truth, np.random.default_rng((seed, epoch, place)))

    waiting: deque[list[Future[tuple[Image, NDArray[np.int64]]]]] = deque()
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
            images, truth = zip(*cuts, strict=True)
            yield Batch(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(truth)))
    finally:
        for futures in waiting:
            for future in futures:
                future.cancel()
