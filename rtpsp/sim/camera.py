"""The car's camera: where it is at a given time, and where it sees a point of the street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPEED = 8.0  # metres a second: city traffic
EYE_HEIGHT = 1.35  # metres: behind the windscreen of a passenger car
HORIZON = 0.475  # of the picture height: the camera looks a little down
# Focal length in picture heights and widths; the shorter wins, so that tall pictures still see both pavements.
FOCAL_HEIGHTS, FOCAL_WIDTHS = 1.12, 0.84
NEAREST = 0.6  # metres: surfaces are cut here, well outside the picture, as they pass the camera


@dataclass(frozen=True)
class Camera:
    """One frame's viewpoint; x points right, y up, z forward, all in metres.

    Attributes:
        focal: Focal length in pixels.
        u0: Column of the vanishing point in pixels.
        v0: Row of the horizon in pixels.
        x: Sideways position in the lane in metres.
        z: Distance driven in metres.
    """

    focal: float
    u0: float
    v0: float
    x: float
    z: float

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Projects float64 [n, 3] points, z relative to the camera, to float64 [n, 2] pixels."""
        scale = self.focal / points[:, 2]
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.u0 + (points[:, 0] - self.x) * scale
        pixels[:, 1] = self.v0 + (EYE_HEIGHT - points[:, 1]) * scale
        return pixels


def focal_length(height: int, width: int) -> float:
    """Returns the focal length in pixels for a picture size."""
    return min(FOCAL_HEIGHTS * height, FOCAL_WIDTHS * width)


def camera_at(seconds: float, height: int, width: int) -> Camera:
    """Returns the viewpoint after driving for some seconds, with a little sway, steering and pitch."""
    sway = 0.12 * np.sin(0.45 * seconds)
    yaw = 0.006 * np.sin(0.31 * seconds + 1)
    pitch = 0.0025 * np.sin(2.3 * seconds) + 0.0015 * np.sin(5.1 * seconds)
    focal = focal_length(height, width)
    return Camera(
        focal=focal,
        u0=width * 0.5 + yaw * focal,
        v0=height * HORIZON + pitch * focal,
        x=float(sway),
        z=SPEED * seconds,
    )
