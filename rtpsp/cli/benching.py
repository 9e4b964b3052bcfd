"""What ``rtpsp bench`` does: options to what is asked for, the measurement, its report and its exit code."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rtpsp import files
from rtpsp.bench.measure import BenchOptions
from rtpsp.bench.sections import Asked, GrowthAxes, Measured, measure_all
from rtpsp.bench.subjects import PRECISIONS, SubjectOptions
from rtpsp.cli._signals import EXIT_OF, Handler, install, restore
from rtpsp.cli.bench_tables import print_report
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, write_json
from rtpsp.default import to_engine_path
from rtpsp.errors import BoundNotMet, UsageError
from rtpsp.stream.names import expanded

DURATION, WARMUP = 10.0, 2.0
QUICK_DURATION, QUICK_WARMUP = 1.0, 0.3
REFRESHES = 2
"""Of the progress bar, a second: each takes a millisecond of a processor that is being measured."""
_OUTPUTS = ("json_path", "html_path")
_PAGE_HINT = "give another place for the page"


def measure(ctx: click.Context, given: dict[str, Any]) -> None:
    """One benchmark.

    Args:
        ctx: Of the verb, for the command that a report holds.
        given: The options of ``rtpsp bench`` by name, as click converted them.

    Raises:
        RtpspError: Nothing could be measured; or the first error of a section, once all else is printed and written.
        Exit: It was ended early by a signal.
    """
    if "list" in given["baseline"]:
        _print_baselines()
        return
    engines = (*given["engines"], *given["engine"])
    json_path, html_path = given["json_path"], given["html_path"]
    inputs = {f"the engine {engine}": engine for engine in engines}
    inputs |= {f"the {name}": given[name] for name in ("model", "source", "data", "calib")}
    check_outputs({"--json": json_path, "--html": html_path}, inputs)
    check_writable(json_path)
    if html_path is not None:
        if html_path == STDOUT:
            raise UsageError("--html is -, and standard output is for --json alone: give the name of a file")
        html_path = Path(expanded(html_path))
        files.check_writable(html_path, hint=_PAGE_HINT)
    options = _options(given)
    asked = _asked(given, bool(engines or given["model"]))
    subjects = _subjects(given, engines, asked.card)
    signals: list[int] = []
    with _noted(signals), _progress() as tell:
        measured = measure_all(subjects, options, asked, tell, lambda: bool(signals))
    told = measured.report.to_dict(_command(ctx)) | ({"quick": True} if asked.quick else {})
    _write(told, json_path, html_path)
    if json_path != STDOUT:
        print_report(told)
    if signals:
        raise click.exceptions.Exit(EXIT_OF[signal.Signals(signals[0])])
    _check(measured, told)


def _options(given: Mapping[str, Any]) -> BenchOptions:
    quick = given["quick"]
    duration = given["duration"] or (QUICK_DURATION if quick else DURATION)
    warmup = given["warmup"] if given["warmup"] is not None else (QUICK_WARMUP if quick else WARMUP)
    threads = given["threads"][0] if len(given["threads"]) == 1 else 0
    usual = BenchOptions(warmup, duration, threads, given["source"])
    return BenchOptions(warmup, duration, threads, given["source"], memory=False, checked_frames=1) if quick else usual


def _asked(given: Mapping[str, Any], of_a_user: bool) -> Asked:
    if given["split"] is not None and given["data"] is None:
        raise UsageError("--split has no meaning without --data: give labelled images, or leave it out")
    if given["bound"] is not None and not given["cameras"]:
        raise UsageError("--bound has no meaning without --cameras: add it, or leave the bound out")
    if given["peers"]:
        from rtpsp.bench.peers import peers_folder

        peers_folder()  # said before anything takes minutes
    return Asked(
        card=bool(given["precisions"] or given["backends"] or given["data"]),
        data=given["data"], split=given["split"] or "val", baselines=_baselines(given["baseline"]), beside=of_a_user,
        growth=_growth(given), layers=given["layers"], cameras=given["cameras"], bound=given["bound"],
        peers=given["peers"], quick=given["quick"],
    )  # fmt: skip


def _growth(given: Mapping[str, Any]) -> GrowthAxes:
    sizes, batches = given["sizes"], given["batch"]
    threads = given["threads"] if len(given["threads"]) > 1 else ()
    if not given["growth"]:
        return GrowthAxes(sizes, batches, threads)
    from rtpsp.bench.growth import DEFAULT_BATCHES, DEFAULT_SIZES

    return GrowthAxes(sizes or tuple(DEFAULT_SIZES), batches or tuple(DEFAULT_BATCHES), threads or (0,))


def _baselines(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        return ()
    from rtpsp.bench.baseline import BASELINES

    if "all" in names:
        return tuple(BASELINES)
    for name in names:
        if name not in BASELINES:
            raise UsageError(f"no published figures are called {name!r}: use {', '.join(BASELINES)}, all or list")
    return names


def _subjects(given: Mapping[str, Any], engines: tuple[str, ...], card: bool) -> SubjectOptions:
    precisions = given["precisions"]
    if given["data"] and not (engines or precisions or given["backends"]):
        precisions = PRECISIONS
    if not (engines or given["model"] or card):
        with steps("building the engine") as tell:
            engines = (str(to_engine_path(None, tell)),)
    threads = given["threads"][0] if len(given["threads"]) == 1 else 0
    return SubjectOptions(
        engines=tuple(str(to_engine_path(engine)) for engine in engines), model=given["model"], size=given["size"],
        output_stride=int(given["output_stride"]), classes=given["classes"], precisions=precisions,
        backends=given["backends"], threads=threads, calib=given["calib"],
    )  # fmt: skip


def _write(told: dict[str, Any], json_path: Path | None, html_path: Path | None) -> None:
    """Both, whichever of the two cannot be written."""
    try:
        if json_path is not None:
            write_json(json_path, told)
    finally:
        if html_path is not None:
            from rtpsp.bench.html import write_html

            write_html(told, html_path)
            stderr.print(f"page    {html_path}", markup=False, soft_wrap=True)


def _check(measured: Measured, told: Mapping[str, Any]) -> None:
    """The exit code, once everything is told.

    Raises:
        RtpspError: A section that was asked for could not be measured.
        BoundNotMet: Too few peers ran.
    """
    if measured.error is not None:
        raise measured.error
    peers = told.get("peers")
    if peers is not None and not peers["enough"]:
        raise BoundNotMet(f"{peers['words']}: see above why the others did not")


def _print_baselines() -> None:
    from rtpsp.bench.baseline import list_baselines

    for row in list_baselines():
        figures = f"{row['published_ms']:g} ms" if row["published_ms"] else f"{row['published_fps']:g} fps"
        stdout.print(f"{row['key']:<12}  {figures:<8}  {row['title']}; {row['source']}", markup=False, soft_wrap=True)


def _command(ctx: click.Context) -> str:
    """The command line that measures the same, a file's options included, its outputs left out."""
    given: dict[str, Any] = {**(ctx.default_map or {}), **ctx.meta.get("rtpsp.given", {})}
    words = ["rtpsp", "bench"]
    for param in ctx.command.params:
        value = given.get(str(param.name))
        if value in (None, (), [], False) or param.name in _OUTPUTS or not param.expose_value:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(param, click.Argument):
            words += map(str, values)
        else:
            option = param.opts[-1]
            words += [option] if value is True else [word for one in values for word in (option, str(one))]
    return shlex.join(words)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal with what is being done, and with the running medians while something is timed."""
    live = stderr.is_terminal
    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=stderr, transient=True, disable=not live, refresh_per_second=REFRESHES)
    with progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, description=what, completed=share)


@contextmanager
def _noted(signals: list[int]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM is noted, and ends the measurement in order; a second one acts as it always does."""
    before: dict[signal.Signals, Handler] = {}

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        restore({signal.Signals(number): before[signal.Signals(number)]})

    before.update(install(note))
    try:
        yield
    finally:
        restore(before)
