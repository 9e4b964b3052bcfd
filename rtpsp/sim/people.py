"""Pedestrians and cyclists, drawn as a short cycle of gait or pedalling phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtpsp.sim.canvas import Sprite
from rtpsp.sim.classes import BICYCLIST, PEDESTRIAN
from rtpsp.sim.drawing import Point, Sheet
from rtpsp.sim.noise import Colour, shaded, vary

PHASES = 8
CLOTHES: tuple[Colour, ...] = ((30, 26, 26), (44, 34, 28), (26, 26, 34), (52, 50, 50), (34, 30, 60), (60, 44, 30))
TROUSERS: tuple[Colour, ...] = ((26, 24, 24), (48, 36, 28), (36, 36, 38))
SKIN: Colour = (104, 124, 160)
HAIR: tuple[Colour, ...] = ((22, 24, 28), (30, 40, 56), (60, 70, 80))


@dataclass(frozen=True)
class Outfit:
    """The colours of one person."""

    coat: Colour
    trousers: Colour
    hair: Colour
    skin: Colour
    bag: bool

    @classmethod
    def random(cls, rng: np.random.Generator, light: float) -> Outfit:
        """Draws the colours at random."""
        coat = shaded(vary(rng, CLOTHES[rng.integers(len(CLOTHES))], 0.35), light)
        trousers = shaded(vary(rng, TROUSERS[rng.integers(len(TROUSERS))], 0.3), light)
        hair = HAIR[rng.integers(len(HAIR))]
        return cls(coat, trousers, hair, shaded(vary(rng, SKIN, 0.15), light), bool(rng.random() < 0.5))


def both_sides(outline: list[Point]) -> list[Point]:
    """Closes the right half of an outline with its mirror image."""
    return outline + [(-x, y) for x, y in reversed(outline)]


def draw_pedestrian(outfit: Outfit, phase: float, density: float, facing: bool, seed: int) -> Sprite:
    """Draws a walking person of 1.75 m, seen from the front or behind.

    Args:
        outfit: Colours.
        phase: Gait phase in radians.
        density: Pixels a metre.
        facing: The face is seen.
        seed: Of the cloth texture, common to all phases.
    """
    sheet = Sheet(-0.5, 0.5, -0.03, 1.85, density)
    swing = np.sin(phase)
    for side in (-1, 1):
        lift = max(side * swing, 0) * 0.10
        foot = (side * 0.10 + side * swing * 0.07, 0.05 + lift)
        knee = (side * 0.11 + side * swing * 0.05, 0.47 + lift * 0.6)
        sheet.limb((side * 0.09, 0.88), knee, (0.19, 0.15), outfit.trousers)
        sheet.limb(knee, foot, (0.145, 0.11), shaded(outfit.trousers, 0.85))
        sheet.ellipse((foot[0], foot[1] - 0.01), (0.065, 0.05), (16, 16, 18))
        hand = (side * 0.29, 0.80 + side * swing * 0.05)
        elbow = (side * 0.285, 1.08)
        sheet.limb((side * 0.215, 1.38), elbow, (0.13, 0.12), shaded(outfit.coat, 0.75))
        sheet.limb(elbow, hand, (0.115, 0.09), shaded(outfit.coat, 0.7))
        sheet.ellipse(hand, (0.045, 0.055), outfit.skin)
    sheet.polygon(both_sides([(0.21, 0.78), (0.22, 1.1), (0.245, 1.38), (0.17, 1.46)]), outfit.coat)
    sheet.polygon([(-0.06, 0.8), (-0.05, 1.42), (0.07, 1.42), (0.06, 0.8)], shaded(outfit.coat, 1.25))
    if outfit.bag:
        sheet.ellipse((0.27, 0.85), (0.10, 0.17), (30, 34, 44))
    sheet.limb((0, 1.44), (0, 1.53), (0.12, 0.11), shaded(outfit.skin, 0.7))
    sheet.ellipse((0, 1.63), (0.092, 0.125), outfit.hair)
    if facing:
        sheet.ellipse((0, 1.605), (0.075, 0.10), outfit.skin)
    sheet.texture(np.random.default_rng(seed), 0.25, 0.18, sideways=0.25)
    return sheet.sprite(PEDESTRIAN)


def draw_cyclist(outfit: Outfit, phase: float, density: float, facing: bool, seed: int) -> Sprite:
    """Draws a cyclist seen from behind or ahead; `phase` is the crank's angle in radians."""
    sheet = Sheet(-0.45, 0.45, -0.03, 1.85, density)
    metal: Colour = (60, 58, 58)
    sheet.ellipse((0, 0.34), (0.035, 0.345), (18, 18, 18))
    sheet.ellipse((0, 0.34), (0.012, 0.30), (70, 70, 70))
    sheet.limb((0, 0.62), (0, 0.9), (0.05, 0.05), metal)
    sheet.limb((-0.28, 1.02), (0.28, 1.02), (0.04, 0.04), metal)
    for side in (-1, 1):
        pedal = (side * 0.14, 0.30 + 0.17 * np.sin(phase + (np.pi if side > 0 else 0)))
        knee = (side * 0.17, pedal[1] + 0.42)
        sheet.limb((side * 0.11, 0.95), knee, (0.19, 0.15), outfit.trousers)
        sheet.limb(knee, pedal, (0.14, 0.10), shaded(outfit.trousers, 0.85))
        sheet.ellipse((pedal[0], pedal[1] - 0.03), (0.06, 0.05), (14, 14, 16))
        sheet.limb((side * 0.22, 1.40), (side * 0.31, 1.2), (0.13, 0.11), shaded(outfit.coat, 0.75))
        sheet.limb((side * 0.31, 1.2), (side * 0.26, 1.03), (0.11, 0.09), shaded(outfit.coat, 0.7))
    sheet.ellipse((0, 0.94), (0.20, 0.13), shaded(outfit.trousers, 0.9))
    sheet.polygon(both_sides([(0.19, 0.92), (0.22, 1.15), (0.25, 1.36), (0.15, 1.47)]), outfit.coat)
    if outfit.bag and not facing:
        sheet.ellipse((0, 1.2), (0.16, 0.2), shaded(outfit.coat, 0.6))
    sheet.ellipse((0, 0.78), (0.035, 0.03), (40, 30, 180) if not facing else (230, 235, 235))
    sheet.limb((0, 1.45), (0, 1.53), (0.12, 0.11), shaded(outfit.skin, 0.7))
    sheet.ellipse((0, 1.63), (0.095, 0.125), outfit.hair)
    if facing:
        sheet.ellipse((0, 1.60), (0.075, 0.09), outfit.skin)
    sheet.texture(np.random.default_rng(seed), 0.25, 0.18, sideways=0.2)
    return sheet.sprite(BICYCLIST)


class Person:
    """One person's cycle of phases, seen from one end."""

    def __init__(self, rng: np.random.Generator, cycling: bool, facing: bool, density: float, light: float) -> None:
        outfit, seed = Outfit.random(rng, light), int(rng.integers(2**31))
        draw = draw_cyclist if cycling else draw_pedestrian
        turns = np.arange(PHASES) * 2 * np.pi / PHASES
        self.views = [draw(outfit, float(turn), density, facing, seed) for turn in turns]

    def view(self, cycles: float) -> Sprite:
        """Returns the sprite after so many cycles."""
        return self.views[int(cycles * PHASES) % PHASES]
