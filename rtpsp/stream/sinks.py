"""All sinks of a run together: asked, told, and each closed once, whatever becomes of the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from rtpsp.errors import OutputError
from rtpsp.spec import ModelSpec
from rtpsp.stream.beat import Beat
from rtpsp.stream.frame import Absent, Rendered, View
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import SourceInfo
from rtpsp.stream.watchdog import Watched
from rtpsp.timing import Summary

_log = logging.getLogger(__name__)


class Sinks:
    """The outputs of a run.

    Args:
        sinks: In the order in which they are opened, told and closed.
        limit: Seconds that one of them may take for one picture before the watchdog takes it for stalled.
        observed: Whether somebody else looks at the run, so that it has a use without a working sink.

    Attributes:
        first_failure: Of those that have ended while the run went on.
    """

    def __init__(self, sinks: Sequence[Sink], limit: float, observed: bool = False) -> None:
        self.first_failure: OutputError | None = None
        self._sinks = tuple(sinks)
        self._beats = [Beat("sink", limit) for _ in self._sinks]
        self._observed = observed
        self._open: list[Sink] = []
        self._lock = threading.Lock()
        self._told: dict[Sink, str] = {}
        self._live = False
        self._gave_up: dict[Sink, OutputError] = {}

    def open_all(self, infos: Sequence[SourceInfo], spec: ModelSpec) -> None:
        """Open them in order.

        Raises:
            OutputError: One cannot be written; those before it, and itself, are still to be closed.
        """
        self._live = any(info.live for info in infos)
        for sink in self._sinks:
            self._open.append(sink)
            sink.open_all(infos, spec)

    def write(self, item: Rendered) -> None:
        """Hand a frame to each; of a live run one that fails gets no further one, and the others go on.

        Raises:
            OutputError: One cannot be written any more, and no source is live.
        """
        for sink, beat in zip(self._sinks, self._beats, strict=True):
            if sink in self._gave_up:
                continue
            with beat.busy():
                try:
                    sink.write(item)
                except OutputError as error:
                    if not self._live:
                        raise
                    self._gave_up[sink] = error

    def absent(self, item: Absent) -> None:
        """Hand a picture of a source without a signal to each.

        Raises:
            OutputError: One cannot be written any more.
        """
        for sink, beat in zip(self._sinks, self._beats, strict=True):
            with beat.busy():
                sink.absent(item)

    def poll(self) -> str:
        """Let each do what it has to do between frames.

        Returns:
            Why the run is to end, in words; empty where it is not.
        """
        why = ""
        for sink, beat in zip(self._sinks, self._beats, strict=True):
            with beat.busy():
                sink.poll()
                if sink.wants_to_stop:
                    why = why or "quit"
        return why or self._look_for_failures()

    def _look_for_failures(self) -> str:
        failed = {sink: failure for sink in self._sinks if (failure := self._failure_of(sink)) is not None}
        told, self._told = self._told, {sink: str(failure) for sink, failure in failed.items()}
        if not failed:
            return ""
        for sink, failure in failed.items():
            self.first_failure = self.first_failure or failure
            if told.get(sink) != str(failure):  # one that tries again fails of the same once more
                _log.warning("%s", failure)
        useful = self._observed or any(
            sink.retries or (sink not in failed and (sink.output is not None or sink.view is not None))
            for sink in self._sinks
        )
        return "" if useful else f"error: {next(iter(failed.values()))}"

    @property
    def failures(self) -> tuple[str, ...]:
        """Of those that take nothing any more, in words."""
        return tuple(str(failure) for sink in self._sinks if (failure := self._failure_of(sink)) is not None)

    def _failure_of(self, sink: Sink) -> OutputError | None:
        return self._gave_up.get(sink) or sink.failure

    @property
    def views(self) -> list[View]:
        """What they want to see now, in their order, each once."""
        return list(dict.fromkeys(view for sink in self._sinks if (view := sink.view)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Paths that they write to."""
        return tuple(sink.output for sink in self._sinks if sink.output)

    @property
    def drops(self) -> dict[str, int]:
        """Pictures that they were too slow to take, by output, where there are any."""
        drops: dict[str, int] = {}
        for sink in self._sinks:
            if sink.dropped:
                drops[_name(sink)] = drops.get(_name(sink), 0) + sink.dropped
        return drops

    def stages(self) -> dict[str, Summary]:
        """Durations of what they do in threads of their own, by stage."""
        stages: dict[str, Summary] = {}
        for sink in self._sinks:
            stages |= sink.stages()
        return stages

    def watched(self, on_stall: Callable[[str], None]) -> list[Watched]:
        """What the watchdog looks at.

        Args:
            on_stall: Called when the caller's thread hangs in one of them. A thread of a sink's own that hangs is told
                of, and the sink's own affair.
        """
        found = [Watched(beat, _name(sink), on_stall) for sink, beat in zip(self._sinks, self._beats, strict=True)]
        return found + [Watched(beat, _name(sink)) for sink in self._sinks for beat in sink.beats()]

    def close(self, attempt: Callable[[Callable[[], None]], None]) -> None:
        """Close those that are open, in order.

        Args:
            attempt: Calls what it is given and keeps its error.
        """
        for sink, beat in zip(self._sinks, self._beats, strict=True):
            if self._take(sink):
                with beat.busy():
                    attempt(sink.close)

    def close_others(self, seconds: float, attempt: Callable[[Callable[[], None]], None]) -> None:
        """Close what is being recorded and does not hang, from another thread than the one that hangs.

        A window is left alone: its toolkit belongs to the thread that opened it.

        Args:
            seconds: To wait for all of them together: a second one may hang as well.
            attempt: As in `close`.
        """
        pairs = zip(self._sinks, self._beats, strict=True)
        free = [sink for sink, beat in pairs if not beat.stalled and sink.output is not None]
        threads = [
            threading.Thread(target=attempt, args=(sink.close,), name="rtpsp-close", daemon=True)
            for sink in free
            if self._take(sink)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds / len(threads))

    def _take(self, sink: Sink) -> bool:
        with self._lock:
            if sink not in self._open:
                return False
            self._open.remove(sink)
            return True


def _name(sink: Sink) -> str:
    return sink.output or type(sink).__name__
