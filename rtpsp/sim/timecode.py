"""A time code drawn into a picture, which survives scaling and lossy compression.

The code is a grid of black and white cells in the top left corner, row by row, most significant bit first: a fixed
marker of 8 bits, the value in 56 bits, and its CRC-16/XMODEM.
"""

from __future__ import annotations

import binascii

import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 20, 4
# Cells are a fixed share of the picture, so that a code can be read after scaling: 4x4 pixels at 120x160.
CELLS_ACROSS, CELLS_DOWN = 40, 30
SMALLEST = (120, 160)
MARKER = 0b10100110  # as many white as black cells, which give the reader its threshold
VALUE_BYTES = 7
CHECK_BYTES = 2
# The reader averages the inner part of a cell; the rim is where codecs and scaling blur the neighbour in.
INNER = 0.25, 0.75
LEAST_CONTRAST = 48  # grey levels between the marker's white and black


def to_bits(microseconds: int) -> NDArray[np.uint8]:
    """Returns uint8 [ROWS, COLUMNS] of zeros and ones: marker, value, checksum."""
    value = microseconds.to_bytes(VALUE_BYTES, "big")
    check = binascii.crc_hqx(value, 0).to_bytes(CHECK_BYTES, "big")
    code = np.frombuffer(bytes([MARKER]) + value + check, np.uint8)
    return np.unpackbits(code).reshape(ROWS, COLUMNS)


def check_picture(image: NDArray[np.uint8]) -> None:
    """Raises ValueError unless the image is a large enough uint8 picture."""
    if image.ndim not in (2, 3) or image.dtype != np.uint8:
        raise ValueError(f"a time code needs a uint8 [H, W] or [H, W, C] picture, got {image.dtype} {image.shape}")
    if image.shape[0] < SMALLEST[0] or image.shape[1] < SMALLEST[1]:
        raise ValueError(f"a time code needs at least {SMALLEST[0]}x{SMALLEST[1]} pixels, got {image.shape[:2]}")


def draw_timecode(image: NDArray[np.uint8], microseconds: int) -> None:
    """Draws a time code into the top left corner of a picture, in place.

    Args:
        image: uint8 [H, W] or [H, W, C], at least 120x160; an eighth of its height and half of its width are covered.
        microseconds: Value from 0 up to 2**56 - 1.

    Raises:
        ValueError: The picture is too small or not uint8, or the value is out of range.
    """
    check_picture(image)
    if not 0 <= microseconds < 1 << 8 * VALUE_BYTES:
        raise ValueError(f"a time code holds 0 to 2**{8 * VALUE_BYTES} - 1 microseconds, got {microseconds}")
    height, width = image.shape[:2]
    row = np.arange(round(ROWS * height / CELLS_DOWN)) * CELLS_DOWN // height
    column = np.arange(round(COLUMNS * width / CELLS_ACROSS)) * CELLS_ACROSS // width
    bits = to_bits(int(microseconds))
    cells = bits[np.minimum(row, ROWS - 1)[:, None], np.minimum(column, COLUMNS - 1)] * np.uint8(255)
    image[: len(row), : len(column)] = cells.reshape(cells.shape + (1,) * (image.ndim - 2))


def read_timecode(image: NDArray[np.uint8]) -> int | None:
    """Reads the time code of a picture.

    Args:
        image: uint8 [H, W] or [H, W, C], at least 120x160, possibly compressed and scaled since the code was drawn.

    Returns:
        The value in microseconds; None when there is no marker or the checksum does not fit.

    Raises:
        ValueError: The picture is too small or not uint8.
    """
    check_picture(image)
    grey = cell_means(image)
    marker = np.unpackbits(np.frombuffer(bytes([MARKER]), np.uint8)).astype(bool)
    white, black = grey[: len(marker)][marker].mean(), grey[: len(marker)][~marker].mean()
    if white - black < LEAST_CONTRAST:
        return None
    code = np.packbits(grey > (white + black) / 2).tobytes()
    value = code[1 : 1 + VALUE_BYTES]
    check = code[1 + VALUE_BYTES :]
    if code[0] != MARKER or binascii.crc_hqx(value, 0) != int.from_bytes(check, "big"):
        return None
    return int.from_bytes(value, "big")


def cell_means(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns float64 [ROWS * COLUMNS]: the mean brightness of the inner part of each cell, row by row."""
    height, width = image.shape[:2]
    low, high = INNER
    means = []
    for row in range(ROWS):
        top = round((row + low) * height / CELLS_DOWN)
        bottom = max(round((row + high) * height / CELLS_DOWN), top + 1)
        for column in range(COLUMNS):
            left = round((column + low) * width / CELLS_ACROSS)
            right = max(round((column + high) * width / CELLS_ACROSS), left + 1)
            means.append(float(image[top:bottom, left:right].mean()))
    return np.array(means)
