"""Several sources in one picture: what lies where, when it is handed over, and outputs of one source alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.errors import OutputError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Absent, Frame, Rendered, Stamps, View
from rtpsp.stream.grid import CANVAS, to_grid
from rtpsp.stream.outer import Only
from rtpsp.stream.source import SourceInfo
from rtpsp.stream.tiles import Tiled
from tests.stream.doubles import Collector

SPEC = ModelSpec("fake", "fake", 60, 80, CAMVID)
HEIGHT, WIDTH = 60, 80


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Noting(Collector):
    """Notes what it was opened for and which absences it was told."""

    def __init__(self, view: View | None = "overlay") -> None:
        super().__init__(view)
        self.infos: list[SourceInfo] = []
        self.gone: list[Absent] = []

    def open(self, info: SourceInfo, spec: object) -> None:
        self.infos.append(info)

    def absent(self, item: Absent) -> None:
        self.gone.append(item)


def infos(count: int, live: bool = True, sizes: Sequence[tuple[int, int]] = ()) -> list[SourceInfo]:
    shapes = [*sizes, *[(HEIGHT, WIDTH)] * count][:count]
    return [SourceInfo(f"cam{n}", "sim", *shape, fps=25.0, live=live) for n, shape in enumerate(shapes)]


def picture(level: int, height: int = HEIGHT, width: int = WIDTH) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def rendered(source: int, level: int, pts: float = 0.0, image: Image | None = None, view: View = "overlay") -> Rendered:
    shown = picture(level) if image is None else image
    frame = Frame(0, pts, 1.0, shown.shape[0], shown.shape[1], lambda out: shown, source=source)
    return Rendered(frame, {view: shown}, np.zeros(shown.shape[:2], np.uint8), Stamps(1.0))


def tiled(inner: Noting, count: int, live: bool = True, sizes: Sequence[tuple[int, int]] = ()) -> tuple[Tiled, Clock]:
    clock = Clock()
    tiles = Tiled(inner, [f"n{place}" for place in range(count)], clock=clock)
    tiles.open_all(infos(count, live, sizes), SPEC)
    return tiles, clock


def canvas(inner: Noting, at: int = -1) -> Image:
    return inner.items[at].pictures["overlay"]


def levels(image: Image, rows: int, columns: int) -> list[int]:
    """The level at each cell's lower left, where no label is."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    return [
        int(image[(row + 1) * height - 3, column * width + 2, 0]) for row in range(rows) for column in range(columns)
    ]


@pytest.mark.parametrize(
    ("count", "shape", "cell", "grid"),
    [
        (2, (480, 640), (480, 640), (1, 2)),
        (4, (480, 640), (360, 480), (2, 2)),
        (5, (480, 640), (320, 426), (2, 3)),
        (2, (1080, 1920), (360, 640), (1, 2)),
        (4, (1080, 1920), (360, 640), (2, 2)),
        (3, (1280, 480), (720, 270), (1, 3)),
        (2, (240, 2400), (128, 1280), (2, 1)),
        (4, (60, 80), (60, 80), (2, 2)),
        (1, (61, 81), (60, 80), (1, 1)),
        (16, (480, 640), (180, 240), (4, 4)),
    ],
)
def test_the_grid_has_the_largest_cells(
    count: int, shape: tuple[int, int], cell: tuple[int, int], grid: tuple[int, int]
) -> None:
    assert to_grid(count, shape) == (cell, grid)
    assert grid[0] * cell[0] <= CANVAS[0] and grid[1] * cell[1] <= CANVAS[1] and grid[0] * grid[1] >= count


