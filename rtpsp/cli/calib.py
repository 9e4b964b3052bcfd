"""``rtpsp calib``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.table import Table as Grid
from rich.text import Text

from rtpsp.calibration_cache import TABLE, CalibrationCache, cache_name, read_cache, write_cache
from rtpsp.calibration_table import METHOD_OF, read_table, to_cache, to_table
from rtpsp.cli.console import stdout
from rtpsp.cli.outputs import STDOUT, check_outputs
from rtpsp.errors import DataError, UsageError
from rtpsp.files import write_atomically

FOLDER = Path("calib")
_TAKES = {"show": (), "import": ("model", "output"), "export": ("output", "release", "algorithm")}
_OPTION = {"model": "--model", "output": "-o", "release": "--release", "algorithm": "--algorithm"}


@click.command("calib")
@click.argument("action", type=click.Choice(list(_TAKES)))
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--model",
    type=click.Path(dir_okay=False, readable=False, path_type=Path),
    metavar="FILE",
    help="For import: the ONNX model that the table was calibrated for.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Where the result goes; by default into ./calib, or for export beside the cache. - is standard output.",
)
@click.option(
    "--release",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="For export: the TensorRT that is to read it, e.g. 100300 for 10.3.",
)
@click.option(
    "--algorithm",
    type=click.Choice(list(METHOD_OF)),
    help="For export: the calibrator that is to read it; TensorRT passes over a table of another one.",
)
def command(action: str, file: Path, **given: Any) -> None:
    """Look at a calibration cache, which holds the range of each tensor, or exchange it with TensorRT's table.

    \b
    rtpsp calib show CACHE                    what it was measured on, its ranges, its sensitivity table
    rtpsp calib import TABLE --model MODEL    a cache with the ranges of a TensorRT calibration table
    rtpsp calib export CACHE                  a table with the ranges of a cache, for TensorRT up to 10

    A table tells neither the frames that it was measured on nor their count, nor whether a tensor is ever negative.
    """
    for name in given.keys() - set(_TAKES[action]):
        if given[name] is not None:
            raise UsageError(f"{_OPTION[name]} means nothing to 'calib {action}': leave it out")
    output: Path | None = given["output"]
    check_outputs({"-o": output}, {"the file": file, "the model": given["model"]})
    if action == "show":
        _show(file, read_cache(file))
    elif action == "import":
        if given["model"] is None:
            raise UsageError(
                "import needs the model that the table was calibrated for: give it with --model MODEL.onnx"
            )
        _import(file, given["model"], output)
    else:
        cache, release = read_cache(file), given["release"]
        text = to_table(cache, release and str(release), given["algorithm"])
        path = output or file.with_suffix(".table")
        check_outputs({"-o": path}, {"the file": file})
        _write(path, text, f"{len(cache.ranges)} tensors, {text.split()[0]}")


def _import(file: Path, model_file: Path, output: Path | None) -> None:
    table = read_table(file)  # a slip in its name is told before the model is read
    from rtpsp.graph.ranges import canonical, graph_digest, tensors_of
    from rtpsp.onnx_file import load_model

    model, spec = load_model(model_file)
    plain = canonical(model)
    # folding takes tensors away that TensorRT saw: what stood between a convolution and its batch norm
    names = {value.name for graph in (model, plain) for value in _values(graph)}
    try:
        cache = to_cache(table, spec, graph_digest(model), tensors=names, stored=tensors_of(plain))
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    told = f"{len(cache.ranges)} tensors of {cache.model}, {cache.method}"
    if output == STDOUT:
        _write(output, cache.to_json(), told)
        return
    path = output or FOLDER / cache_name(cache)
    write_cache(path, cache)
    stdout.print(f"{path}\n  {told}", markup=False, soft_wrap=True)


def _values(model: Any) -> Iterable[Any]:
    yield from model.graph.inputs
    for node in model.graph:
        yield from node.outputs


def _write(path: Path, text: str, told: str) -> None:
    if path == STDOUT:
        stdout.print(text, end="", markup=False, soft_wrap=True)
        return
    write_atomically(path, text.encode(), hint="name another file with -o", make_folder=True)
    stdout.print(f"{path}\n  {told}", markup=False, soft_wrap=True)


def _show(file: Path, cache: CalibrationCache) -> None:
    digest = cache.frames.removeprefix(TABLE)[:16]
    lines = [
        f"{file}: a calibration cache of {cache.model}",
        f"graph        sha256 {cache.graph[:16]}",
        f"frames       {cache.images or 'unknown'} images, sha256 {digest}; fit {cache.fit}",
        f"method       {cache.method}",
        *_range_lines(cache),
    ]
    if cache.frames.startswith(TABLE):
        lines[2] = f"frames       unknown: from a TensorRT table, sha256 {digest}; fit {cache.fit}"
    tables = []
    for name, value in _entries(cache.measured):
        grid = _grid(name, value)
        if grid is None:
            lines.append(f"{_plain(name):<12} {_plain(value)}")
        else:
            tables.append(grid)
    for line in lines:
        stdout.print(line, markup=False, soft_wrap=True)
    for grid in tables:
        stdout.print(grid)


def _entries(measured: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What was measured, by name; of an object with tables inside, each of its entries behind its own name."""
    for name, value in sorted(measured.items()):
        if isinstance(value, Mapping) and any(_grid("", inner) is not None for inner in value.values()):
            yield from ((f"{name}: {inner}", entry) for inner, entry in sorted(value.items()))
        else:
            yield name, value


def _range_lines(cache: CalibrationCache) -> list[str]:
    ranges = cache.ranges
    least, most = (pick(ranges, key=lambda name: ranges[name].amax) for pick in (min, max))
    lines = [
        f"ranges       {len(ranges)} tensors, from {ranges[least].amax:.4g} ({least!r}) to {ranges[most].amax:.4g} "
        f"({most!r})"
    ]
    seen = [(r.low, r.high, r.amax) for r in ranges.values() if r.low is not None and r.high is not None]
    if seen:
        positive = sum(low >= 0 for low, _, _ in seen)
        cut = sum(amax < max(-low, high) for low, high, amax in seen)
        lines.append(f"             {positive} never negative; {cut} with values beyond their range, which are clipped")
    dead = sorted(name for name, found in ranges.items() if found.amax == 0)
    if dead:
        lines.append(
            f"             {len(dead)} always 0: {', '.join(map(repr, dead[:5]))}{', ...' if dead[5:] else ''}"
        )
    return lines


def _grid(name: str, value: Any) -> Grid | None:
    """A table, where a value is a list of objects or an object of objects."""
    if isinstance(value, list):
        rows = value
    elif isinstance(value, Mapping):
        rows = [{name: key, **entry} if isinstance(entry, Mapping) else entry for key, entry in value.items()]
    else:
        return None
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        return None
    columns = list(dict.fromkeys(column for row in rows for column in row))
    grid = Grid(title=Text(_plain(name)), title_justify="left")  # Text: names may hold what Rich takes for markup
    for column in columns:
        numbers = all(isinstance(row.get(column), int | float | None) for row in rows)
        grid.add_column(Text(_plain(column)), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_plain(row.get(column, ""))) for column in columns))
    return grid


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(key)} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, str):
        return value if value.isprintable() else ascii(value)
    return "-" if value is None else str(value)
