"""How much faster: the ratio of two latencies pair by pair, and the interval in which its median lies.

What a noisy machine does falls on both of a pair alike, so their ratio holds where neither latency does. Noise comes in
stretches: neighbouring pairs are alike, and an interval that took each for a new piece of evidence would be too narrow.
So whole stretches of pairs are drawn again, not single ones: the moving-block bootstrap (Künsch, "The jackknife and the
bootstrap for general stationary observations", Annals of Statistics 1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.timing import BEYOND, quantile

CONFIDENCE = 0.95
RESAMPLES = 2000
LEAST = 6
"""Values below which there is no interval: of five, smallest to largest hold their median in 94 % of cases only."""
_CELLS = 1 << 22  # of one chunk of resamples: 32 MB


@dataclass(frozen=True)
class Interval:
    """Where a median lies with a confidence of `CONFIDENCE`."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_list(self, digits: int = 4) -> list[float]:
        """[low, high], rounded."""
        return [round(self.low, digits), round(self.high, digits)]


@dataclass(frozen=True)
class PairRatio:
    """Durations of one over those of another, pair by pair; above 1 where the other is faster.

    Attributes:
        count: How many pairs.
        median: Of the ratios.
        p10: A tenth of the ratios is below it; None with too few pairs (`rtpsp.timing.BEYOND`), as are the others.
        interval: In which the median lies; None with fewer than `LEAST` pairs.
    """

    count: int
    median: float
    p10: float | None
    p25: float | None
    p75: float | None
    p90: float | None
    interval: Interval | None

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float], seed: int = 0) -> PairRatio:
        """The ratios of durations of the same unit.

        Args:
            first: One duration a pair, in the order in which they were measured.
            second: The other's; all above 0.
            seed: Of the bootstrap's draws: the same one, the same interval.

        Raises:
            ValueError: There is no pair, or one of the two has more.
        """
        ratios = [one / other for one, other in zip(first, second, strict=True)]
        if not ratios:
            raise ValueError("no pair was timed, expected at least one")
        ordered = sorted(ratios)

        def percentile(share: float) -> float | None:
            enough = len(ordered) * min(share, 1 - share) > BEYOND - 1e-9
            return quantile(ordered, share) if enough else None

        return cls(
            len(ordered), quantile(ordered, 0.5), percentile(0.1), percentile(0.25), percentile(0.75), percentile(0.9),
            bootstrap_median(ratios, seed),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, rounded to four decimals; the interval as [low, high]."""
        told: dict[str, Any] = {"count": self.count}
        for name in ("median", "p10", "p25", "p75", "p90"):
            value = getattr(self, name)
            told[name] = None if value is None else round(value, 4)
        return {**told, "interval": self.interval.to_list() if self.interval else None}

    def words(self) -> str:
        """``3.91x (3.84 to 3.97)``; without an interval ``3.91x``."""
        spread = f" ({self.interval.low:.2f} to {self.interval.high:.2f})" if self.interval else ""
        return f"{self.median:.2f}x{spread}"


def bootstrap_median(values: Sequence[float], seed: int = 0) -> Interval | None:
    """The interval in which the median of a series of values lies, by the moving-block bootstrap's percentiles.

    Args:
        values: In the order in which they were measured.
        seed: Of the draws.

    Returns:
        None with fewer than `LEAST` values.
    """
    series = np.asarray(values, np.float64)
    count = len(series)
    if count < LEAST:
        return None
    length = block_length(series)
    blocks = -(-count // length)
    offsets = np.arange(length)
    random = np.random.default_rng(seed)
    medians: list[NDArray[np.float64]] = []
    chunk = max(1, _CELLS // (blocks * length))
    for begin in range(0, RESAMPLES, chunk):
        starts = random.integers(0, count - length + 1, (min(chunk, RESAMPLES - begin), blocks))
        places = (starts[..., np.newaxis] + offsets).reshape(len(starts), -1)[:, :count]
        medians.append(np.median(series[places], axis=1))
    low, high = np.quantile(np.concatenate(medians), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def block_length(values: Sequence[float] | NDArray[np.float64]) -> int:
    """How many neighbours are drawn together: the longer, the longer one value tells of the next.

    The rule is Carlstein's for a series of which each value remembers a share r of the one before it ("The use of
    subseries values for estimating the variance of a general statistic from a stationary sequence", Annals of
    Statistics 1986): (sqrt(6) r / (1 - r²))^(2/3) n^(1/3). Here r is the correlation of neighbours' ranks, which one
    hiccup does not move; and it is never below the n^(1/3) of a series that is hardly correlated, nor above n / 4.
    """
    series = np.asarray(values, np.float64)
    count = len(series)
    ranks = np.argsort(np.argsort(series, kind="stable"), kind="stable").astype(np.float64)
    ranks -= ranks.mean()
    power = float((ranks * ranks).sum())
    memory = float((ranks[1:] * ranks[:-1]).sum()) / power if power else 0.0
    memory = min(max(memory, 0.0), 0.99)
    factor: float = max(1.0, (math.sqrt(6) * memory / (1 - memory * memory)) ** (2 / 3))
    return max(1, min(count // 4, math.ceil(factor * math.cbrt(count) - 1e-9)))
