"""The figures of README.md and bench/README.md, written from the recorded results.

python bench/readme.py            rewrite what stands between markers
python bench/readme.py --check    say what differs from the results, and fail if anything does
python bench/readme.py --record card-xeon2.json
                                  keep a report of `rtpsp bench --json` in bench/results, then rewrite

A marker names what to write, which file of bench/results it comes from, and, where not all of them, which columns:

    <!-- figures: card shipped-xeon2 -->
    <!-- figures: peers peers-xeon2 | peer; median ms; its time / ours -->
    ... what is here is replaced ...
    <!-- end -->

A recorded report has its figures, not every sample that they were taken from.

Within a line, `<!-- figures: value shipped-xeon2 engines.0.latency_ms.median -->55.8<!-- end -->` is one figure. The
results are reports of `rtpsp bench --json` (schema 2).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rtpsp.bench import tables
from rtpsp.bench.numbers import NONE, number
from rtpsp.bench.tables import Table
from rtpsp.bench.verdict import headline

ROOT = Path(__file__).parent.parent
FILES = ("README.md", "bench/README.md")
SCHEMA = 2
LEFT_OUT = {"samples_ms", "age_series", "dots", "features"}
"""Samples, points of a plot, and the machine's long list: no table has them, and the repository stays small."""

Section = Mapping[str, Any]
TABLES: dict[str, Callable[[Section], Table]] = {
    "engines": lambda report: tables.engines_table(report["engines"]),
    "ratios": lambda report: tables.ratios_table(report["ratios"]),
    "card": lambda report: tables.card_table(report["card"]),
    "classes": lambda report: tables.classes_table(report["card"]),
    "loop": lambda report: tables.stages_table(report["loop"]),
    "baseline": lambda report: tables.baseline_table(report["baseline"]),
    "peers": lambda report: tables.peers_table(report["peers"]),
    "peer-loops": lambda report: tables.loops_table(report["peers"]),
    "growth": lambda report: tables.pixels_table(report["growth"]),
    "batch": lambda report: tables.batch_table(report["growth"]),
    "threads": lambda report: tables.threads_table(report["growth"]),
    "parts": lambda report: tables.parts_table(report["layers"]),
    "layers": lambda report: tables.layers_table(report["layers"]),
    "cameras": lambda report: tables.cameras_table(report["cameras"]),
}
WORDS: dict[str, Callable[[Section], str]] = {
    "headline": headline,
    "command": lambda report: f"`{report['command']}`",
    "machine": lambda report: f"{report['machine']['cpu']}, {report['machine']['threads']} threads",
}

_MARKED = re.compile(r"<!-- figures: (?P<told>[^>]*?) -->(?P<old>.*?)<!-- end -->", re.DOTALL)


class MarkerError(Exception):
    """A marker that nothing can be written for; the message says which and why."""


def to_markdown(table: Table) -> str:
    """A table in Markdown; lists within a cell are joined, the strong row is bold."""

    def cell(text: str, strong: bool) -> str:
        text = text.replace("\n", "; ").replace("|", "\\|").replace(NONE, "")
        return f"**{text}**" if strong and text else text

    rows = [[cell(text, place == table.strong) for text in row] for place, row in enumerate(table.rows)]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def chosen(table: Table, columns: list[str]) -> Table:
    """Some of the columns, in the order in which they are asked for.

    Raises:
        MarkerError: There is no column of such a title.
    """
    unknown = [title for title in columns if title not in table.columns]
    if unknown:
        raise MarkerError(f"has no column {unknown[0]!r}, expected some of: {'; '.join(table.columns)}")
    places = [table.columns.index(title) for title in columns]
    return Table(tuple(columns), tuple(tuple(row[place] for place in places) for row in table.rows), (), table.strong)


