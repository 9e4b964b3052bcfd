"""What a benchmark looks at: a few distinct frames in memory, so that neither decoding nor drawing is timed.

Distinct and real ones, since constant input is too kind to caches and to sparse activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np

from rtpsp.arrays import Image
from rtpsp.errors import SourceError
from rtpsp.fit import plan_fit
from rtpsp.planes import to_planes
from rtpsp.spec import ModelSpec, Planes
from rtpsp.stream.frame import Frame
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import Source, SourceInfo, SourceOptions, open_source
from rtpsp.timing import now

FRAME_SIZE = (480, 640)
FRAMES_KEPT = 8
STEP = 15
"""Frames from one that is kept to the next: half a second of a drive, for neighbours hardly differ."""
NAME = "a drawn street"


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames to time with.

    Attributes:
        pictures: uint8 [H, W, planes] each; of a folder of images their sizes may differ.
        words: What they are, for a report: ``8 frames of a drawn street, 480x640``.
        live: Whether they are of a source that sets its own pace.
    """

    pictures: tuple[Image, ...]
    words: str
    live: bool = False


class PictureSource(Source):
    """Pictures from memory, over and over: what is left is the loop's own cost, with neither decoding nor drawing.

    Args:
        pictures: uint8 [H, W, planes] each, all of one size and with the model's planes.
        count: Frames until the end; None never ends.
    """

    def __init__(self, pictures: Sequence[Image], count: int | None = None) -> None:
        height, width, planes = pictures[0].shape
        self.info = SourceInfo(f"{NAME} from memory", "sim", height, width, frames=count, planes=cast(Planes, planes))
        self._pictures, self._count, self._next = pictures, count, 0

    def read(self) -> Frame | None:
        if self._next == self._count:
            return None
        index, self._next = self._next, self._next + 1
        picture = self._pictures[index % len(self._pictures)]

        def to_bgr(out: Image | None) -> Image:
            if out is None:
                return picture.copy()
            out[...] = picture
            return out

        return Frame(index, index / 30, now(), self.info.height, self.info.width, to_bgr)

    def close(self) -> None:
        """Nothing is held."""


def street_scene(planes: Planes = 3, count: int = FRAMES_KEPT, size: tuple[int, int] = FRAME_SIZE) -> Scene:
    """Frames of a street that is drawn here and now, the same on every machine.

    Args:
        planes: Of each; a fourth one is the street's grey.
        count: How many.
        size: (height, width) in pixels.
    """
    pictures = street_pictures(planes, count, size)
    return Scene(tuple(pictures), f"{count} frames of {NAME}, {size[0]}x{size[1]}")


def street_pictures(planes: Planes = 3, count: int = FRAMES_KEPT, size: tuple[int, int] = FRAME_SIZE) -> list[Image]:
    """The pictures of `street_scene`, uint8 [H, W, planes]; the caller's own."""
    pictures = [picture.copy() for picture in _drawn(count, size)]
    if planes == 4:
        return [np.concatenate([picture, to_planes(picture, 1)], axis=2) for picture in pictures]
    return [to_planes(picture, planes) for picture in pictures]


@lru_cache(maxsize=4)
def _drawn(count: int, size: tuple[int, int]) -> tuple[Image, ...]:
    """Drawn once for all sections of a report: it takes longer than many of them."""
    from rtpsp.sim.street import Street

    street = Street(*size, seed=1)
    return tuple(street.draw(STEP * number) for number in range(count))


def look(uri: str, planes: Planes = 3) -> Scene:
    """A few frames of a source, read and closed again: every `STEP`-th of one that has so many, else the first ones.

    Args:
        uri: As `rtpsp.stream.source.open_source` takes it.
        planes: What the model takes.

    Raises:
        RtpspError: As opening and reading it; `SourceError` where no frame comes.
    """
    source = open_source(uri, SourceOptions(planes=planes))
    info = source.info
    few = info.live or info.kind == "images" or (info.frames is not None and info.frames < STEP * FRAMES_KEPT)
    pictures: list[Image] = []
    with Selection(source, every=1 if few else STEP, max_frames=FRAMES_KEPT) as selected:
        while (frame := selected.read()) is not None:
            pictures.append(frame.to_bgr(None))
    if not pictures:
        raise SourceError(f"{info.uri}: no frame came from it: give a source with frames")
    height, width = pictures[0].shape[:2]
    return Scene(tuple(pictures), f"{len(pictures)} frames of {info.uri}, {height}x{width}", info.live)


def to_batches(pictures: Sequence[Image], spec: ModelSpec, batch: int = 1) -> list[Image]:
    """Pictures as an engine takes them.

    Args:
        pictures: uint8 [h, w, planes] of any sizes.
        spec: Of the engine's model.
        batch: Frames of one inference.

    Returns:
        uint8 [batch, H, W, planes], one for each picture: it and those that follow it, in a circle.
    """
    fitted = []
    for picture in pictures:
        height, width = picture.shape[:2]
        fitted.append(plan_fit((height, width), spec).to_model(to_planes(picture, spec.planes)))
    circle = len(fitted)
    return [
        np.ascontiguousarray([fitted[(first + place) % circle] for place in range(batch)]) for first in range(circle)
    ]
