"""Where a verb writes: nothing that was given to it is lost, and ``-`` is standard output."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rtpsp import files
from rtpsp.cli.console import stdout
from rtpsp.errors import UsageError
from rtpsp.stream.names import expanded

STDOUT = Path("-")
_HINT = "give another place for the report"


def json_option(function: Callable[..., None]) -> Callable[..., None]:
    """The option ``--json`` of the verbs that measure or look."""
    return click.option(
        "--json",
        "json_path",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        help="Write it all as JSON to this file; - is standard output, which then has nothing else.",
    )(function)


def check_outputs(outputs: Mapping[str, Path | Sequence[Path] | None], inputs: Mapping[str, str | Path | None]) -> None:
    """Make sure that no output goes where another one or an input is: it would be lost.

    Args:
        outputs: Paths by option; None for one that was not given, several where it has a file for each source.
        inputs: Paths, or URIs, by what they are in words: ``the model``.

    Raises:
        UsageError: One does.
    """
    seen: dict[Path, str] = {}
    for option, path in ((option, path) for option, given in outputs.items() for path in _paths(given)):
        for what, given in inputs.items():
            if given is not None and _same(path, Path(given)):
                raise UsageError(f"{path} is {what} itself and would be lost: give another place with {option}")
        first = seen.setdefault(Path(expanded(path)).resolve(), option)
        if first != option:
            raise UsageError(f"{first} and {option} both go to {path}: give each a place of its own")


def _paths(given: Path | Sequence[Path] | None) -> list[Path]:
    several = [given] if isinstance(given, Path) else given or ()
    return [path for path in several if path != STDOUT]


def _same(output: Path, given: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # ValueError: a URI may hold what no path can
        return Path(expanded(output)).samefile(expanded(given))
    return False


def check_writable(path: Path | None) -> None:
    """Make sure, before hours of work, that a report can be written at its end.

    Raises:
        OutputError: It cannot.
    """
    if path is not None and path != STDOUT:
        files.check_writable(Path(expanded(path)), hint=_HINT)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a report, to standard output where the path is ``-``.

    Raises:
        OutputError: The file cannot be written.
    """
    text = json.dumps(values, indent=2) + "\n"
    if path == STDOUT:
        stdout.print(text, end="", markup=False, soft_wrap=True)
        return
    files.write_atomically(Path(expanded(path)), text.encode(), hint=_HINT, make_folder=True)
