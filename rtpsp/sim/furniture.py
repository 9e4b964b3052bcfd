"""Lamp posts, bollards, traffic signs, traffic lights and fences."""

from __future__ import annotations

import numpy as np

from rtpsp.sim.canvas import Sprite, Texture
from rtpsp.sim.classes import POLE, SIGN
from rtpsp.sim.drawing import Sheet
from rtpsp.sim.noise import Colour, fractal, shaded, tinted, to_bytes, vary

STEEL: Colour = (50, 50, 49)  # dark against the sky, as lamp posts are in winter
RED: Colour = (44, 36, 170)
BLUE: Colour = (140, 70, 26)
WHITE: Colour = (214, 216, 216)
BLACK: Colour = (22, 22, 22)


def draw_lamp(rng: np.random.Generator, density: float, towards: int, light: float) -> Sprite:
    """Draws a lamp post of about 7 m with its arm over the road, `towards` -1 or +1."""
    sheet = Sheet(-1.8, 1.8, -0.05, 7.4, density)
    steel = shaded(vary(rng, STEEL, 0.3), light)
    sheet.limb((0, 0), (0, 1.3), (0.28, 0.28), shaded(steel, 0.9))
    sheet.limb((0, 1.3), (0, 6.6), (0.20, 0.16), steel)
    sheet.limb((0, 6.6), (towards * 0.5, 7.1), (0.12, 0.1), steel)
    sheet.limb((towards * 0.5, 7.1), (towards * 1.1, 7.2), (0.1, 0.09), steel)
    sheet.polygon(
        [(towards * x, y) for x, y in ((1.0, 7.12), (1.7, 7.12), (1.6, 7.3), (1.1, 7.28))], shaded(steel, 0.8)
    )
    sheet.texture(rng, 0.4, 0.12)
    return sheet.sprite(POLE)


def draw_bollard(rng: np.random.Generator, density: float, light: float) -> Sprite:
    """Draws a cast-iron bollard with a white band."""
    sheet = Sheet(-0.25, 0.25, -0.03, 1.2, density)
    iron = shaded((30, 30, 30), light)
    sheet.limb((0, 0), (0, 0.98), (0.24, 0.2), iron)
    sheet.ellipse((0, 1.03), (0.13, 0.12), shaded(iron, 1.3))
    sheet.polygon([(-0.105, 0.78), (0.105, 0.78), (0.1, 0.88), (-0.1, 0.88)], shaded(WHITE, 0.7 * light))
    sheet.texture(rng, 0.2, 0.15, sideways=0.2)
    return sheet.sprite(POLE)


def draw_post(rng: np.random.Generator, height: float, density: float, light: float) -> Sprite:
    """Draws the bare post that carries a sign or a traffic light."""
    sheet = Sheet(-0.15, 0.15, -0.03, height, density)
    steel = shaded(vary(rng, STEEL, 0.2), light)
    sheet.polygon([(-0.08, 0), (0.08, 0), (0.075, height), (-0.075, height)], steel)
    sheet.texture(rng, 0.3, 0.12, sideways=0.3)
    return sheet.sprite(POLE)


def draw_sign(rng: np.random.Generator, kind: str, density: float, light: float) -> Sprite:
    """Draws the plates of one kind of sign, 'round', 'give way', 'directions' or 'lights', at mounting height."""
    sheet = Sheet(-1.3, 1.3, 1.6, 4.2, density)

    def box(left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        sheet.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], shaded(colour, light))

    if kind == "lights":
        box(-0.42, 1.95, 0.42, 3.55, BLACK)
        box(-0.44, 1.93, 0.44, 1.97, WHITE)
        lit = int(rng.integers(3))
        for lamp, colour in enumerate(((40.0, 40.0, 230.0), (40.0, 170.0, 240.0), (150.0, 230.0, 60.0))):
            sheet.ellipse((0, 3.2 - 0.45 * lamp), (0.17, 0.17), colour if lamp == lit else shaded(colour, 0.18))
    elif kind == "round":
        sheet.ellipse((0, 2.75), (0.45, 0.45), shaded(RED, light))
        sheet.ellipse((0, 2.75), (0.34, 0.34), shaded(WHITE if rng.random() < 0.5 else BLUE, light))
        sheet.limb((-0.12, 2.6), (0.12, 2.9), (0.1, 0.1), shaded(BLACK if rng.random() < 0.5 else RED, light))
        box(-0.32, 1.85, 0.32, 2.2, WHITE)
        box(-0.24, 1.95, 0.24, 2.1, BLACK)
    elif kind == "give way":
        sheet.polygon([(-0.5, 3.2), (0.5, 3.2), (0, 2.35)], shaded(RED, light))
        sheet.polygon([(-0.32, 3.1), (0.32, 3.1), (0, 2.55)], shaded(WHITE, light))
        box(-0.35, 1.85, 0.35, 2.25, BLUE)
    else:
        base = BLUE if rng.random() < 0.5 else (50.0, 74.0, 30.0)
        box(-1.1, 2.1, 1.1, 3.5, WHITE)
        box(-1.05, 2.15, 1.05, 3.45, base)
        for line in range(3):
            x = -0.9
            while x < 0.6:
                letter = rng.uniform(0.06, 0.14)
                box(x, 3.1 - 0.4 * line, x + letter, 3.3 - 0.4 * line, WHITE)
                x += letter + 0.06
    sheet.texture(rng, 0.5, 0.06)
    return sheet.sprite(SIGN)


def paint_fence(rng: np.random.Generator, width: float, height: float, light: float) -> Texture:
    """Paints iron railings on a low stone wall before the shade of a hedge, as an opaque texture."""
    density = 50.0
    rows, cols = round(height * density), round(width * density)
    clumps = fractal(rng, rows, cols, density * 0.3, 4)
    image = tinted((rows, cols), vary(rng, (62, 72, 76), 0.15))
    image *= np.clip(1 + 0.3 * clumps, 0.3, 2)[..., None]
    x, y = np.arange(cols) / density, height - np.arange(rows) / density
    iron = np.array((30, 32, 32), np.float32)
    image[:, (x % 0.13) < 0.045] = iron
    image[:, (x % 2.2) < 0.10] = iron * 0.9
    for rail in (0.34, height - 0.16):
        image[(y > rail - 0.05) & (y < rail)] = iron * 1.2
    wall = y < 0.22
    stone = vary(rng, (66, 74, 78), 0.15)
    blocks = np.repeat(np.repeat(rng.normal(1, 0.12, (2, cols // 30 + 1)), 30, axis=1)[:, :cols], 12, axis=0)
    image[wall] = stone
    base = image[rows - wall.sum() :]
    base *= np.resize(blocks, (*base.shape[:2], 1)).astype(np.float32)
    base[:2] *= 1.3
    image += rng.standard_normal((rows, cols)).astype(np.float32)[..., None] * 5
    return Texture(to_bytes(image * light), width, height)