def test_each_source_has_its_cell_and_keeps_what_it_had() -> None:
    inner = Noting()
    tiles, clock = tiled(inner, 4)
    assert (inner.infos[0].height, inner.infos[0].width, inner.infos[0].live) == (120, 160, True)
    for source, level in enumerate((10, 20, 30, 40)):
        clock.now += 1
        tiles.write(rendered(source, level))
    clock.now += 1
    tiles.write(rendered(1, 99))
    assert levels(canvas(inner), 2, 2) == [10, 99, 30, 40]
    assert levels(canvas(inner, 0), 2, 2) == [10, 0, 0, 0], "what was handed over is not written into any more"
    assert [item.frame.index for item in inner.items] == [0, 1, 2, 3, 4]
    assert inner.items[-1].frame.pts == pytest.approx(4)
    assert (inner.items[-1].frame.to_bgr(None) == canvas(inner)).all()
    assert canvas(inner)[: 60 // 2, 80:].max() == 255, "the label is white"


def test_pictures_of_another_shape_lie_between_bars() -> None:
    inner = Noting()
    tiles, _ = tiled(inner, 2, sizes=[(60, 80), (40, 20)])
    tiles.write(rendered(1, 0, image=picture(200, 40, 20)))
    right = canvas(inner)[:, 80:]
    assert (right[50, 26:54] == 200).all() and (right[50, :24] == 0).all() and (right[50, 56:] == 0).all()


def test_a_canvas_is_handed_over_when_it_is_due_and_a_late_picture_without_another() -> None:
    inner = Noting()
    tiles, clock = tiled(inner, 2)
    for step in range(300):  # 2 sources of 100 fps for 1.5 s
        tiles.write(rendered(step % 2, step % 250))
        tiles.poll()
        clock.now += 0.005
    assert 44 <= len(inner.items) <= 46
    tiles.write(rendered(0, 6))
    tiles.poll()
    before = len(inner.items)
    tiles.write(rendered(0, 7))
    tiles.poll()
    assert len(inner.items) == before
    clock.now += 0.04
    tiles.poll()
    assert len(inner.items) == before + 1 and levels(canvas(inner), 1, 2)[0] == 7
    tiles.poll()
    assert len(inner.items) == before + 1


def test_times_of_live_canvases_rise() -> None:
    inner = Noting()
    tiles, clock = tiled(inner, 2)
    for step in range(20):
        tiles.write(rendered(step % 2, step, pts=5 * (step % 2)))
        clock.now += 0.05
    times = [item.frame.pts for item in inner.items]
    assert times == sorted(set(times)) and times[-1] == pytest.approx(0.95)


def test_files_lie_side_by_side_by_their_own_time() -> None:
    inner = Noting()
    tiles, _ = tiled(inner, 2, live=False)  # the clock stands: they are read as fast as can be
    for step in range(5):
        for source in (0, 1):
            tiles.write(rendered(source, 10 * step + source, pts=step / 25))
    assert len(inner.items) == 4, "the last may gain a picture yet"
    tiles.close()
    assert [item.frame.pts for item in inner.items] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert [levels(item.pictures["overlay"], 1, 2) for item in inner.items] == [
        [10 * step, 10 * step + 1] for step in range(5)
    ]
    assert inner.closed == 1


def test_a_source_that_is_gone_has_its_picture_in_its_cell() -> None:
    inner = Noting()
    tiles, clock = tiled(inner, 2)
    tiles.write(rendered(0, 10))
    clock.now += 1
    tiles.absent(Absent(1, 1.0, picture(77), "no signal"))
    assert levels(canvas(inner), 1, 2) == [10, 77] and not inner.gone


def test_a_source_may_be_shown_alone() -> None:
    inner = Noting()
    asked: list[int | None] = [None]
    clock = Clock()
    tiles = Tiled(inner, ["a", "b"], lambda: asked[0], clock)
    tiles.open_all(infos(2, sizes=[(60, 80), (40, 100)]), SPEC)
    tiles.poll()
    assert not inner.items, "there is nothing to show yet"
    tiles.write(rendered(0, 10))
    clock.now += 1
    tiles.write(rendered(1, 0, image=picture(20, 40, 100)))
    asked[0] = 1
    tiles.poll()
    assert canvas(inner).shape == (40, 100, 3) and canvas(inner)[35, 5, 0] == 20
    count = len(inner.items)
    clock.now += 1
    tiles.write(rendered(0, 11))
    tiles.poll()
    assert len(inner.items) == count, "the other one is not seen"
    asked[0] = 7  # no such source
    tiles.poll()
    assert canvas(inner)[30, [2, 82], 0].tolist() == [11, 20]


def test_another_view_is_laid_out_anew() -> None:
    inner = Noting()
    tiles, clock = tiled(inner, 2)
    tiles.write(rendered(0, 10))
    assert canvas(inner).shape == (60, 160, 3)
    inner.view = "side-by-side"
    assert tiles.view == "side-by-side"
    clock.now += 1
    tiles.write(rendered(0, 0, image=picture(30, 60, 160), view="side-by-side"))
    assert inner.items[-1].pictures["side-by-side"].shape in ((60, 320, 3), (120, 160, 3))


def test_sources_that_are_not_there_yet_get_cells_of_a_usual_shape() -> None:
    inner = Noting()
    tiles, _ = tiled(inner, 2, sizes=[(0, 0), (0, 0)])
    tiles.absent(Absent(0, 0.0, picture(9), "waiting"))
    assert canvas(inner).shape == (480, 1280, 3)


def test_what_an_inner_sink_says_is_passed_on() -> None:
    inner = Noting()
    tiles, _ = tiled(inner, 2)
    assert (tiles.dropped, tiles.failure, tiles.output, tiles.stages(), tiles.beats()) == (0, None, None, {}, ())
    assert not tiles.wants_to_stop
    inner.__class__ = type("Failed", (Noting,), {"failure": OutputError("full"), "dropped": 3, "wants_to_stop": True})
    assert str(tiles.failure) == "full" and tiles.dropped == 3 and tiles.wants_to_stop


def test_one_source_alone_for_a_sink() -> None:
    inner = Noting()
    only = Only(1, inner)
    only.open_all(infos(3), SPEC)
    for source in (0, 1, 2):
        only.write(rendered(source, source))
        only.absent(Absent(source, 0.0, picture(source), "gone"))
    assert [info.uri for info in inner.infos] == ["cam1"]
    assert [item.frame.source for item in inner.items] == [1] and [item.source for item in inner.gone] == [1]
    only.close()
    assert inner.closed == 1
