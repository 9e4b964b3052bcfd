"""Grey, colour and a fourth plane: how files and pictures come to the planes that a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.arrays import Image
from rtpsp.errors import InputError
from rtpsp.planes import decode, to_planes


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(2).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def read(path: Path, planes: int) -> Image | None:
    return decode(np.fromfile(path, np.uint8), planes)


def luma(bgr: Image) -> NDArray[np.float64]:
    grey: NDArray[np.float64] = bgr[..., :3] @ np.array([0.114, 0.587, 0.299])
    return grey[..., np.newaxis]


@pytest.mark.parametrize("planes", [1, 3, 4])
def test_what_has_these_planes_is_not_copied(planes: int) -> None:
    image = noise(5, 7, planes)
    assert to_planes(image, planes) is image


def test_grey_is_the_luma_of_bt601_and_comes_back_from_its_colour() -> None:
    for planes in (3, 4):
        image = noise(50, 70, planes)
        grey = to_planes(image, 1)
        assert grey.shape == (50, 70, 1) and grey.dtype == np.uint8
        assert np.abs(grey - luma(image)).max() <= 0.51
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    colour = to_planes(every, 3)
    assert colour.shape == (16, 16, 3) and (colour == every).all()
    np.testing.assert_array_equal(to_planes(colour, 1), every)


def test_a_fourth_plane_is_left_out_and_never_made_up() -> None:
    image = noise(5, 7, 4)
    np.testing.assert_array_equal(to_planes(image, 3), image[..., :3])
    for planes in (1, 3):
        with pytest.raises(InputError, match=rf"picture is uint8 \[5, 7, {planes}\], expected uint8 \[H, W, 4\]: give"):
            to_planes(noise(5, 7, planes), 4)
    for strange in (noise(5, 7), noise(5, 7, 2), noise(5, 7, 3)[None]):
        with pytest.raises(InputError, match=r"expected uint8 \[H, W, 3\]"):
            to_planes(strange, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_files_of_each_kind_for_models_of_each_kind(tmp_path: Path, suffix: str) -> None:
    grey, colour, four = noise(20, 30), noise(20, 30, 3), noise(20, 30, 4)
    for name, image in (("grey", grey), ("colour", colour), ("four", four)):
        assert cv2.imwrite(str(tmp_path / f"{name}{suffix}"), image)
    files = [tmp_path / f"{name}{suffix}" for name in ("grey", "colour", "four")]
    ones = [read(file, 1) for file in files]
    for one, expected in zip(ones, (grey[..., None], to_planes(colour, 1), to_planes(four, 1)), strict=True):
        assert one is not None
        np.testing.assert_array_equal(one, expected)
    threes = [read(file, 3) for file in files]
    for three, expected in zip(threes, (to_planes(grey[..., None], 3), colour, four[..., :3]), strict=True):
        assert three is not None
        np.testing.assert_array_equal(three, expected)
    fours = [read(file, 4) for file in files]
    assert [found.shape[2] for found in fours if found is not None] == [1, 3, 4], "what is not there is not made up"
    np.testing.assert_array_equal(fours[2], four)


def test_alpha_beside_colour_or_grey_is_a_fourth_plane(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    alpha = noise(8, 8) | 1
    rgba = np.dstack([np.full((8, 8, 3), 9, np.uint8), alpha])
    Pillow.fromarray(rgba).save(tmp_path / "a.png")
    Pillow.fromarray(rgba[..., 2:]).save(tmp_path / "la.png")  # grey and alpha
    for name in ("a.png", "la.png"):
        found = read(tmp_path / name, 4)
        assert found is not None and found.shape == (8, 8, 4)
        assert (found[..., :3] == 9).all()
        np.testing.assert_array_equal(found[..., 3], alpha)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("planes", [1, 3, 4])
def test_of_sixteen_bits_the_upper_eight_count(tmp_path: Path, suffix: str, planes: int) -> None:
    deep = noise(20, 30, planes, dtype=np.uint16)
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), deep)
    found = read(path, planes)
    assert found is not None and found.shape == (20, 30, planes) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, deep >> 8)


def test_of_what_cannot_be_decoded_opencv_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cv2.imwrite(str(tmp_path / "floats.tif"), noise(20, 30).astype(np.float32))
    for planes in (1, 3, 4):
        assert read(tmp_path / "floats.tif", planes) is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("planes", [1, 3, 4])
def test_what_is_no_image(data: bytes, planes: int) -> None:
    assert decode(np.frombuffer(data, np.uint8), planes) is None
