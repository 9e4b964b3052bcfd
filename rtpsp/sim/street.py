"""A drawn street, seen from a moving car, with exact ground truth for every frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.camera import Camera, camera_at, focal_length
from rtpsp.sim.canvas import Canvas, LabelCanvas, PictureCanvas
from rtpsp.sim.classes import SKY
from rtpsp.sim.ground import Ground
from rtpsp.sim.layout import Backdrop, Layout
from rtpsp.sim.sky import Sky
from rtpsp.sim.things import BEHIND, FAR

NOISE_SIGMA = 2.2  # grey levels of the sensor's noise
NOISE_MARGIN = 64  # pixels by which the noise tile exceeds the picture, to shift it from frame to frame
SMALLEST = (120, 160)
LARGEST = 8192  # a side; beyond it the scene's own buffers take gigabytes


class Street:
    """A street scene of CamVid's 11 classes that scrolls past a driving camera.

    A frame depends on the seed, the size, the frame rate and its index only: frame `i` is the same however it is
    reached, and `draw` and `truth` may be called from any thread.

    Attributes:
        height: Rows of a frame in pixels.
        width: Columns of a frame in pixels.
        fps: Frames a second.
        seed: Of the street's composition, colours and light.
    """

    def __init__(self, height: int = 720, width: int = 960, fps: float = 30.0, seed: int = 1) -> None:
        """Composes the street and paints its textures.

        Args:
            height: Rows of a frame, at least 120.
            width: Columns of a frame, at least 160.
            fps: Frames a second, which sets how far the camera drives from frame to frame.
            seed: Any non-negative integer.

        Raises:
            ValueError: The size is too small or too large, or the frame rate is not positive.
        """
        if height < SMALLEST[0] or width < SMALLEST[1]:
            raise ValueError(f"the street needs at least {SMALLEST[0]}x{SMALLEST[1]} pixels, got {height}x{width}")
        if max(height, width) > LARGEST:
            raise ValueError(f"the street has at most {LARGEST} pixels a side, got {height}x{width}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self.height, self.width, self.fps, self.seed = height, width, fps, seed
        rng = np.random.default_rng(seed)
        light = float(rng.uniform(0.85, 1.15))
        focal = focal_length(height, width)
        self._sky = Sky(rng, height, width)
        self._ground = Ground(rng, light)
        self._backdrop = Backdrop(rng, focal, light)
        self._layout = Layout(rng, focal, light)
        noise = rng.normal(2 * NOISE_SIGMA, NOISE_SIGMA, (height + NOISE_MARGIN, width + NOISE_MARGIN, 3))
        self._noise = np.clip(noise, 0, 255).astype(np.uint8)

    def draw(self, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Draws one frame.

        Args:
            index: Frame number from 0.
            out: uint8 [H, W, 3] to draw into; a new array when None.

        Returns:
            uint8 [H, W, 3] BGR: `out`, or an array that the caller owns.

        Raises:
            ValueError: `out` has another shape or dtype.
        """
        shape = (self.height, self.width, 3)
        picture = np.empty(shape, np.uint8) if out is None else out
        if picture.shape != shape or picture.dtype != np.uint8:
            raise ValueError(f"out must be uint8 {shape}, got {picture.dtype} {picture.shape}")
        seconds = index / self.fps
        camera = camera_at(seconds, self.height, self.width)
        self._sky.draw(picture, seconds)
        self._ground.draw(picture, camera)
        self._paint(PictureCanvas(picture), camera, seconds)
        self._add_noise(picture, index)
        return picture

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Returns the ground truth of one frame.

        Args:
            index: Frame number from 0.

        Returns:
            uint8 [H, W] class ids in CamVid's order, of exactly the scene that `draw(index)` shows.
        """
        seconds = index / self.fps
        camera = camera_at(seconds, self.height, self.width)
        labels = np.full((self.height, self.width), SKY, np.uint8)
        self._ground.label(labels, camera)
        self._paint(LabelCanvas(labels), camera, seconds)
        return labels

    def _paint(self, canvas: Canvas, camera: Camera, seconds: float) -> None:
        """Paints everything that stands or moves, far things first."""
        self._backdrop.paint(canvas, camera)
        placed = [(thing.distance(camera, seconds), thing) for thing in self._layout.things]
        seen = [(z, thing) for z, thing in placed if -BEHIND < z < FAR and z + thing.length > 0]
        # Things that lie along the street are sorted by their far end: whatever stands beside one hides it.
        for z, thing in sorted(seen, key=lambda pair: -(pair[0] + pair[1].length)):
            thing.paint(canvas, camera, z, seconds)

    def _add_noise(self, picture: NDArray[np.uint8], index: int) -> None:
        """Adds the sensor's noise: one tile at an offset that jumps from frame to frame."""
        y, x = index * 29 % NOISE_MARGIN, index * 47 % NOISE_MARGIN
        cv2.add(picture, self._noise[y : y + self.height, x : x + self.width], picture)
