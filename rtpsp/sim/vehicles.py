"""Parked, leading and oncoming cars, rendered from a small solid model into one sprite a distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtpsp.sim.camera import EYE_HEIGHT
from rtpsp.sim.canvas import Sprite
from rtpsp.sim.classes import CAR
from rtpsp.sim.drawing import Sheet
from rtpsp.sim.noise import Colour, shaded, vary

# Views are rendered for distances in this ratio, so that neighbouring ones differ by about a pixel.
VIEW_RATIO = 1.15
NEAREST_VIEW, FARTHEST_VIEW = 5.0, 60.0
# BGR paints as dull as they are on a British road.
PAINTS: tuple[Colour, ...] = (
    (46, 40, 36), (34, 32, 32), (120, 118, 114), (150, 148, 146),
    (96, 58, 36), (40, 34, 118), (58, 66, 36), (70, 66, 62),
)  # fmt: skip
GLASS: Colour = (52, 48, 44)
UNDERSIDE: Colour = (14, 14, 14)
SILL, TYRE = 0.26, 0.31  # metres: lower edge of the body, radius of a wheel
ROOF_SHARE = 0.78  # of the width at the belt line


@dataclass(frozen=True)
class Body:
    """Side profile of a car as seen from one end: (distance from the near end, height) in metres.

    Attributes:
        profile: Near end's top edge, belt, roof start, roof end, belt, far end's top edge.
        half: Half of the width.
        front: The near end is the front.
    """

    profile: tuple[tuple[float, float], ...]
    half: float
    front: bool


HATCH_REAR = Body(((0.0, 0.88), (0.08, 0.95), (0.55, 1.42), (2.2, 1.45), (2.95, 0.96), (3.9, 0.72)), 0.84, False)
SALOON_REAR = Body(((0.0, 0.86), (0.75, 0.95), (1.35, 1.38), (2.6, 1.40), (3.3, 0.94), (4.4, 0.70)), 0.88, False)
VAN_REAR = Body(((0.0, 1.05), (0.06, 1.12), (0.25, 1.88), (3.1, 1.9), (3.8, 1.15), (4.6, 0.9)), 0.92, False)


def reversed_body(body: Body) -> Body:
    """Turns a body round, so that its far end comes near."""
    length = body.profile[-1][0]
    return Body(tuple((length - d, y) for d, y in reversed(body.profile)), body.half, not body.front)


BODIES = (HATCH_REAR, SALOON_REAR, VAN_REAR)


class CarView:
    """Draws one body at one place into a sheet whose unit is a metre at the near end's distance."""

    def __init__(self, body: Body, x: float, z: float, density: float, paint: Colour, rng: np.random.Generator) -> None:
        self.body, self.x, self.z, self.rng = body, x, z, rng
        self.paint = paint
        # The side that the camera sees: the left one of a car to the right of it.
        self.side = -body.half if x > 0 else body.half
        reach = abs(x) * (1 - z / (z + 4.6)) + body.half + 0.1
        top = max(y for _, y in body.profile) + 0.15
        self.sheet = Sheet(-reach, reach, -0.12, max(top, EYE_HEIGHT) + 0.05, density)

    def at(self, side: float, d: float, y: float) -> tuple[float, float]:
        """Projects a point of the body to metres at the near end's distance."""
        shrink = self.z / (self.z + d)
        return (self.x + side) * shrink - self.x, EYE_HEIGHT + (y - EYE_HEIGHT) * shrink

    def face(self, corners: list[tuple[float, float, float]], colour: Colour) -> None:
        """Fills a polygon of (side, distance from the near end, height) points."""
        self.sheet.polygon([self.at(*corner) for corner in corners], colour)

    def draw(self) -> None:
        """Paints far faces first: side, roof, glass, near end."""
        (d0, y0), (d1, y1), (d2, y2), (d3, y3), _, (d5, _) = self.body.profile
        half = self.body.half
        roof = half * ROOF_SHARE
        under = [(-half * 0.95, d0 + 0.1, 0.02), (half * 0.95, d0 + 0.1, 0.02), (half, d0, 0.4), (-half, d0, 0.4)]
        self.face(under, UNDERSIDE)
        self.flank()
        self.side_windows()
        for centre in (d0 + 0.78, d5 - 0.85):
            self.wheel(centre)
        self.face([(-roof, d2, y2), (roof, d2, y2), (roof, d3, y3), (-roof, d3, y3)], shaded(self.paint, 1.5))
        self.face([(-half, d0, y0), (half, d0, y0), (half, d1, y1), (-half, d1, y1)], shaded(self.paint, 1.45))
        self.near_glass((d1, y1), (d2, y2))
        self.near_end(y0)

    def flank(self) -> None:
        """Paints the side that is seen: underside, doors, sill, the bright shoulder, and the pillars."""
        (d0, y0), (d1, y1), (d2, y2), (d3, y3), (d4, y4), (d5, y5) = self.body.profile
        s = self.side
        roof = s * ROOF_SHARE
        colour = shaded(self.paint, 0.8)
        shoulder = [(s, d0, y0), (s, d1, y1), (s, d4, y4), (s, d5, y5)]
        self.face([(s, d0, 0.05), (s, d5, 0.05), (s, d5, 0.4), (s, d0, 0.4)], UNDERSIDE)
        self.face([(s, d0, SILL), *shoulder, (s, d5, SILL)], colour)
        self.face([(s, d0, SILL), (s, d0, 0.5), (s, d5, 0.5), (s, d5, SILL)], shaded(colour, 0.6))
        self.face([(s, d0, y0 - 0.08), *shoulder, (s, d5, y5 - 0.08)], shaded(colour, 1.5))
        self.face([(s, d1, y1), (roof, d2, y2), (roof, d3, y3), (s, d4, y4)], shaded(self.paint, 0.9))

    def side_windows(self) -> None:
        """Paints the two windows between the pillars."""
        _, (d1, y1), (d2, y2), (d3, y3), (d4, y4), _ = self.body.profile
        s, drop = self.side, 0.08
        upper = s * (ROOF_SHARE + (1 - ROOF_SHARE) * 0.15)
        split = d2 + (d3 - d2) * 0.5
        front = ((d1 + 0.22, d2 + 0.12), (split - 0.05, split - 0.05))
        back = ((split + 0.05, split + 0.05), (d4 - 0.22, d3 - 0.1))
        for (low, up), (low_far, up_far) in (front, back):
            glass = vary(self.rng, GLASS, 0.35)
            corners = [(s, low, y1 + 0.02), (upper, up, y2 - drop), (upper, up_far, y3 - drop), (s, low_far, y4 + 0.02)]
            self.face(corners, glass)

    def wheel(self, centre: float) -> None:
        """Paints arch, tyre, rim and hub of one wheel on the side that is seen."""
        turn = np.linspace(0, 2 * np.pi, 21)[:-1]
        for share, tone in ((1.14, 10.0), (1.0, 26.0), (0.62, 105.0), (0.2, 50.0)):
            x, y = centre + TYRE * share * np.cos(turn), TYRE + TYRE * share * np.sin(turn)
            self.face([(self.side, float(d), float(h)) for d, h in zip(x, y, strict=True)], (tone, tone, tone))

    def near_glass(self, low: tuple[float, float], up: tuple[float, float]) -> None:
        """Paints the screen of the near end with pillars and the sky's reflection in its upper part."""
        (d1, y1), (d2, y2) = low, up
        half, roof = self.body.half, self.body.half * ROOF_SHARE
        self.face([(-half, d1, y1), (half, d1, y1), (roof, d2, y2), (-roof, d2, y2)], shaded(self.paint, 0.9))
        glass = vary(self.rng, GLASS, 0.2)

        def pane(bottom: float, top: float, colour: Colour) -> None:
            def across(part: float) -> tuple[float, float, float]:
                return (half + (roof - half) * part) * 0.9, d1 + (d2 - d1) * part, y1 + (y2 - y1) * part

            (w0, e0, h0), (w1, e1, h1) = across(bottom), across(top)
            self.face([(-w0, e0, h0), (w0, e0, h0), (w1, e1, h1), (-w1, e1, h1)], colour)

        pane(0.06, 0.9, glass)
        pane(0.55, 0.9, shaded(glass, 1.7))
        base = y1 + (y2 - y1) * 0.1
        for seat in (-0.38, 0.38):  # head rests behind the glass
            d = d1 + (d2 - d1) * 0.3
            rest = [(-0.14, 0.0), (0.14, 0.0), (0.1, 0.2), (-0.1, 0.2)]
            self.face([(seat + x, d, base + y) for x, y in rest], shaded(glass, 0.45))

    def near_end(self, top: float) -> None:
        """Paints the near end: panel, bumper, lights, number plate, grille or tailgate line."""
        half = self.body.half

        def panel(left: float, bottom: float, right: float, up: float, colour: Colour) -> None:
            self.face([(left, 0, bottom), (right, 0, bottom), (right, 0, up), (left, 0, up)], colour)

        for side in (-1, 1):
            panel(side * half * 0.95, 0.0, side * (half * 0.95 - 0.2), SILL + 0.1, (18, 18, 18))
        panel(-half, SILL, half, top, self.paint)
        panel(-half, top - 0.05, half, top, shaded(self.paint, 1.35))
        panel(-half, SILL, half, 0.52, shaded(self.paint, 0.72))
        panel(-half * 0.8, SILL, half * 0.8, SILL + 0.1, (22, 22, 22))
        if self.body.front:
            panel(-0.42, 0.52, 0.42, 0.66, (20, 20, 20))
            for side in (-1, 1):
                panel(side * half * 0.94, 0.54, side * half * 0.58, 0.70, (205, 208, 205))
                panel(side * half * 0.9, 0.57, side * half * 0.66, 0.67, (250, 252, 250))
            panel(-0.26, 0.38, 0.26, 0.49, (205, 208, 208))
        else:
            for side in (-1, 1):
                panel(side * half * 0.98, 0.6, side * half * 0.74, top - 0.04, (34, 26, 150))
                panel(side * half * 0.98, 0.66, side * half * 0.74, 0.72, (40, 90, 190))
            panel(-0.26, 0.56, 0.26, 0.67, (60, 170, 190))

    def sprite(self) -> Sprite:
        """Returns the finished view."""
        self.draw()
        self.sheet.texture(self.rng, 0.5, 0.10, sideways=0.05)
        return self.sheet.sprite(CAR)


def view_distances() -> list[float]:
    """Returns the distances of the near end in metres for which views are rendered."""
    count = int(np.log(FARTHEST_VIEW / NEAREST_VIEW) / np.log(VIEW_RATIO)) + 1
    return [NEAREST_VIEW * VIEW_RATIO**index for index in range(count)]


class Car:
    """One car model in its lane, with a sprite for every distance."""

    def __init__(self, rng: np.random.Generator, body: Body, x: float, focal: float, light: float) -> None:
        paint = shaded(vary(rng, PAINTS[rng.integers(len(PAINTS))], 0.2), light)
        seed = int(rng.integers(2**31))
        self.x = x
        # Every view draws from the same random stream: the same windows and tones at all distances.
        self.views = [
            CarView(body, x, z, min(focal / max(z, 9.0), 90.0), paint, np.random.default_rng(seed)).sprite()
            for z in view_distances()
        ]

    def view(self, z: float) -> Sprite:
        """Returns the sprite for a near end `z` metres away."""
        index = round(float(np.log(max(z, NEAREST_VIEW) / NEAREST_VIEW) / np.log(VIEW_RATIO)))
        return self.views[min(index, len(self.views) - 1)]
