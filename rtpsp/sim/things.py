"""The kinds of things that stand in the street or move along it, and how each is painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rtpsp.sim.camera import EYE_HEIGHT, NEAREST, SPEED, Camera
from rtpsp.sim.canvas import Canvas, Sprite, Texture
from rtpsp.sim.classes import BUILDING
from rtpsp.sim.people import Person
from rtpsp.sim.vehicles import Car

LOOP = 324.0  # metres after which the standing things repeat; a multiple of the ground's period
BEHIND = 20.0  # metres behind the camera where a thing leaves and comes back at the far end
FAR = 118.0  # metres beyond which nothing but the backdrop is drawn
ROOF_RISE, ROOF_DEPTH = 2.4, 3.6
ROOF_SEEN = 60.0  # metres beyond which a roof is thinner than two pixels

LEAST_ROWS = 4.0  # pixels below which a sprite is not worth its time: mostly the shadows of distant people


class Thing(Protocol):
    """Anything with a place along the street."""

    @property
    def length(self) -> float:
        """Extent along the street in metres."""

    def distance(self, camera: Camera, seconds: float) -> float:
        """Returns how far ahead of the camera its near end is, in metres, from -BEHIND up."""

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        """Paints it with its near end z metres ahead."""


def wrapped(z: float) -> float:
    """Wraps a distance into one loop of the street that begins BEHIND metres behind the camera."""
    return (z + BEHIND) % LOOP - BEHIND


def stand(canvas: Canvas, camera: Camera, sprite: Sprite, x: float, z: float) -> None:
    """Paints a sprite that stands on the ground at (x, z)."""
    scale = camera.focal / z
    if sprite.image.shape[0] / sprite.density * scale < LEAST_ROWS:
        return
    canvas.sprite(sprite, camera.u0 + (x - camera.x) * scale, camera.v0 + EYE_HEIGHT * scale, scale)


@dataclass(frozen=True)
class Standing:
    """Sprites at one fixed place, painted in the given order."""

    sprites: tuple[Sprite, ...]
    x: float
    z: float
    length: float = 0.0

    def distance(self, camera: Camera, seconds: float) -> float:
        return wrapped(self.z - camera.z)

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        if z > NEAREST:
            for sprite in self.sprites:
                stand(canvas, camera, sprite, self.x, z)


def wall_corners(camera: Camera, x: float, near: float, far: float, low: float, high: float) -> NDArray[np.float64]:
    """Projects an upright rectangle along the street: near top, far top, far bottom, near bottom."""
    return camera.project(np.array([[x, high, near], [x, high, far], [x, low, far], [x, low, near]]))


@dataclass(frozen=True)
class Wall:
    """A flat upright surface along the street: a fence or a hedge."""

    texture: Texture
    x: float
    z: float
    label: int

    @property
    def length(self) -> float:
        return self.texture.width

    def distance(self, camera: Camera, seconds: float) -> float:
        return wrapped(self.z - camera.z)

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        near, far = max(z, NEAREST), z + self.length
        if far > near:
            corners = wall_corners(camera, self.x, near, far, 0.0, self.texture.height)
            canvas.quad(self.texture, corners, (near - z, self.length), self.label)


@dataclass(frozen=True)
class House:
    """A facade with its roof, and its gable end where the neighbour before it is lower."""

    facade: Texture
    roof: Texture
    gable: Texture
    x: float
    z: float
    gable_seen: bool

    @property
    def length(self) -> float:
        return self.facade.width

    def distance(self, camera: Camera, seconds: float) -> float:
        return wrapped(self.z - camera.z)

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        near, far = max(z, NEAREST), z + self.length
        if far <= near:
            return
        top, ridge = self.facade.height, self.facade.height + ROOF_RISE
        back = self.x + np.copysign(ROOF_DEPTH, self.x)
        if self.gable_seen and z > NEAREST:
            for eaves in (2 * back - self.x, self.x):
                end = np.array([[back, ridge, z], [eaves, top, z], [eaves, 0.0, z], [back, 0.0, z]])
                canvas.quad(self.gable, camera.project(end), (0.0, self.gable.width), BUILDING)
        if near < ROOF_SEEN:
            slope = np.array([[back, ridge, near], [back, ridge, far], [self.x, top, far], [self.x, top, near]])
            canvas.quad(self.roof, camera.project(slope), (0.0, self.roof.width), BUILDING)
        corners = wall_corners(camera, self.x, near, far, 0.0, top)
        canvas.quad(self.facade, corners, (near - z, self.length), BUILDING)


@dataclass(frozen=True)
class Traffic:
    """A car that is parked, or drives along the street at a steady speed."""

    car: Car
    shadow: Sprite
    z: float
    speed: float
    length: float = 4.0

    def distance(self, camera: Camera, seconds: float) -> float:
        return wrapped(self.z + self.speed * seconds - camera.z)

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        if z > 2.2:
            stand(canvas, camera, self.shadow, self.car.x, z + 0.3)
            stand(canvas, camera, self.car.view(z), self.car.x, z)


@dataclass(frozen=True)
class Mover:
    """A person who walks or rides along the street; `stride` is metres a gait cycle or a turn of the crank."""

    person: Person
    shadow: Sprite
    x: float
    z: float
    speed: float
    stride: float
    length: float = 0.0

    def distance(self, camera: Camera, seconds: float) -> float:
        return wrapped(self.z + self.speed * seconds - camera.z)

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        if z > NEAREST:
            stand(canvas, camera, self.shadow, self.x, z)
            stand(canvas, camera, self.person.view(abs(self.speed) * seconds / self.stride), self.x, z)


@dataclass(frozen=True)
class Companion:
    """A road user who keeps ahead of the camera: a cyclist, or the car in front.

    Its distance swings by `swing` metres about `ahead`.
    """

    views: Person | Car
    shadow: Sprite
    x: float
    ahead: float
    swing: float
    rate: float
    length: float = 0.0

    def distance(self, camera: Camera, seconds: float) -> float:
        return self.ahead + self.swing * float(np.sin(self.rate * seconds + self.ahead))

    def paint(self, canvas: Canvas, camera: Camera, z: float, seconds: float) -> None:
        sprite = self.views.view(z) if isinstance(self.views, Car) else self.views.view(SPEED * seconds / 6.0)
        stand(canvas, camera, self.shadow, self.x, z)
        stand(canvas, camera, sprite, self.x, z)
