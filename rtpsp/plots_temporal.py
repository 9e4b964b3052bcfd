"""A figure as PNG: accuracy and flicker of a segmenter over a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtpsp.figure import DPI, Axes, Figure, style, to_png
from rtpsp.temporal import VideoEvaluation

_MIOU, _FLICKER, _TRUTH = "#1f77b4", "#d62728", "0.6"
_POINTS = 400
"""Up to so many frames each one gets a mark of its own."""


def video_png(result: VideoEvaluation, title: str = "") -> bytes:
    """mIoU over time above, flicker and the ground truth's own changes below, frame by frame.

    Lines break where a run ends. Dashed lines are the figures of the whole set.

    Args:
        result: What to draw.
        title: A line above, or several.

    Returns:
        A PNG file.
    """
    evaluation = result.evaluation
    frames = np.arange(len(result.names))
    marks = {"marker": ".", "markersize": 3} if len(frames) <= _POINTS else {}
    with style():
        figure = Figure(figsize=(10, 6.5), dpi=DPI, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _line(above, result, result.frame_miou, "each frame", color=_MIOU, alpha=0.45, linewidth=0.8, **marks)
        if result.fills_window:
            _line(above, result, result.window_miou, f"over {result.window} frames", color=_MIOU, linewidth=2)
        above.axhline(
            evaluation.miou, color="0.2", linestyle="--", linewidth=1, label=f"over the set, {evaluation.miou:.2f} %"
        )
        above.set_ylabel("mIoU, %")
        _line(
            below,
            result,
            result.frame_changes,
            f"ground truth changes{_over_all(result.changes)}",
            color=_TRUTH,
        )
        _line(
            below,
            result,
            result.frame_flicker,
            f"flicker{_over_all(result.flicker)}",
            color=_FLICKER,
            **marks,
        )
        for value, colour in ((result.changes, _TRUTH), (result.flicker, _FLICKER)):
            if value is not None:
                below.axhline(value, color=colour, linestyle="--", linewidth=1)
        below.set_ylabel("pixels, %")
        below.set_ylim(bottom=0)
        below.locator_params(axis="x", integer=True)  # there is no half a frame
        below.set_xlabel(f"frame ({result.names[0]} to {result.names[-1]})")
        for axes in (above, below):
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
            axes.margins(x=0.01)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9, borderaxespad=0.1)
            for run in result.runs[1:]:
                axes.axvline(run.start - 0.5, color="0.75", linewidth=0.8)
        figure.suptitle(title, fontsize=11)
        return to_png(figure)


def _line(axes: Axes, result: VideoEvaluation, values: Sequence[float | None], label: str, **how: object) -> None:
    """One line for each run, with a gap where there is no figure."""
    heights: NDArray[np.float64] = np.array([np.nan if value is None else value for value in values])
    for number, run in enumerate(result.runs):
        frames = np.arange(run.start, run.stop)
        axes.plot(frames, heights[frames], label=label if not number else None, **how)  # type: ignore[arg-type]


def _over_all(value: float | None) -> str:
    return "" if value is None else f", {value:.2f} % over the set"
