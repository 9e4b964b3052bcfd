"""Facades of town houses and shops: bricks or render, rows of windows, and a shop front at the street."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.canvas import Texture
from rtpsp.sim.noise import Colour, fractal, shaded, tinted, to_bytes, vary

STOREY = 3.0  # metres
TILE_ROW = 0.3  # metres between the courses of a roof
# BGR wall colours: red and brown brick, Cambridge's yellow brick, grey stone, cream and white render.
WALLS: tuple[Colour, ...] = (
    (52, 62, 92), (58, 74, 96), (92, 122, 138), (98, 118, 124), (112, 114, 112), (150, 168, 174)
)  # fmt: skip
BRICK = (0.09, 0.24)  # metres: course height and length, with the joint
JOINT = 0.016  # metres
BRICK_PIXELS = 4  # rows of texture a course needs for its joint to be drawn
FASCIAS: tuple[Colour, ...] = (
    (40, 36, 120), (36, 62, 34), (88, 44, 30), (30, 30, 34), (120, 130, 136), (30, 80, 118)
)  # fmt: skip
SHOP_FRAMES: tuple[Colour, ...] = ((76, 76, 78), (96, 104, 110), (120, 128, 132), (58, 68, 98), (90, 84, 60))


def rectangle(image: NDArray[np.float32], box: tuple[float, float, float, float], colour: Colour) -> None:
    """Fills the pixel box (left, top, right, bottom), at least one pixel in each direction."""
    left, top, right, bottom = (round(edge) for edge in box)
    image[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)] = colour


def paint_wall(rng: np.random.Generator, rows: int, cols: int, density: float, wall: Colour) -> NDArray[np.float32]:
    """Paints masonry: bricks in random tones between pale joints, stains, and soot running down."""
    image = tinted((rows, cols), wall)
    course, length = BRICK
    bricks = rng.normal(0, 1, (max(round(rows / density / course), 1), max(round(cols / density / length), 1)))
    tones = cv2.resize(bricks.astype(np.float32), (cols, rows), interpolation=cv2.INTER_NEAREST)
    if density * course >= BRICK_PIXELS:  # coarser walls show the tones only
        row = (np.arange(rows) + 0.5) * len(bricks) / rows
        shift = np.where(row.astype(int) % 2, 0.5, 0.0)  # every other course is set off by half a brick
        column = (np.arange(cols) + 0.5) * bricks.shape[1] / cols + shift[:, None]
        tones[(column % 1 < JOINT / length) | (row % 1 < JOINT / course)[:, None]] = 0.9
    stains = fractal(rng, rows, cols, density * 2.5, 5)
    streaks = cv2.resize(fractal(rng, max(rows // 8, 2), cols, density * 0.5, 3), (cols, rows))
    image *= (1 + 0.09 * tones + 0.06 * stains + 0.04 * streaks)[..., None]
    return image


def paint_window(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    box: tuple[float, float, float, float],
    density: float,
    wall: Colour,
) -> None:
    """Paints a sash window: reveal, frame, dark panes with a reflection, sill."""
    left, top, right, bottom = box
    painted = (60 + 0.5 * wall[0], 62 + 0.5 * wall[1], 62 + 0.5 * wall[2])
    frame = vary(rng, painted if rng.random() < 0.6 else (60, 60, 62), 0.2)
    edge = max(0.05 * density, 1.0)
    rectangle(image, (left - edge, top - edge, right + edge, bottom + edge), shaded(frame, 0.55))
    rectangle(image, (left, top, right, bottom), frame)
    # Glass mirrors the street: behind a bright wall it is bright too.
    pane = vary(rng, (34 + 0.26 * wall[0], 30 + 0.24 * wall[1], 26 + 0.22 * wall[2]), 0.3)
    panes_x, panes_y = (2, 2) if rng.random() < 0.6 else (1, 2)
    for row in range(panes_y):
        for column in range(panes_x):
            step_x, step_y = (right - left) / panes_x, (bottom - top) / panes_y
            x, y = left + column * step_x, top + row * step_y
            glass = shaded(pane, rng.uniform(0.7, 1.3) if row else rng.uniform(0.8, 1.6))
            rectangle(image, (x + edge * 0.8, y + edge * 0.8, x + step_x - edge * 0.8, y + step_y - edge * 0.8), glass)
    sill = vary(rng, (120, 124, 126), 0.2)
    rectangle(image, (left - 2 * edge, bottom, right + 2 * edge, bottom + 1.6 * edge), sill)
    rectangle(image, (left - edge, bottom + 1.6 * edge, right + edge, bottom + 2.6 * edge), shaded(sill, 0.5))


def paint_shop(rng: np.random.Generator, image: NDArray[np.float32], density: float) -> None:
    """Paints the ground floor as a shop: pillars, dark display panes, a door, and a lettered fascia."""
    rows, cols = image.shape[:2]
    top = rows - STOREY * density
    dark = vary(rng, SHOP_FRAMES[rng.integers(len(SHOP_FRAMES))], 0.2)
    rectangle(image, (0, top, cols, rows), dark)
    fascia = vary(rng, FASCIAS[rng.integers(len(FASCIAS))], 0.25)
    rectangle(image, (0, top, cols, top + 0.6 * density), fascia)
    rectangle(image, (0, top + 0.6 * density, cols, top + 0.68 * density), shaded(fascia, 0.3))
    x = cols * rng.uniform(0.1, 0.35)
    ink = (190.0, 200.0, 205.0) if sum(fascia) < 300 else (40.0, 30.0, 30.0)
    while x < cols * 0.8:
        letter = rng.uniform(0.12, 0.24) * density
        rectangle(image, (x, top + 0.16 * density, x + letter * 0.6, top + 0.46 * density), ink)
        x += letter * (1.0 if rng.random() < 0.85 else 2.2)
    bays = max(round(cols / density / rng.uniform(2.4, 3.6)), 1)
    for bay in range(bays):
        left, right = cols * bay / bays + 0.16 * density, cols * (bay + 1) / bays - 0.12 * density
        bottom = rows if rng.random() < 0.25 else rows - 0.5 * density
        glass = vary(rng, (58, 56, 54), 0.35)
        rectangle(image, (left, top + 0.75 * density, right, bottom), glass)
        for _ in range(4):  # goods, lamps and reflections behind the glass
            w, h = rng.uniform(0.1, 0.5) * density, rng.uniform(0.15, 0.8) * density
            gx, gy = rng.uniform(left, max(right - w, left + 1)), rng.uniform(top + 0.8 * density, bottom - h * 0.6)
            tone = vary(rng, (66, 66, 70), 0.5)
            rectangle(image, (gx, gy, min(gx + w, right), min(gy + h, bottom)), tone)


def paint_facade(rng: np.random.Generator, width: float, storeys: int, density: float, light: float) -> Texture:
    """Paints the street side of one building.

    Args:
        rng: Source of colours and proportions.
        width: Metres along the street.
        storeys: Number of floors; the lowest may be a shop.
        density: Pixels a metre.
        light: Brightness of this side of the street.

    Returns:
        The facade as a texture of width x storeys * STOREY metres, its first column at the building's near end.
    """
    rows, cols = round(storeys * STOREY * density), round(width * density)
    wall = vary(rng, WALLS[rng.integers(len(WALLS))], 0.15)
    image = paint_wall(rng, rows, cols, density, wall)
    shop = rng.random() < 0.5
    bays = max(round(width / rng.uniform(2.0, 2.8)), 2)
    wide, tall = rng.uniform(0.9, 1.25) * density, rng.uniform(1.4, 1.8) * density
    for storey in range(storeys - (1 if shop else 0)):
        middle = (storey + 0.52) * STOREY * density
        for bay in range(bays):
            centre = cols * (bay + 0.5) / bays
            box = (centre - wide / 2, middle - tall / 2, centre + wide / 2, middle + tall / 2)
            paint_window(rng, image, box, density, wall)
    cornice = vary(rng, (128, 132, 134), 0.25)
    rectangle(image, (0, 0, cols, 0.25 * density), cornice)
    rectangle(image, (0, 0.25 * density, cols, 0.4 * density), shaded(cornice, 0.4))
    if shop:
        paint_shop(rng, image, density)
    rectangle(image, (0, 0, 0.12 * density, rows), (70, 70, 70))  # downpipe at the party wall
    image *= np.linspace(1.06, 0.82, rows, dtype=np.float32)[:, None, None] * light
    image *= (1 + 0.06 * fractal(rng, rows, cols, density * 4, 3))[..., None]
    image += rng.standard_normal(image.shape[:2]).astype(np.float32)[..., None] * 4
    return Texture(to_bytes(image), width, storeys * STOREY)


def paint_plain(rng: np.random.Generator, width: float, height: float, colour: Colour, row: float = 0.0) -> Texture:
    """Paints a blank wall, or with `row` the courses of a tiled roof that many metres apart."""
    density = 24.0
    rows, cols = max(round(height * density), 8), max(round(width * density), 8)
    image = paint_wall(rng, rows, cols, density, colour)
    if row:
        image[(np.arange(rows) / density % row) < 0.05] *= 0.75
    return Texture(to_bytes(image), width, height)
