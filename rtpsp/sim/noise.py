"""Procedural noise and small raster helpers that every texture of the simulator is made of."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Colour = tuple[float, float, float]


def fractal(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4) -> NDArray[np.float32]:
    """Sums octaves of smoothly interpolated white noise.

    Args:
        rng: Source of the randomness.
        height: Rows of the result.
        width: Columns of the result.
        cell: Size in pixels of the coarsest blobs; every octave halves it.
        octaves: Number of layers; the amplitude halves from each to the next.

    Returns:
        float32 [height, width], mean about 0, standard deviation about 1.
    """
    total = np.zeros((height, width), np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        grid = rng.standard_normal((int(height / size) + 2, int(width / size) + 2)).astype(np.float32)
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude *= 0.5
    total -= total.mean()
    total /= total.std() + 1e-6
    return total


def tinted(shape: tuple[int, int], colour: Colour) -> NDArray[np.float32]:
    """Returns float32 [height, width, 3] filled with one BGR colour in 0..255."""
    canvas = np.empty((*shape, 3), np.float32)
    canvas[:] = colour
    return canvas


def to_bytes(image: Array) -> NDArray[np.uint8]:
    """Clips a float image to 0..255 and rounds it to uint8."""
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def shaded(colour: Colour, factor: float) -> Colour:
    """Scales a BGR colour, clipped to 0..255."""
    blue, green, red = (min(max(c * factor, 0.0), 255.0) for c in colour)
    return blue, green, red


def vary(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """Scales a BGR colour by a random common factor of 1 +- amount and each channel by a fifth of that."""
    common = 1 + amount * rng.uniform(-1, 1)
    blue, green, red = (min(c * common * (1 + amount / 5 * rng.uniform(-1, 1)), 255.0) for c in colour)
    return blue, green, red
