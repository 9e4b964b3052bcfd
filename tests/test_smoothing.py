from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.arrays import Image
from rtpsp.smoothing import STRENGTH, Smoother

CELLS = (12, 16)
SIZE = (96, 128)


def scene(seed: int = 0, size: tuple[int, int] = SIZE, grain: int = 16) -> Image:
    """Smooth noise: texture whose motion can be found."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // grain + 2, size[1] // grain + 2, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def scores_of(ids: NDArray[np.integer], classes: int = 3, lead: float = 4.0) -> NDArray[np.float32]:
    return np.asarray(lead * (ids == np.arange(classes)[:, np.newaxis, np.newaxis]), np.float32)


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    shares: NDArray[np.float32] = np.exp(scores) / np.exp(scores).sum(axis=0)
    return shares


def halves() -> NDArray[np.intp]:
    return np.repeat((np.arange(CELLS[1]) >= 8).astype(int)[np.newaxis], CELLS[0], axis=0)


def test_the_first_frame_is_what_it_was() -> None:
    scores = np.random.default_rng(1).normal(size=(3, *CELLS)).astype(np.float32)
    given = scores.copy()
    smooth = Smoother()(scores, scene())
    np.testing.assert_array_equal(smooth, given)
    np.testing.assert_array_equal(scores, given)
    assert not np.shares_memory(smooth, scores) and smooth.flags.c_contiguous and smooth.dtype == np.float32


@pytest.mark.parametrize("planes", [1, 3, 4])
def test_the_formula_where_nothing_moves(planes: int) -> None:
    """Of a frame too small to look for motion, z(t) = x(t) + b softmax z(t-1)."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (12, 12, planes), np.uint8)
    first, second, third = rng.normal(size=(3, 4, 3, 3)).astype(np.float32)
    smoother = Smoother(strength=1.5)
    smoother(first, image)
    expected = second + 1.5 * softmax(first)
    np.testing.assert_allclose(smoother(second, image), expected, rtol=1e-5)
    np.testing.assert_allclose(smoother(third, image), third + 1.5 * softmax(expected), rtol=1e-5)


def test_a_steady_picture_flickers_less_and_is_more_often_right() -> None:
    rng, smoother, image = np.random.default_rng(3), Smoother(), scene()
    truth = halves()
    plain, smooth = [], []
    for _ in range(20):
        scores = scores_of(truth, lead=1.5) + rng.normal(size=(3, *CELLS)).astype(np.float32)
        plain.append(scores.argmax(axis=0))
        smooth.append(smoother(scores, image).argmax(axis=0))
    changes = [np.mean(np.diff(maps, axis=0) != 0) for maps in (plain, smooth)]
    right = [np.mean(np.array(maps) == truth) for maps in (plain, smooth)]
    assert changes[1] < changes[0] / 2 and right[1] > right[0] + 0.05


@pytest.mark.parametrize(("lead", "changes"), [(STRENGTH + 0.2, True), (STRENGTH - 0.2, False)])
def test_what_is_surer_than_its_strength_wins_at_once_however_long_another_was_held(lead: float, changes: bool) -> None:
    smoother, image = Smoother(), scene()
    before, after = np.zeros(CELLS, int), np.ones(CELLS, int)
    for _ in range(50):
        smoother(scores_of(before, lead=9), image)
    answer = smoother(scores_of(after, lead=lead), image).argmax(axis=0)
    assert (answer == int(changes)).all()


def test_belief_moves_with_the_picture() -> None:
    """The scene moves two cells to the right; the network says nothing of the second frame."""
    wide = scene(4, (SIZE[0], SIZE[1] + 16))
    smoother = Smoother()
    smoother(scores_of(halves(), lead=9), np.ascontiguousarray(wide[:, 16:]))
    answer = smoother(np.zeros((3, *CELLS), np.float32), np.ascontiguousarray(wide[:, :-16])).argmax(axis=0)
    expected = np.roll(halves(), 2, axis=1)
    inner = slice(2, -2), slice(3, -3)  # at an edge the picture gives no hold
    assert np.mean(answer[inner] == expected[inner]) > 0.97
    assert np.mean(halves()[inner] == expected[inner]) < 0.85, "which standing still would give"


def test_where_the_picture_is_another_nothing_is_believed() -> None:
    smoother, first = Smoother(), scene(5)
    smoother(scores_of(np.zeros(CELLS, int), lead=9), first)
    second = first.copy()
    second[:, 64:] = 255 - second[:, 64:]
    silent = np.zeros((3, *CELLS), np.float32)
    gain = smoother(silent, second)[0]
    assert gain[:, :6].min() > 1.5 and np.median(gain[:, 10:]) < 0.5


def test_at_a_cut_it_forgets() -> None:
    smoother = Smoother()
    smoother(scores_of(halves(), lead=9), scene(6))
    scores = np.random.default_rng(6).normal(size=(3, *CELLS)).astype(np.float32)
    np.testing.assert_array_equal(smoother(scores, scene(7)), scores)


def test_it_forgets_when_told_and_when_sizes_change() -> None:
    smoother, image = Smoother(), scene()
    silent = np.zeros((3, *CELLS), np.float32)
    steady = scores_of(halves(), lead=9)
    smoother(steady, image)
    assert smoother(silent, image).any()
    smoother(steady, image)
    smoother.reset()
    assert not smoother(silent, image).any()
    for other in (np.zeros((5, *CELLS), np.float32), np.zeros((3, 6, 8), np.float32)):
        smoother(steady, image)
        assert not smoother(other, image).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_gone_with_its_frame(bad: float) -> None:
    smoother, image = Smoother(), scene()
    broken = scores_of(halves())
    broken[:, 3:6, 3:6] = bad
    smoother(broken, image)
    assert np.isfinite(smoother(scores_of(halves()), image)).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (96, 128), (12, 16), (500, 30)])
@pytest.mark.parametrize("cells", [(1, 1), (12, 16)])
def test_any_size_goes(size: tuple[int, int], cells: tuple[int, int]) -> None:
    smoother, image = Smoother(), np.zeros((*size, 3), np.uint8)
    scores = scores_of(np.zeros(cells, int), 2)
    for _ in range(3):
        smooth = smoother(scores, image)
    np.testing.assert_allclose(smooth[0] - scores[0], STRENGTH, atol=0.05)
