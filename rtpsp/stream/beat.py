"""The pulse of a stage, by which a watchdog sees that it stands still."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rtpsp.timing import now


class Beat:
    """Says since when a stage has been busy with one thing, and in which thread.

    Written by the stage's own thread, read by any.

    Args:
        stage: Its name: ``capture``, ``infer``, ``render``, ``sink``, ``encode``.
        limit: Seconds that one thing may take before it counts as stalled.
    """

    def __init__(self, stage: str, limit: float) -> None:
        self.stage = stage
        self.limit = limit
        self.thread: threading.Thread | None = None
        self._since: float | None = None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Around one thing that the stage does: a read, a batch, a picture."""
        self.thread, self._since = threading.current_thread(), now()
        try:
            yield
        finally:
            self._since = None

    @property
    def seconds(self) -> float:
        """How long the stage has been busy with what it does now; 0 while it waits for work."""
        since = self._since
        return 0.0 if since is None else now() - since

    @property
    def stalled(self) -> bool:
        """Whether that is longer than it may."""
        return self.seconds > self.limit
