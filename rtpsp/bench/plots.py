"""Figures of the report over frames and time: latencies, windows, stages, ages.

Each takes a section of the report as it stands in the JSON and gives an SVG element, or nothing where there is nothing
to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtpsp.bench.numbers import number
from rtpsp.bench.svg import INK, MUTED, PAPER, SERIES, colour_of, dash_of, drawing, figure, marker_of, plain_log, to_svg
from rtpsp.figure import Axes, Figure

STEPS = 200
"""Points of a distribution that are drawn: a line of 440 pixels shows no more."""
LOG_FROM = 4.0
"""A distribution whose ends are further apart than this has a logarithmic axis."""
STABLE = 5.0
"""Percent that the last three windows of a stable run may lie apart (`rtpsp.bench.timeline`)."""
NAME_LENGTH = 56

STAGES = ("capture", "preprocess", "infer", "smooth", "render", "sink", "encode")
"""In the order in which a frame goes through them; others follow."""

Places = Mapping[str, int]
"""The place of each engine among the colours, so that it looks alike in all figures of a page."""
NOWHERE: Places = {}


def shortened(name: str, length: int = NAME_LENGTH) -> str:
    """A name that fits into a figure: the middle is left out, since files differ at their ends."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[-(length - length // 2 - 1) :]}"


def legend_below(drawn: Figure, axes: Axes, columns: int = 1) -> None:
    """The legend under the axes, outside of what is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower left", ncols=columns, borderaxespad=0.2, labelspacing=0.3)


def latency_svg(engines: Sequence[Mapping[str, Any]], places: Places = NOWHERE) -> str:
    """How latencies of each engine are distributed: the share of inferences (y) that took at most so long (x).

    Args:
        engines: Rows with ``name`` and ``samples_ms``.
        places: Of their colours, by name.
    """
    rows = [row for row in engines if row.get("samples_ms")]
    if not rows:
        return ""
    with drawing():
        drawn = figure(230 + 16 * len(rows))
        axes = drawn.subplots()
        ends = []
        for place, row in enumerate(rows):
            ordered = np.sort(np.asarray(row["samples_ms"], np.float64))
            levels = np.linspace(0, 1, min(STEPS, len(ordered)))
            values = np.quantile(ordered, levels)
            ends += [values[0], values[-1]]
            look = places.get(str(row["name"]), place)
            axes.plot(
                values, 100 * levels, color=colour_of(look), linestyle=dash_of(look), drawstyle="steps-post",
                label=shortened(str(row["name"])),
            )  # fmt: skip
        low, high = min(ends), max(ends)
        if low > 0 and high / low > LOG_FROM:
            axes.set_xlim(low / 1.15, high * 1.15)
            plain_log(axes, "x")
        else:
            axes.set_xlim(max(0.0, low - 0.08 * (high - low)), high + 0.08 * (high - low) or 1)
        axes.set_ylim(0, 101)
        axes.set_xlabel("latency, ms")
        axes.set_ylabel("inferences done, %")
        legend_below(drawn, axes)
        return to_svg(drawn, "latency", "Distribution of the latencies of each engine")


def windows_svg(engines: Sequence[Mapping[str, Any]], places: Places = NOWHERE) -> str:
    """How the medians of each run's windows move, in percent of their median: whether the machine held still.

    Args:
        engines: Rows with ``name`` and ``windows_ms``.
        places: Of their colours, by name.
    """
    rows = [row for row in engines if len(row.get("windows_ms") or ()) > 1]
    if not rows:
        return ""
    with drawing():
        drawn = figure(230 + 16 * len(rows))
        axes = drawn.subplots()
        for place, row in enumerate(rows):
            look = places.get(str(row["name"]), place)
            windows = np.asarray(row["windows_ms"], np.float64)
            axes.plot(
                range(1, len(windows) + 1), 100 * windows / np.median(windows), color=colour_of(look),
                linestyle=dash_of(look), marker=marker_of(look), markersize=4, label=shortened(str(row["name"])),
            )  # fmt: skip
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 100 - 1.2 * STABLE), max(high, 100 + 1.2 * STABLE))
        axes.axhspan(100 - STABLE / 2, 100 + STABLE / 2, color=MUTED, alpha=0.14, linewidth=0)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("window of the run")
        axes.set_ylabel("median, % of the run's")
        legend_below(drawn, axes)
        return to_svg(drawn, "windows", "Medians of the windows of each run")


def _mean(value: Any) -> float:
    return float(value["mean"] if isinstance(value, Mapping) else value or 0)


def stages_svg(loop: Mapping[str, Any]) -> str:
    """Mean time of a frame in each stage of the loop, one behind the other.

    Args:
        loop: The section, with ``stages_ms``; means add up, medians do not.
    """
    stages = {name: _mean(value) for name, value in (loop.get("stages_ms") or {}).items()}
    names = (*STAGES, *(name for name in stages if name not in STAGES))
    return _stacked([("", {name: stages[name] for name in names if stages.get(name)})], "stages", "Stages of the loop")


def parts_svg(engines: Sequence[Mapping[str, Any]]) -> str:
    """What an inference is made of, such as transfers and computing, where the backend tells them apart.

    Args:
        engines: Rows with ``name`` and ``parts_ms``.
    """
    rows = [(str(row["name"]), {name: _mean(value) for name, value in row["parts_ms"].items()})
            for row in engines if row.get("parts_ms")]  # fmt: skip
    return _stacked(rows, "parts", "Parts of an inference")


def _stacked(rows: Sequence[tuple[str, Mapping[str, float]]], name: str, title: str) -> str:
    """Bars of parts, one behind the other; a single bar's legend has the figures too."""
    names = list(dict.fromkeys(part for _, parts in rows for part in parts))
    longest = max((sum(parts.values()) for _, parts in rows), default=0)
    if not longest:
        return ""
    with drawing():
        drawn = figure(56 + 40 * len(rows) + 17 * len(names))
        axes = drawn.subplots()
        left = np.zeros(len(rows))
        for place, part in enumerate(names):
            widths = np.array([parts.get(part, 0.0) for _, parts in rows])
            label = part
            if len(rows) == 1:
                share = 100 * float(widths[0]) / longest
                label += f": {number(float(widths[0]))} ms, {number(share, 0 if share >= 1 else 1)} %"
            axes.barh(
                range(len(rows)), widths, left=left, height=0.5 if len(rows) > 1 else 0.8, color=colour_of(place),
                edgecolor=PAPER, linewidth=1, label=label,
            )  # fmt: skip
            left += widths
        axes.set_xlim(0, longest * 1.02)
        axes.set_ylim(len(rows) - 0.5, -0.5 if len(rows) == 1 else -0.8)
        axes.set_yticks([])
        for row, (told, _) in enumerate(rows):
            axes.annotate(
                shortened(told), (0, row - 0.42), xycoords=("axes fraction", "data"), va="center",
                annotation_clip=False, in_layout=False,
            )  # fmt: skip
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("mean, ms")
        legend_below(drawn, axes)
        return to_svg(drawn, name, f"{title}: {', '.join(names)}")


