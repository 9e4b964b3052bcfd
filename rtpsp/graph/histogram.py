"""A tensor's magnitudes in bins, and four ways to choose from them the range that INT8 keeps.

Wu, Judd, Zhang, Isaev, Micikevicius, "Integer Quantization for Deep Learning Inference: Principles and Empirical
Evaluation", 2020 (arXiv 2004.09602), section 5, compares maximum, entropy and percentile. A value beyond the range is
clipped to it; a narrower range leaves the others a finer step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rtpsp.errors import UsageError

BINS = 4096
LEVELS = 127  # magnitudes above zero of symmetric INT8
PERCENTILE = 99.99
_FRACTIONS = np.linspace(0.2, 1.0, 161)
_ENTROPY_BINS = 2048
_PIECE = 1 << 16  # values at once: they stay in the second-level cache

Counts = npt.NDArray[np.int64]


class Histogram:
    """Counts of |x| in `BINS` equal bins from 0 to `top`; `top` doubles, and bins join in pairs, for a larger value.

    Attributes:
        low: Smallest value seen; infinite before the first.
        high: Largest value seen.
        top: Upper end of the last bin; 0 while only zeros were seen.
        counts: int64 [BINS].
    """

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")
        self.top = 0.0
        self.counts: Counts = np.zeros(BINS, np.int64)
        self._zeros = 0

    def add(self, values: npt.NDArray[np.float32]) -> bool:
        """Counts an array's values; False, and nothing counted, where one is not a finite number."""
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        peak = max(-low, high)
        if peak == 0.0:
            self._zeros += values.size
            return True
        if self.top == 0.0:
            self.top = peak
        while peak > self.top:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self.top *= 2
        self.counts += _binned(values.reshape(-1), self.top)
        return True

    @property
    def peak(self) -> float:
        """The largest magnitude seen, 0 for a dead tensor."""
        return max(0.0, -self.low, self.high) if self.low <= self.high else 0.0

    def amax(self, method: str) -> float:
        """The magnitude that becomes the largest integer.

        Args:
            method: ``minmax``, ``entropy``, ``percentile`` or ``mse``.

        Raises:
            UsageError: Another method.
        """
        choose = {"minmax": self._minmax, "entropy": self._entropy, "percentile": self._percentile, "mse": self._mse}
        if method not in choose:
            raise UsageError(f"no calibration method {method!r}: use one of {', '.join(choose)}")
        return float(min(choose[method](), self.peak)) if self.top else 0.0

    def _minmax(self) -> float:
        return self.peak

    def _percentile(self) -> float:
        """`PERCENTILE` percent of all values, zeros included, have at most this magnitude."""
        total = np.cumsum(self.counts)
        place = int(np.searchsorted(total, (total[-1] + self._zeros) * PERCENTILE / 100 - self._zeros))
        return (min(place, BINS - 1) + 1) * self.top / BINS

    def _mse(self) -> float:
        """The range of the least mean squared error, rounding and clipping together, by search over `_FRACTIONS`."""
        values = (np.arange(BINS) + 0.5) * self.top / BINS
        used = self.counts > 0
        values, weights = values[used], self.counts[used].astype(np.float64)
        candidates = _FRACTIONS * self.peak
        errors = [float(weights @ np.square(values - _rounded(values, candidate / LEVELS))) for candidate in candidates]
        return float(candidates[int(np.argmin(errors))])

    def _entropy(self) -> float:
        """The range whose quantised distribution is nearest to the clipped one by Kullback-Leibler divergence.

        Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 26-38; the bin of the values next to zero is left out
        as there, since after a ReLU it holds most of them and none of the information.
        """
        counts = self.counts.reshape(_ENTROPY_BINS, -1).sum(axis=1).astype(np.float64)
        counts[0] = 0.0
        last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 1
        levels = LEVELS + 1
        if last <= levels:
            return self.peak
        ends = np.arange(levels, last + 1)
        gaps = [_divergence(counts[:last], end, levels) for end in ends.tolist()]
        return float((ends[int(np.argmin(gaps))]) * self.top / _ENTROPY_BINS)


def _binned(values: npt.NDArray[np.float32], top: float) -> Counts:
    """Piece by piece: whole temporaries of a large tensor cost ten times the time, and memory."""
    counts: Counts = np.zeros(BINS + 1, np.int64)
    magnitudes, places = np.empty(_PIECE, np.float32), np.empty(_PIECE, np.intp)
    for start in range(0, values.size, _PIECE):
        piece = values[start : start + _PIECE]
        found, place = magnitudes[: piece.size], places[: piece.size]
        np.abs(piece, out=found)
        np.multiply(found, np.float32(BINS / top), out=found)
        np.copyto(place, found, casting="unsafe")
        counts += np.bincount(place, minlength=BINS + 1)
    counts[-2] += counts[-1]  # the largest value of all lies on the end of the last bin
    return counts[:-1]


def _rounded(values: npt.NDArray[Any], step: float) -> npt.NDArray[Any]:
    return np.minimum(np.rint(values / step), LEVELS) * step


def _divergence(counts: npt.NDArray[np.float64], end: int, levels: int) -> float:
    """KL divergence of the first `end` bins, all beyond them in the last one, from the same bins told by `levels`."""
    kept = counts[:end]
    clipped = kept.copy()
    clipped[-1] += counts[end:].sum()
    group = (np.arange(end) * levels) // end
    sums = np.bincount(group, weights=kept, minlength=levels)
    filled = np.bincount(group, weights=kept > 0, minlength=levels)
    spread = np.where(kept > 0, sums[group] / np.maximum(filled[group], 1), 0.0)
    mask = clipped > 0
    p, q = clipped[mask] / clipped.sum(), spread[mask] / max(spread.sum(), 1e-300)
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))
