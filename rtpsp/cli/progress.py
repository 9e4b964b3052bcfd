"""A sign of life while a run goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rtpsp.cli.console import stderr
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Absent, Rendered
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import RecentRate, now

BAR_SECONDS = 0.25
LINE_SECONDS = 30.0
JOIN_SECONDS = 1.0
"""How long the end of a run waits for a terminal that takes nothing."""


class ProgressLine(Sink):
    """A bar on a terminal, a line every half minute where there is none.

    It is written from a thread of its own: a terminal that was paused (Ctrl-S), or a pipe that nobody empties, keeps
    nobody waiting but that thread.

    Args:
        names: Of the sources, where there are several.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names = names
        self._live = stderr.is_terminal
        self._bar = Progress(
            TextColumn("run"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            auto_refresh=False,
            disable=not self._live,
        )
        self._total: int | None = None
        self._rate = RecentRate()
        self._shown = 0
        self._gone: dict[int, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Start the bar for one source."""
        self.open_all([info], spec)

    def open_all(self, infos: Sequence[SourceInfo], spec: ModelSpec) -> None:
        """Start the bar; it has no end where a source has none."""
        counts = [info.frames for info in infos if info.frames is not None]
        self._total = sum(counts) if len(counts) == len(infos) else None
        self._thread.start()

    def write(self, item: Rendered) -> None:
        """Count a frame."""
        self._rate.add(now())
        self._shown += 1
        self._gone.pop(item.frame.source, None)

    def absent(self, item: Absent) -> None:
        """Note that a source gives no frame."""
        self._gone[item.source] = item.words

    def close(self) -> None:
        """Take the bar away."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS)

    @property
    def words(self) -> str:
        """The rate, and which sources give no frame."""
        gone = self._gone.copy()
        text = "" if len(gone) == max(1, len(self._names)) else f"{self._rate.fps or 0:.1f} fps"
        if len(self._names) > 1 and gone:
            silent = f"no signal from {', '.join(self._names[source] for source in sorted(gone))}"
        else:
            silent = "no signal" if gone else ""
        return ", ".join(filter(None, (text, silent)))

    def line(self) -> str:
        """What stands in a log."""
        return f"{self._shown} frames shown, {self.words}"

    def _tell(self) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed; whoever wants to know has the report
            if not self._live:
                while not self._over.wait(LINE_SECONDS):
                    stderr.print(self.line(), markup=False, soft_wrap=True)
                return
            with self._bar:
                task = self._bar.add_task("", total=self._total)
                while not self._over.wait(BAR_SECONDS):
                    self._bar.update(task, completed=self._shown, description=self.words, refresh=True)
