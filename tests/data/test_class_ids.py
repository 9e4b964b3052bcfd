from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp.data.class_ids import read_class_ids
from rtpsp.errors import DataError


def assert_written(path: Path, array: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    assert cv2.imwrite(str(path), array)


def png(
    samples: NDArray[np.integer], colour_type: int, bits: int = 8, palette: bytes = b"", alpha: bytes = b""
) -> bytes:
    """A PNG file by the specification: one sample a pixel, `bits` wide, packed from the left."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def row(values: NDArray[np.integer]) -> bytes:
        digits = "".join(f"{int(value):0{bits}b}" for value in values)
        digits += "0" * (-len(digits) % 8)
        return b"\0" + bytes(int(digits[at : at + 8], 2) for at in range(0, len(digits), 8))

    height, width = samples.shape
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))]
    if palette:
        parts.append(chunk(b"PLTE", palette))
    if alpha:
        parts.append(chunk(b"tRNS", alpha))
    parts.append(chunk(b"IDAT", zlib.compress(b"".join(row(values) for values in samples))))
    parts.append(chunk(b"IEND", b""))
    return b"".join(parts)


def read(tmp_path: Path, data: bytes) -> NDArray[np.integer]:
    path = tmp_path / "label.png"
    path.write_bytes(data)
    return read_class_ids(path)


@pytest.mark.parametrize("colour_type", [0, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_are_the_samples_as_stored(tmp_path: Path, colour_type: int, bits: int) -> None:
    rng = np.random.default_rng(bits)
    expected = rng.integers(0, 2**bits, (5, 11))
    # Colours that no rule could turn back into indices: they fall, and two are equal.
    palette = bytes(255 - index // 2 for index in range(2**bits) for _ in range(3)) if colour_type == 3 else b""
    found = read(tmp_path, png(expected, colour_type, bits, palette))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_transparency_of_a_palette_does_not_matter(tmp_path: Path) -> None:
    expected = np.array([[0, 1, 2], [2, 1, 0]])
    found = read(tmp_path, png(expected, 3, 8, bytes(range(9)), alpha=b"\0\x80"))
    np.testing.assert_array_equal(found, expected)


def test_sixteen_bits_become_int32(tmp_path: Path) -> None:
    expected = np.array([[0, 255, 256], [1000, 40000, 65535]])
    found = read(tmp_path, png(expected, 0, 16))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_opencv_own_files_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = rng.integers(0, 256, (37, 53), np.uint8), rng.integers(0, 65536, (37, 53), np.uint16)
    assert_written(tmp_path / "small.png", small)
    assert_written(tmp_path / "large.png", large)
    np.testing.assert_array_equal(read_class_ids(tmp_path / "small.png"), small)
    np.testing.assert_array_equal(read_class_ids(tmp_path / "large.png"), large)


@pytest.mark.parametrize(("channels", "kind"), [(3, "RGB"), (4, "RGB and alpha")])
def test_colours_are_refused(tmp_path: Path, channels: int, kind: str) -> None:
    assert_written(tmp_path / "label.png", np.zeros((4, 4, channels), np.uint8))
    with pytest.raises(DataError, match=rf"holds colours \({kind}\), expected class ids"):
        read_class_ids(tmp_path / "label.png")


def test_jpeg_is_refused_because_it_changes_ids(tmp_path: Path) -> None:
    assert_written(tmp_path / "label.jpg", np.zeros((4, 6), np.uint8))
    with pytest.raises(DataError, match="not a PNG file but a JPEG, whose compression changes ids"):
        read_class_ids(tmp_path / "label.jpg")


def test_damaged_labels_are_refused_without_a_word_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = png(np.random.default_rng(0).integers(0, 256, (40, 40)), 0)
    for length in (9, 20, 40, 400, len(whole) - 13, len(whole) - 1):
        with pytest.raises(DataError, match="damaged"):
            read(tmp_path, whole[:length])
    flipped = bytearray(whole)
    flipped[500] ^= 1
    with pytest.raises(DataError, match="checksum"):
        read(tmp_path, bytes(flipped))
    assert capfd.readouterr().err == ""
