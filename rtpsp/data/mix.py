"""Data sets in one: the first whole in every epoch, of each other one a share, other samples of it each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

from rtpsp.data.dataset import Dataset
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, UsageError

MAX_SHARE = 0.5
"""Beyond it the first data set would not be the one that is learnt."""


@dataclass(frozen=True)
class Mix(Sequence[Sample]):
    """Data sets to learn from; as a sequence all their samples, one data set behind the other.

    Attributes:
        first: Taken whole once an epoch.
        others: More, each with its share: so much of an epoch would be of it if `first` were the only other, 0 to
            `MAX_SHARE`.
        seed: Of what is drawn, and of the order.
    """

    first: Dataset
    others: tuple[tuple[Dataset, float], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for dataset, share in self.others:
            if not 0 <= share <= MAX_SHARE:
                raise UsageError(f"the share of {dataset.source} is {share:g}, expected 0 to {MAX_SHARE:g}")
        for dataset in self.parts:
            if not len(dataset):
                raise DataError(f"{dataset.source} has no samples, expected one at least: leave it out of the mix")

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The data sets, `first` first."""
        return (self.first, *(dataset for dataset, _ in self.others))

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples that each data set gives to an epoch: share / (1 - share) of the first's, rounded."""
        return (len(self.first), *(round(share / (1 - share) * len(self.first)) for _, share in self.others))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        places = [(which, place) for which, part in enumerate(self.parts) for place in range(len(part))]
        if isinstance(index, slice):
            return _Samples(self.parts, places[index])
        which, place = places[index]
        return self.parts[which][place]

    def epoch_order(self, epoch: int) -> list[tuple[int, int]]:
        """Which samples an epoch has, in its order.

        A data set of which a share is taken is gone through in an order of its own, drawn anew each time it is used
        up; an epoch goes on where the one before it stopped. Epochs may be asked for in any order.

        Args:
            epoch: Its number, from 0.

        Returns:
            (data set, sample) of each: the places in `parts` and in that data set.
        """
        places = [(0, place) for place in range(len(self.first))]
        for which, (part, count) in enumerate(zip(self.parts[1:], self.counts[1:], strict=True)):
            for at in range(epoch * count, (epoch + 1) * count):
                turn, place = divmod(at, len(part))
                places.append((which + 1, int(_order(self.seed, which, turn, len(part))[place])))
        shuffled = np.random.default_rng((self.seed, epoch)).permutation(len(places))
        return [places[place] for place in shuffled]

    def epoch(self, number: int) -> Sequence[Sample]:
        """The samples of `epoch_order`, each loaded when it is asked for, by any thread."""
        return _Samples(self.parts, self.epoch_order(number))


@dataclass(frozen=True)
class _Samples(Sequence[Sample]):
    parts: tuple[Dataset, ...]
    places: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return _Samples(self.parts, self.places[index])
        which, place = self.places[index]
        return self.parts[which][place]


@lru_cache(maxsize=16)
def _order(seed: int, which: int, turn: int, count: int) -> NDArray[np.intp]:
    """The order in which a data set is gone through for the `turn`-th time."""
    return np.random.default_rng((seed, which, turn)).permutation(count)
