"""A supersampled sheet in metres on which sprites are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.canvas import SUBPIXEL_BITS, Sprite
from rtpsp.sim.noise import Array, Colour, fractal

OVERSAMPLING = 2
NOISE_STEP = 4  # pixels of the sheet to one of its shading noise, which is soft anyway
Point = tuple[float, float]


class Sheet:
    """Draws solid shapes in metres, x right and y up from the foot point, and turns them into a sprite."""

    def __init__(self, left: float, right: float, bottom: float, top: float, density: float) -> None:
        self.density = density * OVERSAMPLING
        self.left, self.top = left, top
        # Rounded up to whole sprite pixels so that the reduction by OVERSAMPLING is exact.
        self.cols = int(np.ceil((right - left) * density)) * OVERSAMPLING
        self.rows = int(np.ceil((top - bottom) * density)) * OVERSAMPLING
        self.image = np.zeros((self.rows, self.cols, 4), np.uint8)

    def fixed(self, points: Sequence[Point] | Array) -> NDArray[np.int32]:
        """Converts points in metres to OpenCV's fixed-point pixels."""
        array = np.asarray(points, np.float64)
        pixels = np.stack([array[:, 0] - self.left, self.top - array[:, 1]], axis=1) * self.density - 0.5
        return np.round(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)

    def polygon(self, points: Sequence[Point] | Array, colour: Colour) -> None:
        """Fills a polygon."""
        cv2.fillPoly(self.image, [self.fixed(points)], (*colour, 255), cv2.LINE_8, SUBPIXEL_BITS)

    def ellipse(self, centre: Point, radii: Point, colour: Colour, angle: float = 0.0) -> None:
        """Fills an ellipse turned by `angle` radians."""
        turn = np.linspace(0, 2 * np.pi, 25)[:-1]
        x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
        cos, sin = np.cos(angle), np.sin(angle)
        self.polygon(np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], axis=1), colour)

    def limb(self, start: Point, end: Point, widths: Point, colour: Colour) -> None:
        """Draws a tapered, round-ended limb; widths in metres at its start and end."""
        direction = np.subtract(end, start)
        normal = np.array([-direction[1], direction[0]]) / (np.hypot(*direction) + 1e-9) / 2
        a, b = np.asarray(start), np.asarray(end)
        corners = [a + normal * widths[0], b + normal * widths[1], b - normal * widths[1], a - normal * widths[0]]
        self.polygon(np.array(corners), colour)
        for centre, width in ((start, widths[0]), (end, widths[1])):
            self.ellipse(centre, (width / 2, width / 2), colour)

    def texture(self, rng: np.random.Generator, blotch: float, strength: float, sideways: float = 0.0) -> None:
        """Modulates what is drawn by noise with blotches of `blotch` metres and a shade towards one side."""
        rows, cols = max(self.rows // NOISE_STEP, 2), max(self.cols // NOISE_STEP, 2)
        factor = 1 + strength * fractal(rng, rows, cols, blotch * self.density / NOISE_STEP, 3)
        factor *= 1 + sideways * np.linspace(-1, 1, cols, dtype=np.float32)
        smooth = cv2.resize(factor, (self.cols, self.rows))
        opaque = np.ones_like(smooth)
        cv2.multiply(self.image, cv2.merge([smooth, smooth, smooth, opaque]), self.image, dtype=cv2.CV_8U)

    def sprite(self, label: int | None) -> Sprite:
        """Reduces the sheet to an anti-aliased sprite that stands on the origin."""
        # Nothing is drawn half transparent, and what is clear is black: the colours are premultiplied already.
        size = (self.cols // OVERSAMPLING, self.rows // OVERSAMPLING)
        small = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)
        density = self.density / OVERSAMPLING
        return Sprite(np.asarray(small, np.uint8), density, (-self.left * density, self.top * density), label)


def shadow(half_width: float, half_depth: float, strength: float) -> Sprite:
    """Returns a soft dark ellipse to lie under a thing; `half_depth` is its apparent height above and below."""
    density = 24.0
    cols, rows = round(half_width * 3 * density), max(round(half_depth * 3 * density), 4)
    x = np.linspace(-1.5, 1.5, cols, dtype=np.float32)[None]
    y = np.linspace(-1.5, 1.5, rows, dtype=np.float32)[:, None]
    alpha = np.clip(1.6 - 1.25 * np.sqrt(x * x + y * y), 0, 1) * strength * 255
    image = np.zeros((rows, cols, 4), np.uint8)
    image[..., 3] = alpha.astype(np.uint8)
    return Sprite(image, density, (cols / 2, rows / 2), None)
