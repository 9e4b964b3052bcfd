"""What a cache of ranges tells of the accuracy that was measured with them, for each format of integers.

``CalibrationCache.measured`` has an entry a format, by its name: ``backend`` and ``head`` of the engine, the ``data``
that its held-out frames are of, the ``bound`` measured there (`rtpsp.sensitivity.Cost`), after how many ``tries``, and
the ``sensitivity`` of each part with what it was decided to run in (`rtpsp.sensitivity.Part`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rtpsp.calibration_cache import AGAIN, CalibrationCache
from rtpsp.errors import DataError
from rtpsp.sensitivity import Part


def known_parts(
    cache: CalibrationCache, parted: Mapping[str, tuple[str, ...]], integers: str
) -> tuple[Part, ...] | None:
    """The losses that a cache holds, if they are those of these groups and integers."""
    losses = {part.group: part.loss for part in parts_of(cache, integers)}
    if set(losses) != set(parted) or None in losses.values():
        return None
    return tuple(Part(group, len(names), losses[group]) for group, names in parted.items())


def parts_of(cache: CalibrationCache, integers: str) -> tuple[Part, ...]:
    """The parts as a cache has them; losses of other integers are not those of ours, though what was left in float is.

    Raises:
        DataError: The cache has something else in their place.
    """
    try:
        parts = tuple(map(Part.from_dict, _measured(cache, integers).get("sensitivity", ())))
    except (TypeError, ValueError) as error:
        raise DataError(f"the calibration cache of {cache.model} has no sensitivities ({error}): {AGAIN}") from error
    same = integers in cache.measured
    return parts if same else tuple(replace(part, loss=None) for part in parts)


def _measured(cache: CalibrationCache, integers: str) -> Mapping[str, Any]:
    """What a cache says of these integers, else of others, of as many bits if there are; empty if it says nothing."""
    found = cache.measured.get(integers)
    if isinstance(found, Mapping):
        return found
    weights = integers.rpartition(", ")[2]
    every = {
        name: entry for name, entry in cache.measured.items() if isinstance(entry, Mapping) and "sensitivity" in entry
    }
    return next((entry for name, entry in every.items() if name.endswith(weights)), next(iter(every.values()), {}))


def to_words(value: Any) -> str:
    """A word of a cache that is fit to be printed, whoever wrote it."""
    return value if isinstance(value, str) and value.isprintable() else ""
