"""The shortcut gives the class map of the definition, but where two scores differ by rounding alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtpsp.class_mapper import ClassMapper
from rtpsp.upsampling import Axis, Grid, Scores, upsample

ROUNDING = 1e-5
"""Of the largest score: float32 through three products, and no more."""


def noise(classes: int, cells: tuple[int, int], seed: int = 0) -> Scores:
    """Nothing is uniform: every block is interpolated, with as many contenders as there can be."""
    return np.random.default_rng(seed).normal(size=(classes, *cells)).astype(np.float32)


def regions(classes: int, cells: tuple[int, int], seed: int = 0) -> Scores:
    """As a network's scores are: a class wins by far within its region, borders are soft, most classes are nowhere."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, min(classes, 9), (max(1, cells[0] // 4), max(1, cells[1] // 4)), np.uint8)
    owner = cv2.resize(coarse, cells[::-1], interpolation=cv2.INTER_NEAREST)
    scores = random.normal(0, 0.5, (classes, *cells)).astype(np.float32)
    for label in range(classes):
        scores[label] += 8 * cv2.blur((owner == label).astype(np.float32), (3, 3))
    return scores


def assert_same(found: NDArray[np.integer], scores: Scores, grid: Grid) -> None:
    """Equal to the definition, or a tie but for rounding."""
    full = upsample(scores, grid)
    expected = full.argmax(axis=0)
    assert found.shape == grid.size
    rows, columns = np.nonzero(found != expected)
    lost = full[expected[rows, columns], rows, columns] - full[found[rows, columns], rows, columns]
    assert lost.max(initial=0) <= ROUNDING * np.abs(full).max()
    assert rows.size <= 0.001 * expected.size + 1


@pytest.mark.parametrize("make", [noise, regions])
@pytest.mark.parametrize("classes", [1, 2, 11, 150, 255, 256, 257, 300])
def test_any_number_of_classes(classes: int, make: type) -> None:
    grid = Grid.whole((12, 15), (96, 120))
    mapper = ClassMapper(grid, "uint8" if classes <= 256 else "int32")
    for seed in range(2):  # the buffers are used again
        scores = make(classes, grid.cells, seed)
        found = mapper(scores)
        assert found.dtype == ("uint8" if classes <= 256 else "int32")
        assert_same(found, scores, grid)


@pytest.mark.parametrize("make", [noise, regions])
@pytest.mark.parametrize(
    ("cells", "size"),
    [
        ((45, 60), (360, 480)),
        ((45, 60), (540, 960)),
        ((45, 60), (541, 963)),
        ((45, 60), (45, 60)),
        ((45, 60), (44, 61)),
        ((45, 60), (7, 5)),
        ((45, 60), (1, 1)),
        ((1, 1), (8, 8)),
        ((1, 7), (5, 50)),
        ((7, 1), (50, 1)),
        ((2, 3), (500, 700)),  # blocks of more pixels than are worked on at once
    ],
)
def test_any_size(cells: tuple[int, int], size: tuple[int, int], make: type) -> None:
    grid = Grid.whole(cells, size)
    scores = make(11, cells)
    assert_same(ClassMapper(grid)(scores), scores, grid)


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    st.floats(0.05, 1.0),
    st.integers(1, 30),
    st.integers(0, 1000),
)
def test_any_part(
    cells: tuple[int, int], size: tuple[int, int], start: tuple[float, float], share: float, classes: int, seed: int
) -> None:
    axes = (
        Axis.part(count, pixels, begin, begin + share * (1 - begin))
        for count, pixels, begin in zip(cells, size, start, strict=True)
    )
    grid = Grid(*axes)
    scores = (noise if seed % 2 else regions)(classes, cells, seed)
    assert_same(ClassMapper(grid)(scores), scores, grid)


def test_of_equal_scores_the_lower_id_wins() -> None:
    grid = Grid.whole((6, 6), (48, 48))
    one = regions(5, grid.cells)
    twice = np.concatenate([one, one])  # every class has an equal one of a higher id
    found = ClassMapper(grid)(twice)
    assert found.max() < 5
    np.testing.assert_array_equal(found, ClassMapper(grid)(one))
    assert not ClassMapper(grid)(np.zeros((9, 6, 6), np.float32)).any()


def test_a_class_that_wins_at_no_cell_can_win_between_them() -> None:
    scores = np.array([[[10.0, 0.0]], [[0.0, 10.0]], [[9.0, 9.0]]], np.float32)
    found = ClassMapper(Grid.whole((1, 2), (1, 16)))(scores)[0]
    assert found[0] == 0 and found[-1] == 1 and (found[6:10] == 2).all()


def test_what_is_uniform_is_not_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.zeros((3, 6, 8), np.float32)
    scores[2], scores[1, :, 4:] = 1, 2
    mapper = ClassMapper(Grid.whole((6, 8), (48, 64)))
    seen: list[int] = []
    write = mapper._write

    def spy(ids: Any, rows: Any, columns: Any, out: Any) -> None:
        seen.extend(columns)
        write(ids, rows, columns, out)

    monkeypatch.setattr(mapper, "_write", spy)
    found = mapper(scores)
    assert set(seen) == {4}, "the blocks between the fourth and the fifth cell of each row"
    assert (found[:, :32] == 2).all() and (found[:, 36:] == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_give_ids_all_the_same(value: float) -> None:
    scores = regions(5, (6, 6))
    scores[:, 2, 3] = value
    scores[1, 4, 4] = value
    grid = Grid.whole((6, 6), (48, 48))
    found = ClassMapper(grid)(scores)
    assert found.max() < 5
    clear = np.s_[:8, :]
    np.testing.assert_array_equal(found[clear], ClassMapper(grid)(regions(5, (6, 6)))[clear])


def test_writes_where_it_is_told_and_nowhere_else() -> None:
    grid = Grid.whole((6, 7), (50, 43))
    scores = noise(4, grid.cells)
    expected = ClassMapper(grid)(scores)
    around = np.full((54, 60), 77, np.uint8)
    inner = around[2:52, 5:48]  # not contiguous
    assert ClassMapper(grid)(scores, inner) is inner
    np.testing.assert_array_equal(inner, expected)
    inner[...] = 77
    assert (around == 77).all()
    batch = np.full((3, 50, 43), 77, np.uint8)
    ClassMapper(grid)(scores, batch[1])
    np.testing.assert_array_equal(batch[1], expected)
    assert (batch[[0, 2]] == 77).all()


def test_other_arrays_are_refused() -> None:
    mapper = ClassMapper(Grid.whole((4, 5), (32, 40)))
    good = noise(3, (4, 5))
    wrong: Any
    for wrong in (noise(3, (5, 4)), good.astype(np.float64), np.asfortranarray(good)):
        with pytest.raises(ValueError, match="scores are"):
            mapper(wrong)
    for out in (np.empty((40, 32), np.uint8), np.empty((32, 40), np.int32)):
        with pytest.raises(ValueError, match="out is"):
            mapper(good, out)
