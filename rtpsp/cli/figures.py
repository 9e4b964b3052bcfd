"""Figures in the tables of the verbs that measure accuracy."""

from __future__ import annotations

from collections.abc import Sequence


def percentages(figures: Sequence[float | None], signed: int | None = None) -> list[str]:
    """A row of a table: two decimals, a dash for a figure that there is not.

    Args:
        figures: Percentages, or differences between such in points.
        signed: Place of the one that is a difference.
    """
    return [
        "-" if figure is None else _signed(figure) if place == signed else f"{figure:.2f}"
        for place, figure in enumerate(figures)
    ]


def _signed(points: float) -> str:
    return f"{round(points, 2) + 0.0:+.2f}"  # what rounds to nothing has no minus
