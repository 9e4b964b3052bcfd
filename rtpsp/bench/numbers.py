"""How the report writes its figures: as many digits as a reader needs, and a dash where there is no figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NONE = "–"  # noqa: RUF001  # an en dash: a cell without a figure

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def number(value: Any, digits: int | None = None) -> str:
    """A figure.

    Args:
        value: A finite number; anything else is a dash.
        digits: Behind the point; None keeps three that count, but no fewer than stand before the point.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    if digits is None:
        digits = 0 if isinstance(value, int) or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}"


def times(value: Any) -> str:
    """A ratio, such as ``3.91x``."""
    text = number(float(value) if isinstance(value, int) else value)
    return text if text == NONE else f"{text}x"


def signed(value: Any, digits: int = 2) -> str:
    """A difference, with its sign; one that rounds to nothing has none."""
    text = number(value, digits)
    if text == NONE or not float(text):
        return text.lstrip("-")
    return f"+{text}" if value > 0 else f"−{text[1:]}"  # noqa: RUF001  # the minus sign, as wide as the plus


def size(value: Any) -> str:
    """Bytes, such as ``13.4 MiB``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    step = 0
    scaled = float(value)
    while scaled >= 1000 and step < len(UNITS) - 1:
        scaled /= 1024
        step += 1
    return f"{number(scaled if step else int(value))} {UNITS[step]}"


def shares(value: Any) -> str:
    """A share in percent of nearly all: as many digits as it takes to tell it from 100 %, which only all is."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    if value == 100:
        return "100 %"
    told = (f"{value:.{digits}f}" for digits in (2, 3, 4, 5))
    return f"{next((text for text in told if float(text) != 100), '99.99999')} %"


def interval(ratio: Any) -> tuple[float, float] | None:
    """The ends of a ratio's interval; None where it has none."""
    ends = ratio.get("interval") if isinstance(ratio, Mapping) else None
    return (float(ends[0]), float(ends[1])) if ends else None


def median_of(latency: Any) -> float | None:
    """The median of a summary, or a latency that is one figure already, in its own unit."""
    value = latency.get("median") if isinstance(latency, Mapping) else latency
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