def age_svg(loop: Mapping[str, Any]) -> str:
    """How old each frame was when it was handed over, over the run.

    Args:
        loop: The section, with ``age_series``: pairs of seconds into the run and milliseconds.
    """
    series = np.asarray(loop.get("age_series") or [], np.float64).reshape(-1, 2)
    if not len(series):
        return ""
    with drawing():
        drawn = figure(230)
        axes = drawn.subplots()
        seconds, ages = series[:, 0] - series[0, 0], series[:, 1]
        axes.plot(seconds, ages, color=SERIES[0], linewidth=1, marker="o" if len(series) == 1 else None)
        told = loop.get("age_ms") or {}
        for place, name in enumerate(("median", "p95")):
            value = told.get(name)
            if value is not None:
                axes.axhline(value, color=INK, linewidth=1, linestyle=dash_of(place + 1), alpha=0.8)
                axes.annotate(
                    f"{name} {number(value)}", (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0),
                    textcoords="offset points", va="bottom" if place else "top", ha="left", fontsize=10,
                )  # fmt: skip
        axes.set_ylim(0, 1.08 * float(max(ages.max(), told.get("p95") or 0)) or 1)
        axes.set_xlim(0, float(seconds[-1]) or 1)
        axes.set_xlabel("time into the run, s")
        axes.set_ylabel("age, ms")
        return to_svg(drawn, "age", "Age of the frames handed over, over the run")
