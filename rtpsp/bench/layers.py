"""Where the time of an inference goes: its layers with what they multiply, beside what the machine can do at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtpsp.arrays import Image
from rtpsp.bench.frames import street_pictures, to_batches
from rtpsp.bench.layer_rows import LayerRow, to_rows
from rtpsp.bench.limits import Limits, main_format, to_limits
from rtpsp.bench.parts import PARTS, GraphNodes
from rtpsp.bench.peaks import PeakMeter, Peaks, PeakWork, peak_format, quiet, quiet_mean
from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.file import read_engine_file
from rtpsp.engine.profile import RanLayer, load_profiled
from rtpsp.machine import usable_threads

SHOWN = 10
"""Layers that are told one by one."""
ROUNDS = 10
_FRAMES = 4
_WARM = 2


@dataclass(frozen=True)
class LayerReport:
    """Layers of an engine and the machine's peaks, measured in turn.

    All times are means over the shorter half of the rounds: other users of the machine only ever make them longer.

    Attributes:
        engine: File, model, size, backend, precision, number format that ran, threads.
        peaks: Of the backend on this machine, with as many threads.
        rows: All layers in the order in which they ran.
        macs: Multiply-adds of the engine's graph.
        latency: Seconds of an inference of the engine as it is.
        wall: The same while its layers are timed.
        rounds: How often each was measured.
    """

    engine: dict[str, Any]
    peaks: Peaks
    rows: tuple[LayerRow, ...]
    macs: int
    latency: float
    wall: float
    rounds: int

    @property
    def limits(self) -> Limits | None:
        """What keeps the engine from the peak; None where none is known for its format."""
        return to_limits(self.rows, self.peaks.rates, self.wall)

    @property
    def total(self) -> float:
        """Seconds of all layers."""
        return sum(row.seconds for row in self.rows)

    @property
    def of_peak(self) -> float | None:
        """Percent of the peak that the engine as it is reaches; None where no peak is known."""
        return _of_peak(self.macs, self.latency, main_format(self.rows, self.peaks.rates), self.peaks.rates)

    @property
    def words(self) -> str:
        """What the engine spends its time on, how near it is to the limit, and what keeps it from more."""
        first = max(self.rows, key=lambda row: row.seconds)
        told = [
            f"The most expensive layer, {first.name} ({first.what}), takes "
            f"{_share(first.seconds, self.wall):.0f} % of the time{self._at(first)}."
        ]
        limits = self.limits
        if limits is None or self.of_peak is None:
            told.append("What the machine can do at most in this format could not be measured.")
        else:
            told.append(
                f"The engine does {self.macs / self.latency / 1e9:.0f} GMAC/s, {self.of_peak:.0f} % of what large "
                f"products in {limits.format} reach here ({self.peaks.rates[limits.format] / 1e9:.0f} GMAC/s)."
            )
            why = "; ".join(f"{loss.words} ({_share(loss.seconds, self.wall):.0f} %)" for loss in limits.losses[:2])
            told.append(f"What keeps it from more, in percent of its time: {why}.")
        missing = self.macs - sum(row.macs or 0 for row in self.rows)
        if missing > self.macs / 100:
            told.append(
                f"{missing / 1e9:.2g} of the graph's {self.macs / 1e9:.2g} GMAC were found in none of the layers."
            )
        return " ".join(told)

    def _at(self, row: LayerRow) -> str:
        reached = _of_peak(row.macs, row.seconds, row.format, self.peaks.rates)
        return "" if reached is None else f", at {reached:.0f} % of the peak"

    def to_dict(self) -> dict[str, Any]:
        """The section ``layers`` of a report, as plain JSON values."""
        limits, rates = self.limits, self.peaks.rates
        ordered = sorted(self.rows, key=lambda row: -row.seconds)
        rest = ordered[SHOWN:]
        dots = [row for row in ordered if row.rate and row.intensity]
        return {
            "peak": {form: _giga(rates.get(form)) for form in dict.fromkeys(("f32", "bf16", "i8", *rates))},
            "peak_shapes": self.peaks.shapes,
            "peak_format": main_format(self.rows, self.peaks.rates) or None,
            "bandwidth_gb_s": _giga(self.peaks.bandwidth),
            "engine": self.engine,
            "rounds": self.rounds,
            "latency_ms": _ms(self.latency),
            "wall_ms": _ms(self.wall),
            "profiling_percent": round(100 * (self.wall / self.latency - 1), 2),
            "total_ms": _ms(self.total),
            "gmac": _giga(self.macs),
            "gmac_s": _giga(self.macs / self.latency),
            "of_peak_percent": _rounded(self.of_peak),
            "parts": [self._part(part, rows) for part in PARTS if (rows := [r for r in self.rows if r.part == part])],
            "rows": [self._row(row) for row in ordered[:SHOWN]],
            "rest": self._sums(rest),
            "dots": [
                {
                    "name": row.name, "part": row.part, "format": peak_format(row.format), "gmac_s": _giga(row.rate),
                    "intensity": _rounded(row.intensity), "ms": _ms(row.seconds),
                }
                for row in dots
            ],
            "ideal_ms": None if limits is None else _ms(limits.ideal),
            "losses": [
                {"words": loss.words, "ms": _ms(loss.seconds), "share_percent": self._share(loss.seconds)}
                for loss in (limits.losses if limits else ())
            ],
            "words": self.words,
        }  # fmt: skip

    def _row(self, row: LayerRow) -> dict[str, Any]:
        rates = self.peaks.rates
        return {
            "name": row.name, "part": row.part, "what": row.what, "kind": row.kind, "format": row.format,
            "gmac": _giga(row.macs), "ms": _ms(row.seconds), "share_percent": self._share(row.seconds),
            "gmac_s": _giga(row.rate),
            "of_peak_percent": _rounded(_of_peak(row.macs, row.seconds, row.format, rates)),
            "bytes": row.bytes, "intensity": _rounded(row.intensity), "bound": self._bound(row),
        }  # fmt: skip

    def _bound(self, row: LayerRow) -> str | None:
        """What limits a layer by the roofline (Williams, Waterman and Patterson, 2009): where its bytes, if all of
        them came from memory, would take longer than its arithmetic at the peak, memory does.
        """
        peak = self.peaks.rates.get(peak_format(row.format))
        if row.macs == 0:
            return "memory"
        if row.intensity is None or peak is None:
            return None
        return "arithmetic" if row.intensity >= peak / self.peaks.bandwidth else "memory"

    def _part(self, part: str, rows: Sequence[LayerRow]) -> dict[str, Any]:
        products = [row for row in rows if row.macs]
        seconds = sum(row.seconds for row in products)
        rates = self.peaks.rates
        known = bool(seconds) and all(peak_format(row.format) in rates for row in products)
        least = sum((row.macs or 0) / rates[peak_format(row.format)] for row in products) if known else 0.0
        macs = sum(row.macs or 0 for row in products)
        return {
            "part": part,
            **self._sums(rows),
            "gmac_s": _giga(macs / seconds) if seconds else None,
            "of_peak_percent": round(100 * least / seconds, 1) if known else None,
        }

    def _sums(self, rows: Sequence[LayerRow]) -> dict[str, Any]:
        seconds = sum(row.seconds for row in rows)
        return {
            "layers": len(rows), "gmac": _giga(sum(row.macs or 0 for row in rows)), "ms": _ms(seconds),
            "share_percent": self._share(seconds),
        }  # fmt: skip

    def _share(self, seconds: float) -> float:
        return round(_share(seconds, self.wall), 1)


def profile(
    path: Path,
    threads: int = 0,
    rounds: int = ROUNDS,
    *,
    tell: Callable[[str, float], None] | None = None,
    stopped: Callable[[], bool] | None = None,
    work: PeakWork | None = None,
) -> LayerReport:
    """Times the layers of an engine, the engine as it is, and the machine's peaks, in turn.

    Args:
        path: An engine file of a CPU's backend.
        threads: CPU threads; 0 takes all.
        rounds: How often each is measured, at least once.
        tell: Told what is done and how much of it, 0..1, after each round.
        stopped: Asked after each round whether that was enough.
        work: What the peaks are measured with; None takes what is large enough for it.

    Raises:
        EngineFileError: The file cannot be loaded.
        MissingError: Its backend's package is missing.
        UsageError: Its backend does not tell the times of layers.
    """
    threads = threads or usable_threads()
    options = EngineOptions(threads=threads)
    file = read_engine_file(path)
    plain, counted = load_engine(path, options), load_profiled(path, options)
    graph = GraphNodes(file.payload())
    batches = to_batches(street_pictures(plain.spec.planes, _FRAMES), plain.spec, plain.batch)
    latencies, walls = list[float](), list[float]()
    with ExitStack() as stack:
        for engine in (plain, counted):
            stack.enter_context(engine)
            for _ in range(_WARM):
                engine.infer(batches[0])
        meter = stack.enter_context(PeakMeter(file.header.backend, threads, work))
        while len(walls) < max(1, rounds):
            frames = batches[len(walls) % len(batches)]
            latencies.append(_seconds(plain, frames))
            result = counted.infer_counted(frames)
            walls.append(result.collected - result.submitted)
            meter.turn()
            if tell:
                tell("timing layers", len(walls) / max(1, rounds))
            if stopped and stopped():
                break
        layers, peaks = counted.layers(), meter.peaks()
        facts = _facts(path, plain, threads)
    return to_report(facts, peaks, layers, graph, latencies, walls)


def to_report(
    engine: Mapping[str, Any],
    peaks: Peaks,
    layers: Sequence[RanLayer],
    graph: GraphNodes,
    latencies: Sequence[float],
    walls: Sequence[float],
) -> LayerReport:
    """What was measured as a report.

    Args:
        engine: Facts of it.
        peaks: Of the machine.
        layers: With a time for each of `walls`.
        graph: Of the engine.
        latencies: Seconds of inferences of the engine as it is.
        walls: Seconds of inferences in which layers were timed.
    """
    taken = quiet(walls)
    return LayerReport(
        engine=dict(engine),
        peaks=peaks,
        rows=to_rows(layers, graph, taken),
        macs=graph.macs,
        latency=quiet_mean(latencies),
        wall=sum(walls[place] for place in taken) / len(taken),
        rounds=len(walls),
    )


def _seconds(engine: Engine, frames: Image) -> float:
    result = engine.infer(frames)
    return result.collected - result.submitted


def _facts(path: Path, engine: Engine, threads: int) -> dict[str, Any]:
    return {
        "file": path.name, "model": engine.spec.name, "height": engine.spec.height, "width": engine.spec.width,
        "backend": engine.header.backend, "precision": engine.header.precision, "ran": engine.ran, "threads": threads,
        "batch": engine.batch,
    }  # fmt: skip


def _of_peak(macs: int | None, seconds: float, form: str, rates: Mapping[str, float]) -> float | None:
    peak = rates.get(peak_format(form))
    return 100 * macs / seconds / peak if macs and seconds and peak else None


def _share(seconds: float, whole: float) -> float:
    return 100 * seconds / whole


def _giga(value: float | None) -> float | None:
    return None if value is None else round(value / 1e9, 4)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
