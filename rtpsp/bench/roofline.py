"""The roofline of a machine with an engine's layers under it (S. Williams, A. Waterman and D. Patterson, "Roofline: an
insightful visual performance model for multicore architectures", 2009).

Right of a roof's corner a layer is bound by arithmetic, left of it by what it moves. The slope is that of the memory:
layers whose data stay in a cache may lie above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rtpsp.bench import svg
from rtpsp.figure import Axes, Figure, to_png

SIZE = (svg.WIDTH, 330)
"""Width and height in CSS pixels."""
_LEAST_SHARE = 0.002
"""Of the time of all drawn layers: what takes less is not drawn."""
_LARGEST = 26.0
"""Diameter in points of a layer that takes all of the time; a dot's area is its time."""
_SMALLEST = 3.0
_TITLE = "Roofline: layers by multiply-adds a byte and a second"


def roofline_svg(section: Mapping[str, Any]) -> str:
    """The plot for a page.

    Args:
        section: ``layers`` of a report.

    Returns:
        One ``svg`` element; empty where nothing is to be drawn.
    """
    with svg.drawing():
        drawn = _figure(section)
        return svg.to_svg(drawn, "roofline", _TITLE) if drawn else ""


def roofline_png(section: Mapping[str, Any]) -> bytes:
    """The plot as a PNG file, on paper; empty where nothing is to be drawn.

    Args:
        section: ``layers`` of a report.
    """
    with svg.drawing():
        drawn = _figure(section)
        if drawn is None:
            return b""
        drawn.set_facecolor(svg.PAPER)
        drawn.set_dpi(144)
        return to_png(drawn)


def _figure(section: Mapping[str, Any]) -> Figure | None:
    roofs = {str(form): float(rate) for form, rate in (section.get("peak") or {}).items() if rate}
    bandwidth = section.get("bandwidth_gb_s")
    dots = [dot for dot in section.get("dots") or () if dot.get("intensity") and dot.get("gmac_s")]
    whole = sum(dot["ms"] for dot in dots)
    dots = [dot for dot in dots if dot["ms"] >= _LEAST_SHARE * whole]
    if not roofs or not bandwidth or not dots:
        return None
    order = list(dict.fromkeys([*section["peak"], *(dot["format"] for dot in dots)]))
    drawn = svg.figure(SIZE[1], SIZE[0])
    axes = drawn.subplots()
    corners = [rate / bandwidth for rate in roofs.values()]
    left = min(*corners, *(dot["intensity"] for dot in dots)) / 2
    right = max(*corners, *(dot["intensity"] for dot in dots)) * 2
    low = min(*(dot["gmac_s"] for dot in dots), bandwidth * left) / 1.5
    high = max(*roofs.values(), *(dot["gmac_s"] for dot in dots)) * 1.6
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    svg.plain_log(axes, "x")
    svg.plain_log(axes, "y")
    _draw_roofs(axes, roofs, order, float(bandwidth), (left, right))
    for dot in sorted(dots, key=lambda dot: -dot["ms"]):
        place = order.index(dot["format"])
        axes.plot(
            dot["intensity"], dot["gmac_s"], linestyle="", marker=svg.marker_of(place), color=svg.colour_of(place),
            markersize=max(_SMALLEST, _LARGEST * math.sqrt(dot["ms"] / whole)), markeredgecolor=svg.PAPER,
            markeredgewidth=0.6, alpha=0.8,
        )  # fmt: skip
    _name_largest(axes, dots)
    axes.set_xlabel("multiply-adds a byte of what is read and written")
    axes.set_ylabel("GMAC/s")
    for place, form in enumerate(order):
        if any(dot["format"] == form for dot in dots):
            axes.plot([], [], linestyle="", marker=svg.marker_of(place), color=svg.colour_of(place), label=f"in {form}")
    drawn.legend(loc="outside lower left", ncols=4, borderaxespad=0.2, title="layers, area by time", alignment="left")
    return drawn


def _draw_roofs(
    axes: Axes, roofs: Mapping[str, float], order: Sequence[str], bandwidth: float, ends: tuple[float, float]
) -> None:
    left, right = ends
    top = max(roofs.values())
    axes.plot([left, top / bandwidth], [bandwidth * left, top], color=svg.MUTED, linewidth=1.2)
    axes.annotate(
        f"copy, {bandwidth:.0f} GB/s", (2 * left, 2 * bandwidth * left), xytext=(8, -4), textcoords="offset points",
        color=svg.MUTED, ha="left", va="top",
    )  # fmt: skip
    for form, rate in roofs.items():
        place = order.index(form)
        colour = svg.colour_of(place)
        axes.plot([rate / bandwidth, right], [rate, rate], color=colour, linestyle=svg.dash_of(place))
        axes.annotate(
            f"peak of {form}, {rate:.0f} GMAC/s", (right, rate), xytext=(-2, 3), textcoords="offset points",
            color=svg.INK, ha="right", va="bottom",
        )  # fmt: skip


def _name_largest(axes: Axes, dots: Sequence[Mapping[str, Any]]) -> None:
    """One name: those of more would lie on each other, for layers of a kind are as fast as each other."""
    first = max(dots, key=lambda dot: dot["ms"])
    axes.annotate(
        str(first["part"]), (first["intensity"], first["gmac_s"]), xytext=(0, -16), textcoords="offset points",
        color=svg.INK, ha="center", va="top",
    )  # fmt: skip
