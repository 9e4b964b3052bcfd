from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rtpsp.arrays import Image
from rtpsp.evaluate import Evaluation
from rtpsp.figure import to_png
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.plots_temporal import video_png
from rtpsp.runs import Run, find_runs
from rtpsp.temporal import VideoEvaluation

TWO = LabelSet("two", ("a", "b"), distinct_palette(2))


def film(frames: int, *, drives: int = 1, void: tuple[int, ...] = ()) -> VideoEvaluation:
    """Every other frame is half wrong, and one pixel in ten flickers; some frames are void throughout."""
    names = [f"drive{drive}_{number:04d}.png" for drive in range(drives) for number in range(frames // drives)]
    union = np.full((frames, 2), 100, np.int64)
    union[list(void)] = 0
    found = union // (1 + np.arange(frames)[:, np.newaxis] % 2)
    evaluation = Evaluation(np.array([[90, 5, 5], [10, 90, 0]], np.int64), TWO, frames, (10, 20))
    runs = find_runs(names)
    still = union.copy()
    still[[run.start for run in runs]] = 0
    changed = still.sum(axis=1) // 4
    return VideoEvaluation(evaluation, tuple(names), runs, 3, found, union, still, still // 10, changed, changed // 2)


def decoded(png: bytes) -> Image:
    assert png.startswith(b"\x89PNG")
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def lines(result: VideoEvaluation, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list[int], list[float]]]:
    """What is drawn of the first run, by label."""
    drawn: dict[str, tuple[list[int], list[float]]] = {}
    plot_of = Axes.plot

    def plot(axes: Axes, x: object, y: object, **how: object) -> object:
        if how["label"]:
            drawn[str(how["label"]).split(",")[0]] = np.asarray(x).tolist(), np.asarray(y).tolist()
        return plot_of(axes, x, y, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Axes, "plot", plot)
        video_png(result)
    return drawn


def test_what_is_drawn_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = lines(film(4), monkeypatch)
    assert list(drawn["each frame"]) == [[0, 1, 2, 3], [100, 50, 100, 50]]
    assert drawn["over 3 frames"][1] == pytest.approx([75, 250 / 3, 200 / 3, 75])
    flicker = drawn["flicker"][1]
    assert np.isnan(flicker[0]) and flicker[1:] == [10, 10, 10]
    changes = drawn["ground truth changes"][1]
    assert np.isnan(changes[0]) and changes[1:] == [20, 20, 20]


def test_a_window_that_is_longer_than_the_film_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "over 3 frames" in lines(film(3), monkeypatch)
    assert "over 3 frames" not in lines(film(2), monkeypatch)
    assert "over 3 frames" not in lines(film(4, drives=2), monkeypatch), "two runs of two"


@pytest.mark.parametrize("frames", [2, 3, 40])
def test_ticks_are_frames(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[float] = []

    def keep(figure: Figure) -> bytes:
        ticks.extend(figure.axes[1].get_xticks())
        return to_png(figure)

    monkeypatch.setattr("rtpsp.plots_temporal.to_png", keep)
    video_png(film(frames))
    assert len(ticks) > 1 and all(tick == int(tick) for tick in ticks), ticks


def test_a_line_ends_with_its_run_and_has_a_gap_where_all_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    result = film(8, drives=2, void=(1,))
    assert list(result.runs) == [Run(0, 4, 1), Run(4, 8, 1)]
    frames, heights = lines(result, monkeypatch)["each frame"]
    assert frames == [0, 1, 2, 3] and np.isnan(heights[1]) and heights[2] == 100


@pytest.mark.parametrize("frames", [2, 1000])
def test_a_figure_is_of_a_size_that_can_be_looked_at(frames: int) -> None:
    picture = decoded(video_png(film(frames), "an $engine\n" + "a folder of a long name/" * 3))
    assert picture.shape == (650, 1000, 3)
    assert 0.01 < (picture < 200).any(axis=2).mean() < 0.5, "neither empty nor full"


def test_a_film_without_a_pixel_that_counts_can_be_drawn() -> None:
    video_png(film(3, void=(0, 1, 2)))


def test_the_callers_settings_stay_as_they_are() -> None:
    import matplotlib

    before, level = dict(matplotlib.rcParams), logging.getLogger("matplotlib").level
    video_png(film(3))
    assert dict(matplotlib.rcParams) == before and logging.getLogger("matplotlib").level == level
