"""What is done about a stage of the live loop that hangs. Python cannot end a thread that hangs in a driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from rtpsp.errors import MissingError, OutputError
from rtpsp.stream.beat import Beat
from rtpsp.stream.channel import Channel
from rtpsp.stream.sinks import Sinks
from rtpsp.stream.watchdog import Watchdog, Watched

CLOSE_SECONDS = 5.0
"""How long recordings may take to be closed while the caller's thread hangs."""


class Stalls:
    """The watchdog of a run and what follows on what it sees.

    A live source whose read hangs is opened anew or given up, and the thread is left behind; a file is waited for,
    since nothing goes stale. An engine that hangs fails the run. A sink or the drawing, which hang in the caller's
    thread, have the recordings closed from here, and the caller's host is told: only the end of the process helps.

    Args:
        channels: The sources.
        engine: Pulses of the inference stage.
        worker: Its thread.
        drawing: Pulse of rendering.
        sinks: The outputs.
        fail: Notes an error that the run is to end with.
        on_hang: Called with one line once recordings are closed while the caller's thread hangs.

    Attributes:
        hung: Threads that nobody need wait for.
        halted: Whether the run is to end at once, without what is under way.
        ending: Set when the run is being ended: no source is opened anew from then on.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        engine: Sequence[Beat],
        worker: threading.Thread,
        drawing: Beat,
        sinks: Sinks,
        fail: Callable[[BaseException], None],
        on_hang: Callable[[str], None] | None,
    ) -> None:
        self.hung: set[threading.Thread] = set()
        self.halted = self.ending = False
        self._channels, self._engine, self._worker = channels, engine, worker
        self._drawing, self._sinks = drawing, sinks
        self._fail, self._tell_hang = fail, on_hang
        self._live = any(channel.source.info.live for channel in channels)
        self._watchdog = Watchdog(self._watched)

    @property
    def stalled(self) -> tuple[str, ...]:
        """Stages that are stalled now."""
        return self._watchdog.stalled

    def start(self) -> None:
        """Begin to look."""
        self._watchdog.start()

    def stop(self) -> None:
        """Look no more."""
        self._watchdog.stop()

    def _watched(self) -> list[Watched]:
        found = [
            Watched(channel.beat, channel.name, partial(self._on_capture, channel), channel.progress)
            for channel in self._channels
            if not channel.ended
        ]
        found += [Watched(beat, on_stall=self._on_engine) for beat in self._engine]
        return [*found, Watched(self._drawing, on_stall=self._on_caller), *self._sinks.watched(self._on_caller)]

    def _on_capture(self, channel: Channel, line: str) -> None:
        if channel.source.info.live and not self.ending:
            thread = channel.thread
            if not channel.leave_behind(line):
                self.hung.add(thread)

    def _on_engine(self, line: str) -> None:
        self.hung.add(self._worker)
        self._fail(MissingError(f"the engine hangs: {line}; check its driver, or give it longer with --stall-timeout"))
        self.halted = True

    def _on_caller(self, line: str) -> None:
        if not self._live:  # a slow disk is waited for
            return
        error = OutputError(f"{line}: recordings were closed; check the display or the disk that it writes to")
        self._fail(error)
        self.halted = True
        self._sinks.close_others(CLOSE_SECONDS, self._attempt)
        if self._tell_hang is not None:
            self._tell_hang(str(error))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._fail(error)
