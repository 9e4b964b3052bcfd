"""The composition of one street: which houses, trees, cars and people stand where, by seed."""

from __future__ import annotations

import numpy as np

from rtpsp.sim.camera import SPEED, Camera
from rtpsp.sim.canvas import Canvas, Texture
from rtpsp.sim.classes import FENCE, TREE
from rtpsp.sim.drawing import shadow
from rtpsp.sim.facades import TILE_ROW, WALLS, paint_facade, paint_plain
from rtpsp.sim.furniture import draw_bollard, draw_lamp, draw_post, draw_sign, paint_fence
from rtpsp.sim.ground import LEFT_KERB, LEFT_WALL, RIGHT_KERB, RIGHT_WALL
from rtpsp.sim.noise import Colour, shaded, vary
from rtpsp.sim.people import Person
from rtpsp.sim.things import FAR, LOOP, Companion, House, Mover, Standing, Thing, Traffic, Wall, stand
from rtpsp.sim.trees import draw_tree, paint_hedge
from rtpsp.sim.vehicles import BODIES, Car, reversed_body

SIGN_KINDS = ("round", "lights", "give way", "lights", "round", "directions")
BACKDROP_WIDTH = 480.0  # metres, wider than a picture of 4:1 sees at that distance
PARKED_X, ONCOMING_X = RIGHT_KERB - 1.05, 3.55
GAP = 5.0  # metres between two terraces
# Metres between things of a kind; small classes are to be seen near by at any time.
LAMP_PITCH, SIGN_PITCH, BOLLARD_PITCH, ONCOMING_PITCH, PEDESTRIAN_PITCH = 18.0, 12.0, 9.0, 36.0, 9.5
SLATE: Colour = (56, 58, 66)
FENCE_HEIGHT = 1.9  # metres, above the camera: the ground behind is not modelled


