"""The report as one HTML page that needs nothing else: no network, no script, no file beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rtpsp.bench.page import sections
from rtpsp.bench.tables import Table
from rtpsp.bench.verdict import headline, sentences, tiles
from rtpsp.files import write_atomically

_FIGURE_AND_UNIT = re.compile(r"(\d) (ms|fps|s|%|GMAC|[KMG]iB)(?!\w)")
HINT = "name another file with --html"


def page_of(report: Mapping[str, Any]) -> str:
    """The page.

    Args:
        report: As ``rtpsp bench --json`` writes it (schema 2); a section that it lacks is not on the page. Its names
            may come from files of others: they are escaped.

    Returns:
        HTML, with the report itself in ``<script type="application/json" id="report">``.
    """
    environment = Environment(
        loader=PackageLoader("rtpsp.bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # ours: what comes from files was escaped when it was drawn
    environment.filters["tied"] = _tied
    environment.tests["figures"] = _holds_figures
    return environment.get_template("report.html").render(
        headline=headline(report), sentences=sentences(report), tiles=tiles(report), sections=sections(report),
        report=dict(report), command=report.get("command"), version=report.get("rtpsp"), when=report.get("when"),
        cpu=(report.get("machine") or {}).get("cpu"),
    )  # fmt: skip


def _tied(text: str) -> str:
    """A figure and its unit stay on one line."""
    return _FIGURE_AND_UNIT.sub("\\1\N{NO-BREAK SPACE}\\2", text)


def _holds_figures(table: Table, place: int) -> bool:
    return place > 0 and place not in table.left


def write_html(report: Mapping[str, Any], path: Path) -> None:
    """Writes the page.

    Args:
        report: As for `page_of`.
        path: Where; a file there is replaced.

    Raises:
        OutputError: It cannot be written.
    """
    write_atomically(path, page_of(report).encode(), hint=HINT)
