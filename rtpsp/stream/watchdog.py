"""The watchdog: sees that a stage has been busy with one thing for too long, says which, and does what is to be done.

It looks at pulses (`rtpsp.stream.beat`) from a thread of its own, so that it works while any other thread hangs in a
driver, unless that driver holds Python's global lock: then no thread of this process can do anything.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rtpsp.stream.beat import Beat
from rtpsp.timing import now

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often it looks."""
PAUSE_SECONDS = 2.0
"""A look that comes so much too late was held up with all the others: the process had been stopped (Ctrl-Z, a debugger,
a snapshot of its virtual machine), and none of its stages is to blame."""


@dataclass(frozen=True)
class Watched:
    """A pulse to be looked at.

    Attributes:
        beat: The pulse.
        of: What the stage works for, in words: the URI of a source, the path of an output.
        on_stall: Called once for each stall, in the watchdog's thread, with a line that says what stalled.
        progress: What changes when the stage gets on with the one thing that it does, such as the tries to reconnect
            within one read; None where nothing tells.
    """

    beat: Beat
    of: str = ""
    on_stall: Callable[[str], None] | None = None
    progress: Callable[[], object] | None = None

    @property
    def stage(self) -> str:
        """Its name, and what it works for."""
        return f"{self.beat.stage} of {self.of}" if self.of else self.beat.stage


class Watchdog:
    """Looks at pulses until it is stopped; a stall is told once, and once more when it is over.

    Args:
        watched: Gives what there is to look at; asked at each look, since sources come and go.
        clock: Stands in for time in tests.

    Attributes:
        stalled: Stages that are stalled now, with what they work for.
    """

    def __init__(self, watched: Callable[[], Iterable[Watched]], *, clock: Callable[[], float] = now) -> None:
        self.stalled: tuple[str, ...] = ()
        self._watched = watched
        self._clock = clock
        self._looked = self._woken = clock()
        self._progress: dict[Beat, tuple[object, float]] = {}
        self._told: dict[Beat, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtpsp-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._looked = self._woken = self._clock()
        self._thread.start()

    def stop(self) -> None:
        """Look no more; an action that is under way goes on. Does nothing where it was never started."""
        self._over.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * LOOK_SECONDS)

    def look(self) -> None:
        """Look once at everything."""
        at = self._clock()
        if at - self._looked > LOOK_SECONDS + PAUSE_SECONDS:
            self._woken = at
        self._looked = at
        watched = list(self._watched())
        stalls = [(one, seconds) for one in watched if (seconds := self._seconds(one, at)) > one.beat.limit]
        self.stalled = tuple(one.stage for one, _ in stalls)
        self._tell_recovered({one.beat for one, _ in stalls})
        beats = {one.beat for one in watched}
        self._progress = {beat: seen for beat, seen in self._progress.items() if beat in beats}
        for one, seconds in stalls:
            if one.beat not in self._told:
                self._told[one.beat] = one.stage
                self._tell_stalled(one, seconds)

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # a watchdog that dies watches nothing any more
                _log.exception("the watchdog failed to look")

    def _seconds(self, one: Watched, at: float) -> float:
        """How long the stage has not got on, as far as it is to blame for it."""
        seconds = one.beat.seconds
        if one.progress is not None:
            state, before = one.progress(), self._progress.get(one.beat)
            since = at - seconds if before is None else before[1] if before[0] == state else at
            self._progress[one.beat] = state, since
            seconds = min(seconds, at - since)
        return min(seconds, at - self._woken)

    def _tell_stalled(self, one: Watched, seconds: float) -> None:
        line = f"{one.stage} has not come back for {seconds:.0f} s"
        _log.warning("%s", line)
        thread = one.beat.thread
        frame = sys._current_frames().get(thread.ident) if thread is not None and thread.ident is not None else None
        if thread is not None and frame is not None and _log.isEnabledFor(logging.DEBUG):
            _log.debug("thread %s stands at:\n%s", thread.name, "".join(traceback.format_stack(frame)).rstrip())
        if one.on_stall is not None:
            one.on_stall(line)

    def _tell_recovered(self, stalled: set[Beat]) -> None:
        for beat in [beat for beat in self._told if beat not in stalled]:
            stage = self._told.pop(beat)
            if beat.seconds <= beat.limit:
                _log.info("%s goes on", stage)
