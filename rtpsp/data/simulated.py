"""The simulator as a data set: drawn streets whose ground truth is exact, by URI.

    sim://street?frames=60&seed=1,2,3&w=480&h=360&fps=30&step=15

    frames    samples of each street                              60
    seed      which street, or several, separated by commas       1
    w, h      size in pixels                                      480, 360
    fps       frames a second of the street's camera              30
    step      frames from one sample to the next                  15: half a second at 30 fps

Neighbouring frames of a video hardly differ; a wide step shows more of the street for the same work. What is measured
over time takes every frame (`each_frame`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from rtpsp.arrays import ClassMap, Image
from rtpsp.data.sample import Sample
from rtpsp.errors import SourceError
from rtpsp.labels import CAMVID
from rtpsp.planes import to_planes
from rtpsp.spec import Planes

SCHEME = "sim://"
DEFAULTS = {"frames": "60", "seed": "1", "w": "480", "h": "360", "fps": "30", "step": "15"}
STREETS_KEPT = 8  # at about 50 MB of textures each


class Scene(Protocol):
    """What is asked of `rtpsp.sim.street.Street`; every answer is a new array of the size it was made with."""

    def draw(self, index: int, /) -> Image:
        """Frame `index` as uint8 [height, width, 3] BGR."""

    def truth(self, index: int, /) -> Image:
        """Class ids of frame `index`, uint8 [height, width]."""


MakeScene = Callable[[int, int, float, int], Scene]
"""(height, width, fps, seed) -> the street."""


@dataclass(frozen=True)
class Drive:
    """One street; made when one of its samples is drawn, and again if `make` has forgotten it."""

    make: MakeScene
    height: int
    width: int
    fps: float
    seed: int

    @property
    def scene(self) -> Scene:
        """The street itself."""
        return self.make(self.height, self.width, self.fps, self.seed)


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame of a street, not yet drawn; an `rtpsp.data.sample.Entry`."""

    drive: Drive
    index: int

    @property
    def name(self) -> str:
        """Street, seed and frame number."""
        return f"street-{self.drive.seed}-{self.index:06d}"

    def load(self, planes: Planes = 3) -> Sample:
        """Draw the frame and its truth.

        Raises:
            InputError: A fourth plane is asked for.
        """
        scene = self.drive.scene
        image = to_planes(scene.draw(self.index), planes)
        return Sample(self.name, image, scene.truth(self.index), CAMVID)

    def read_truth(self) -> ClassMap:
        """Draw the truth alone: class ids of CamVid's classes."""
        return self.drive.scene.truth(self.index)


def find_frames(uri: str, make: MakeScene | None = None) -> tuple[SimulatedFrame, ...]:
    """The samples that a simulator URI stands for, street by street.

    Args:
        uri: See the table at the head of this module.
        make: What draws the street, in place of `rtpsp.sim.street.Street`.

    Raises:
        SourceError: No such simulator or parameter, or a value out of range.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise SourceError(f"{uri!r} is no URI ({error}): use sim://street") from error
    if parts.netloc != "street" or parts.path.strip("/"):
        raise SourceError(f"no simulator {parts.netloc + parts.path!r} in {uri!r}: use sim://street")
    given = parse_qsl(parts.query, keep_blank_values=True)
    keys = [key for key, _ in given]
    wrong = sorted({key for key in keys if key not in DEFAULTS or keys.count(key) > 1})
    if wrong:
        raise SourceError(
            f"{uri!r} has {', '.join(wrong)}: a data set takes {', '.join(DEFAULTS)}, each once (seeds: seed=1,2,3)"
        )
    values = {**DEFAULTS, **dict(given)}
    frames, width, height, step = (_number(uri, key, values[key], 1) for key in ("frames", "w", "h", "step"))
    seeds = [_number(uri, "seed", word, 0) for word in values["seed"].split(",")]
    fps = _rate(uri, values["fps"])
    kept = lru_cache(maxsize=STREETS_KEPT)(make or _make_street)
    drives = [Drive(kept, height, width, fps, seed) for seed in seeds]
    try:
        _ = drives[0].scene  # the street knows which sizes it can draw
    except ValueError as error:
        raise SourceError(f"{uri!r}: {error}") from error
    return tuple(SimulatedFrame(drive, number * step) for drive in drives for number in range(frames))


def each_frame(uri: str) -> str:
    """The URI with every frame of its streets, where it does not say a step itself; other paths as they are."""
    if not uri.startswith(SCHEME) or re.search(r"[?&]step=", uri):
        return uri
    begin = uri.rstrip("?&")
    return f"{begin}{'&' if '?' in begin else '?'}step=1"


def _make_street(height: int, width: int, fps: float, seed: int) -> Scene:
    from rtpsp.sim.street import Street

    return Street(height, width, fps, seed)


def _number(uri: str, key: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise SourceError(f"{uri!r}: {key} is {text!r}, expected a whole number from {least}")
    return int(text)


def _rate(uri: str, text: str) -> float:
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0 < fps < float("inf"):
        raise SourceError(f"{uri!r}: fps is {text!r}, expected a number above 0")
    return fps
