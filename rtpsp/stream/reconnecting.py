"""A live source that comes back: it is opened anew when it was lost, and goes on with its numbers and its time.

    read ─▶ lost ─▶ fault noted, closed ─▶ wait ─▶ open ─▶ first frame ─▶ read …
                                            ▲        │
                                            └─ fails ┘

The source is closed before the wait: a camera comes back under its old path only when nobody holds that any more, and
many an RTSP server takes one client alone.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from rtpsp.errors import RtpspError, SourceError, SourceLost, UsageError
from rtpsp.stream.frame import Frame
from rtpsp.stream.health import PERMANENT
from rtpsp.stream.source import Reconnect, Source, SourceInfo, kind_of
from rtpsp.stream.timeline import STEP
from rtpsp.timing import now

_log = logging.getLogger(__name__)

STEADY = 5.0
"""Seconds that a source must have given frames for the waits to begin anew: one that dies at once is not hammered."""
MOST_TOLD = 16
"""Reasons that are told in one absence, each once: a day of failing tries is no day of lines."""


@runtime_checkable
class Reopening(Protocol):
    """A source that knows itself how it is opened again: the simulator's device goes on meanwhile."""

    def reopen(self) -> Source:
        """Open it again; raises as `rtpsp.stream.source.open_source`."""


@dataclass
class _Course:
    """What outlives a connection, and a reading thread that is left behind; `captured` is the last frame's."""

    open: Callable[[], Source]
    index: int = 0
    pts: float = -STEP
    captured: float | None = None
    missed: int = 0
    late: int = 0
    stamps: dict[str, int] = field(default_factory=dict)
    tries: int = 0
    """Since it was last steady, failed or not."""
    there: bool = False
    """Whether it was ever open."""
    told: set[str] = field(default_factory=set)
    """Reasons that were told in this absence."""


