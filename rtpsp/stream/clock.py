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

What cannot be seen: a delay that every frame has had from the first. Two clocks and one way tell no more.
"""

from __future__ import annotations

DRIFT = 200e-6
"""How much the guess may rise in one second of the source's time: twice the worst tolerance of a common crystal."""

JUMP_BACK = 0.1
"""Seconds by which a PTS must fall behind the one before to be a new time line, and not two frames swapped."""


class CaptureClock:
    """Maps presentation times of a live source to `time.monotonic`.

    It is only as good as the time stamps: give it times that the sender measured, never an index divided by a nominal
    rate (29.97 fps taken for 30 are 1000 ppm, which no drift explains and which would grow into a lateness).
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last_pts = 0.0

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
        difference = arrival - pts
        passed = pts - self._last_pts
        if self._offset is None or passed < -JUMP_BACK:
            self._offset = difference
        else:
            self._offset = min(difference, self._offset + DRIFT * max(passed, 0.0))
        self._last_pts = pts
        return min(pts + self._offset, arrival)
