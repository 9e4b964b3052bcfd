"""What a source is read by, and what is kept of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from rtpsp.arrays import ClassMap, Image
from rtpsp.stream.beat import Beat
from rtpsp.stream.source import Source
from rtpsp.timing import Series


@dataclass(frozen=True)
class Last:
    """The last frame of a source that was shown.

    Attributes:
        image: uint8 [height, width, planes] as the source gave it.
        class_map: Class ids [height, width].
        pts: As in `Frame`.
        captured: As in `Frame`.
    """

    image: Image
    class_map: ClassMap
    pts: float
    captured: float


class SharedSeries(Series):
    """Durations that several threads add."""

    def __init__(self) -> None:
        super().__init__()
        self._adding = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count one duration in."""
        with self._adding:
            super().add(seconds)


class Reader:
    """A thread that reads a source until it ends, or until it hangs and is left behind.

    Attributes:
        left: Whether it was left behind; then it touches nothing but its source. Changed under the channel's lock.
    """

    def __init__(self, source: Source, work: Callable[[Reader], None], limit: float) -> None:
        self.source = source
        self.beat = Beat("capture", limit)
        self.left = False
        self.thread = threading.Thread(target=work, args=(self,), name="rtpsp-capture", daemon=True)
