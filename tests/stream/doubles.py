"""Stand-ins for the ends of the live loop."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rtpsp.arrays import Image
from rtpsp.stream.frame import Frame, Rendered, View
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import Source, SourceInfo
from rtpsp.timing import now

HEIGHT, WIDTH = 60, 80


class Numbers(Source):
    """Frames whose every pixel is their own number (mod 256); optionally one each `interval` seconds."""

    def __init__(self, count: int, *, live: bool = False, interval: float = 0.0, fail_at: int | None = None) -> None:
        self.info = SourceInfo("numbers", "sim", HEIGHT, WIDTH, fps=30.0, frames=count, live=live)
        self.closed = 0
        self._count, self._interval, self._fail_at = count, interval, fail_at
        self._next = 0

    def read(self) -> Frame | None:
        if self._next == self._fail_at:
            raise RuntimeError("the source broke")
        if self._next == self._count:
            return None
        if self._interval:
            time.sleep(self._interval)
        index, self._next = self._next, self._next + 1
        return Frame(index, index / 30, now(), HEIGHT, WIDTH, self._paint(index))

    def close(self) -> None:
        self.closed += 1

    def _paint(self, index: int) -> Callable[[Image | None], Image]:
        def to_bgr(out: Image | None) -> Image:
            picture = np.empty((HEIGHT, WIDTH, 3), np.uint8) if out is None else out
            picture[:] = index % 256
            return picture

        return to_bgr


class Collector(Sink):
    """Keeps what it gets."""

    def __init__(
        self, view: View | None = None, *, fail_at: int | None = None, delay: float = 0.0, stop_at: int | None = None
    ) -> None:
        self.view = view
        self.items: list[Rendered] = []
        self.opened = self.closed = 0
        self._fail_at, self._delay, self._stop_at = fail_at, delay, stop_at

    def open(self, info: SourceInfo, spec: object) -> None:
        self.opened += 1

    def write(self, item: Rendered) -> None:
        if len(self.items) == self._fail_at:
            raise RuntimeError("the sink broke")
        time.sleep(self._delay)
        self.items.append(item)

    @property
    def wants_to_stop(self) -> bool:
        return self._stop_at is not None and len(self.items) >= self._stop_at

    def close(self) -> None:
        self.closed += 1
