"""When a frame was captured, from its own time stamp and the moment that it arrived.

The two times of a frame come from two clocks: its PTS from the sender's, its arrival from `time.monotonic` here. Their
difference is *offset between the clocks + delay of this frame*. The delay changes from frame to frame and is never
negative; the offset stays. So the smallest difference seen so far is the best guess of the offset, and whatever a frame
has beyond it is its lateness.

"So far" means the whole run, not a sliding window: when a reader falls behind, every frame in the window is late,
their smallest difference is late too, and a backlog of seconds would look like freshness. But "for ever" is wrong as
well: two crystals differ by some tens of millionths, which makes 0.2 s an hour at 50 ppm. So the guess may rise, by 200
ppm of the *source's* time at most. Of the source's, not of ours: drift is a property of the frames that were seen, and
while a backlog builds up the source's time passes slowly. 30 s of 30 fps read at 8 fps have a backlog of 22 s, of which
the allowance hides 8 s x 200 ppm = 1.6 ms; the most that it can hide in an hour of standing backlog is 0.72 s.

Some senders are further off than any crystal: one that stamps 29.97 fps as if they were 30 loses 3.6 s an hour. What
tells such a clock from a backlog is that it is even: the least difference of each ten seconds lies on a straight line,
to milliseconds, for a minute and more. A slope found so (`CaptureClock.drift`) is allowed for.

What cannot be seen: a delay that every frame has had from the first. Two clocks and one way tell no more. And a backlog
that grows by less than `MOST_DRIFT`, as evenly as a clock (60 fps taken at 59.94), is taken for one.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import linear_regression

DRIFT = 200e-6
"""How much the guess may rise in one second of the source's time: twice the worst tolerance of a common crystal."""

MOST_DRIFT = 2000e-6
"""Steepest slope that is taken for a clock's: twice that of a nominal rate of 30 for 29.97."""

WINDOW = 10.0
"""Seconds of the source's time of which the least difference is one point of the line."""

LEAST_WINDOWS, MOST_WINDOWS = 6, 30

STRAIGHT = 0.005
"""Seconds that a point may lie off the line."""

JUMP_BACK = 0.1
"""Seconds by which a PTS must fall behind the one before to be a new time line, and not two frames swapped."""


class CaptureClock:
    """Maps presentation times of a live source to `time.monotonic`.

    It is only as good as the time stamps: give it times that the sender measured, never an index divided by a nominal
    rate: where that is off by more than `MOST_DRIFT` it would grow into a lateness.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last_pts = 0.0
        self._slope = _Slope()

    @property
    def drift(self) -> float:
        """Seconds by which our clock gains on the sender's in one of its seconds; 0 where both agree within `DRIFT`."""
        return self._slope.found

    def captured(self, pts: float, arrival: float) -> float:
        """When the frame was captured, in seconds of `time.monotonic`; never later than `arrival`.

        A PTS that falls back by more than `JUMP_BACK` starts a new time line (the sender restarted): this frame counts
        as fresh. One that leaps ahead of its arrival gives a smaller difference than any before, which makes it the new
        guess without a rule of its own. Results need not rise with every call: the guess falls when a frame arrives
        with less delay than all before it.

        Args:
            pts: The frame's presentation time in seconds of the sender's clock, from any origin.
            arrival: When it reached us, in seconds of `time.monotonic`.
        """
        if self._offset is not None and pts - self._last_pts < -JUMP_BACK:
            self.restart()
        difference = arrival - pts
        self._offset = difference if self._offset is None else min(difference, self._risen(pts))
        self._last_pts = pts
        self._slope.add(pts, difference)
        return min(pts + self._offset, arrival)

    def ahead(self, pts: float, arrival: float) -> float:
        """Seconds by which a PTS claims to be of the future, going by those before it; not positive where it does not.

        Args:
            pts: As for `captured`, which this neither calls nor replaces.
            arrival: As for `captured`.
        """
        return -math.inf if self._offset is None else pts + self._risen(pts) - arrival

    def restart(self) -> None:
        """The next PTS begins a new time line, of the same clock."""
        self._offset = None
        self._slope.restart()

    def _risen(self, pts: float) -> float:
        """The guess of the offset by the time of `pts`, risen as far as two clocks may differ."""
        assert self._offset is not None
        return self._offset + (DRIFT + max(self._slope.found, 0.0)) * max(pts - self._last_pts, 0.0)


class _Slope:
    """Of the line on which the least differences lie, where they do lie on one."""

    def __init__(self) -> None:
        self.found = 0.0
        self._points: deque[tuple[float, float]] = deque(maxlen=MOST_WINDOWS)
        self._least: tuple[float, float] | None = None
        self._begun = 0.0

    def add(self, pts: float, difference: float) -> None:
        if self._least is not None and pts - self._begun >= WINDOW:
            self._points.append(self._least)
            self._fit()
            self._least = None
        if self._least is None:
            self._least, self._begun = (pts, difference), pts
        elif difference < self._least[1]:
            self._least = (pts, difference)

    def restart(self) -> None:
        """What was found stays: the sender's crystal is the same."""
        self._points.clear()
        self._least = None

    def _fit(self) -> None:
        while len(self._points) >= LEAST_WINDOWS:
            times, differences = zip(*self._points, strict=True)
            slope, at_zero = linear_regression(times, differences)
            if all(abs(y - at_zero - slope * x) <= STRAIGHT for x, y in self._points):
                self.found = slope if DRIFT < abs(slope) <= MOST_DRIFT else 0.0
                return
            self._points.popleft()
