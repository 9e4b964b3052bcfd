"""Names of the sources of a run, no two alike."""

from __future__ import annotations

from collections.abc import Iterable


def told_apart(names: Iterable[str]) -> list[str]:
    """The names as they are, but for one that was there before, which gets a number: ``sim://street (2)``."""
    told: list[str] = []
    for name in names:
        number, distinct = 1, name
        while distinct in told:
            number += 1
            distinct = f"{name} ({number})"
        told.append(distinct)
    return told
