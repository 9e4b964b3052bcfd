"""Figures of the report with a row for each engine, ratio or layer; its name stands above it, so that long ones fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.patches import Patch

from rtpsp.bench.numbers import interval, median_of, number, signed, times
from rtpsp.bench.plots import NOWHERE, Places, legend_below, shortened
from rtpsp.bench.svg import INK, MUTED, PAPER, SERIES, colour_of, drawing, figure, marker_of, plain_log, to_svg
from rtpsp.figure import Axes, Figure

ROW = 40
"""CSS pixels that a row takes with its name."""
CLASSES = 16
"""So many classes are drawn at most: those that differ most."""


def _start(count: int, columns: int = 1, extra: float = 44) -> tuple[Figure, list[Axes]]:
    """Axes side by side of `count` rows, the first on top."""
    drawn = figure(count * ROW + extra)
    made = drawn.subplots(1, columns, sharey=True, squeeze=False)[0]
    for axes in made:
        axes.set_ylim(count - 0.5, -0.72)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
    return drawn, list(made)


def _name(axes: Axes, row: int, name: str, figures: str = "") -> None:
    """What a row is called, on the left above it, and its figures on the right."""
    room = 66 - len(figures)
    for x, side, text in ((0, "left", shortened(name, room)), (1, "right", figures)):
        axes.annotate(
            text, (x, row - 0.38), xycoords=("axes fraction", "data"), va="center", ha=side,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1}, annotation_clip=False, in_layout=False,
        )  # fmt: skip


def _value(axes: Axes, row: float, at: float, text: str, clear: float) -> None:
    """A figure beside its mark, on the side where it has room; `clear` is where the mark's line ends on the right."""
    share = axes.transAxes.inverted().transform(axes.transData.transform((clear, row)))[0]
    right = share < 0.7
    axes.annotate(
        text, (clear if right else at, row), xytext=(9 if right else -9, 0), textcoords="offset points", va="center",
        ha="left" if right else "right", fontsize=10, color=MUTED, annotation_clip=False, in_layout=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def forest_svg(rows: Sequence[Mapping[str, Any]], name: str, label: str) -> str:
    """Ratios, each a dot at the median, thick over its 95 % interval and thin from the 10th to the 90th percentile.

    Args:
        rows: Each with ``name`` and ``ratio``, a `PairRatio`'s dictionary.
        name: Of the figure in the page.
        label: Of the axis, what is over what.
    """
    shown = [row for row in rows if median_of(row.get("ratio"))]
    if not shown:
        return ""
    with drawing():
        drawn, (axes,) = _start(len(shown))
        ends = [1.0]
        spans = []
        for row in shown:
            ratio = row["ratio"]
            low, high = interval(ratio) or (ratio["median"], ratio["median"])
            wide = min(ratio.get("p10") or low, low), max(ratio.get("p90") or high, high)
            spans.append((ratio["median"], low, high, wide))
            ends += wide
        axes.set_xlim(min(ends) / 1.18, max(ends) * 1.18)
        plain_log(axes, "x")
        axes.axvline(1, color=INK, linewidth=1)
        for place, (median, low, high, wide) in enumerate(spans):
            axes.plot(wide, (place, place), color=MUTED, linewidth=1.2, solid_capstyle="butt")
            axes.plot((low, high), (place, place), color=SERIES[0], linewidth=5, solid_capstyle="butt", alpha=0.55)
            axes.plot(median, place, "o", color=SERIES[0], markersize=6)
            narrow = interval(shown[place]["ratio"])
            told = f"{times(median)} ({number(low)} to {number(high)})" if narrow else times(median)
            _name(axes, place, str(shown[place]["name"]), told)
        axes.set_xlabel(label)
        return to_svg(drawn, name, "Ratios with their intervals")


def card_svg(card: Mapping[str, Any], places: Places = NOWHERE) -> str:
    """What each engine costs in time (left) and in accuracy (right).

    Accuracy is the loss of mIoU where it was measured, else the share of pixels that FP32 answers otherwise.

    Args:
        card: The section.
        places: Of the colours of engines, by name.
    """
    rows = [row for row in card.get("rows") or () if median_of(row.get("latency_ms")) is not None]
    if not rows:
        return ""
    scored = any(row.get("miou_difference") is not None for row in rows)
    with drawing():
        drawn, (left, right) = _start(len(rows), 2)
        slowest = max(row["latency_ms"].get("p90") or row["latency_ms"]["median"] for row in rows)
        left.set_xlim(0, 1.1 * slowest)
        losses = [row.get("miou_difference") if scored else _otherwise(row) for row in rows]
        known = [abs(loss) for loss in losses if loss is not None]
        reach = max([*known, 0.5 if scored else 1.0]) * 1.25
        right.set_xlim(
            (-reach, max([0.2 * reach, *(1.25 * loss for loss in losses if loss)])) if scored else (0, reach)
        )
        for place, (row, loss) in enumerate(zip(rows, losses, strict=True)):
            latency = row["latency_ms"]
            look = places.get(str(row["name"]), place)
            colour, marker = colour_of(look), marker_of(look)
            left.plot(
                (latency["min"], latency.get("p90") or latency["median"]),
                (place, place),
                color=colour,
                linewidth=1.5,
                solid_capstyle="butt",
            )
            left.plot(latency["median"], place, marker, color=colour, markersize=7)
            _value(
                left,
                place,
                latency["median"],
                f"{number(latency['median'])} ms",
                latency.get("p90") or latency["median"],
            )
            _name(left, place, str(row["name"]))
            if loss is not None:
                right.plot((0, loss), (place, place), color=colour, linewidth=1.5, solid_capstyle="butt")
                right.plot(loss, place, marker, color=colour, markersize=7)
                _value(right, place, loss, signed(loss) if scored else f"{number(loss)} %", max(loss, 0.0))
        if scored:
            right.axvline(0, color=INK, linewidth=1)
        left.set_xlabel("latency, ms")
        right.set_xlabel("mIoU, points from FP32" if scored else "pixels unlike FP32, %")
        return to_svg(drawn, "card", "Latency and accuracy of each precision")


def _otherwise(row: Mapping[str, Any]) -> float | None:
    agreement = row.get("agreement_percent")
    return None if agreement is None else 100 - float(agreement)


def classes_svg(card: Mapping[str, Any], places: Places = NOWHERE) -> str:
    """By how many points the IoU of each class differs from FP32's, an engine a marker.

    Args:
        card: The section; of more than 16 classes those are drawn that differ most.
        places: Of the colours of engines, by name.
    """
    rows = card.get("rows") or ()
    given = {
        place: row["per_class_iou_difference"] for place, row in enumerate(rows) if row.get("per_class_iou_difference")
    }
    given = {place: found for place, found in given.items() if any(found.values())}  # FP32 itself differs nowhere
    largest = {
        name: max(abs(found.get(name) or 0) for found in given.values())
        for name in dict.fromkeys(name for found in given.values() for name in found)
    }
    names = sorted(largest, key=lambda name: -largest[name])[:CLASSES]
    if not names:
        return ""
    with drawing():
        drawn = figure(20 * len(names) + 56 + 16 * len(given))
        axes = drawn.subplots()
        axes.axvline(0, color=INK, linewidth=1)
        for place, found in given.items():
            look = places.get(str(rows[place]["name"]), place)
            points = [(found[name], row) for row, name in enumerate(names) if found.get(name) is not None]
            axes.plot(
                [x for x, _ in points], [y for _, y in points], marker_of(look), color=colour_of(look), markersize=6,
                alpha=0.9, linestyle="none", label=shortened(str(rows[place]["name"])),
            )  # fmt: skip
        axes.set_yticks(range(len(names)), [shortened(name, 20) for name in names], color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        reach = 1.15 * max(largest.values())
        axes.set_xlim(-reach, reach)
        axes.set_xlabel("IoU, points from FP32")
        legend_below(drawn, axes)
        return to_svg(drawn, "classes", "Difference of each class's IoU from FP32")


def layers_svg(layers: Mapping[str, Any]) -> str:
    """The most expensive layers: time, number format, share of the machine's peak.

    Args:
        layers: The section.
    """
    rows = [row for row in layers.get("rows") or () if row.get("ms")]
    if not rows:
        return ""
    formats = list(dict.fromkeys(str(row.get("format") or "?") for row in rows))
    with drawing():
        drawn, (axes,) = _start(len(rows), extra=62)
        axes.set_xlim(0, 1.02 * max(row["ms"] for row in rows))
        for place, row in enumerate(rows):
            kind = formats.index(str(row.get("format") or "?"))
            axes.barh(place + 0.08, row["ms"], height=0.34, color=colour_of(kind))
            part = f"{row['part']}: " if row.get("part") else ""
            told = f"{number(row['ms'])} ms"
            if row.get("of_peak_percent") is not None:
                told += f", {number(row['of_peak_percent'], 0)} %"
            _name(axes, place, part + str(row.get("what") or row["name"]), told)
        drawn.legend(
            handles=[Patch(color=colour_of(place), label=name) for place, name in enumerate(formats)],
            loc="outside lower left", ncols=max(1, min(4, len(formats))), borderaxespad=0.2,
        )  # fmt: skip
        axes.set_xlabel("ms an inference")
        return to_svg(drawn, "layers", "The most expensive layers")
