"""Whether latency grows in proportion to pixels, and if not, where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRAIGHT = 0.995
"""R2 from which the sizes lie on a line."""
ALIKE = 0.10
"""Share by which the time for a megapixel may differ between the smallest and the largest size."""

End = tuple[tuple[int, int], float, float]
"""Size (height, width), megapixels, median milliseconds."""


@dataclass(frozen=True)
class Line:
    """Milliseconds of a frame by its megapixels, by least squares.

    Attributes:
        slope: Milliseconds a megapixel more.
        intercept: Milliseconds that a frame of no pixels would take.
        r2: Share of the variance that the line tells, 0..1.
    """

    slope: float
    intercept: float
    r2: float

    def to_dict(self) -> dict[str, float]:
        """As plain JSON values."""
        return {
            "slope_ms": round(self.slope, 3),
            "intercept_ms": round(self.intercept, 3),
            "r2": round(self.r2, 5),
        }


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """The line of least squares through (megapixels, milliseconds).

    Args:
        points: At least two of different megapixels.
    """
    pixels, times = np.array(points, np.float64).T
    design = np.stack([pixels, np.ones_like(pixels)], axis=1)
    (slope, intercept), *_ = np.linalg.lstsq(design, times, rcond=None)
    rest = times - (slope * pixels + intercept)
    spread = float(((times - times.mean()) ** 2).sum())
    r2 = 1.0 - float((rest**2).sum()) / spread if spread else 1.0
    return Line(float(slope), float(intercept), r2)


def growth_words(line: Line, smallest: End, largest: End) -> str:
    """What the line says, in a sentence or two.

    Args:
        line: Through all sizes.
        smallest: The smallest size.
        largest: The largest.
    """
    first, last = (milliseconds / megapixels for _, megapixels, milliseconds in (smallest, largest))
    ends = f"{first:.0f} ms a megapixel at {_size(smallest)}, {last:.0f} at {_size(largest)} (R2 {line.r2:.4f})"
    if line.r2 >= STRAIGHT and abs(last / first - 1) <= ALIKE:
        return f"Latency is proportional to pixels: {ends}"
    if line.r2 >= STRAIGHT and line.intercept > 0:
        return f"Latency is linear in pixels, with {line.intercept:.1f} ms that a frame takes whatever its size: {ends}"
    how = "more" if last > first else "less"
    return (
        f"Latency is not proportional to pixels, a large frame takes {how} for each: {ends}; the arithmetic of a pixel "
        f"is the same at both, what differs is how well memory and threads keep up"
    )


def _size(end: End) -> str:
    (height, width), _, _ = end
    return f"{height}x{width}"
