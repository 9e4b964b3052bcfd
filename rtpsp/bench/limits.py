"""What keeps an engine from the machine's peak: the time beyond the least by arithmetic, parted by its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rtpsp.bench.layer_rows import LayerRow
from rtpsp.bench.peaks import peak_format

_GOOD_SHARE = 0.1


@dataclass(frozen=True)
class Loss:
    """Time that an inference takes for one reason beyond the least.

    Attributes:
        words: The reason.
        seconds: How long; below 0 where something is faster than the peak that it is compared with.
    """

    words: str
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Where the time of one inference goes.

    Attributes:
        format: Whose peak is the engine's (`main_format`).
        ideal: Seconds that all products would take at that peak.
        losses: Everything else, the largest first; with `ideal` they add up to the whole inference.
    """

    format: str
    ideal: float
    losses: tuple[Loss, ...]


def main_format(rows: Sequence[LayerRow], rates: Mapping[str, float]) -> str:
    """The fastest format (`peak_format`) in which a good share of an engine's multiply-adds ran.

    Not that of most of them: where half of an INT8 engine runs in floating point, INT8's peak is still what it could
    reach. Empty where the peaks of its formats are unknown.
    """
    sums: dict[str, int] = {}
    for row in rows:
        form = peak_format(row.format)
        sums[form] = sums.get(form, 0) + (row.macs or 0)
    least = _GOOD_SHARE * sum(sums.values())
    known = [form for form, macs in sums.items() if macs and macs >= least and form in rates]
    return max(known, key=rates.__getitem__, default="")


def to_limits(rows: Sequence[LayerRow], rates: Mapping[str, float], wall: float) -> Limits | None:
    """Parts the time of an inference.

    Each product costs its multiply-adds at the peak of the engine's format. If it ran in a format with another peak,
    the difference is one reason, told by format; what it took beyond the peak of its own format is another, told by
    part of the network. The others are layers without products, products of unknown size, and time between layers.

    Args:
        rows: All layers.
        rates: Peaks, multiply-adds a second.
        wall: Seconds of the inference in which they were timed.

    Returns:
        None where no peak of the engine's format is known.
    """
    form = main_format(rows, rates)
    peak = rates.get(form)
    if peak is None:
        return None
    formats: dict[str, float] = {}
    parts: dict[str, list[LayerRow]] = {}
    for row in rows:
        own = rates.get(peak_format(row.format))
        if row.macs and peak_format(row.format) != form:
            formats[row.format] = formats.get(row.format, 0.0) + (row.macs / own if own else row.seconds)
            formats[row.format] -= row.macs / peak
        if row.macs and own:
            parts.setdefault(row.part, []).append(row)
    losses = [Loss(_in_format(name, rows, rates, form), seconds) for name, seconds in formats.items()]
    for part, members in parts.items():
        least = sum((row.macs or 0) / rates[peak_format(row.format)] for row in members)
        taken = sum(row.seconds for row in members)
        reached = 100 * least / taken if taken else 100.0
        named = "convolutions" if all("conv" in row.kind.lower() for row in members) else "products"
        losses.append(Loss(f"the {named} of {part} run at {reached:.0f} % of the peak", taken - least))
    losses += _without_products(rows)
    between = wall - sum(row.seconds for row in rows)
    losses.append(Loss("time in no layer: the runtime's own between them, and the frames' way in and out", between))
    ideal = sum(row.macs or 0 for row in rows) / peak
    return Limits(form, ideal, tuple(sorted(losses, key=lambda loss: -loss.seconds)))


def _in_format(name: str, rows: Sequence[LayerRow], rates: Mapping[str, float], main: str) -> str:
    macs = sum(row.macs or 0 for row in rows if row.format == name)
    own = rates.get(peak_format(name))
    reached = f"a peak of {own / 1e9:.0f} GMAC/s" if own else "an unknown peak"
    return f"{macs / 1e9:.2g} GMAC run in {name}, with {reached} instead of {rates[main] / 1e9:.0f} in {main}"


def _without_products(rows: Sequence[LayerRow]) -> list[Loss]:
    plain = [row for row in rows if row.macs == 0]
    unknown = [row for row in rows if row.macs is None]
    losses = []
    if plain:
        kinds: dict[str, float] = {}
        for row in plain:
            kinds[row.kind] = kinds.get(row.kind, 0.0) + row.seconds
        most = sorted(kinds, key=lambda kind: -kinds[kind])[:3]
        named = f"{len(plain)} layers that multiply nothing ({', '.join(most)})"
        losses.append(Loss(named, sum(row.seconds for row in plain)))
    if unknown:
        losses.append(Loss(f"{len(unknown)} products of unknown size", sum(row.seconds for row in unknown)))
    return losses
