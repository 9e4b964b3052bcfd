from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rtpsp.data.dataset import Dataset
from rtpsp.data.mix import Mix
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, UsageError
from rtpsp.spec import Planes


@dataclass(frozen=True)
class Numbered:
    name: str

    def load(self, planes: Planes = 3) -> Sample:
        return Sample(self.name, np.zeros((1, 1, planes), np.uint8), np.zeros((1, 1), np.uint8))


def numbered(letter: str, count: int) -> Dataset:
    return Dataset(letter, None, tuple(Numbered(f"{letter}{n}") for n in range(count)))


def test_the_first_is_whole_in_every_epoch_and_the_others_by_their_share() -> None:
    mix = Mix(numbered("a", 40), ((numbered("b", 100), 0.2), (numbered("c", 3), 0.5)), seed=3)
    assert mix.counts == (40, 10, 40)
    for epoch in range(3):
        order = mix.epoch_order(epoch)
        assert len(order) == 90 and sorted(place for which, place in order if which == 0) == list(range(40))
        assert sum(which == 1 for which, _ in order) == 10
        assert all(0 <= place < len(mix.parts[which]) for which, place in order)


def test_a_share_is_of_the_epoch() -> None:
    mix = Mix(numbered("a", 900), ((numbered("b", 500), 0.1),))
    order = mix.epoch_order(0)
    assert sum(which == 1 for which, _ in order) / len(order) == pytest.approx(0.1)


def test_nothing_is_drawn_again_before_all_was_drawn() -> None:
    mix = Mix(numbered("a", 12), ((numbered("b", 10), 0.25),))  # 4 an epoch: two and a half epochs use it up
    drawn = [place for epoch in range(5) for which, place in sorted(mix.epoch_order(epoch)) if which == 1]
    assert len(drawn) == 20 and sorted(drawn) == sorted([*range(10)] * 2)
    first_two = [place for epoch in range(2) for which, place in mix.epoch_order(epoch) if which == 1]
    assert len(set(first_two)) == 8


def test_orders_depend_on_seed_and_epoch_alone() -> None:
    parts = numbered("a", 20), ((numbered("b", 30), 0.3),)
    one, same, other = Mix(*parts, seed=1), Mix(*parts, seed=1), Mix(*parts, seed=2)
    later = one.epoch_order(7)
    assert one.epoch_order(0) == same.epoch_order(0) and same.epoch_order(7) == later
    assert one.epoch_order(0) != one.epoch_order(1) and one.epoch_order(0) != other.epoch_order(0)


def test_samples_by_place_and_by_epoch() -> None:
    mix = Mix(numbered("a", 3), ((numbered("b", 2), 0.4),))
    assert len(mix) == 5 and [sample.name for sample in mix] == ["a0", "a1", "a2", "b0", "b1"]
    assert mix[-1].name == "b1" and [sample.name for sample in mix[1:4:2]] == ["a1", "b0"]
    with pytest.raises(IndexError):
        mix[5]
    epoch = mix.epoch(4)
    assert [sample.name for sample in epoch] == ["ab"[which] + str(place) for which, place in mix.epoch_order(4)]
    assert [sample.name for sample in epoch[1:]] == [sample.name for sample in epoch][1:]


def test_a_share_of_nothing_is_none() -> None:
    assert Mix(numbered("a", 3), ((numbered("b", 2), 0.0),)).counts == (3, 0)
    assert sorted(Mix(numbered("a", 3)).epoch_order(0)) == [(0, 0), (0, 1), (0, 2)]


def test_mixes_that_are_none() -> None:
    for share in (-0.1, 0.6, float("nan")):
        with pytest.raises(UsageError, match=r"the share of b is .*, expected 0 to 0\.5"):
            Mix(numbered("a", 3), ((numbered("b", 2), share),))
    with pytest.raises(DataError, match="b has no samples, expected one at least"):
        Mix(numbered("a", 3), ((numbered("b", 0), 0.2),))
