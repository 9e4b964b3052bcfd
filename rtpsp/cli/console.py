"""Consoles and the pieces that several verbs print with. Results go to stdout, the rest to stderr."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rtpsp.errors import OutputError

if TYPE_CHECKING:  # both bring numpy
    from rtpsp.build import Progress as Tell
    from rtpsp.timing import Summary


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process with code 1.

        Raises:
            OutputError: Always.
        """
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not fail at exit again
        raise OutputError("standard output was closed before all was written: read it to its end")


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        """Nobody listens, which is no reason to stop; Rich would end the process, and silence standard output."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


stdout = _Stdout(highlight=False)
stderr = _Stderr(stderr=True, highlight=False)


class Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A size as HxW, e.g. ``360x480``: height first, in pixels."""

    name = "HxW"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it is written, not in capitals."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"0*([1-9][0-9]{0,5})x0*([1-9][0-9]{0,5})", str(value), re.ASCII | re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is not a size: give HEIGHTxWIDTH in pixels, e.g. 360x480", param, ctx)
        return int(found[1]), int(found[2])


class Capability(click.ParamType):  # type: ignore[type-arg]  # as Size
    """A compute capability as NVIDIA's tools write it, ``sm89``, or as its tables do, ``8.9``; gives the latter."""

    name = "smNN"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it is written, not in capitals."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = re.fullmatch(r"(?:sm_?)?(1[0-9]|[1-9])\.?([0-9])", str(value), re.ASCII | re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is not a compute capability: give one such as sm89 or 8.9", param, ctx)
        return f"{found[1]}.{found[2]}"


@contextmanager
def steps(title: str) -> Iterator[Tell]:
    """A progress bar for work in steps; it appears with the first step, and not at all where there is none."""
    progress = Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=stderr,
    )

    live = stderr.is_terminal  # elsewhere, in a log, one line at the end says that it was done

    def tell(step: str, done: int, total: int) -> None:
        if not progress.tasks:
            if live:
                progress.start()
            progress.add_task(step, total=total)
        progress.update(progress.tasks[0].id, description=step, completed=done, total=total)

    try:
        yield tell
        if progress.tasks and not live:
            stderr.print(progress)
    except BaseException:
        for task in progress.tasks:  # the error is the one line that counts
            progress.update(task.id, visible=False)
        progress.live.transient = True
        raise
    finally:
        if progress.tasks and live:  # stopping one that never started prints an empty line
            progress.stop()


def summary_table(title: str, rows: dict[str, Summary]) -> Table:
    """Stages down, figures in milliseconds across; a dash where samples are too few for a percentile."""
    table = Table(title=title, title_justify="left")
    table.add_column("ms")
    for name in ("n", "min", "median", "mean", "p90", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        figures = (row.min, row.median, row.mean, row.p90, row.p95, row.p99, row.max)
        table.add_row(name, str(row.count), *("-" if figure is None else f"{figure:.1f}" for figure in figures))
    return table
