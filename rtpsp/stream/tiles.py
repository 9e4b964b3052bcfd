"""Several sources in one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rtpsp.arrays import Image
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Absent, Frame, Rendered, Stamps, View
from rtpsp.stream.grid import fill, label, to_grid
from rtpsp.stream.outer import Outer
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import RecentRate, now

FPS = 30.0
"""Most tiled pictures a second: four cameras of 30 fps need no 120."""
CELL = (480, 640)
"""(height, width) that a cell has the shape of where no source says its size yet."""

_INTERVAL = 1 / FPS
_EARLY = 0.1 * _INTERVAL
"""Seconds that a picture may come early: stamps are rounded."""


@dataclass
class _Cell:
    name: str
    rate: RecentRate = field(default_factory=RecentRate)
    picture: Image | None = None
    absent: bool = False
    changed: bool = True

    @property
    def words(self) -> str:
        if self.absent or self.picture is None:
            return self.name
        return f"{self.name}  {self.rate.fps:.1f} fps" if self.rate.fps else f"{self.name}  -- fps"


class Tiled(Outer):
    """Gives a sink the pictures of all sources in one: a grid of cells, each with its source's name and rate.

    The inner sink gets at most `FPS` pictures a second, each an array of its own, and with it a class map of no pixels.
    Their time is the clock's as soon as one source is live. Of files alone it is their own: pictures of one time stamp
    lie side by side, however fast they are read.

    Args:
        inner: A window or a recorder.
        names: Of the sources, in their order.
        chosen: Which source to show alone, by its number from 0; None shows all. It is asked with each picture.
        clock: Seconds; another one for tests.
    """

    def __init__(
        self,
        inner: Sink,
        names: Sequence[str],
        chosen: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = now,
    ) -> None:
        super().__init__(inner)
        self._cells = [_Cell(name) for name in names]
        self._ask, self._clock = chosen, clock
        self._shape = self._cell_size = CELL
        self._canvas: Image = np.zeros((*CELL, 3), np.uint8)
        self._laid_out_for: View | None = None
        self._shows: tuple[View, int | None] | None = None
        self._live = False
        self._begin: float | None = None
        self._next = -math.inf
        self._latest = -math.inf
        self._stamps = Stamps(0.0)
        self._waits = False
        self._count = 0

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Open the inner sink for a single source."""
        self.open_all([info], spec)

    def open_all(self, infos: Sequence[SourceInfo], spec: ModelSpec) -> None:
        """Lay out the grid, in cells of the shape that the first source with a size has; open the inner sink for it."""
        self._shape = next(((info.height, info.width) for info in infos if info.height and info.width), CELL)
        self._live = any(info.live for info in infos)
        self._lay_out(self.view)
        rates = [info.fps or FPS for info in infos]
        info = SourceInfo(
            uri=", ".join(info.uri for info in infos),
            kind=infos[0].kind,
            height=self._canvas.shape[0],
            width=self._canvas.shape[1],
            fps=min(FPS, sum(rates) if self._live else max(rates)),
            live=self._live,
            detail=f"{len(infos)} sources",
        )
        self.inner.open(info, spec)

    def write(self, item: Rendered) -> None:
        """Take a picture of one source; the inner sink gets the whole when it is due."""
        view = self.view
        if view is not None:
            self._cells[item.frame.source].rate.add(self._clock())
            self._take(item.frame.source, item.pictures[view], item.frame.pts, item.stamps, absent=False)

    def absent(self, item: Absent) -> None:
        """Take the picture of a source that gives no frame."""
        moment = self._clock()
        self._cells[item.source].rate = RecentRate()
        self._take(item.source, item.picture, item.pts, Stamps(moment, moment, moment, moment), absent=True)

    def poll(self) -> None:
        """Hand over what waits for its time, or what a key asked for while no frame comes; then as the inner sink."""
        due = self._live and self._waits and self._is_due(self._clock())
        if due or self._shows not in (None, (self.view, self._chosen)):
            self._hand_over()
        self.inner.poll()

    def close(self) -> None:
        """Hand over what waits, and close the inner sink."""
        try:
            if self._waits:
                self._hand_over()
        finally:
            self.inner.close()

    @property
    def _chosen(self) -> int | None:
        number = self._ask()
        return number if number is not None and 0 <= number < len(self._cells) else None

    def _is_due(self, time: float) -> bool:
        return time >= self._next - _EARLY

    def _take(self, source: int, picture: Image, pts: float, stamps: Stamps, absent: bool) -> None:
        time = self._clock() if self._live else pts
        if not self._live and self._waits and time > self._latest and self._is_due(time):
            self._hand_over()  # whatever is of the time before is in it
        cell = self._cells[source]
        cell.picture, cell.absent, cell.changed = picture, absent, True
        if self._chosen in (None, source):
            self._latest, self._stamps, self._waits = max(time, self._latest), stamps, True
            if self._live and self._is_due(time):
                self._hand_over()

    def _hand_over(self) -> None:
        self._waits = False
        view, chosen = self.view, self._chosen
        if view is None:
            return
        time = self._clock() if self._live else self._latest
        self._begin = time if self._begin is None else self._begin
        on_grid = self._next + _INTERVAL  # due times keep their grid, so that the mean rate is met
        self._next = on_grid if time < on_grid else time + _INTERVAL
        self._shows = (view, chosen)
        picture = self._draw_all(view) if chosen is None else self._draw_one(self._cells[chosen])

        def to_bgr(out: Image | None) -> Image:
            if out is None:
                return picture.copy()
            out[:] = picture
            return out

        height, width = picture.shape[:2]
        frame = Frame(self._count, time - self._begin, self._stamps.captured, height, width, to_bgr)
        self._count += 1
        self.inner.write(Rendered(frame, {view: picture}, np.empty((0, 0), np.uint8), self._stamps))

    def _draw_one(self, cell: _Cell) -> Image:
        picture = np.zeros((*self._shape, 3), np.uint8) if cell.picture is None else cell.picture.copy()
        label(picture, cell.words)
        return picture

    def _draw_all(self, view: View) -> Image:
        if self._laid_out_for != view:  # side by side is twice as wide
            self._lay_out(view)
        height, width = self._cell_size
        columns = self._canvas.shape[1] // width
        for place, cell in enumerate(self._cells):
            if cell.changed:
                top, left = place // columns * height, place % columns * width
                tile = self._canvas[top : top + height, left : left + width]
                fill(tile, cell.picture)
                label(tile, cell.words)
                cell.changed = False
        return self._canvas.copy()  # the inner sink may keep it

    def _lay_out(self, view: View | None) -> None:
        height, width = self._shape
        self._cell_size, (rows, columns) = to_grid(
            len(self._cells), (height, 2 * width if view == "side-by-side" else width)
        )
        self._canvas = np.zeros((rows * self._cell_size[0], columns * self._cell_size[1], 3), np.uint8)
        self._laid_out_for = view
        for cell in self._cells:
            cell.changed = True
