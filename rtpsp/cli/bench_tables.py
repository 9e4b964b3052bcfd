"""What ``rtpsp bench`` prints: the report's sections as tables, each with what it comes to in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable

from rtpsp.bench import tables
from rtpsp.bench.numbers import number, shares, size
from rtpsp.bench.tables import Table
from rtpsp.cli.console import stdout

Report = Mapping[str, Any]

_ALIKE = ("size", "ran in", "threads", "batch")
_WIDTH = 160
"""Of a table that goes into a file or a pipe, which have none of their own."""
_EXPENDABLE = (
    "name", "version", "published in", "format", "GMAC/s", "run", "n", "min", "mean", "p10", "p90", "p99", "max",
    "layers", "GMAC", "max age, ms", "megapixels", "limited by", "file", "pairs", "part",
)  # fmt: skip
"""Columns that a narrow terminal does without, these first; the JSON and the page have them all."""


def print_report(report: Report) -> None:
    """All of a report that was measured, one section below the other, and at the end what to know about its figures.

    Args:
        report: As it is written as JSON.
    """
    for title, table, words in _sections(report):
        if table.rows:
            _print(title, table)
        for line in words:
            stdout.print(line, markup=False, soft_wrap=True)
    for line in _remarks(report):
        stdout.print(line, markup=False, soft_wrap=True)


def _sections(report: Report) -> Iterator[tuple[str, Table, list[str]]]:
    """Title, table, and lines below it."""
    engines, loop = report["engines"], report.get("loop")
    if len(engines) == 1:  # one row of a table is a table of its own only where there is no other
        stages = (loop or {}).get("stages_ms") or {}
        told = {**(loop or {}), "stages_ms": {"engine alone": engines[0]["latency_ms"], **stages}}
        yield "", tables.stages_table(told), _about_engines(engines)
    else:
        yield "engines", _varying(tables.engines_table(engines)), _about_engines(engines)
        yield "ratios, pair by pair", tables.ratios_table(report["ratios"]), []
        if loop:
            title = f"the loop around {loop['engine']['precision']} of {loop['engine']['backend']}"
            yield title, tables.stages_table(loop), []
    if loop:
        yield "", Table((), ()), [_about_loop(loop)]
    if card := report.get("card"):
        yield "precision card", tables.card_table(card), []
        yield "points of IoU from FP32, by class", tables.classes_table(card), []
        yield "", tables.skipped_table(card.get("skipped") or ()), []
    if baseline := report.get("baseline"):
        yield "published figures", tables.baseline_table(baseline), []
    if growth := report.get("growth"):
        yield "growth with pixels", tables.pixels_table(growth), _words(growth.get("linear"))
        yield "growth with batch", tables.batch_table(growth), []
        yield "growth with threads", tables.threads_table(growth), []
    if layers := report.get("layers"):
        yield "parts of the network", tables.parts_table(layers), []
        yield "the most expensive layers", tables.layers_table(layers), _words(layers)
    if peers := report.get("peers"):
        yield "other libraries", tables.peers_table(peers), []
        yield "loops of others", tables.loops_table(peers), _words(peers)
        yield "", tables.skipped_table(peers.get("skipped") or ()), []
    if cameras := report.get("cameras"):
        yield "cameras", tables.cameras_table(cameras), _words(cameras)
    yield "", tables.skipped_table(report.get("skipped") or ()), []


def _about_engines(engines: Sequence[Report]) -> list[str]:
    lines = []
    for engine in engines:
        rate = f"{engine['fps']:.2f} fps" if engine["fps"] else "too few inferences for a rate"
        told = [f"{engine['model']} {engine['height']}x{engine['width']}, ran in {engine['ran']}: {rate}"]
        if engine["agreement_percent"] is not None:
            told.append(f"answers like {engine['agreement_with']} on {shares(engine['agreement_percent'])} of pixels")
        else:
            told.append("its answers could not be checked: its model is not here, and nobody else runs its graph")
        if engine["peak_memory_bytes"] is not None:
            told.append(f"{size(engine['peak_memory_bytes'])} of memory at the peak")
        lines.append(f"engine  {engine['name']}: {'; '.join(told)}")
    return lines


def _about_loop(loop: Report) -> str:
    fps = f"{loop['fps']:.2f} fps" if loop["fps"] else "no rate"
    uri = loop["source"]["uri"]
    return f"loop    {fps} over {loop['frames']['shown']} frames of {uri}; {_cost(loop)}"


def _cost(loop: Report) -> str:
    cost, ends = loop["cost_ms"], loop["cost_interval_ms"]
    if cost is None:
        return "its source sets the pace, so that nothing can be said of what the loop costs"
    spread = f" ({number(ends[0], 1)} to {number(ends[1], 1)})" if ends else ""
    told = f"the loop costs {number(cost, 1)} ms a frame{spread}"
    if loop["cost_percent"] is not None:
        told += f", {number(loop['cost_percent'], 1)} % of the engine's time"
    return f"{told}, by {loop['slices']} slices of each in turn"


def _words(section: Report | None) -> list[str]:
    words = (section or {}).get("words")
    return [str(words)] if words else []


def _remarks(report: Report) -> list[str]:
    told = []
    if not report["engines"]:
        told.append("nothing was timed")
    unsteady = [engine["name"] for engine in report["engines"] if engine["stable"] is False]
    noise = report["noise"]
    if unsteady:
        told.append(
            f"not stable: {', '.join(unsteady)}: the last three windows' medians differ by more than 5 %; measure for "
            "longer, or on a quieter machine"
        )
    if not noise["quiet"]:
        told.append(f"noisy: {noise['words']}; ratios stand, latencies are not to be quoted")
    if report.get("quick"):
        told.append("quick: this shows what is measured; figures to rely on take a run without --quick")
    if report["interrupted"]:
        told.append("ended early: these are the figures of what was done by then")
    return told


def _varying(table: Table) -> Table:
    """Without what is the same for all rows: the lines below say it."""
    alike = {
        column
        for place, column in enumerate(table.columns)
        if column in _ALIKE and len({row[place] for row in table.rows}) == 1
    }
    return _without(table, alike)


def _without(table: Table, columns: Collection[str]) -> Table:
    kept = [place for place, column in enumerate(table.columns) if column not in columns]
    return Table(
        tuple(table.columns[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in table.rows),
        tuple(new for new, place in enumerate(kept) if place in table.left),
        table.strong,
    )


def _print(title: str, table: Table) -> None:
    """As wide as there is room for; what no wrapping makes fit is left out."""
    width = stdout.width if stdout.is_terminal else max(_WIDTH, stdout.width)
    console = Console(width=width, file=StringIO(), force_terminal=stdout.is_terminal, color_system=None)
    shown = _rich(title, table)
    for column in _EXPENDABLE:
        if Measurement.get(console, console.options.update(width=10 * width), shown).maximum <= width:
            break
        table = _without(table, {column})
        shown = _rich(title, table)
    if stdout.is_terminal:
        stdout.print(shown)
    else:  # whose console is 80 columns wide
        console.print(shown)
        stdout.print(console.file.getvalue(), end="", markup=False, soft_wrap=True)  # type: ignore[attr-defined]


def _rich(title: str, table: Table) -> RichTable:
    shown = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for place, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if not place or place in table.left else "right")
    for place, row in enumerate(table.rows):
        shown.add_row(*row, style="bold" if place == table.strong else None)
    return shown
