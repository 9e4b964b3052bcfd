"""What is told of cameras that fit, and the search for their number: an estimate, then a confirmation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rtpsp.stream.report import ThreadPlan

TOLERANCE = 0.01
"""Share of its frames that a stream may lose."""
_BUSY = 0.8
"""A thread that works for this share of the time is what the others wait for."""
_NEAR = 0.9
"""A capacity below this share of one stream's rate is not tried at that rate."""
_STEPS = 8
"""Most trials in one direction; of many streams the steps down are an eighth of them."""


@dataclass(frozen=True)
class Trial:
    """So many streams, measured.

    Attributes:
        streams: How many.
        fps: Frames a second of each.
        processed_fps: Of the stream that was served worst.
        p95_age_ms: Milliseconds from captured to handed over, of the stream with the oldest; None where too few frames
            came for a 95th percentile.
        max_age_ms: Of all frames.
        held: Whether rate and age were kept.
        why: Why not.
    """

    streams: int
    fps: float
    processed_fps: float
    p95_age_ms: float | None
    max_age_ms: float
    held: bool
    why: str = ""

    @property
    def processed_percent(self) -> float:
        """Share of its frames that the worst served stream got."""
        return 100 * self.processed_fps / self.fps

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**rounded, "processed_percent": round(self.processed_percent, 2)}


@dataclass(frozen=True)
class Cameras:
    """How many cameras fit.

    Attributes:
        fps: Frames a second of each.
        bound_ms: Of the 95th percentile of age.
        capacity_fps: Frames a second of one stream that waits for nobody.
        estimate: Streams by that.
        confirmed: Streams that were held.
        one: Where not even one was: a single stream at the rate that was held; None else, or where none was.
        tried: Every trial.
        shares: For each stage the share of the time that it works while nothing waits for a camera, 0..1.
        source: What the streams are.
        threads: How the CPU was divided.
    """

    fps: float
    bound_ms: float
    capacity_fps: float
    estimate: int
    confirmed: int
    one: Trial | None
    tried: tuple[Trial, ...]
    shares: dict[str, float]
    source: str
    threads: ThreadPlan

    @property
    def p95_age_ms(self) -> float | None:
        """Of the streams that were confirmed, or of the single slower one."""
        held = [trial for trial in self.tried if trial.held and trial.streams == self.confirmed]
        return held[0].p95_age_ms if held else self.one.p95_age_ms if self.one else None

    @property
    def bottleneck(self) -> str:
        """``inference``, ``preprocessing``, ``decoding``, ``rendering``; or ``threads`` where all wait for the CPU."""
        threads = {
            max("inference", "preprocessing", key=self.shares.__getitem__): self.shares["inference"]
            + self.shares["preprocessing"],
            "decoding": self.shares["decoding"],
            "rendering": self.shares["rendering"],
        }
        busiest = max(threads, key=threads.__getitem__)
        return busiest if threads[busiest] >= _BUSY else "threads"

    @property
    def words(self) -> str:
        """The answer in a line."""
        age = "" if self.p95_age_ms is None else f", 95 % of frames younger than {self.p95_age_ms:.0f} ms"
        limit = f"; the limit is {self.bottleneck}"
        if self.bottleneck in self.shares:
            limit += f", {100 * self.shares[self.bottleneck]:.0f} % of the time"
        if self.confirmed:
            several = "camera fits" if self.confirmed == 1 else "cameras fit"
            return f"{self.confirmed} {several} at {self.fps:g} fps{age}{limit}"
        one = f"one at {self.one.fps:g} fps fits{age}" if self.one else "nor one at the rate that the engine can do"
        return f"0 cameras fit at {self.fps:g} fps; {one} (the engine can do {self.capacity_fps:.1f} fps){limit}"

    @property
    def measured(self) -> str:
        """What exactly was measured."""
        return (
            "each stream is read by a thread, one engine takes the newest frame of each in turn, and the class map is "
            "brought to the frame's size; no picture is drawn or encoded"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: the section ``cameras`` of a report."""
        return {
            "estimate": self.estimate, "confirmed": self.confirmed, "fps": self.fps, "bound_ms": self.bound_ms,
            "p95_age_ms": None if self.p95_age_ms is None else round(self.p95_age_ms, 3),
            "bottleneck": self.bottleneck, "tried": [trial.to_dict() for trial in self.tried],
            "capacity_fps": round(self.capacity_fps, 3), "one_fps": self.one.fps if self.one else None,
            "shares_percent": {name: round(100 * share, 1) for name, share in self.shares.items()},
            "source": self.source, "threads": asdict(self.threads), "words": self.words, "measured": self.measured,
        }  # fmt: skip


def search(
    trial: Callable[[int, float], Trial], capacity: float, fps: float, stopped: Callable[[], bool] = lambda: False
) -> tuple[int, int, Trial | None, tuple[Trial, ...]]:
    """The number of streams that is held, from the number that the rate of a single one promises.

    Args:
        trial: Measures so many streams at a rate.
        capacity: Frames a second of a single stream that waits for nobody.
        fps: Of each stream.
        stopped: True takes what was found so far.

    Returns:
        The estimate, the number that was confirmed, one slower stream where that is 0, and all trials.
    """
    estimate = int(capacity / fps + TOLERANCE)
    tried: list[Trial] = []

    def first_held(choices: Iterator[tuple[int, float]]) -> Trial | None:
        for count, rate in choices:
            if stopped():
                break
            tried.append(trial(count, rate))
            if tried[-1].held:
                return tried[-1]
        return None

    best = first_held((count, fps) for count in _down(max(1, estimate))) if capacity >= _NEAR * fps else None
    if best is None:
        return estimate, 0, first_held((1, rate) for rate in _slower(min(capacity, _NEAR * fps))), tuple(tried)
    confirmed = best.streams
    while len(tried) < _STEPS and not stopped() and confirmed + 1 not in {one.streams for one in tried}:
        tried.append(trial(confirmed + 1, fps))
        if tried[-1].held:
            confirmed += 1
    return estimate, confirmed, None, tuple(tried)


def _down(count: int) -> Iterator[int]:
    step = max(1, count // _STEPS)
    yield from range(count, 0, -step)


def _slower(rate: float) -> Iterator[float]:
    """Rates of a single stream from the engine's own down: whole numbers where they are not too coarse."""
    for _ in range(_STEPS // 2):
        yield float(int(rate)) if rate >= 2 else round(_NEAR * rate, 2)
        rate *= _NEAR
