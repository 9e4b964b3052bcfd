"""Whether a camera keeps the rate that it promised: many give half of it in the dark, and no error."""

from __future__ import annotations

import logging

from rtpsp.stream.frame import Frame
from rtpsp.stream.health import Health

_log = logging.getLogger(__name__)

WINDOW = 10.0
"""Seconds over which a rate is taken."""
KEPT = 0.9
"""Share of the promised rate from which on it is kept."""


class Promise:
    """Of one camera.

    Args:
        uri: As the log may show it.
        fps: Frames a second that it promised; None where it promised nothing.
        health: Counts each `WINDOW` of a broken promise, as ``slow`` in `Health.stamps`.
    """

    def __init__(self, uri: str, fps: float | None, health: Health) -> None:
        self._uri, self._fps, self._health = uri, fps, health
        self._first: Frame | None = None
        self._told = False

    def begin(self) -> None:
        """What came before the next frame does not count: the camera was away."""
        self._first = None

    def look(self, frame: Frame) -> None:
        """Take a frame into account; those that were lost on the way do by its number."""
        if self._fps is None:
            return
        if self._first is None:
            self._first = frame
        seconds = frame.captured - self._first.captured
        if seconds < WINDOW:
            return
        rate = (frame.index - self._first.index) / seconds
        self._first = frame
        if rate >= KEPT * self._fps:
            return
        self._health.stamp("slow")
        if not self._told:
            self._told = True
            _log.warning(
                "%s promises %.4g frames a second and gives %.4g: more light, or a smaller size, may help",
                self._uri, self._fps, rate,
            )  # fmt: skip
