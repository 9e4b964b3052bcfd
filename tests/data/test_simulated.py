from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.data.simulated import STREETS_KEPT, each_frame, find_frames
from rtpsp.errors import InputError, SourceError


class FakeStreet:
    made: list[tuple[int, int, float, int]] = []  # noqa: RUF012

    def __init__(self, height: int, width: int, fps: float, seed: int) -> None:
        if height < 8:
            raise ValueError(f"the street needs at least 8 rows, got {height}")
        self.made.append((height, width, fps, seed))
        self.size, self.seed = (height, width), seed

    def draw(self, index: int) -> NDArray[np.uint8]:
        return np.full((*self.size, 3), self.seed * 10 + index, np.uint8)

    def truth(self, index: int) -> NDArray[np.uint8]:
        return np.full(self.size, index, np.uint8)


@pytest.fixture(autouse=True)
def forget_streets() -> None:
    FakeStreet.made.clear()


def test_simulator_draws_every_stepth_frame_of_every_seed() -> None:
    entries = find_frames("sim://street?frames=3&seed=1,7&w=16&h=12&fps=25&step=4", FakeStreet)
    names = ["street-1-000000", "street-1-000004", "street-1-000008", "street-7-000000", "street-7-000004"]
    assert [entry.name for entry in entries] == [*names, "street-7-000008"]
    sample = entries[4].load()
    assert sample.image.shape == (12, 16, 3) and sample.truth.shape == (12, 16)
    assert sample.image[0, 0, 0] == 74 and sample.truth[0, 0] == 4 and sample.name == "street-7-000004"
    assert FakeStreet.made == [(12, 16, 25.0, 1), (12, 16, 25.0, 7)]


def test_simulator_makes_each_street_once_and_keeps_a_few() -> None:
    seeds = range(STREETS_KEPT + 1)
    entries = find_frames(f"sim://street?frames=5&seed={','.join(map(str, seeds))}", FakeStreet)
    for entry in entries:
        entry.load()
    assert len(FakeStreet.made) == len(seeds)
    entries[0].load()
    assert len(FakeStreet.made) == len(seeds) + 1


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sim://[street", "is no URI"),
        ("sim://sea", "no simulator 'sea'"),
        ("sim://street/5", "no simulator 'street/5'"),
        ("sim://street?live=1&jitter=40ms", "jitter, live"),
        ("sim://street?seed=1&seed=2", "has seed"),
        ("sim://street?frames=0", "frames is '0'"),
        ("sim://street?step=-1", "step is '-1'"),
        ("sim://street?w=", "w is ''"),
        ("sim://street?seed=1,,2", "seed is ''"),
        ("sim://street?fps=0", "fps is '0'"),
        ("sim://street?fps=inf", "fps is 'inf'"),
        ("sim://street?fps=many", "fps is 'many'"),
        ("sim://street?h=4", "at least 8 rows, got 4"),
    ],
)
def test_simulator_uris_that_cannot_be_meant(uri: str, expected: str) -> None:
    with pytest.raises(SourceError, match=expected) as caught:
        find_frames(uri, FakeStreet)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sim://street", "sim://street?step=1"),
        ("sim://street?", "sim://street?step=1"),
        ("sim://street?frames=3", "sim://street?frames=3&step=1"),
        ("sim://street?frames=3&", "sim://street?frames=3&step=1"),
        ("sim://street?step=4&frames=3", "sim://street?step=4&frames=3"),
        ("sim://street?frames=3&step=15", "sim://street?frames=3&step=15"),
        ("drive/step", "drive/step"),
    ],
)
def test_every_frame_where_the_uri_says_no_step(uri: str, expected: str) -> None:
    assert each_frame(uri) == expected
    if uri.startswith("sim:"):
        first, second, *_ = find_frames(expected, FakeStreet)
        assert second.index - first.index == int(expected.partition("step=")[2].partition("&")[0])
