"""Clocks, percentiles, rates: one definition of every figure that rtpsp prints.

Every time stamp is `now()`, in seconds. fps is (n - 1) / (t_last - t_first) over the stamps of n events: nine gaps of
10 ms and one of 110 ms are 50 fps, and not the 90.9 that the mean of ten reciprocals gives. A percentile is given only
where at least `BEYOND` samples lie beyond it: the 99th needs 1000. A run is *stable* when the medians of its last three
windows lie within `STABLE` of each other; `rtpsp.bench` has what is made of these: ratios, and the loop's cost.
"""

from __future__ import annotations

import random
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate

now = time.monotonic
"""The clock of every stamp: V4L2 stamps its buffers with it too, and it never jumps."""

BEYOND = 10
RESERVOIR = 1 << 16

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds, in seconds, of the buckets that a series counts its durations in: from a quick stage to a stall."""

WINDOWS = 10
"""Most windows that a run is cut into."""
WINDOW_SAMPLES = 5
"""Least samples of a window: the median of fewer wanders with the samples themselves."""
LAST_WINDOWS = 3
STABLE = 0.05
"""(largest - smallest) / smallest of the last windows' medians, up to which a run is stable."""


@dataclass(frozen=True)
class Summary:
    """Figures of a series of durations, all in milliseconds; a percentile is None where samples are too few for it.

    Attributes:
        count: How many samples.
    """

    count: int
    min: float
    mean: float
    median: float
    max: float
    p90: float | None
    p95: float | None
    p99: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """As plain JSON values, rounded to a microsecond."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Histogram:
    """A series as Prometheus takes it.

    Attributes:
        counts: How many durations are at most as long as each of `BOUNDS`, and last how many there are.
        sum: Of all of them, in seconds.
    """

    counts: tuple[int, ...]
    sum: float


class Series:
    """Durations of one stage, added by one thread, in bounded memory; any thread may ask for its figures.

    Count, mean and extremes are exact for ever. Quantiles are exact up to `RESERVOIR` samples; beyond that they are of
    a uniform random sample of that size (Vitter's algorithm R, 1985), so that a run of days needs half a megabyte.
    """

    def __init__(self) -> None:
        self._samples = array("d")
        self._count = 0
        self._sum = 0.0
        self._min = float("inf")
        self._max = float("-inf")
        self._buckets = array("Q", bytes(8 * (len(BOUNDS) + 1)))
        self._random = random.Random(0)

    def __len__(self) -> int:
        return self._count

    def add(self, seconds: float) -> None:
        """Count one duration in."""
        self._count += 1
        self._sum += seconds
        self._min = min(self._min, seconds)
        self._max = max(self._max, seconds)
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        if len(self._samples) < RESERVOIR:
            self._samples.append(seconds)
        else:
            place = self._random.randrange(self._count)
            if place < RESERVOIR:
                self._samples[place] = seconds

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the duration of a block in, also when it raises."""
        begin = now()
        try:
            yield
        finally:
            self.add(now() - begin)

    def histogram(self) -> Histogram:
        """Counts so far, exact for ever, at a cost that does not depend on how many there are."""
        return Histogram(tuple(accumulate(self._buckets[:])), self._sum)  # of a copy: the counts must not fall

    def summary(self) -> Summary | None:
        """Figures so far, in milliseconds; None when nothing was added."""
        if not self._count:
            return None
        ordered = sorted(self._samples)
        return Summary(
            count=self._count,
            min=self._min * 1e3,
            mean=self._sum / self._count * 1e3,
            median=quantile(ordered, 0.5) * 1e3,
            max=self._max * 1e3,
            p90=self._percentile(ordered, 0.90),
            p95=self._percentile(ordered, 0.95),
            p99=self._percentile(ordered, 0.99),
        )

    def _percentile(self, ordered: list[float], share: float) -> float | None:
        if len(ordered) * (1 - share) < BEYOND - 1e-9:
            return None
        return quantile(ordered, share) * 1e3


def quantile(ordered: list[float], share: float) -> float:
    """Linear interpolation between closest ranks (Hyndman and Fan's definition 7, NumPy's default).

    Args:
        ordered: At least one value, ascending.
        share: 0..1.
    """
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summarise(seconds: Iterable[float]) -> Summary | None:
    """`Series.summary` of durations that are all at hand."""
    series = Series()
    for value in seconds:
        series.add(value)
    return series.summary()


def window_medians(seconds: Sequence[float]) -> tuple[float, ...]:
    """Medians of at most `WINDOWS` windows of equal sample counts, in order, in the unit of the samples.

    What does not fill a window is left out at the beginning, where a run may still be settling.

    Args:
        seconds: Samples in the order in which they were taken.

    Returns:
        None at all where there are too few for `LAST_WINDOWS` windows of `WINDOW_SAMPLES`.
    """
    count = min(WINDOWS, len(seconds) // WINDOW_SAMPLES)
    if count < LAST_WINDOWS:
        return ()
    size = len(seconds) // count
    first = len(seconds) - count * size
    return tuple(quantile(sorted(seconds[begin : begin + size]), 0.5) for begin in range(first, len(seconds), size))


def is_stable(medians: Sequence[float]) -> bool | None:
    """Whether the last `LAST_WINDOWS` of `window_medians` lie within `STABLE`; None where there are not as many."""
    last = medians[-LAST_WINDOWS:]
    if len(last) < LAST_WINDOWS:
        return None
    return max(last) - min(last) <= STABLE * min(last)


class Rate:
    """Events a second, over all of a run: (n - 1) / (t_last - t_first)."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0.0
        self._last = 0.0

    def add(self, stamp: float) -> None:
        """Count one event at `stamp` seconds."""
        if not self.count:
            self._first = stamp
        self._last = stamp
        self.count += 1

    @property
    def fps(self) -> float | None:
        """None before the second event, or when all came at once."""
        return (self.count - 1) / self.seconds if self.seconds > 0 else None

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return self._last - self._first


class RecentRate:
    """Events a second over the last `window` seconds, for a display that people watch."""

    def __init__(self, window: float = 2.0) -> None:
        self._window = window
        self._stamps: list[float] = []

    def add(self, stamp: float) -> None:
        """Count one event at `stamp` seconds; older ones than the window are forgotten, but two are always kept."""
        self._stamps.append(stamp)
        while len(self._stamps) > 2 and self._stamps[0] < stamp - self._window:
            del self._stamps[0]

    @property
    def fps(self) -> float | None:
        """None before the second event."""
        if len(self._stamps) < 2 or self._stamps[-1] <= self._stamps[0]:
            return None
        return (len(self._stamps) - 1) / (self._stamps[-1] - self._stamps[0])
