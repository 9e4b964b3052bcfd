"""What a picture is made of, whoever draws it: `rtpsp.stream.render` on the host or our kernels on the device.

A pixel without a class, because the model was not sure of it or never saw it, is *unknown*. It is drawn as diagonal
stripes of two greys, in place of a class's colour: palettes have greys and black of their own, but no stripes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from rtpsp.arrays import Image
from rtpsp.errors import UsageError

STRIPES = (64, 176)
"""Grey levels of what has no class."""


@dataclass(frozen=True)
class Drawing:
    """A picture to be drawn from a frame and its class map, without legend and head-up display.

    Attributes:
        view: ``mask``, the class colours; ``overlay``, the class colours over the frame.
        alpha: Share of the class colour in an overlay, 0..1.
    """

    view: Literal["overlay", "mask"]
    alpha: float = 0.5

    def __post_init__(self) -> None:
        check_alpha(self.alpha)


def check_alpha(alpha: float) -> None:
    """For what draws overlays.

    Raises:
        UsageError: It is no share of a whole.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}, expected 0 (only the frame) to 1 (only the class colours)")


def row_height(picture_height: int) -> int:
    """Pixels of a row of text in a picture of that height; what is drawn on pictures is measured by it."""
    return max(11, round(picture_height / 30))


def stripe_width(picture_height: int) -> int:
    """Pixels across a stripe, in a picture of that height: pixel (y, x) has level ``(y + x) // width % 2``."""
    return max(3, row_height(picture_height) // 4)


@lru_cache(maxsize=4)
def stripes(height: int, width: int) -> Image:
    """uint8 [height, width, 3], read only: stripes from lower left to upper right."""
    stripe = (np.add.outer(np.arange(height), np.arange(width)) // stripe_width(height) % 2).astype(np.uint8)
    pattern = np.ascontiguousarray(np.broadcast_to(np.array(STRIPES, np.uint8)[stripe, None], (height, width, 3)))
    pattern.flags.writeable = False
    return pattern
