"""When something that is timed began and ended, inference by inference, and every figure that is made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rtpsp.timing import Summary, is_stable, summarise, window_medians

SAMPLES_TOLD = 2000
"""Most samples that a report holds: enough for a distribution and its course in time, and 20 KB of JSON."""


@dataclass(frozen=True)
class Timeline:
    """Inferences of one engine, or of something that does as much, in the order in which they were made.

    Attributes:
        begins: When each began, seconds of `rtpsp.timing.now`; warm-up is left out.
        ends: When each one's answer was there, of the same clock.
    """

    begins: tuple[float, ...]
    ends: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.begins) != len(self.ends):
            raise ValueError(f"{len(self.begins)} begins and {len(self.ends)} ends, expected one each an inference")

    @classmethod
    def of(cls, stamps: Iterable[tuple[float, float]]) -> Timeline:
        """Of (begin, end), one an inference."""
        pairs = list(stamps)
        return cls(tuple(begin for begin, _ in pairs), tuple(end for _, end in pairs))

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def durations(self) -> tuple[float, ...]:
        """Seconds of each inference."""
        return tuple(end - begin for begin, end in zip(self.begins, self.ends, strict=True))

    def summary(self) -> Summary:
        """Percentiles and the rest, in milliseconds.

        Raises:
            ValueError: There is no inference.
        """
        summary = summarise(self.durations)
        if summary is None:
            raise ValueError("no inference was timed, expected at least one")
        return summary

    @property
    def fps(self) -> float | None:
        """(n - 1) / (t_last - t_first) over the ends, on a clock that stands still while others have their turn.

        The turn of another lane, or of the loop, lies between two inferences and is no time of this one: what is left
        of the span between the first end and the last is the durations of all but the first. None below two.
        """
        seconds = sum(self.durations[1:])
        return (len(self) - 1) / seconds if seconds > 0 else None

    def windows(self) -> tuple[float, ...]:
        """Medians in milliseconds of at most ten windows (`rtpsp.timing.window_medians`)."""
        return tuple(1e3 * median for median in window_medians(self.durations))

    @property
    def stable(self) -> bool | None:
        """Whether the last windows lie within 5 % (`rtpsp.timing.is_stable`); None where samples are too few."""
        return is_stable(self.windows())

    def samples(self, most: int = SAMPLES_TOLD) -> list[float]:
        """Durations in milliseconds, in order; of more than `most` that many, evenly spread."""
        durations = self.durations
        count = min(most, len(durations))
        return [round(1e3 * durations[place * len(durations) // count], 4) for place in range(count)]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: ``latency_ms``, ``fps``, ``windows_ms``, ``stable`` and ``samples_ms``."""
        return {
            "latency_ms": self.summary().to_dict(),
            "fps": None if self.fps is None else round(self.fps, 3),
            "windows_ms": [round(median, 3) for median in self.windows()],
            "stable": self.stable,
            "samples_ms": self.samples(),
        }