class Layout:
    """Everything that stands or moves in one street.

    Attributes:
        things: In no particular order; the painter sorts by distance.
    """

    def __init__(self, rng: np.random.Generator, focal: float, light: float) -> None:
        self.rng, self.focal, self.light = rng, focal, light
        self.things: list[Thing] = []
        self.parks: list[tuple[float, float]] = []
        # The nearest facade column in the picture is some 9 m away, people and signs are seen from 5 m on.
        self.facade_density = float(np.clip(focal / 11, 14, 64))
        self.near_density = float(np.clip(focal / 6, 24, 150))
        sunny = rng.random() < 0.5
        self.left_light, self.right_light = (0.8 * light, 1.15 * light) if sunny else (1.0 * light, 0.85 * light)
        self.build_left()
        self.build_right()
        self.plant_furniture()
        self.add_cars()
        self.add_people()

    def facades(self, count: int, light: float) -> list[Texture]:
        """Paints a choice of facades of 2 to 4 storeys."""
        rng = self.rng
        return [
            paint_facade(rng, float(rng.uniform(7, 12)), int(rng.integers(2, 5)), self.facade_density, light)
            for _ in range(count)
        ]

    def terrace(self, facades: list[Texture], x: float, start: float, end: float, light: float) -> float:
        """Puts house against house from `start` as far as `end`; returns where the row ends."""
        rng = self.rng
        roofs = [paint_plain(rng, 10, 4, shaded(vary(rng, SLATE, 0.25), light), TILE_ROW) for _ in range(2)]
        gables = [paint_plain(rng, 4, 12, shaded(WALLS[rng.integers(4)], light)) for _ in range(2)]
        choice = rng.permutation(len(facades))
        z, before, count = start, 0.0, 0
        while z < end:
            facade = facades[choice[count % len(choice)]]
            if z + facade.width > end + 6:
                break
            roof, gable = roofs[rng.integers(2)], gables[rng.integers(2)]
            self.things.append(House(facade, roof, gable, x, z, facade.height > before or count == 0))
            before, count = facade.height, count + 1
            z += facade.width
        return z

    def build_left(self) -> None:
        """Closes the left side with terraces, with a tree behind a fence in each gap between them."""
        rng = self.rng
        facades = self.facades(7, self.left_light)
        trees = [draw_tree(rng, bool(k), 8.5, self.focal / 18, self.light) for k in range(2)]
        fence = paint_fence(rng, GAP, FENCE_HEIGHT, self.light)
        z = 0.0
        while z < LOOP - GAP:
            z = self.terrace(facades, LEFT_WALL, z, min(z + rng.uniform(60, 110), LOOP - 8), self.left_light)
            self.things.append(Standing((trees[rng.integers(2)],), LEFT_WALL - 2.6, z + GAP / 2))
            self.things.append(Wall(fence, LEFT_WALL, z, FENCE))
            z += GAP

    def build_right(self) -> None:
        """Lines the right side with stretches of park behind railings and terraces in turn."""
        rng = self.rng
        facades = self.facades(5, self.right_light)
        fence = paint_fence(rng, 12.0, FENCE_HEIGHT, self.light)
        hedges = [paint_hedge(rng, 12.0, h, vary(rng, (40, 58, 56), 0.2), self.light) for h in (4.2, 5.6)]
        density = float(np.clip(self.focal / 14, 16, 60))
        trees = [draw_tree(rng, k % 3 == 2, float(rng.uniform(8, 12)), density, self.light) for k in range(6)]
        z = float(rng.uniform(-30, 0))
        start = z
        while z < LOOP + start - 20:
            segments = min(int(rng.integers(3, 6)), int((LOOP + start - z) // fence.width) + 1)
            self.parks.append((z, z + segments * fence.width))
            for _ in range(segments):
                self.things.append(Wall(fence, RIGHT_WALL, z, FENCE))
                self.things.append(Wall(hedges[rng.integers(2)], RIGHT_WALL + 7.0, z - 1.0, TREE))
                for part in (2.0, 8.0):
                    place = z + part + rng.uniform(-1, 1)
                    self.things.append(Standing((trees[rng.integers(6)],), RIGHT_WALL + rng.uniform(2, 5), place))
                z += fence.width
            end = min(z + rng.uniform(18, 34), LOOP + start)
            z = self.terrace(facades, RIGHT_WALL, z, end, self.right_light)

    def plant_furniture(self) -> None:
        """Sets lamp posts, bollards and signs along both kerbs."""
        rng, light = self.rng, self.light
        lamps = {side: draw_lamp(rng, min(self.near_density, 80), -side, light) for side in (-1, 1)}
        signs = {kind: draw_sign(rng, kind, self.near_density, light) for kind in SIGN_KINDS}
        post = draw_post(rng, 3.3, self.near_density, light)
        bollard = draw_bollard(rng, self.near_density, light)
        for index, z in enumerate(np.arange(0, LOOP, LAMP_PITCH)):
            side = -1 if index % 2 else 1
            x = LEFT_KERB - 0.45 if side < 0 else RIGHT_KERB + 0.5
            self.things.append(Standing((lamps[side],), x, float(z)))
        for index, z in enumerate(np.arange(SIGN_PITCH / 2, LOOP, SIGN_PITCH)):
            x = RIGHT_KERB + 0.7 if index % 2 else LEFT_KERB - 0.6
            kind = SIGN_KINDS[int(rng.integers(len(SIGN_KINDS)))]
            self.things.append(Standing((post, signs[kind]), x, float(z + rng.uniform(-2, 2))))
        for z in np.arange(3, LOOP, BOLLARD_PITCH):
            self.things.append(Standing((bollard,), LEFT_KERB - 0.35, float(z)))

    def add_cars(self) -> None:
        """Parks cars along the right kerb, sends others to meet the camera, and one ahead of it."""
        rng, light = self.rng, self.light
        below = shadow(1.25, 0.35, 0.75)
        parked = [Car(rng, body, PARKED_X, self.focal, light) for body in (*BODIES, reversed_body(BODIES[0]))]
        oncoming = [Car(rng, reversed_body(body), ONCOMING_X, self.focal, light) for body in BODIES]
        z = 4.0
        while z < LOOP - 6:
            # No parking along the park: its railings are to be seen.
            if not any(start < z + offset < end - 4 for start, end in self.parks for offset in (-LOOP, 0.0, LOOP)):
                self.things.append(Traffic(parked[rng.integers(len(parked))], below, z, 0.0))
            z += rng.choice([5.6, 6.2, 13.0, 22.0], p=[0.4, 0.25, 0.2, 0.15])
        for index, z in enumerate(np.arange(0, LOOP, ONCOMING_PITCH)):
            place = float(z + rng.uniform(-6, 6))
            self.things.append(Traffic(oncoming[index % len(oncoming)], below, place, -0.75 * SPEED))
        leader = Car(rng, BODIES[int(rng.integers(2))], 0.35, self.focal, light)
        self.things.append(Companion(leader, below, 0.35, float(rng.uniform(24, 32)), 4.0, 0.21))

    def add_people(self) -> None:
        """Sends pedestrians along both pavements and cyclists along the kerb."""
        rng, light = self.rng, self.light
        below = shadow(0.4, 0.09, 0.6)
        density = self.near_density
        away = [Person(rng, False, False, density, light) for _ in range(3)]
        towards = [Person(rng, False, True, density, light) for _ in range(3)]
        for side in (-1, 1):
            low, high = (LEFT_WALL + 0.6, LEFT_KERB - 0.9) if side < 0 else (RIGHT_KERB + 1.0, RIGHT_WALL - 0.6)
            for z in np.arange(0, LOOP, PEDESTRIAN_PITCH):
                place = float(z + rng.uniform(-4, 4))
                facing = bool(rng.random() < 0.5)
                person = (towards if facing else away)[rng.integers(3)]
                speed = float(rng.uniform(1.0, 1.6)) * (-1 if facing else 1)
                self.things.append(Mover(person, below, float(rng.uniform(low, high)), place, speed, 1.5))
        for index, ahead in enumerate((float(rng.uniform(7.8, 9.2)), float(rng.uniform(14, 18)))):
            rider = Person(rng, True, False, density, light)
            x = -1.2 + 0.5 * index
            self.things.append(Companion(rider, below, x, ahead, 1.6, 0.33))


class Backdrop:
    """A wood that closes the far end of the street at a constant distance."""

    def __init__(self, rng: np.random.Generator, focal: float, light: float) -> None:
        trees = [draw_tree(rng, k % 2 == 1, 9.0 + 2 * k, max(focal / 60, 6), light) for k in range(3)]
        self.trees = [(trees[rng.integers(3)], float(x + rng.uniform(-2, 2))) for x in np.arange(-45, 46, 5)]
        self.undergrowth = paint_hedge(rng, 120.0, 5.0, (58, 70, 70), light)

    def paint(self, canvas: Canvas, camera: Camera) -> None:
        """Paints the undergrowth that hides the horizon, then the trees before it."""
        half, height = BACKDROP_WIDTH / 2, self.undergrowth.height
        corners = np.array([[-half, height, FAR], [half, height, FAR], [half, 0.0, FAR], [-half, 0.0, FAR]])
        canvas.quad(self.undergrowth, camera.project(corners), (0.0, self.undergrowth.width), TREE)
        for sprite, x in self.trees:
            stand(canvas, camera, sprite, x, FAR)
