"""The device behind the live simulator: what it holds by when, how it stamps, and when it is away.

It is there from the first read on, whether or not a connection reads it, so that one opened later finds it where time
says. It needs no thread: all of it is known beforehand, from the parameters and their seed.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterator

from rtpsp.stream.simulator_uri import Simulation

FAULT_AT = 5.0
"""Seconds into an endless run where a stall or leap begins if it is not said; else at a third of the run."""


class Device:
    """A camera with its own clock, which starts with the first `elapsed`.

    Args:
        simulation: How it behaves.
        count: See below.

    Attributes:
        count: How many frames it has; None is endless.
        rate: Frames a second that it exposes.
        connection: Number of the present connection, from 1: an older one has no frame to expect.
        hung: Whether a read has hung by now; it does so once.
    """

    def __init__(self, simulation: Simulation, count: int | None) -> None:
        self._simulation = simulation
        self.count = count
        self.rate = simulation.fps if simulation.slow is None else min(simulation.slow, simulation.fps)
        self._jump_at = _fault_at(simulation.jump_at, count, self.rate)
        self._deliveries = _deliveries(simulation, count, self.rate)
        self._coming = next(self._deliveries, None)
        self._fifo: deque[int] = deque(maxlen=simulation.fifo)
        self._start: float | None = None
        self.connection = 0
        self.hung = False

    @property
    def next_delivery(self) -> float | None:
        """Seconds at which the next frame is delivered; None after the last."""
        return None if self._coming is None else self._coming[1]

    def elapsed(self, now: float) -> float:
        """Seconds by its clock, at `now` in seconds of `time.monotonic`; the first call starts it."""
        if self._start is None:
            self._start = now
        return now - self._start

    def exposed(self, index: int) -> float:
        """When a frame was really exposed, in seconds of `time.monotonic`."""
        assert self._start is not None
        return self._start + index / self.rate

    def holds(self, elapsed: float) -> bool:
        """Whether it holds a frame by then; a full fifo has let go of its oldest."""
        while self._coming is not None and self._coming[1] <= elapsed + 1e-6:  # the rounding of a sleep until then
            self._fifo.append(self._coming[0])
            self._coming = next(self._deliveries, None)
        return bool(self._fifo)

    def take(self) -> int:
        """The number of the oldest frame that it holds; it lets go of that."""
        return self._fifo.popleft()

    def connect(self, now: float) -> int:
        """Begin a connection; what was delivered to nobody is gone.

        Returns:
            The number of the last frame that is gone, -1 where there is none.
        """
        self.connection += 1
        gone = -1
        if self._start is not None:
            self.holds(self.elapsed(now))
            gone = self._coming[0] - 1 if self._coming is not None else (self.count or 0) - 1
            self._fifo.clear()
        return gone

    def deaths(self, elapsed: float) -> int:
        """How many times it has gone away by then."""
        s = self._simulation
        if s.die is None or elapsed < s.die:
            return 0
        return 1 if s.die_every is None else 1 + int((elapsed - s.die) / s.die_every)

    def next_death(self, elapsed: float) -> float | None:
        """When it next goes away, in seconds; None where it stays."""
        s, so_far = self._simulation, self.deaths(elapsed)
        if s.die is None or (so_far and s.die_every is None):
            return None
        return s.die + so_far * (s.die_every or 0.0)

    def away_for(self, elapsed: float) -> float:
        """Seconds until it is back; 0 while it is there."""
        s, so_far = self._simulation, self.deaths(elapsed)
        if s.die is None or not so_far:
            return 0.0
        return max(0.0, s.die + (so_far - 1) * (s.die_every or 0.0) + s.die_for - elapsed)

    def hangs(self, elapsed: float) -> bool:
        """Whether a read now does not come back."""
        return self._simulation.hang is not None and elapsed >= self._simulation.hang and not self.hung

    def stamp(self, index: int) -> float | None:
        """What it stamps a frame with: seconds of its own clock, None where it forgets to."""
        s = self._simulation
        at = index / self.rate
        if index and (s.dup or s.back or s.unstamped):
            # Each by the frame alone, so that a reader who misses some sees the same faults in the others.
            chance = random.Random(f"{s.seed} {index}")
            duplicate, backwards, missing = (chance.random() < share for share in (s.dup, s.back, s.unstamped))
            if missing:
                return None
            at = (index - (1.5 if backwards else duplicate)) / self.rate
        return at + (s.jump if index / self.rate >= self._jump_at else 0.0)


def _fault_at(said: float | None, count: int | None, rate: float) -> float:
    if said is not None:
        return said
    return FAULT_AT if count is None else count / rate / 3


def _deliveries(simulation: Simulation, count: int | None, rate: float) -> Iterator[tuple[int, float]]:
    """Each frame that the device gets out and its time in seconds from the start, unless one ahead holds it up."""
    chance = random.Random(simulation.seed)
    stall_at = _fault_at(simulation.stall_at, count, rate)
    held: list[int] = []
    for index in itertools.count() if count is None else range(count):
        # Both are drawn for every frame, so that one fault does not change where the other strikes.
        lost, delay = chance.random() < simulation.drop, chance.random() * simulation.jitter
        if not lost:
            held.append(index)
        if (index + 1) % simulation.burst and index + 1 != count:
            continue
        due = index / rate + delay
        if stall_at <= due < stall_at + simulation.stall:
            due = stall_at + simulation.stall
        yield from ((frame, due) for frame in held)
        held = []
