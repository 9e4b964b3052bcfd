"""Painting of textured quads and billboard sprites, once in colour and once as class ids, from the same geometry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import ceil, floor, hypot, log2

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.noise import Array

PYRAMID_LEVELS = 5
SUBPIXEL_BITS = 4
# Polygons that reach behind the picture edge are cut off here so that their fixed-point corners cannot overflow.
FAR_OUTSIDE = 30000.0
OPAQUE = 128
LEAST_BOX = 3  # pixels: a quad whose box is no wider is less than two pixels thin


def pyramid(image: Array) -> list[Array]:
    """Halves an image with area averaging until PYRAMID_LEVELS sizes exist or a side falls under 4 pixels."""
    levels = [image]
    while len(levels) < PYRAMID_LEVELS and min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def pick_level(levels: list[Array], zoom: float) -> int:
    """Picks the pyramid level that a magnification of `zoom` shows at about its own resolution."""
    if zoom >= 1:
        return 0
    return min(int(log2(1 / zoom) + 0.4), len(levels) - 1)


@dataclass(frozen=True, eq=False)
class Texture:
    """A flat opaque picture with its size in the world.

    Attributes:
        image: uint8 [rows, columns, 3] BGR.
        width: Extent of the columns in metres.
        height: Extent of the rows in metres.
    """

    image: NDArray[np.uint8]
    width: float
    height: float
    levels: list[Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", pyramid(self.image))


@dataclass(frozen=True, eq=False)
class Sprite:
    """A picture with opacity that always faces the camera.

    Attributes:
        image: uint8 [rows, columns, 4] BGRA, colour premultiplied by alpha.
        density: Pixels a metre of `image`.
        foot: (column, row) of the point that stands on the given place.
        label: Class id where the alpha is above one half; None for shadows, which colour without covering.
    """

    image: NDArray[np.uint8]
    density: float
    foot: tuple[float, float]
    label: int | None
    levels: list[Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", pyramid(self.image))


Box = tuple[int, int, int, int]


def warp_sprite(sprite: Sprite, u: float, v: float, scale: float, height: int, width: int) -> tuple[Array, Box] | None:
    """Scales a sprite to `scale` pixels a metre with its foot at (u, v).

    Returns:
        The BGRA tile and its box (top, bottom, left, right) inside the height x width picture; None outside it.
    """
    zoom = scale / sprite.density
    level = sprite.levels[pick_level(sprite.levels, zoom)]
    rows, columns = sprite.image.shape[:2]
    left, top = u - sprite.foot[0] * zoom, v - sprite.foot[1] * zoom
    x0, y0 = max(floor(left), 0), max(floor(top), 0)
    x1, y1 = min(ceil(left + columns * zoom), width), min(ceil(top + rows * zoom), height)
    if x1 <= x0 or y1 <= y0:
        return None
    zoom_x, zoom_y = zoom * columns / level.shape[1], zoom * rows / level.shape[0]
    # Pixel centres lie at half-integers: source = (target + 0.5 - left) / zoom - 0.5.
    inverse = np.array(
        [
            [1 / zoom_x, 0, (x0 + 0.5 - left) / zoom_x - 0.5],
            [0, 1 / zoom_y, (y0 + 0.5 - top) / zoom_y - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    tile = cv2.warpAffine(level, inverse, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return tile, (y0, y1, x0, x1)


def cover(corners: NDArray[np.float64], height: int, width: int) -> tuple[NDArray[np.uint8], Box] | None:
    """Rasterises a convex polygon with anti-aliasing.

    Args:
        corners: float64 [n, 2] pixel coordinates, pixel centres at half-integers.
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        uint8 coverage of the box and the box (top, bottom, left, right); None outside the picture.
    """
    # Plain floats: for four corners, several times faster than array arithmetic.
    xs, ys = corners.T.tolist()
    x0, y0 = max(floor(min(xs)), 0), max(floor(min(ys)), 0)
    x1, y1 = min(ceil(max(xs)) + 1, width), min(ceil(max(ys)) + 1, height)
    if x1 - x0 < LEAST_BOX or y1 - y0 < LEAST_BOX:
        return None
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    local = np.clip(corners - (x0 + 0.5, y0 + 0.5), -FAR_OUTSIDE, FAR_OUTSIDE)
    fixed = np.round(local * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask, (y0, y1, x0, x1)


def texture_zoom(texture: Texture, corners: NDArray[np.float64]) -> float:
    """Returns how much a quad magnifies its texture: at its far edge, or along its top where that is more.

    The top of a wall in perspective is so much shortened that its zoom alone would choose too blurred a level.
    """
    (x0, y0), (x1, y1), (x2, y2), _ = corners.tolist()
    rows, columns = texture.image.shape[:2]
    across: float = hypot(x2 - x1, y2 - y1) / rows
    along: float = hypot(x1 - x0, y1 - y0) / columns
    return max(across, 0.7 * along, 1e-3)


class Canvas(ABC):
    """What a scene is painted on, far things first."""

    def __init__(self, target: NDArray[np.uint8]) -> None:
        self.target = target
        self.height, self.width = target.shape[:2]

    @abstractmethod
    def sprite(self, sprite: Sprite, u: float, v: float, scale: float) -> None:
        """Paints a sprite with its foot at pixel (u, v) and `scale` pixels a metre."""

    @abstractmethod
    def quad(self, texture: Texture, corners: NDArray[np.float64], span: tuple[float, float], label: int) -> None:
        """Paints a texture in perspective.

        Args:
            texture: What to paint.
            corners: float64 [4, 2] pixels: top left, top right, bottom right, bottom left of the shown part.
            span: The shown part of the texture's columns in metres, as (from, to).
            label: Class id of the quad.
        """


class PictureCanvas(Canvas):
    """Paints colours into uint8 [H, W, 3] BGR."""

    def sprite(self, sprite: Sprite, u: float, v: float, scale: float) -> None:
        placed = warp_sprite(sprite, u, v, scale, self.height, self.width)
        if placed is None:
            return
        tile, (y0, y1, x0, x1) = placed
        region = self.target[y0:y1, x0:x1]
        clear = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(tile, 3)), cv2.COLOR_GRAY2BGR)
        cv2.multiply(region, clear, region, 1 / 255)
        cv2.add(region, cv2.cvtColor(tile, cv2.COLOR_BGRA2BGR), region)

    def quad(self, texture: Texture, corners: NDArray[np.float64], span: tuple[float, float], label: int) -> None:
        covered = cover(corners, self.height, self.width)
        if covered is None:
            return
        mask, (y0, y1, x0, x1) = covered
        level = texture.levels[pick_level(texture.levels, texture_zoom(texture, corners))]
        rows, columns = level.shape[:2]
        left, right = (s / texture.width * columns - 0.5 for s in span)
        source = np.array([[left, -0.5], [right, -0.5], [right, rows - 0.5], [left, rows - 0.5]], np.float32)
        target = (corners - (x0 + 0.5, y0 + 0.5)).astype(np.float32)
        inverse = cv2.getPerspectiveTransform(target, source)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (x1 - x0, y1 - y0)
        tile = cv2.warpPerspective(level, inverse, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        region = self.target[y0:y1, x0:x1]
        weight = cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR)
        cv2.multiply(tile, weight, tile, 1 / 255)
        cv2.multiply(region, cv2.bitwise_not(weight), region, 1 / 255)
        cv2.add(region, tile, region)


class LabelCanvas(Canvas):
    """Paints class ids into uint8 [H, W], where the picture's coverage is above one half."""

    def sprite(self, sprite: Sprite, u: float, v: float, scale: float) -> None:
        if sprite.label is None:
            return
        placed = warp_sprite(sprite, u, v, scale, self.height, self.width)
        if placed is not None:
            tile, (y0, y1, x0, x1) = placed
            self.target[y0:y1, x0:x1][tile[:, :, 3] >= OPAQUE] = sprite.label

    def quad(self, texture: Texture, corners: NDArray[np.float64], span: tuple[float, float], label: int) -> None:
        covered = cover(corners, self.height, self.width)
        if covered is not None:
            mask, (y0, y1, x0, x1) = covered
            self.target[y0:y1, x0:x1][mask >= OPAQUE] = label
