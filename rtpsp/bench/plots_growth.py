"""Figures of the report on how an engine grows: with pixels, batch, threads, and streams of cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtpsp.bench.numbers import median_of
from rtpsp.bench.svg import INK, MUTED, SERIES, dash_of, drawing, figure, to_svg
from rtpsp.figure import Axes

HEIGHT = 236


def _rows(section: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [row for row in section.get(name) or () if median_of(row.get("latency_ms"))]


def _spread(axes: Axes, at: Sequence[float], rows: Sequence[Mapping[str, Any]], share: Sequence[float]) -> None:
    """Medians as dots on a line, and under each the span from the shortest to the 90th percentile."""
    for x, row, part in zip(at, rows, share, strict=True):
        latency = row["latency_ms"]
        if isinstance(latency, Mapping) and latency.get("p90"):
            axes.plot((x, x), (latency["min"] * part, latency["p90"] * part), color=SERIES[0], linewidth=3, alpha=0.4)
    medians = [(median_of(row["latency_ms"]) or 0) * part for row, part in zip(rows, share, strict=True)]
    axes.plot(at, medians, "o-", color=SERIES[0], markersize=5, label="median")


def pixels_svg(growth: Mapping[str, Any]) -> str:
    """Latency over the size of the input, and the straight line that fits it best.

    Args:
        growth: The section, with ``pixels`` and ``linear``.
    """
    rows = _rows(growth, "pixels")
    if len(rows) < 2:
        return ""
    rows = sorted(rows, key=lambda row: int(row["height"]) * int(row["width"]))
    millions = [row["height"] * row["width"] / 1e6 for row in rows]
    medians = [median_of(row["latency_ms"]) or 0 for row in rows]
    with drawing():
        drawn = figure(HEIGHT)
        axes = drawn.subplots()
        slope, start = np.polyfit(millions, medians, 1)
        ends = np.array([0, millions[-1] * 1.05])
        axes.plot(ends, start + slope * ends, color=MUTED, linestyle=dash_of(1), linewidth=1.2)
        _spread(axes, millions, rows, [1.0] * len(rows))
        top = max(medians)
        for x, y, row in zip(millions, medians, rows, strict=True):
            axes.annotate(
                f"{row['height']}x{row['width']}", (x, y), fontsize=9, color=MUTED, textcoords="offset points",
                xytext=(8, -6) if x < millions[-1] * 0.7 else (-7, 6), ha="left" if x < millions[-1] * 0.7 else "right",
                va="center", in_layout=False,
            )  # fmt: skip
        axes.set_xlim(0, ends[1])
        axes.set_ylim(min(0, start), 1.12 * top)
        axes.set_xlabel("megapixels of the input")
        axes.set_ylabel("latency, ms")
        return to_svg(drawn, "pixels", "Latency over the size of the input")


def batch_svg(growth: Mapping[str, Any]) -> str:
    """Latency a frame over the batch.

    Args:
        growth: The section, with ``batch``; latencies are of a whole batch.
    """
    rows = _rows(growth, "batch")
    if len(rows) < 2:
        return ""
    with drawing():
        drawn = figure(HEIGHT)
        axes = drawn.subplots()
        batches = [int(row["batch"]) for row in rows]
        _spread(axes, batches, rows, [1 / batch for batch in batches])
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.set_xticks(batches)
        axes.set_xlabel("frames in a batch")
        axes.set_ylabel("latency a frame, ms")
        return to_svg(drawn, "batch", "Latency a frame over the batch")


def threads_svg(growth: Mapping[str, Any]) -> str:
    """How many times as fast as with the fewest threads, and what as many times the threads would give.

    Args:
        growth: The section, with ``threads``.
    """
    rows = _rows(growth, "threads")
    if len(rows) < 2:
        return ""
    with drawing():
        drawn = figure(HEIGHT)
        axes = drawn.subplots()
        threads = np.array([int(row["threads"]) for row in rows])
        medians = np.array([median_of(row["latency_ms"]) for row in rows])
        least = int(np.argmin(threads))
        axes.plot(threads, threads / threads[least], color=MUTED, linestyle=dash_of(1), linewidth=1.2)
        axes.plot(threads, medians[least] / medians, "o-", color=SERIES[0], markersize=5)
        axes.set_ylim(0)
        axes.set_xticks(threads)
        axes.set_xlabel("threads")
        axes.set_ylabel(f"times as fast as with {threads[least]}")
        return to_svg(drawn, "threads", "Speed over the number of threads")


def memory_svg(growth: Mapping[str, Any]) -> str:
    """Peak memory of a process that runs the engine, over the size of its input.

    Args:
        growth: The section, with ``pixels``.
    """
    rows = [row for row in growth.get("pixels") or () if row.get("peak_memory_bytes")]
    if len(rows) < 2:
        return ""
    rows = sorted(rows, key=lambda row: int(row["height"]) * int(row["width"]))
    with drawing():
        drawn = figure(HEIGHT)
        axes = drawn.subplots()
        millions = [row["height"] * row["width"] / 1e6 for row in rows]
        axes.plot(millions, [row["peak_memory_bytes"] / 2**20 for row in rows], "s-", color=SERIES[2], markersize=5)
        axes.set_xlim(0)
        axes.set_ylim(0)
        axes.set_xlabel("megapixels of the input")
        axes.set_ylabel("peak memory, MiB")
        return to_svg(drawn, "memory", "Peak memory over the size of the input")


def cameras_svg(cameras: Mapping[str, Any]) -> str:
    """The age that 95 % of the frames kept, over the number of streams tried; hollow where one was not served.

    A single stream that was tried at a lower rate is not among them: the table has it.

    Args:
        cameras: The section.
    """
    rate = cameras.get("fps")
    tried = [
        row for row in cameras.get("tried") or () if row.get("fps", rate) == rate and row.get("p95_age_ms") is not None
    ]
    if not tried:
        return ""
    with drawing():
        drawn = figure(HEIGHT)
        axes = drawn.subplots()
        for row in tried:
            held = bool(row.get("held"))
            axes.plot(
                row["streams"], row["p95_age_ms"], "o", color=SERIES[0] if held else SERIES[1], markersize=8,
                fillstyle="full" if held else "none", markeredgewidth=1.8,
            )  # fmt: skip
        bound = cameras.get("bound_ms")
        if bound:
            axes.axhline(bound, color=INK, linewidth=1, linestyle=dash_of(1))
            axes.annotate(
                "bound", (0, bound), xycoords=("axes fraction", "data"), xytext=(3, 2), textcoords="offset points",
                fontsize=10,
            )  # fmt: skip
        most = max(row["streams"] for row in tried)
        axes.set_xlim(0.5, most + 0.5)
        axes.set_ylim(0, 1.15 * max([bound or 0, *(row["p95_age_ms"] for row in tried)]))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel(f"streams at {cameras.get('fps', 0):g} fps")
        axes.set_ylabel("age, 95th percentile, ms")
        return to_svg(drawn, "cameras", "Age of frames over the number of streams")
