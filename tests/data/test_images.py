from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from rtpsp.data.files import IMAGE_SUFFIXES
from rtpsp.data.images import read_image, read_size
from rtpsp.errors import DataError
from rtpsp.spec import Planes

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)


def write(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_four_planes_are_the_files_own(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", PICTURE)
    np.testing.assert_array_equal(read_image(path, 4), PICTURE)
    np.testing.assert_array_equal(read_image(path), PICTURE[..., :3])


def test_a_file_without_a_fourth_plane_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", PICTURE[..., :3])
    for read in (read_image, read_size):
        with pytest.raises(DataError, match=r"a\.png has planes 3, the model takes 4: give files with a fourth plane"):
            read(path, 4)


def test_grey_of_a_grey_file_is_its_own_and_of_colours_their_luma(tmp_path: Path) -> None:
    grey = PICTURE[..., 0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "g.png", grey), 1), grey[..., np.newaxis])
    blue, green, red = (PICTURE[..., plane].astype(float) for plane in range(3))
    found = read_image(write(tmp_path / "c.png", PICTURE[..., :3]), 1)
    assert found.shape == (5, 7, 1) and np.abs(found[..., 0] - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "planes"),
    [*product(sorted(IMAGE_SUFFIXES), (1, 3)), *product((".png", ".tif", ".tiff", ".webp"), (4,))],
)
def test_sizes_are_those_of_the_pictures(tmp_path: Path, suffix: str, planes: Planes) -> None:
    path = write(tmp_path / f"a{suffix}", PICTURE if planes == 4 else PICTURE[..., :3])
    assert read_size(path, planes) == (5, 7) == read_image(path, planes).shape[:2]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("suffix", "planes"), [("jpg", 3), ("webp", 3), ("png", 1), ("png", 4), ("tiff", 3), ("tiff", 4)]
)
def test_sizes_are_turned_as_the_pictures_are(tmp_path: Path, suffix: str, planes: Planes, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Pillow.fromarray(PICTURE if planes == 4 else PICTURE[..., :3]).save(path, exif=exif)
    found = read_size(path, planes)
    assert found == read_image(path, planes).shape[:2]
    assert found == ((7, 5) if orientation > 4 and (suffix, planes) != ("png", 4) else (5, 7))


def test_a_size_needs_no_pixels(tmp_path: Path) -> None:
    """Else a look at a data set would take as long as an epoch."""
    whole = write(tmp_path / "a.png", PICTURE).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: whole.index(b"IDAT") + 20])
    assert read_size(tmp_path / "a.png") == (5, 7)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_sizes_of_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        read_size(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"b\.png cannot be read: No such file"):
        read_size(tmp_path / "b.png")
