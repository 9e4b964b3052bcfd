"""One source of a run: the thread that reads it, and what is counted of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from rtpsp.errors import SourceLost
from rtpsp.stream.beat import Beat
from rtpsp.stream.frame import Frame
from rtpsp.stream.reader import Last as Last
from rtpsp.stream.reader import Reader
from rtpsp.stream.reader import SharedSeries as SharedSeries
from rtpsp.stream.report import FrameCounts, SourceReport
from rtpsp.stream.slot import Policy
from rtpsp.stream.snapshot import SourceSnapshot
from rtpsp.stream.source import Source
from rtpsp.stream.turns import Turns
from rtpsp.timing import Rate, RecentRate, Series, now

_log = logging.getLogger(__name__)

SILENT_SECONDS = 1.5
"""A live source that gives no frame for so long has no signal, or for `SILENT_FRAMES` where it gives fewer."""
SILENT_FRAMES = 2.5
MOST_LEFT = 8
"""Threads that may hang at once in reads that were given up: each keeps its memory and its device for ever."""
RECENT_SECONDS = 3.0
"""So long after the last frame shown there is no rate to be told any more."""


class Channel:
    """A source on its way through the run.

    Args:
        number: Of the source, from 0; its frames get it.
        source: Open; the reading thread closes it.
        policy: What happens to its frames when they come faster than they are taken.
        frames: Where they go.
        series: Gets the seconds of each read, of all sources.
        limit: Seconds that a read may take before the watchdog takes it for stalled.
        on_loss: Called when the source fails, in the thread that finds out.
        why_over: Gives why the run is about to end, in words; empty while it goes on.

    Attributes:
        source: The one that is read now; after a stall it is another one than at first.
        received: Frames that it gave.
        unshowable: Those of them that will never be shown, since it ended before they were taken, or failed with one.
        error: What it failed of; None while it did not.
        ended: Why it gives no more frames, in words; empty while it does.
        age: Of its frames shown, in seconds.
        last: What was shown last.
        last_shown: When that was, in seconds of `time.monotonic`.
    """

    def __init__(
        self,
        number: int,
        source: Source,
        policy: Policy,
        frames: Turns[Frame],
        series: SharedSeries,
        limit: float,
        on_loss: Callable[[Channel, BaseException], None],
        why_over: Callable[[], str],
    ) -> None:
        self.number, self.source, self.policy = number, source, policy
        self.received = self.unshowable = 0
        self.error: BaseException | None = None
        self.ended = ""
        self.age = Series()
        self.last: Last | None = None
        self.last_shown: float | None = None
        self._last_age: float | None = None
        self._ended_at: float | None = None
        self._skipped, self._heard = 0, 0.0
        self._hanging: list[threading.Thread] = []
        self._rate, self._recent = Rate(), RecentRate()
        self._frames, self._series, self._on_loss = frames, series, on_loss
        self._limit, self._why_over = limit, why_over
        self._lock = threading.Lock()
        self._reader = Reader(source, self._read, limit)

    @property
    def name(self) -> str:
        """What it is called in a message."""
        return self.source.info.uri

    @property
    def beat(self) -> Beat:
        """The pulse of the thread that reads it now."""
        return self._reader.beat

    @property
    def thread(self) -> threading.Thread:
        """The thread that reads it now, which may not have been started yet."""
        return self._reader.thread

    @property
    def shown(self) -> int:
        """Frames that every sink had."""
        return self._rate.count

    @property
    def fps(self) -> float | None:
        """Frames shown a second, over the last seconds; None where there are too few."""
        fps = self._recent.fps
        if fps is None or self.last_shown is None:
            return None
        return fps if now() - self.last_shown <= max(RECENT_SECONDS, SILENT_FRAMES / fps) else None

    @property
    def is_absent(self) -> bool:
        """Whether no frame comes, though the source has not ended: it is lost, or live and silent."""
        if self.ended:
            return False
        info, health = self.source.info, self.source.health
        silent = max(SILENT_SECONDS, SILENT_FRAMES / info.fps if info.fps else 0.0)
        if (skipped := getattr(self.source, "skipped", 0)) != self._skipped:
            self._skipped, self._heard = skipped, now()  # a frame came, and was not asked for
        return not health.present or (info.live and min(self.beat.seconds, now() - self._heard) > silent)

    def start(self) -> None:
        """Begin to read."""
        self.thread.start()

    def progress(self) -> object:
        """What changes within a read that gets on: tries to connect, frames passed over or lost."""
        source, health = self.source, self.source.health
        tries = health.present, health.attempt, health.next_try, health.reconnects, sum(health.faults.values())
        # A wait until a known time is no hang: it counts from its end on.
        waits = health.next_try is not None and health.next_try > now()
        return (*tries, source.missed, getattr(source, "skipped", 0), now() if waits else None)

    def count(self, shown: Last, handed_over: float) -> None:
        """Note a frame that every sink has had."""
        self._last_age = handed_over - shown.captured
        self.age.add(self._last_age)
        self._rate.add(handed_over)
        self._recent.add(handed_over)
        self.last, self.last_shown = shown, handed_over

    def leave_behind(self, line: str) -> bool:
        """Give up the read that hangs; whatever takes the source's place is read from now on.

        Args:
            line: What is known of the stall.

        Returns:
            False where nothing takes its place: the source has failed.
        """
        source, reader = self.source, self._reader
        with self._lock:
            if self.ended:
                return True
            reader.left = True  # before there is a successor: a read that comes back now does not end the channel
        self._hanging = [*(thread for thread in self._hanging if thread.is_alive()), reader.thread]
        successor = source.successor() if len(self._hanging) <= MOST_LEFT else None
        if successor is not None:
            with self._lock:
                self.source = successor
                self._reader = Reader(successor, self._read, self._limit)
            self.start()
            if self._why_over():
                successor.interrupt()  # whoever ends the run may have interrupted the old one alone
            return True
        source.interrupt()  # it need not be opened anew, should it come back
        source.health.fault("stalled", line)
        source.health.lose()
        self._fail(SourceLost(f"{line}: check the device or the network", "stalled"))
        self._end()
        return False

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread, which is left behind when it does not come; one never begun is closed here.

        Returns:
            False where it was left behind.
        """
        if self.thread.ident is None:
            self._end()
            self.source.close()
            return True
        self.thread.join(max(0.0, seconds))
        if not self.thread.is_alive():
            return True
        with self._lock:
            self._reader.left = True
        self._end()
        return False

    def fail(self, error: BaseException) -> None:
        """End the source with an error that a later stage met in one of its frames."""
        self._fail(error)
        discarded = self._frames.end_source(self.number, discard=True)
        with self._lock:
            self.unshowable += 1 + discarded
        self.source.interrupt()
        self._end()

    def report(self, dropped: dict[str, int]) -> SourceReport:
        """Figures so far.

        Args:
            dropped: Its frames that newer ones replaced, by the stage that they waited for.
        """
        source, health = self.source, self.source.health
        end = now() if self._ended_at is None else self._ended_at
        away = 0.0 if health.present else max(0.0, end - health.since)
        shown, received = self.shown, self.received
        return SourceReport(
            info=source.info,
            policy=self.policy,
            frames=FrameCounts(
                received, shown, dropped, received - shown - sum(dropped.values()), source.missed,
                getattr(source, "skipped", 0),
            ),
            fps=self._rate.fps,
            age=self.age.summary(),
            reconnects=health.reconnects,
            faults=dict(health.faults),
            stamps=dict(health.stamps),
            late=health.late,
            downtime=health.downtime + away,
            hardware=health.hardware,
            ended=self.ended,
        )  # fmt: skip

    def snapshot(self, dropped: dict[str, int]) -> SourceSnapshot:
        """As it stands; see `report`."""
        return SourceSnapshot(
            info=self.source.info,
            health=self.source.health,
            received=self.received,
            shown=self.shown,
            dropped=dropped,
            missed=self.source.missed,
            fps=self.fps,
            last_age=self._last_age,
            last_shown=self.last_shown,
            age=self.age,
            ended=self.ended,
        )

    def _read(self, reader: Reader) -> None:
        try:
            self._read_all(reader)
        except BaseException as error:
            self._note(reader, error)
        finally:
            if not reader.left:
                self._end()  # and not after it is closed, which may take its time
            try:
                reader.source.close()
            except BaseException as error:
                self._note(reader, error)

    def _read_all(self, reader: Reader) -> None:
        while True:
            begin = now()
            with reader.beat.busy():
                frame = reader.source.read()
            with self._lock:
                if reader.left:
                    return
                self._series.add(now() - begin)
                if frame is None:
                    return
                self.received += 1
            if not self._frames.put(replace(frame, source=self.number)):
                with self._lock:
                    self.unshowable += 1
                return

    def _note(self, reader: Reader, error: BaseException) -> None:
        if reader.left:
            _log.debug("a read that was given up on failed", exc_info=error)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._why_over() and isinstance(error, SourceLost):
            _log.debug("%s was lost while the run was being ended", self.name, exc_info=error)
        elif self.error is None:
            self.error = error
            self._on_loss(self, error)

    def _end(self) -> None:
        why = f"error: {self.error}" if self.error is not None else self._why_over() or self.source.ended
        self._ended_at = now() if self._ended_at is None else self._ended_at
        self.ended = self.ended or why
        self._frames.end_source(self.number)
