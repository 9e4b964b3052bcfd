from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.sim import draw_timecode, read_timecode

SIZES = [(120, 160), (121, 163), (360, 480), (480, 640), (1080, 1920), (640, 360)]
VALUES = [0, 1, 1_700_000_000_123_456, 2**52, 0x5555_5555_5555_5]


def busy_picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", VALUES)
def test_round_trip_and_through_jpeg(size: tuple[int, int], value: int) -> None:
    image = busy_picture(*size)
    draw_timecode(image, value)
    assert read_timecode(image) == value
    assert read_timecode(jpeg(image, 50)) == value


@pytest.mark.parametrize("size", SIZES[2:])
def test_survives_downscale_and_upscale(size: tuple[int, int]) -> None:
    image = busy_picture(*size)
    draw_timecode(image, 1_700_000_000_123_456)
    small = cv2.resize(image, (size[1] // 2, size[0] // 2), interpolation=cv2.INTER_AREA)
    assert read_timecode(np.asarray(small, np.uint8)) == 1_700_000_000_123_456
    large = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    assert read_timecode(jpeg(np.asarray(large, np.uint8), 50)) == 1_700_000_000_123_456


def test_smallest_size_survives_downscale_and_upscale() -> None:
    image = busy_picture(120, 160)
    draw_timecode(image, 123_456_789)
    small = cv2.resize(image, (80, 60), interpolation=cv2.INTER_AREA)
    assert read_timecode(np.asarray(cv2.resize(small, (160, 120)), np.uint8)) == 123_456_789


def test_works_on_grey_pictures_and_views() -> None:
    image = busy_picture(480, 640)
    grey = np.ascontiguousarray(image[:, :, 0])
    draw_timecode(grey, 77)
    assert read_timecode(grey) == 77
    view = image[10:250, 20:340]
    draw_timecode(view, 78)
    assert read_timecode(image[10:250, 20:340]) == 78


def test_only_the_corner_is_covered() -> None:
    image, before = busy_picture(360, 480), busy_picture(360, 480)
    draw_timecode(image, 5)
    assert (image[48:] == before[48:]).all()
    assert (image[:, 240:] == before[:, 240:]).all()
    assert set(np.unique(image[:48, :240])) == {0, 255}


@pytest.mark.parametrize("cell", range(80))
def test_any_flipped_cell_gives_none(cell: int) -> None:
    image = busy_picture(120, 160)
    draw_timecode(image, 1_234_567_890_123)
    row, column = divmod(cell, 20)
    part = image[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
    part[:] = 255 - part
    assert read_timecode(image) is None


def test_picture_without_code_gives_none() -> None:
    assert read_timecode(np.zeros((240, 320, 3), np.uint8)) is None
    assert read_timecode(busy_picture(240, 320)) is None


def test_rejects_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="120x160"):
        draw_timecode(np.zeros((100, 160, 3), np.uint8), 1)
    with pytest.raises(ValueError, match="uint8"):
        draw_timecode(np.zeros((240, 320, 3), np.float32).astype("f4"), 1)
    for value in (-1, 2**56):
        with pytest.raises(ValueError, match="microseconds"):
            draw_timecode(np.zeros((240, 320, 3), np.uint8), value)
