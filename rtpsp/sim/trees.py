"""Trees: leafless crowns of fine twigs, leafy crowns, and hedges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.canvas import Sprite, Texture
from rtpsp.sim.classes import TREE
from rtpsp.sim.drawing import Point
from rtpsp.sim.noise import Array, Colour, fractal, shaded, tinted, to_bytes, vary

Segments = list[tuple[float, float, float, float, float]]
CROWN_MARGIN = 1.2  # metres of foliage beyond the outermost twig's end


def branch(rng: np.random.Generator, segments: Segments, start: Point, angle: float, length: float) -> None:
    """Grows one branch and its children as (x0, y0, x1, y1, width) in metres; `angle` is from the vertical."""
    x, y = start
    x1, y1 = x + length * np.sin(angle), y + length * np.cos(angle)
    segments.append((x, y, x1, y1, 0.011 + 0.055 * length**1.6))
    if length < 0.28:
        return
    for side in (-1, 1):
        turn = angle + side * rng.uniform(0.18, 0.62) - 0.06 * angle
        branch(rng, segments, (x1, y1), turn, length * rng.uniform(0.62, 0.86))
    if rng.random() < 0.35:
        branch(rng, segments, (x + 0.6 * (x1 - x), y + 0.6 * (y1 - y)), angle + rng.uniform(-1, 1), length * 0.55)


def draw_tree(rng: np.random.Generator, leafy: bool, height: float, density: float, light: float) -> Sprite:
    """Draws one tree standing on the origin.

    Args:
        rng: Source of its shape and colours.
        leafy: Evergreen leaves instead of bare twigs.
        height: Metres to the top of the crown.
        density: Pixels a metre.
        light: Brightness of the scene.
    """
    segments: Segments = []
    branch(rng, segments, (0.0, 0.0), rng.uniform(-0.05, 0.05), 1.7)
    points = np.array(segments)
    stretch = height / points[:, [1, 3]].max()
    points[:, :4] *= stretch
    half = np.abs(points[:, [0, 2]]).max() + CROWN_MARGIN
    rows, cols = int(density * (height + CROWN_MARGIN)), int(density * 2 * half)
    pixels = np.empty_like(points[:, :4])
    pixels[:, 0::2], pixels[:, 1::2] = (points[:, 0:4:2] + half) * density, rows - points[:, 1:4:2] * density
    twig = points[:, 4] < 0.03
    crown = crown_density(pixels[twig], rows, cols, density)
    colour, alpha = (leaf_crown if leafy else twig_crown)(rng, crown, density, light)
    sheet = np.concatenate([colour, alpha[..., None]], axis=2)
    bark = vary(rng, (46, 50, 54), 0.2)
    for (x0, y0, x1, y1), width in zip(pixels, points[:, 4], strict=True):
        thick = max(round(width * stretch * density), 1)
        if leafy and thick < 3:
            continue
        tone = shaded(bark, light * rng.uniform(0.55, 1.35))
        ends = (round(x0), round(y0)), (round(x1), round(y1))
        cv2.line(sheet, *ends, (*tone, 1.0), thick, cv2.LINE_8)
    sheet[..., :3] *= sheet[..., 3:]
    sheet[..., 3] *= 255
    return Sprite(to_bytes(sheet), density, (cols / 2, float(rows)), TREE)


def crown_density(tips: NDArray[np.float64], rows: int, cols: int, density: float) -> NDArray[np.float32]:
    """Returns float32 [rows, cols] in 0..1: how much foliage the twigs at these pixels carry."""
    hits = np.zeros((rows, cols), np.float32)
    x, y = tips[:, 2].astype(int).clip(0, cols - 1), tips[:, 3].astype(int).clip(0, rows - 1)
    np.add.at(hits, (y, x), 1.0)
    spread = cv2.GaussianBlur(hits, (0, 0), max(0.33 * density, 1.0))
    return np.asarray(np.clip(spread * density * density * 0.2, 0, 1), np.float32)


def twig_crown(
    rng: np.random.Generator, crown: NDArray[np.float32], density: float, light: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns BGR and opacity of the haze that twigs too fine to draw form against the sky."""
    rows, cols = crown.shape
    white = rng.standard_normal((rows, cols)).astype(np.float32)
    strokes: Array = cv2.GaussianBlur(white, (0, 0), max(density * 0.025, 0.6))
    strokes /= strokes.std()
    clumps = fractal(rng, rows, cols, density * 0.9, 4)
    # The crown ends in frayed clumps; inside it the sky shimmers through between the twigs.
    body = np.clip((crown * 1.5 + 0.14 * clumps + 0.10 * strokes - 0.42) * 5, 0, 1)
    body *= np.clip(crown * 8 - 0.4, 0, 1)  # no clumps adrift where no branch reaches
    haze = body * np.clip(0.78 + 0.2 * strokes + 0.08 * clumps, 0.1, 1)
    colour = tinted((rows, cols), shaded((60, 70, 76), light))
    colour *= np.clip(1 + 0.4 * strokes + 0.15 * clumps, 0.2, 2.5)[..., None]
    return colour, haze.astype(np.float32)


def leaf_crown(
    rng: np.random.Generator, crown: NDArray[np.float32], density: float, light: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns BGR and opacity of evergreen leaves: clumps lit from above with dark gaps between them."""
    rows, cols = crown.shape
    clumps = fractal(rng, rows, cols, density * 0.8, 5)
    alpha = np.clip((crown * 1.6 + 0.16 * clumps - 0.45) * 6, 0, 1)
    colour = tinted((rows, cols), vary(rng, (34, 56, 52), 0.25)) * light
    lit = clumps - np.roll(clumps, max(int(density * 0.12), 1), axis=0)
    grain = rng.standard_normal((rows, cols)).astype(np.float32)
    colour *= np.clip(1 + 0.45 * lit + 0.3 * clumps + 0.28 * grain, 0.15, 2.8)[..., None]
    return colour, alpha.astype(np.float32)


def paint_hedge(rng: np.random.Generator, width: float, height: float, colour: Colour, light: float) -> Texture:
    """Paints a dense hedge or the dim inside of a wood as an opaque texture."""
    density = 30.0
    rows, cols = round(height * density), round(width * density)
    clumps = fractal(rng, rows, cols, density * 0.7, 5)
    grain = rng.standard_normal((rows, cols)).astype(np.float32)
    image = tinted((rows, cols), shaded(colour, light))
    image *= np.clip(1 + 0.35 * clumps + 0.25 * grain, 0.2, 2.5)[..., None]
    image *= np.linspace(1.25, 0.7, rows, dtype=np.float32)[:, None, None]
    return Texture(to_bytes(image), width, height)
