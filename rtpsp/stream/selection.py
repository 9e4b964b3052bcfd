"""Which of a source's frames are wanted, and when a file's frames are due."""

from __future__ import annotations

import copy
import math
import threading
import time
from dataclasses import replace
from typing import Literal

from rtpsp.errors import UsageError
from rtpsp.stream.frame import Frame
from rtpsp.stream.source import Source

Pace = Literal["source", "fast"]

_LOOK = 0.05
"""Seconds after which a wait looks whether it was closed: an event of our own and the caller's cannot be waited for at
once."""


class Selection(Source):
    """A part of another source, which it owns; may be closed from any thread.

    Health and successor are the other source's; what is known of it follows it, should it be connected anew.

    Attributes:
        skipped: Frames read and passed over because they were not asked for. They are not drops: nobody missed them.
    """

    def __init__(
        self,
        source: Source,
        every: int = 1,
        max_fps: float | None = None,
        max_frames: int | None = None,
        pace: Pace | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Select from a source.

        Args:
            source: Where frames come from.
            every: Take each `every`-th frame, from the first on; images between them are not decoded.
            max_fps: Take at most so many frames a second of the source's time.
            max_frames: End after so many frames were taken.
            pace: "source" plays a file at its own rate, as a camera would: a frame with PTS p is due p seconds after
                the first, is not delivered before, and that moment is its `captured`, so that a frame which comes late
                shows as old. "fast" and None deliver as fast as they are read. A live source has its own pace.
            stop: Ends a wait, and with it the source, when it is set.

        Raises:
            UsageError: A number that is not positive.
        """
        for name, value in (("every", every), ("max_fps", max_fps), ("max_frames", max_frames)):
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be more than 0, got {value}")
        self._source, self._every, self._max_frames = source, every, max_frames
        self._interval = 1 / max_fps if max_fps else 0.0
        self._paced = pace == "source" and not source.info.live
        self._stop = stop or threading.Event()
        self._closed = False
        self._reading = threading.Lock()
        self._seen = self._taken = 0
        self._due_pts = -math.inf
        self._start: float | None = None
        self.skipped = 0
        self.health = source.health
        self._follow()

    def read(self) -> Frame | None:
        """The next frame that is wanted, or None at the end, after `max_frames`, and once stopped or closed.

        Raises:
            SourceLost: As the source.
        """
        while self._taken != self._max_frames and not self._ended():
            passed_over = self._seen % self._every > 0
            with self._reading:
                frame, more = None, False
                if not self._closed and passed_over:
                    more = self._source.skip()
                elif not self._closed:
                    frame = self._source.read()
                self.missed = self._source.missed
            if self._source.info is not self._followed:
                self._follow()
            if frame is None and not more:
                self.ended = self._source.ended
                return None
            self._seen += 1
            if frame is None or not self._due(frame.pts):
                self.skipped += 1
                continue
            if self._paced:
                frame = self._wait_for(frame)
                if frame is None:
                    return None
            self._taken += 1
            return frame
        if self._taken == self._max_frames:
            self.ended = f"{self._taken} frame{'' if self._taken == 1 else 's'}, as many as were asked for"
        return None

    def interrupt(self) -> None:
        """End a wait for a frame's time, and with it the source."""
        self._stop.set()
        self._source.interrupt()

    def successor(self) -> Source | None:
        """The same part of what takes over from the source; it goes on with the counts of this one."""
        source = self._source.successor()
        if source is None:
            return None
        heir = copy.copy(self)
        heir._source, heir._reading = source, threading.Lock()  # the old lock is held by the read that hangs
        heir.health = source.health
        heir._follow()
        return heir

    def close(self) -> None:
        """Close the source, after the read that is under way; a wait for a frame's time ends at once."""
        self._closed = True
        with self._reading:
            self._source.close()

    def _ended(self) -> bool:
        return self._closed or self._stop.is_set()

    def _due(self, pts: float) -> bool:
        if not self._interval:
            return True
        # A tenth of the source's interval early is in time: stamps are rounded, and at 30 a 30 fps source has them all.
        if pts < self._due_pts - self._early:
            return False
        # Due times keep their grid, so that the mean rate is met where it does not divide the source's.
        on_grid = self._due_pts + self._interval
        self._due_pts = on_grid if pts < on_grid else pts + self._interval
        return True

    def _wait_for(self, frame: Frame) -> Frame | None:
        if self._start is None:
            self._start = time.monotonic() - frame.pts
        due = self._start + frame.pts
        while (rest := due - time.monotonic()) > 0:
            if self._ended():
                return None
            self._stop.wait(min(rest, _LOOK))
        return replace(frame, captured=due)

    def _follow(self) -> None:
        info = self._followed = self._source.info
        self._early = 0.1 / info.fps if info.fps else 0.1 * self._interval
        self.info = replace(info, fps=self._fps(), frames=self._frames())

    def _fps(self) -> float | None:
        fps = self._source.info.fps
        if fps is None:
            return None
        return min(fps / self._every, 1 / self._interval if self._interval else math.inf)

    def _frames(self) -> int | None:
        info, fps = self._source.info, self._fps()
        if info.frames is None:
            return self._max_frames
        frames = math.ceil(info.frames / self._every)
        if self._interval and fps and info.fps:
            frames = min(frames, math.ceil(info.frames / info.fps * fps))
        return frames if self._max_frames is None else min(frames, self._max_frames)
