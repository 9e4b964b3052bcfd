"""Upsampling by definition: against PyTorch, against the constant matrices, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.pooling import bilinear_matrix
from rtpsp.upsampling import Axis, Grid, confidence_map, reference_class_map, upsample


@pytest.mark.parametrize(
    ("size", "target"), [(1, 45), (2, 45), (3, 60), (6, 64), (6, 90), (45, 360), (90, 713), (7, 3), (5, 5), (60, 1)]
)
def test_a_whole_axis_is_the_constant_matrix(size: int, target: int) -> None:
    np.testing.assert_allclose(Axis.whole(size, target).matrix(), bilinear_matrix(size, target), atol=1e-6)


@pytest.mark.parametrize(
    ("cells", "size"), [((5, 7), (40, 56)), ((5, 7), (33, 71)), ((9, 4), (3, 3)), ((1, 1), (8, 8))]
)
def test_upsampling_equals_interpolate(cells: tuple[int, int], size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(1).normal(size=(3, *cells)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(scores)[None].double(), size, mode="bilinear")[0]
    np.testing.assert_allclose(upsample(scores, Grid.whole(cells, size)), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.25, 0.75), (0.1, 0.4), (0.5, 1.0)])
@pytest.mark.parametrize(("cells", "pixels"), [(8, 64), (8, 19), (12, 5), (3, 1)])
def test_a_part_of_an_axis_lies_where_it_should(cells: int, pixels: int, start: float, stop: float) -> None:
    axis = Axis.part(cells, pixels, start, stop)
    centres = (start + (np.arange(pixels) + 0.5) / pixels * (stop - start)) * cells - 0.5
    np.testing.assert_allclose(axis.positions, centres, atol=1e-12)
    np.testing.assert_allclose(axis.matrix() @ np.arange(cells), np.clip(centres, 0, cells - 1), atol=1e-12)
    np.testing.assert_allclose(axis.matrix().sum(axis=1), 1)


def test_beyond_the_outermost_centres_the_scores_stay() -> None:
    scores = np.array([[[1.0, 2.0]]], np.float32)
    np.testing.assert_allclose(
        upsample(scores, Grid.whole((1, 2), (1, 8)))[0, 0], [1, 1, 1.125, 1.375, 1.625, 1.875, 2, 2]
    )


def test_of_equal_scores_the_lower_id_wins() -> None:
    scores = np.array([[[0, 1]], [[1, 0]], [[1, 0]]], np.float32)
    grid = Grid(Axis.whole(1, 1), Axis(2, 3, 0.0, 0.5))
    assert reference_class_map(scores, grid).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("size", [(40, 56), (33, 71), (3, 4)])
@pytest.mark.parametrize("classes", [1, 7, 150])
def test_confidence_is_the_winners_softmax(classes: int, size: tuple[int, int]) -> None:
    random = np.random.default_rng(2)
    scores = (3 * random.normal(size=(classes, 5, 7))).astype(np.float32)
    grid = Grid.whole((5, 7), size)
    full = upsample(scores, grid)
    powers = np.exp(full - full.max(axis=0))
    given = np.zeros(size, np.uint8)
    found = confidence_map(scores, grid, given)
    assert found is given
    assert np.abs(found - 255 / powers.sum(axis=0)).max() < 0.501


def test_confidence_of_many_rows_is_that_of_each() -> None:
    """More pixels than are worked on at once."""
    scores = np.random.default_rng(3).normal(size=(4, 9, 11)).astype(np.float32)
    whole = confidence_map(scores, Grid.whole((9, 11), (540, 330)))
    rows = Axis.whole(9, 540)
    for row in (0, 1, 270, 539):
        alone = Grid(Axis(9, 1, rows.first + row * rows.step, rows.step), Axis.whole(11, 330))
        assert np.abs(whole[row] - confidence_map(scores, alone)[0].astype(int)).max() <= 1
    np.testing.assert_array_equal(confidence_map(np.full((2, 1, 1), 1e30, np.float32), Grid.whole((1, 1), (2, 2))), 128)


@pytest.mark.parametrize("wrong", [(0, 1, 0.0, 1.0), (1, 0, 0.0, 1.0), (1, 1, 0.0, 0.0), (1, 1, 0.0, float("nan"))])
def test_refuses_nothing(wrong: tuple[int, int, float, float]) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        Axis(*wrong)
