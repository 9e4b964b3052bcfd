from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.sim import Street
from rtpsp.sim.camera import camera_at
from rtpsp.sim.classes import CLASS_COUNT, PEDESTRIAN, POLE, ROAD, SKY
from rtpsp.sim.ground import LEFT_KERB
from rtpsp.sim.layout import BOLLARD_PITCH

SIZE = (240, 320)


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(*SIZE, seed=3)


def test_frames_do_not_depend_on_how_they_are_reached(street: Street) -> None:
    other = Street(*SIZE, seed=3)
    for index in (40, 7, 100_000, 0):
        first = street.draw(index)
        assert np.array_equal(other.draw(index), first)
        assert np.array_equal(street.draw(index), first)
        assert np.array_equal(other.truth(index), street.truth(index))


def test_frames_are_the_same_in_any_thread(street: Street) -> None:
    expected = [street.draw(index) for index in range(6)]
    drawn: dict[int, NDArray[np.uint8]] = {}

    def draw(first: int) -> None:
        for index in range(first, 6, 2):
            drawn[index] = street.draw(index)

    threads = [threading.Thread(target=draw, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(drawn[index], expected[index]) for index in range(6))


def test_seeds_give_different_streets(street: Street) -> None:
    other = Street(*SIZE, seed=4)
    assert (street.draw(10) != other.draw(10)).mean() > 0.5
    assert (street.truth(10) != other.truth(10)).mean() > 0.05


def test_frame_rate_sets_the_distance_driven(street: Street) -> None:
    slow = Street(*SIZE, fps=15.0, seed=3)
    assert np.array_equal(slow.truth(10), street.truth(20))
    assert not np.array_equal(slow.truth(10), street.truth(10))


@pytest.mark.parametrize("seed", [1, 2, 31])
def test_every_stretch_shows_all_classes(seed: int) -> None:
    street = Street(*SIZE, seed=seed)
    for start in (0, 5_000):
        stretch = np.stack([street.truth(start + index) for index in range(0, 100, 25)])
        counts = np.bincount(stretch.ravel(), minlength=CLASS_COUNT)
        assert counts.shape == (CLASS_COUNT,)
        assert (counts > 100).all(), counts


def test_scene_moves_smoothly(street: Street) -> None:
    for index in (0, 333):
        one, two, later = (street.truth(index + step) for step in (0, 1, 60))
        assert 0 < (one != two).mean() < 0.05
        assert (one != later).mean() > 2 * (one != two).mean()
        assert not np.array_equal(street.draw(index), street.draw(index + 1))


@pytest.mark.parametrize("seed", [3, 4])
def test_the_nearest_bollard_stands_where_the_camera_projects_it(seed: int, street: Street) -> None:
    street = street if seed == street.seed else Street(*SIZE, seed=seed)
    checked = 0
    for index in range(40):
        camera = camera_at(index / street.fps, *SIZE)
        distance = (3 - camera.z) % BOLLARD_PITCH
        if 6.2 < distance < 8.5:  # nearer than the cyclist who might hide it, and inside the picture
            middle = np.array([[LEFT_KERB - 0.35, 0.5, distance]])
            column, row = camera.project(middle)[0].astype(int)
            assert street.truth(index)[row, column] == POLE
            checked += 1
    assert checked >= 8


def test_labels_lie_where_the_picture_changes(street: Street) -> None:
    # If the truth were shifted against the picture, its boundaries would no longer lie on the picture's edges.
    index = 20
    grey = street.draw(index).astype(np.float32).mean(2)
    edges = np.abs(np.diff(grey, axis=1))
    boundary = np.diff(street.truth(index).astype(np.int16), axis=1) != 0
    aligned = edges[boundary].mean()
    for shift in (-6, -4, 4, 6):
        assert aligned > 1.15 * edges[np.roll(boundary, shift, axis=1)].mean()


def test_classes_look_like_themselves(street: Street) -> None:
    picture, truth = street.draw(50).astype(np.float32).mean(2), street.truth(50)
    sky, road, pedestrian = (picture[truth == label].mean() for label in (SKY, ROAD, PEDESTRIAN))
    assert sky > 180 > 120 > road > pedestrian


def test_out_is_written_into_and_returned(street: Street) -> None:
    out = np.full((*SIZE, 3), 7, np.uint8)
    assert street.draw(12, out) is out
    assert np.array_equal(out, street.draw(12))
    padded = np.zeros((SIZE[0], SIZE[1] + 40, 3), np.uint8)
    street.draw(12, padded[:, 20:-20])
    assert np.array_equal(padded[:, 20:-20], out)
    assert not padded[:, :20].any() and not padded[:, -20:].any()


def test_out_of_the_wrong_shape_is_refused(street: Street) -> None:
    with pytest.raises(ValueError, match=r"\(240, 320, 3\)"):
        street.draw(0, np.zeros((320, 240, 3), np.uint8))


@pytest.mark.parametrize("size", [(120, 160), (123, 457), (401, 163), (270, 481)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    street = Street(*size, seed=2)
    picture, truth = street.draw(9), street.truth(9)
    assert picture.shape == (*size, 3) and picture.dtype == np.uint8
    assert truth.shape == size and truth.dtype == np.uint8
    assert set(np.unique(truth)) <= set(range(12))
    assert len(np.unique(truth)) >= 6


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="120x160"):
        Street(100, 160)
    with pytest.raises(ValueError, match="at most 8192"):
        Street(480, 100_000)
    with pytest.raises(ValueError, match="fps"):
        Street(120, 160, fps=0)
