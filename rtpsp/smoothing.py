"""A temporal filter of scores that makes a video's class maps steadier, without a frame of latency.

What a point of the scene was called a frame ago speaks for its class now, by so much and no more:

    z(t) = x(t) + b g(t) W p(t-1)        p(t) = softmax z(t)

x are the network's scores, [classes, h, w] cells of some 8x8 pixels; p what was believed of each class in the frame
before; W takes it to where its point is now, by optical flow; g is 1 where the picture confirms that it is the same
point, and falls to 0 where it does not. The largest of z is the class, interpolated as ever. Scores of a network that
was trained with cross-entropy are log-odds, so that b is the log of the odds that are given to *it stays what it was*.

That is one step of Bayes' filter (of a hidden Markov model: Rabiner, "A Tutorial on Hidden Markov Models", Proc. IEEE
1989), but that nothing adds up: what the network is sure of by b over all others wins at once, and no belief grows
beyond b however long it is held, since the errors of neighbouring frames are not independent. Motion is found by dense
inverse search (Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016).

`bench/temporal.py` compares it with simpler filters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import Image
from rtpsp.planes import to_planes
from rtpsp.upsampling import Scores

STRENGTH = 2.0
"""b: the log of odds of 7.4."""
TOLERANCE = 20.0
"""Grey levels of 255: how far the picture may differ from what was expected until little is believed (1/e)."""

_CUT = 0.5
"""Mean of g below which nothing of the frame before is believed. In CamVid's and the simulator's runs at 15 Hz it
is above 0.84, from one place to another below 0.41."""
_FINE = 4  # pixels a cell, each way, in which motion is looked for
_LEAST = 16  # pixels a side below which dense inverse search finds no place for its patches

Plane = NDArray[np.float32]


class Smoother:
    """Filters one video, frame by frame; for one thread at a time.

    It forgets at a cut, which it sees itself, and when the size of the scores or the number of classes changes.

    Args:
        strength: b, above 0.
        tolerance: Of g = exp(-(e / tolerance)²), where e is the mean difference, in grey levels of 255, of a cell's
            pixels from those of the frame before, moved to where they are now.
    """

    def __init__(self, strength: float = STRENGTH, tolerance: float = TOLERANCE) -> None:
        import cv2

        self._strength, self._tolerance = np.float32(strength), np.float32(tolerance)
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._belief: Scores | None = None
        self._grey: Plane | None = None

    def reset(self) -> None:
        """Forget the frame before: the next one is the first of another video."""
        self._belief = self._grey = None

    def __call__(self, scores: Scores, image: Image) -> Scores:
        """Filter the scores of the next frame.

        Args:
            scores: float32 [classes, h, w] as the network gives them; not changed.
            image: uint8 [H, W, planes], the frame as the model saw it: the cells cover it. It is not needed any more
                when this returns.

        Returns:
            float32 [classes, h, w]: a new array, C-contiguous, in the place of `scores`.
        """
        cells = scores.shape[1], scores.shape[2]
        grey = _reduced(image, cells)
        smooth = scores.copy()
        before, belief = self._grey, self._belief
        if before is not None and belief is not None and belief.shape == scores.shape and before.shape == grey.shape:
            trust, columns, rows = self._trust(grey, before, cells)
            if trust.mean() >= _CUT:
                trust *= self._strength
                for plane, believed in zip(smooth, belief, strict=True):
                    plane += trust * _moved(believed, columns, rows)
        self._belief, self._grey = _softmax(smooth), grey
        return smooth

    def _motion(self, grey: Plane, before: Plane) -> Plane:
        """From where each pixel is to where it was in the frame before: float32 [H, W, 2], columns then rows."""
        if min(grey.shape) < _LEAST:
            return np.zeros((*grey.shape, 2), np.float32)
        return np.asarray(self._flow.calc(grey.astype(np.uint8), before.astype(np.uint8), None), np.float32)

    def _trust(self, grey: Plane, before: Plane, cells: tuple[int, int]) -> tuple[Plane, Plane, Plane]:
        """g of each cell, and where in the frame before it was: columns and rows, in cells."""
        import cv2

        height, width = cells
        motion = self._motion(grey, before)
        expected = _moved(before, *_places(motion[..., 0], motion[..., 1]))
        scale = width / grey.shape[1], height / grey.shape[0]
        error, across, down = (
            np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.float32)
            for plane in (abs(grey - expected), motion[..., 0] * scale[0], motion[..., 1] * scale[1])
        )
        columns, rows = _places(across, down)
        inside = (columns >= -0.5) & (columns <= width - 0.5) & (rows >= -0.5) & (rows <= height - 0.5)
        trust: Plane = np.exp(-np.square(error / self._tolerance)) * inside
        return trust, columns, rows


def _reduced(image: Image, cells: tuple[int, int]) -> Plane:
    """A frame in whole grey levels, float32, of `_FINE` pixels a cell, or as many as it has; a new array."""
    import cv2

    height, width = (min(side, _FINE * count) for side, count in zip(image.shape, cells, strict=False))
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return to_planes(small.reshape(height, width, -1), 1)[..., 0].astype(np.float32)


def _places(across: Plane, down: Plane) -> tuple[Plane, Plane]:
    """Each pixel's own column and row, moved by this much."""
    height, width = across.shape
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return np.add(across, columns, dtype=np.float32), np.add(down, rows[:, np.newaxis], dtype=np.float32)


def _moved(plane: Plane, columns: Plane, rows: Plane) -> Plane:
    """What lies at these places, interpolated; beyond an edge what lies at it."""
    import cv2

    return np.asarray(cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _softmax(scores: Scores) -> Scores:
    """Where a score is no finite number nothing is believed: it would spread from frame to frame for ever."""
    with np.errstate(invalid="ignore"):
        shares: Scores = np.exp(scores - scores.max(axis=0))
        shares /= shares.sum(axis=0)
    return np.nan_to_num(shares, copy=False, nan=0)