class Reconnecting(Source):
    """Reads a live source through all of its connections.

    Args:
        open: Opens the source; called in the thread that reads.
        options: How often, and after what waits.
        first: Already open; None opens it with the first `read`.
        uri: As a report may show it: without credentials.
        clock: Time itself, in seconds.
        wait: Waits for so many seconds, or until `interrupt`, and says whether it was that.
        chance: A random number from 0 to 1.
    """

    def __init__(
        self,
        open: Callable[[], Source],
        options: Reconnect,
        first: Source | None,
        *,
        uri: str,
        clock: Callable[[], float] = now,
        wait: Callable[[float], bool] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._options, self._uri, self._clock, self._chance = options, uri, clock, chance
        self._given_wait, self._stop = wait, threading.Event()
        self._lock = threading.Lock()  # between the thread that reads and one that leaves it behind
        self._abandoned = False
        self._course = _Course(open)
        self._source: Source | None = None
        self._waits = False
        self._first: Frame | None = None  # of the present connection, and its place
        self._index, self._base, self._since = 0, 0.0, 0.0
        if first is None:
            self.health.lose()
            self.info = SourceInfo(uri, kind_of(uri), 0, 0, live=True, detail="waiting for it")
        else:
            self._adopt(first)

    def read(self) -> Frame | None:
        """The next frame of whichever connection there is; waits through an absence, for as long as that lasts.

        None once interrupted, closed or left behind, and at the end of a source that said how many frames it has.

        Raises:
            SourceLost: All tries are used up.
            RtpspError: As the opener, where the source was never there and another try is not asked for or no use.
        """
        while not self._over():
            source = self._source
            if source is None:
                self._connect()
                continue
            try:
                frame = source.read()
            except (RtpspError, OSError) as error:
                if self._course.captured is None and _permanent(error) and not self._over():
                    raise
                self._lose(_kind(error), str(error), error)
                continue
            if frame is not None:
                placed = self._place(source, frame)
                if placed is not None:
                    return placed
            elif source.info.frames is not None or not source.info.live or self._over():
                self.missed, self.ended = self._course.missed + source.missed, source.ended
                break
            else:
                self._lose("ended", f"{self._uri} ended, which a live source should not", None)
        if self._abandoned:
            self._let_go()
        return None

    def interrupt(self) -> None:
        """End a wait at once, and with it the source; passed on to the present connection."""
        self._stop.set()
        source = self._source
        if source is not None:
            source.interrupt()

    def successor(self) -> Source | None:
        """See `Source.successor`; this one closes its connection when its `read` comes back after all."""
        with self._lock:
            attempts = self._options.attempts
            if self._over() or (attempts is not None and self._course.tries >= attempts):
                return None
            self._abandoned = True
            self._stop.set()
            self.health.fault("stalled", f"{self._uri} does not come back from a read: opened anew")
            self.health.lose()
            self._keep_counts()
            source = self._source  # which the read that hangs lets go of, should it come back now
        if source is not None:
            source.interrupt()
        heir = Reconnecting(
            self._course.open, self._options, None, uri=self._uri,
            clock=self._clock, wait=self._given_wait, chance=self._chance,
        )  # fmt: skip
        heir.health, heir.info, heir.missed = self.health, self.info, self.missed
        heir._course, heir._waits = self._course, True
        return heir

    def close(self) -> None:
        """Close the present connection; there will be no other."""
        self._stop.set()
        self._let_go()

    def _over(self) -> bool:
        return self._stop.is_set()

    def _connect(self) -> None:
        """Wait, where that is due, and open; the source is there then, or another wait is due."""
        course, health = self._course, self.health
        if self._waits:
            longest = min(self._options.longest, self._options.first * 2.0 ** min(course.tries, 64))
            delay = longest * (0.5 + 0.5 * self._chance())
            with self._lock:
                if self._over():
                    return
                health.next_try = self._clock() + delay
            if (self._given_wait or self._stop.wait)(delay):
                return
        with self._lock:
            if self._over():
                return
            health.next_try = None
            course.tries += 1
        try:
            source = course.open()
        except (RtpspError, OSError) as error:
            never = not course.there and (not self._options.at_start or _permanent(error))
            if never and not self._over():
                raise
            self._lose(_kind(error), str(error), error)
            return
        with self._lock:
            if not self._over():
                self._adopt(source)
                return
        _close(source)

    def _adopt(self, source: Source) -> None:
        self._source, self._first = source, None
        course = self._course
        if isinstance(source, Reopening):
            course.open = source.reopen
        course.there, course.late, course.stamps = True, self.health.late, dict(self.health.stamps)
        self.info = replace(source.info, uri=self._uri)

    def _place(self, source: Source, frame: Frame) -> Frame | None:
        """Number and time of a frame in the run as a whole; None where this reader was left behind."""
        with self._lock:
            if self._abandoned:
                return None
            course = self._course
            first = self._first or self._begin(frame)
            if self._clock() - self._since >= STEADY:
                course.tries = 0
            pts = max(self._base + frame.pts - first.pts, course.pts + STEP)
            index = self._index + frame.index - first.index
            course.index, course.pts, course.captured = index + 1, pts, frame.captured
            self._count(source)
        return replace(frame, index=index, pts=pts)

    def _begin(self, frame: Frame) -> Frame:
        """The first frame of a connection, given back; it lies after the last one by what passed here."""
        course, health = self._course, self.health
        self._first, self._since = frame, self._clock()
        if course.captured is None:
            self._index, self._base = frame.index, frame.pts
        else:
            self._index, self._base = course.index, course.pts + max(frame.captured - course.captured, STEP)
            health.reconnects += 1
            _log.warning("%s is back after %.1f s", self._uri, now() - health.since)
        course.told.clear()
        health.regain()
        return frame

    def _count(self, source: Source) -> None:
        course, health, its = self._course, self.health, source.health
        self.missed = course.missed + source.missed
        health.late, health.hardware = course.late + its.late, its.hardware
        if its.stamps:
            health.stamps = {
                what: course.stamps.get(what, 0) + its.stamps.get(what, 0) for what in {**course.stamps, **its.stamps}
            }

    def _keep_counts(self) -> None:
        """Of the connection that is over."""
        if self._source is not None:
            self._count(self._source)
            self._course.missed = self.missed

    def _lose(self, kind: str, reason: str, error: Exception | None) -> None:
        """Note a loss or a failed try.

        Raises:
            SourceLost: It was the last try.
        """
        with self._lock:
            if self._over():
                return
            course, health = self._course, self.health
            self._keep_counts()
            health.fault(kind, reason)
            if not health.present:
                health.attempt += 1
            health.lose()
            self._waits = True
        self._let_go()
        attempts = self._options.attempts
        if attempts is not None and course.tries >= attempts:
            tries = "1 try" if course.tries == 1 else f"{course.tries} tries"
            raise SourceLost(f"{reason}; given up after {tries}", kind) from error
        if is_new := reason not in course.told and len(course.told) < MOST_TOLD:
            course.told.add(reason)
        (_log.warning if is_new else _log.debug)("%s; it is opened anew", reason)

    def _let_go(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            _close(source)


def _close(source: Source) -> None:
    with contextlib.suppress(RtpspError, OSError):  # it is gone already, and that has been told
        source.close()


def _kind(error: Exception) -> str:
    return getattr(error, "kind", "") or "lost"


def _permanent(error: Exception) -> bool:
    """Whether another try is no use as long as the source was never there."""
    told = isinstance(error, (SourceError, SourceLost)) and error.kind in PERMANENT
    return told or isinstance(error, UsageError)
