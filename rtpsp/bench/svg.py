"""What the report's figures are drawn with: matplotlib, as SVG that stands inside an HTML page and follows its theme.

Texts stay texts, in the page's own font. Colours are CSS variables of the page, with the value on a light background as
what stands in where a figure is looked at alone.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG

from rtpsp.figure import Axes, Figure, style

WIDTH = 440
"""CSS pixels: on a telephone the letters stay readable, and on a desk two figures stand side by side."""
FONT = 11

INK, MUTED, GRID, PAPER = "#1c1d21", "#62656d", "#e2e2dc", "#fcfcfa"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's (2008), which colour-blind eyes tell apart; a figure still never tells by colour alone."""
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES: tuple[tuple[float, tuple[float, ...] | None], ...] = (
    (0, None), (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2, 1, 2, 1, 2)),
)  # fmt: skip

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"series-{place}" for place, colour in enumerate(SERIES, 1)
}
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"(font: [^;\"]*?px) [^;\"]*")
_FINE = re.compile(r"(\d\.\d\d)\d+")  # a hundredth of a pixel is not seen, and digits are most of a figure's bytes
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(?:href="|url\()#([^")]+)')


@contextmanager
def drawing() -> Iterator[None]:
    """The style; figures are made, drawn and written inside it."""
    with style():
        matplotlib.rcParams.update({
            "axes.axisbelow": True,
            "axes.edgecolor": MUTED,
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.labelcolor": MUTED,
            "axes.labelsize": FONT,
            "axes.linewidth": 0.8,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.h_pad": 4 / 72,
            "figure.constrained_layout.w_pad": 4 / 72,
            "figure.facecolor": "none",
            "font.size": FONT,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "legend.fontsize": FONT,
            "legend.frameon": False,
            "legend.handlelength": 2.4,
            "legend.labelcolor": INK,
            "lines.linewidth": 1.6,
            "svg.fonttype": "none",
            "svg.hashsalt": "rtpsp",  # the same report gives the same file
            "text.color": INK,
            "xtick.color": MUTED,
            "xtick.labelsize": FONT,
            "ytick.color": MUTED,
            "ytick.labelsize": FONT,
        })  # fmt: skip
        yield


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure.

    Args:
        height: CSS pixels, where it is shown at its own size.
        width: Likewise.
    """
    return Figure(figsize=(width / 72, height / 72), layout="constrained")  # matplotlib's SVG has 72 units an inch


def colour_of(place: int) -> str:
    """The colour of series `place`, from 0; they repeat after six."""
    return SERIES[place % len(SERIES)]


def marker_of(place: int) -> str:
    """The marker of series `place`; markers and colours repeat together."""
    return MARKERS[place % len(MARKERS)]


def dash_of(place: int) -> tuple[float, tuple[float, ...] | None]:
    """The line style of series `place`; where colours repeat it is another one."""
    return DASHES[(place + place // len(DASHES)) % len(DASHES)]


def plain_log(axes: Axes, axis: str) -> None:
    """A logarithmic axis with figures such as 0.5, 1, 2 and not powers of ten.

    Args:
        axes: What is drawn; its limits are set already.
        axis: ``x`` or ``y``.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    chosen = axes.xaxis if axis == "x" else axes.yaxis
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    steps: tuple[float, ...] = (1, 2, 5) if high / low < 500 else (1,)
    if high / low < 8:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
    chosen.set_major_locator(LogLocator(base=10, subs=steps, numticks=20))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    chosen.set_minor_locator(NullLocator())
    chosen.set_minor_formatter(NullFormatter())


def to_svg(drawn: Figure, name: str, title: str) -> str:
    """A figure as an SVG element for a page.

    Args:
        drawn: What to write, inside `drawing`.
        name: Of the figure, unlike all others of the page: its ids begin with it.
        title: What the picture shows, for those who cannot see it.

    Returns:
        One ``svg`` element, without a size of its own.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    FigureCanvasSVG(drawn).print_svg(file, metadata=nothing)  # type: ignore[no-untyped-call]
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r"<(defs|metadata)>\s*</\1>|<!--.*?-->", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    told = html.escape(title, quote=True)
    svg = f'{head} role="img" aria-label="{told}" stroke-linejoin="round" stroke-linecap="butt">{body}'
    used = set(_REFERENCE.findall(svg))
    svg = _ID.sub(lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = _REFERENCE.sub(lambda found: found[0].replace(f"#{found[1]}", f"#{name}-{found[1]}"), svg)
    svg = _FONT.sub(r"\1 var(--sans, system-ui, sans-serif)", svg)
    svg = _COLOUR.sub(lambda found: f"var(--{_VARIABLES[found[0]]}, {found[0]})", svg)
    svg = re.sub(r' d="[^"]*"', lambda found: _FINE.sub(r"\1", found[0]), svg)
    return re.sub(r"\n\s*\n+", "\n", svg)
