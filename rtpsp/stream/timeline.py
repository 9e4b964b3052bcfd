"""The time line of a live stream: its time stamps put in order, and each frame's moment of capture.

What senders do to their stamps, and what becomes of it here; each is counted in `Health.stamps`:

missing     the frame is as late as the last one whose stamp was good
duplicate   the same; a sender whose clock has stopped therefore does not seem to grow old
backwards   by up to `JUMP_BACK`, as of two frames swapped: it keeps its own moment, and follows in time at once
jump        further back, or ahead into the future: the sender began anew. The frame counts as fresh, and its distance
            from the one before is what passed here

A sender that gives no stamps at all has none missing: its frames are captured when they arrive.

`pts` goes by the sender's stamps, so that it has none of the network's jitter, and by our clock where theirs is found
to differ (`CaptureClock.drift`): an hour of it is an hour.
"""

from __future__ import annotations

import math

from rtpsp.stream.clock import JUMP_BACK, CaptureClock
from rtpsp.stream.health import Health

STEP = 1e-3
"""Seconds between two frames whose stamps would have them at once: a recording cannot show two at one time."""

JUMP_AHEAD = 1.0
"""Seconds by which a stamp may claim to be of the future before it is a new time line, and not a faster delivery."""


class Timeline:
    """Of one connection to one live stream.

    Args:
        health: Counts the stamps that were put in order.
        clock: Knows when a stamp was; its own.
    """

    def __init__(self, health: Health, clock: CaptureClock) -> None:
        self._health, self._clock = health, clock
        self._stamp: float | None = None  # the newest of the present line
        self._line = 0.0  # where on our time line that is
        self._last: tuple[float, float] | None = None
        self._lateness = 0.0

    def place(self, stamp: float | None, arrival: float, interval: float) -> tuple[float, float]:
        """Where a frame belongs.

        Args:
            stamp: Its presentation time in seconds of the sender's clock, from any origin; None where it has none.
            arrival: When it reached us, in seconds of `time.monotonic`; it may not fall.
            interval: Seconds from one frame to the next, as promised; it need not be exact.

        Returns:
            pts: Seconds from the first frame; it rises by `STEP` at least.
            captured: When the scene was seen, in seconds of `time.monotonic`; never later than `arrival`.
        """
        if stamp is not None and not math.isfinite(stamp):
            stamp = None
        if stamp is None or stamp == self._stamp:
            if self._stamp is not None:
                self._health.stamp("missing" if stamp is None else "duplicate")
            return self._as_time_passed(arrival - self._lateness, interval / 2)
        if self._stamp is None:
            return self._begun(stamp, arrival)
        passed = stamp - self._stamp
        pts = self._line + passed * (1 + self._clock.drift)
        before = self._last[0] if self._last else 0.0
        if pts < before - JUMP_BACK or self._clock.ahead(stamp, arrival) > JUMP_AHEAD:
            self._health.stamp("jump")
            return self._begun(stamp, arrival)
        captured = self._clock.captured(stamp, arrival)
        if passed > 0:
            self._stamp, self._line, self._lateness = stamp, pts, arrival - captured
        else:
            self._health.stamp("backwards")
        self._last = max(pts, before + STEP), captured
        return self._last

    def _begun(self, stamp: float, arrival: float) -> tuple[float, float]:
        self._clock.restart()
        captured = self._clock.captured(stamp, arrival)
        self._lateness = arrival - captured
        self._stamp = stamp
        self._line, _ = placed = self._as_time_passed(captured, STEP)
        return placed

    def _as_time_passed(self, captured: float, least: float) -> tuple[float, float]:
        """After the last frame by what passed here, which a burst of arrivals does not tell: by `least` at least."""
        pts = 0.0 if self._last is None else self._last[0] + max(captured - self._last[1], least, STEP)
        self._last = pts, captured
        return self._last
