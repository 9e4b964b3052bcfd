from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.arrays import Image
from rtpsp.data.calibration_choice import (
    DESCRIPTION_LENGTH,
    UNIT,
    Description,
    Reservoir,
    Thinned,
    describe,
    farthest_points,
)


def scene(seed: int, height: int = 96, width: int = 128) -> Image:
    """Large patches of colour: another seed is another place."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def at(*values: float) -> Description:
    """A description that differs from others in its first numbers."""
    description = np.zeros(DESCRIPTION_LENGTH, np.int16)
    description[: len(values)] = values
    return description


def distance(one: Description, other: Description) -> int:
    return int(((one.astype(np.int64) - other) ** 2).sum())


points = st.lists(st.tuples(st.integers(-300, 300), st.integers(-300, 300)).map(lambda pair: at(*pair)), min_size=1)


# --- descriptions ----------------------------------------------------------------------------------------------------


def test_a_description_is_whole_numbers_and_the_same_each_time() -> None:
    one, again = describe(scene(1)), describe(scene(1).copy())
    assert one.dtype == np.int16 and one.shape == (DESCRIPTION_LENGTH,) and np.array_equal(one, again)


def test_lightness_is_cie_lab() -> None:
    grey = describe(np.full((30, 40, 3), 119, np.uint8)).reshape(-1, 4)
    assert grey[:, 0] * UNIT == pytest.approx(50, abs=0.5)  # sRGB 119 is L* 50.03
    assert np.all(grey[:, 1:] == 0)
    red = describe(np.full((30, 40, 3), (0, 0, 255), np.uint8)).reshape(-1, 4)
    assert red[0, :3] * UNIT == pytest.approx([53.2, 80.1, 67.2], abs=0.5)


def test_edges_count_where_the_mean_colour_is_the_same() -> None:
    plain = np.full((96, 128, 3), 119, np.uint8)
    striped = plain.copy()
    striped[:, ::4], striped[:, 2::4] = 80, 160
    rough, smooth = describe(striped).reshape(-1, 4)[:, 3], describe(plain).reshape(-1, 4)[:, 3]
    assert rough.min() * UNIT > 5 and smooth.max() == 0


def test_another_size_of_one_picture_is_nearer_than_another_picture() -> None:
    small, large = describe(scene(1, 96, 128)), describe(scene(1, 720, 960))
    assert distance(small, large) < distance(small, describe(scene(2))) / 10


# --- farthest points -------------------------------------------------------------------------------------------------


def radius(candidates: Sequence[Description], chosen: Sequence[int]) -> float:
    """Largest distance from a candidate to its nearest chosen one."""
    return float(np.sqrt(max(min(distance(point, candidates[number]) for number in chosen) for point in candidates)))


@given(points.filter(lambda found: len(found) <= 9), st.integers(1, 3))
def test_no_candidate_is_farther_than_twice_the_least_possible(candidates: list[Description], count: int) -> None:
    """The bound of Gonzalez 1985, against every choice there is."""
    chosen = farthest_points(candidates, count)
    sizes = range(1, min(count, len(candidates)) + 1)
    choices = itertools.chain.from_iterable(itertools.combinations(range(len(candidates)), size) for size in sizes)
    best = min(radius(candidates, choice) for choice in choices)
    assert radius(candidates, chosen) <= 2 * best + 1e-9
    assert chosen == sorted(set(chosen)) and len(chosen) <= count


def test_all_are_taken_where_there_are_no_more() -> None:
    assert farthest_points([at(1), at(1), at(1)], 3) == [0, 1, 2]
    assert farthest_points([], 3) == []


def test_of_equal_candidates_one_is_taken() -> None:
    assert farthest_points([at(5), at(5), at(5), at(9), at(9)], 3) == [0, 3]


def test_an_outlier_is_taken_and_the_first_is_an_ordinary_one() -> None:
    candidates = [at(number) for number in range(20)] + [at(300)]
    assert 20 not in farthest_points(candidates, 1) and 20 in farthest_points(candidates, 2)


def test_distances_are_exact_where_float32_would_not_be() -> None:
    """Black to white in every cell: the squares sum up beyond 2**24."""
    far = np.full(DESCRIPTION_LENGTH, 400, np.int16)
    nearer = far.copy()
    nearer[-1] -= 1
    middle = np.zeros(DESCRIPTION_LENGTH, np.int16)
    assert farthest_points([middle, middle, middle, middle, middle, nearer, far], 2) == [0, 6]


# --- candidates of a long source -------------------------------------------------------------------------------------


@given(st.integers(0, 400), st.integers(2, 40))
def test_candidates_are_evenly_spaced_and_never_more_than_the_limit(length: int, limit: int) -> None:
    thinned: Thinned[int] = Thinned(limit)
    for position in range(length):
        if thinned.wants(position):
            thinned.add(position)
            assert len(thinned.items) <= limit
    assert thinned.items == list(range(0, length, thinned.stride))
    assert len(thinned.items) >= min(length, limit // 2)


# --- a camera --------------------------------------------------------------------------------------------------------


@given(points, st.integers(1, 5))
def test_the_reservoir_drops_the_later_of_the_nearest_two(arriving: list[Description], size: int) -> None:
    """Against the definition, by brute force."""
    reservoir, kept, expected = Reservoir(size), list[int](), list[int]()
    for number, point in enumerate(arriving):
        goes = reservoir.add(point)
        kept.append(number)
        expected.append(number)
        if goes is not None:
            least = min(distance(arriving[a], arriving[b]) for a, b in itertools.combinations(expected, 2))
            pairs = [p for p in itertools.combinations(expected, 2) if distance(*(arriving[n] for n in p)) == least]
            gone = kept.pop(goes)
            assert gone in {later for _, later in pairs}
            expected.remove(gone)
        assert kept == expected and len(kept) == min(size, number + 1)


def test_a_rare_frame_outlives_a_long_dull_stretch() -> None:
    """Noise of a few units everywhere, and one other scene among 400 frames."""
    generator = np.random.default_rng(3)
    reservoir, kept = Reservoir(8), list[int]()
    for number in range(400):
        noise = generator.integers(-3, 4, DESCRIPTION_LENGTH).astype(np.int16)
        goes = reservoir.add(noise + np.int16(200 if number == 57 else 0))
        kept.append(number)
        if goes is not None:
            kept.pop(goes)
    assert 57 in kept and len(kept) == 8