def figures(told: str, results: Path) -> str:
    """What stands for a marker.

    Args:
        told: What the marker says behind ``figures:``.
        results: The folder of recorded results.

    Raises:
        MarkerError: It names something that is not there.
    """
    head, _, columns = told.partition("|")
    name, *given = head.split()
    if not given:
        raise MarkerError("names no result, expected for instance `card shipped-xeon2`")
    report = _report(results / f"{given[0]}.json")
    try:
        if name == "value":
            return _value(report, given[1] if len(given) > 1 else "")
        if name in WORDS:
            return WORDS[name](report)
        if name not in TABLES:
            raise MarkerError(f"asks for {name!r}, expected one of: value, {', '.join([*WORDS, *TABLES])}")
        table = TABLES[name](report)
    except KeyError as error:
        raise MarkerError(f"needs {error} in {given[0]}.json, which has: {', '.join(report)}") from error
    if not table.rows:
        raise MarkerError(f"finds nothing to show in {given[0]}.json")
    return to_markdown(chosen(table, [title.strip() for title in columns.split(";")]) if columns else table)


def _report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MarkerError(f"needs {path.name}, which cannot be read: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise MarkerError(f"needs {path.name}, which is no report of `rtpsp bench --json` in schema {SCHEMA}")
    return report


def _value(report: Any, path: str) -> str:
    for step in path.split("."):
        try:
            report = report[int(step) if isinstance(report, list) else step]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise MarkerError(f"finds nothing at {path!r}: {step!r} is not there") from error
    return report if isinstance(report, str) else number(report)


def rewritten(text: str, results: Path, name: str = "the text") -> str:
    """A text with what stands between its markers as the results say.

    Args:
        text: Markdown.
        results: The folder of recorded results.
        name: Of the text, for errors.

    Raises:
        MarkerError: A marker names something that is not there, or has no end.
    """

    def write(found: re.Match[str]) -> str:
        line = text[: found.start()].count("\n") + 1
        try:
            new = figures(found["told"], results)
        except MarkerError as error:
            raise MarkerError(f"{name}:{line}: the marker `{found['told']}` {error}") from error
        around = "\n" if "\n" in found["old"] or "\n" in new else ""
        return f"<!-- figures: {found['told']} -->{around}{new}{around}<!-- end -->"

    if text.count("<!-- figures: ") != len(_MARKED.findall(text)):
        raise MarkerError(f"{name}: a marker `<!-- figures: … -->` has no `<!-- end -->`")
    return _MARKED.sub(write, text)


def recorded(report: Any) -> Any:
    """A report, or a part of one, without `LEFT_OUT`."""
    if isinstance(report, dict):
        return {key: recorded(value) for key, value in report.items() if key not in LEFT_OUT}
    return [recorded(value) for value in report] if isinstance(report, list) else report


def record(path: Path, results: Path) -> None:
    """Keep a report under its own name, a section a line.

    Args:
        path: What ``rtpsp bench --json`` wrote.
        results: The folder of recorded results.

    Raises:
        MarkerError: It is no such report, or shows nothing but that it can be measured.
    """
    report = _report(path)
    if report.get("quick") or report.get("interrupted"):
        raise MarkerError(f"{path.name} is of a run that was quick or ended early: measure it again")
    lines = [
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for key, value in recorded(report).items()
    ]
    (results / path.name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command; gives its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail where a text differs from the results"
    )
    parser.add_argument("--record", type=Path, nargs="+", metavar="REPORT", default=[], help="keep these reports first")
    given = parser.parse_args(arguments)
    try:
        for path in given.record:
            record(path, root / "bench" / "results")
    except MarkerError as error:
        print(f"--record {error}", file=sys.stderr)
        return 1
    stale = []
    for name in FILES:
        path = root / name
        text = path.read_text(encoding="utf-8")
        try:
            new = rewritten(text, root / "bench" / "results", name)
        except MarkerError as error:
            print(error, file=sys.stderr)
            return 1
        if new != text:
            stale.append(name)
            if not given.check:
                path.write_text(new, encoding="utf-8")
    if given.check and stale:
        print(f"{', '.join(stale)}: figures differ from bench/results: run python bench/readme.py", file=sys.stderr)
        return 1
    print(f"rewritten: {', '.join(stale)}" if stale else "figures are those of bench/results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
