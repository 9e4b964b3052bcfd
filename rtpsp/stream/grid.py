"""The cells of a tiled picture: how many fit in which size, and what is drawn into one."""

from __future__ import annotations

import math

import cv2

from rtpsp.arrays import Image
from rtpsp.drawing import row_height

CANVAS = (720, 1280)
"""Largest (height, width) of a tiled picture."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)
_DARKENED = 4
"""Divides what lies behind a label."""


def to_grid(
    count: int, shape: tuple[int, int], canvas: tuple[int, int] = CANVAS
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The grid with the largest cells.

    Args:
        count: Cells, at least 1.
        shape: (height, width) of what goes into a cell; no cell is larger.
        canvas: (height, width) of the whole, at most.

    Returns:
        (height, width) of a cell, both even as video wants them, and (rows, columns).
    """

    def rank(columns: int) -> tuple[float, int, float]:
        """Large cells first, then few empty ones, then the canvas's shape."""
        rows = math.ceil(count / columns)
        aspect = columns * shape[1] * canvas[0] / (rows * shape[0] * canvas[1])
        return scale_of(columns), -rows * columns, -abs(math.log(aspect))

    def scale_of(columns: int) -> float:
        return min(canvas[0] / math.ceil(count / columns) / shape[0], canvas[1] / columns / shape[1], 1.0)

    columns = max(range(count, 0, -1), key=rank)
    height, width = (max(2, int(scale_of(columns) * pixels) // 2 * 2) for pixels in shape)
    return (height, width), (math.ceil(count / columns), columns)


def fill(cell: Image, picture: Image | None) -> None:
    """Write a whole picture into a cell, in place, in its own shape between black bars; None leaves it black.

    Args:
        cell: uint8 [h, w, 3], a view into the canvas.
        picture: uint8 [H, W, 3].
    """
    if picture is None:
        cell[:] = 0
        return
    scale = min(cell.shape[0] / picture.shape[0], cell.shape[1] / picture.shape[1])
    rows = max(1, min(cell.shape[0], round(scale * picture.shape[0])))
    columns = max(1, min(cell.shape[1], round(scale * picture.shape[1])))
    if (rows, columns) != cell.shape[:2]:
        cell[:] = 0
    top, left = (cell.shape[0] - rows) // 2, (cell.shape[1] - columns) // 2
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cell[top : top + rows, left : left + columns] = cv2.resize(picture, (columns, rows), interpolation=how)


def label(picture: Image, text: str) -> None:
    """Write into the upper right corner, in place: legend and head-up display have the left ones."""
    scale = row_height(2 * picture.shape[0]) / 40
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    margin = height // 2
    left = max(0, picture.shape[1] - width - 2 * margin)
    panel = picture[: height + 2 * margin, left:]
    panel //= _DARKENED
    cv2.putText(picture, text, (left + margin, height + margin), _FONT, scale, _WHITE, 1, cv2.LINE_AA)
