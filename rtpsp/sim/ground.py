"""The road and both pavements: periodic textures laid on the plane y = 0, and their exact class map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.camera import EYE_HEIGHT, Camera
from rtpsp.sim.classes import PAVEMENT, ROAD
from rtpsp.sim.noise import Array, fractal, tinted, to_bytes

# Metres from the camera's lane centre, traffic on the left: kerbs, centre line, and the ends of the texture.
LEFT_KERB, CENTRE, RIGHT_KERB = -2.2, 1.7, 6.0
LEFT_END, RIGHT_END = -9.0, 13.0
LEFT_WALL, RIGHT_WALL = -5.3, 9.2
PERIOD = 54.0  # metres after which the ground repeats; a multiple of the lane marking's pitch
MARK_PITCH, MARK_LENGTH, MARK_WIDTH = 6.0, 2.2, 0.13
KERB_WIDTH, GUTTER_WIDTH = 0.16, 0.08
SLAB = (0.6, 0.9)  # metres across and along


@dataclass(frozen=True)
class Band:
    """A range of depths with the texture density (pixels a metre, across and along) it is drawn from."""

    near: float
    far: float
    across: float
    along: float


# Densities follow the foreshortening, focal * height / depth**2 along and focal / depth across, at about 500 pixels.
BANDS = (Band(0.5, 7.5, 56, 30), Band(7.5, 18, 40, 8), Band(18, 45, 20, 2), Band(45, 400, 8, 0.5))


def columns(texture: Array, density: float, left: float, right: float) -> slice:
    """Returns the texture columns that lie between two x positions in metres."""
    return slice(max(round((left - LEFT_END) * density), 0), min(round((right - LEFT_END) * density), texture.shape[1]))


def paint_ground(rng: np.random.Generator, light: float) -> NDArray[np.uint8]:
    """Paints one period of asphalt, markings, kerbs and slabs at the density of the nearest band."""
    across, along = BANDS[0].across, BANDS[0].along
    rows, cols = round(PERIOD * along), round((RIGHT_END - LEFT_END) * across)
    tone = rng.uniform(72, 96)
    ground = tinted((rows, cols), (tone * 1.07, tone, tone * 0.965))
    ground += wear(rng, rows, cols)[..., None]
    paint_markings(rng, ground)
    for side in (-1, 1):
        paint_pavement(rng, ground, side)
    ground *= light
    return to_bytes(ground)


def wear(rng: np.random.Generator, rows: int, cols: int) -> NDArray[np.float32]:
    """Returns asphalt brightness: grain, blotches, darker wheel tracks and lengthwise patches of newer asphalt."""
    across, along = BANDS[0].across, BANDS[0].along
    grain = rng.standard_normal((rows, cols)).astype(np.float32) * 6
    blotch = cv2.resize(fractal(rng, rows // 4, cols // 4, 60, 5), (cols, rows)) * 4.5
    surface: NDArray[np.float32] = grain + blotch
    x = np.arange(cols) / across + LEFT_END
    for lane in (-0.2, 3.7):
        for track in (-0.75, 0.75):
            surface -= (5 * np.exp(-(((x - lane - track) / 0.28) ** 2))).astype(np.float32)
        surface -= (3 * np.exp(-(((x - lane) / 0.25) ** 2))).astype(np.float32)  # oil between the wheels
    for _ in range(6):
        left, start = rng.uniform(LEFT_KERB, RIGHT_KERB - 1), rng.uniform(0, PERIOD - 12)
        patch = surface[round(start * along) : round((start + rng.uniform(3, 12)) * along)]
        patch[:, columns(patch, across, left, left + rng.uniform(0.8, 2.2))] -= rng.uniform(4, 12)
    return surface


def paint_markings(rng: np.random.Generator, ground: NDArray[np.float32]) -> None:
    """Paints the dashed centre line and the double yellow lines of no parking at both kerbs."""
    across, along = BANDS[0].across, BANDS[0].along
    rows = ground.shape[0]
    worn = np.clip(cv2.resize(fractal(rng, rows // 4, 64, 20, 4), (ground.shape[1], rows)) * 0.25 + 0.72, 0.25, 1)
    white, yellow = np.array((178, 180, 180), np.float32), np.array((72, 132, 150), np.float32)

    def stripe(left: float, width: float, start: float, length: float, colour: NDArray[np.float32]) -> None:
        span = slice(round(start * along), round((start + length) * along))
        part = (span, columns(ground, across, left, left + width))
        weight = worn[part][..., None]
        ground[part] = ground[part] * (1 - weight) + colour * weight

    for start in np.arange(0, PERIOD, MARK_PITCH):
        stripe(CENTRE - MARK_WIDTH / 2, MARK_WIDTH, float(start), MARK_LENGTH, white)
    for left in (LEFT_KERB + 0.16, LEFT_KERB + 0.34, RIGHT_KERB - 0.24, RIGHT_KERB - 0.42):
        stripe(left, 0.08, 0, PERIOD, yellow)


def paint_pavement(rng: np.random.Generator, ground: NDArray[np.float32], side: int) -> None:
    """Paints slabs with joints from the kerb outward, the kerb stones and the dark gutter before them."""
    across, along = BANDS[0].across, BANDS[0].along
    left, right = (LEFT_END, LEFT_KERB) if side < 0 else (RIGHT_KERB, RIGHT_END)
    band = ground[:, columns(ground, across, left, right)]
    rows, cols = band.shape[:2]
    tone = rng.uniform(68, 92)
    slabs = rng.normal(0, 5, (round(PERIOD / SLAB[1]), round(cols / across / SLAB[0]) + 1)).astype(np.float32)
    tones: Array = cv2.resize(slabs, (cols, rows), interpolation=cv2.INTER_NEAREST)
    tones += rng.standard_normal((rows, cols)).astype(np.float32) * 6
    tones += cv2.resize(fractal(rng, rows // 4, cols // 4, 40, 4), (cols, rows)) * 6
    joint_rows = (np.arange(rows) / along % SLAB[1]) < 0.05
    joint_cols = (np.arange(cols) / across % SLAB[0]) < 0.03
    tones[joint_rows] -= 20
    tones[:, joint_cols] -= 18
    band[:] = np.array((tone * 1.0, tone * 0.99, tone), np.float32) + tones[..., None]
    kerb = LEFT_KERB - KERB_WIDTH if side < 0 else RIGHT_KERB
    stones = ground[:, columns(ground, across, kerb, kerb + KERB_WIDTH)]
    stones[:] = stones * 0.4 + tone * 0.85
    stones[(np.arange(rows) / along % 0.9) < 0.06] *= 0.6
    gutter = LEFT_KERB if side < 0 else RIGHT_KERB - GUTTER_WIDTH
    ground[:, columns(ground, across, gutter, gutter + GUTTER_WIDTH)] *= 0.7


class Ground:
    """The street's plane, ready to be drawn from any camera of one picture size."""

    def __init__(self, rng: np.random.Generator, light: float) -> None:
        whole = paint_ground(rng, light)
        self.textures: list[Array] = []
        for band in BANDS:
            size = (round((RIGHT_END - LEFT_END) * band.across), round(PERIOD * band.along))
            level = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
            repeats = 2 + int((min(band.far, 160) - band.near) // PERIOD)
            self.textures.append(np.concatenate([level] * repeats))

    def draw(self, picture: NDArray[np.uint8], camera: Camera) -> None:
        """Fills everything under the horizon, row bands by depth."""
        height, width = picture.shape[:2]
        bottom = height
        for band, texture in zip(BANDS, self.textures, strict=True):
            top = max(int(np.ceil(camera.v0 + camera.focal * EYE_HEIGHT / band.far)), 0)
            if top < bottom:
                inverse = self.homography(camera, band, top)
                flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                strip = picture[top:bottom]
                strip[:] = cv2.warpPerspective(
                    texture, inverse, (width, bottom - top), flags=flags, borderMode=cv2.BORDER_REPLICATE
                )
                bottom = top

    @staticmethod
    def homography(camera: Camera, band: Band, top: int) -> NDArray[np.float64]:
        """Returns the map from the pixels below row `top` to texture columns and rows.

        With w = v - v0 the depth is focal * eye / w and the side (u - u0) * eye / w + x, so both are linear over w.
        """
        offset = (camera.z + band.near) % PERIOD - band.near
        row = np.array([0, 1, top + 0.5 - camera.v0])
        column = np.array([1, 0, 0.5 - camera.u0])
        depth = np.array([0, 0, camera.focal * EYE_HEIGHT]) + offset * row
        side = column * EYE_HEIGHT + (camera.x - LEFT_END) * row
        return np.stack([side * band.across - 0.5 * row, depth * band.along - 0.5 * row, row])

    def label(self, labels: NDArray[np.uint8], camera: Camera) -> None:
        """Writes road and pavement under the horizon; the kerb stones belong to the pavement."""
        height, width = labels.shape
        top = max(int(np.ceil(camera.v0 - 0.5)), 0)
        labels[top:] = PAVEMENT
        depth_over_focal = EYE_HEIGHT / np.maximum(np.arange(top, height) + 0.5 - camera.v0, 1e-3)
        left = camera.u0 + (LEFT_KERB - camera.x) / depth_over_focal
        right = camera.u0 + (RIGHT_KERB - camera.x) / depth_over_focal
        u = np.arange(width) + 0.5
        labels[top:][(u >= left[:, None]) & (u < right[:, None])] = ROAD
