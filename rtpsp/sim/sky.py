"""The sky with drifting clouds, and the far end of the street that it meets at the horizon."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.noise import fractal, to_bytes

DRIFT = 0.006  # picture heights a second


class Sky:
    """A wide cloud picture, twice mirrored so that the drift never shows an edge."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        # Clouds are soft: a quarter of the resolution is enough and keeps the construction fast.
        rows, cols = max(height // 4, 30), max(width // 4, 40)
        overcast = rng.uniform(0.0, 1.0)
        down = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
        blue = np.array((250, 214, 172), np.float32) * (1 - overcast) + np.array((240, 236, 228), np.float32) * overcast
        haze = np.array((255, 255, 252), np.float32)
        base = blue + (haze - blue) * np.minimum(down * 2.2, 1) ** 0.7
        clouds = fractal(rng, rows * 2, cols, rows * 0.9, 5)[::2]
        amount = np.clip(clouds * 0.5 + rng.uniform(-0.1, 0.4), 0, 1)[..., None]
        grey = 12 * overcast * np.clip(fractal(rng, rows, cols, rows * 0.4, 4), -1, 1)[..., None]
        sky = base * (1 - amount) + (252 - grey * 0.5) * amount - np.maximum(grey, 0)
        small = to_bytes(sky)
        wide = np.hstack([small, small[:, ::-1], small])
        self.picture = cv2.resize(wide, (width * 3, height), interpolation=cv2.INTER_CUBIC)
        self.period = 2 * width
        self.height = height

    def draw(self, picture: NDArray[np.uint8], seconds: float) -> None:
        """Fills the whole picture with the sky of that moment."""
        offset = int(seconds * DRIFT * self.height) % self.period
        picture[:] = self.picture[:, offset : offset + picture.shape[1]]
