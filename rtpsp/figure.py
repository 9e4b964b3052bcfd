"""What every figure of matplotlib's is drawn with: off screen by Agg, without pyplot.

No display is looked for, and no state is left behind.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is said of a font cache that is built, of a home that cannot be written, or of a letter without a glyph.

    The pictures are the same without; and standard error is for what a user can mend.
    """
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            yield
    finally:
        log.setLevel(before)


with _quiet():
    import matplotlib
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm as PowerNorm
    from matplotlib.figure import Figure as Figure
    from matplotlib.patches import Patch as Patch

DPI = 100


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own style, whatever the user's matplotlibrc says, and names with a dollar sign as they are."""
    with _quiet(), matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        yield


def to_png(figure: Figure) -> bytes:
    """A figure as a PNG file; drawn, and asked for, inside `style`."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return file.getvalue()
