"""What ``rtpsp run`` does: options to sinks and pipeline, then the run, its report and its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from rtpsp.cli._signals import EXIT_OF, NAMES, Handler, install, restore
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.logs import to_line
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, write_json
from rtpsp.cli.run_sinks import OUTPUTS, check_recordings, paths_of, sinks_of
from rtpsp.cli.run_sources import check_use, shown_names, sources_of, to_source_options
from rtpsp.cli.show import print_run
from rtpsp.default import to_engine_path
from rtpsp.errors import OutputError, SourceError
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.machine import usable_threads
from rtpsp.outside.systemd import Keeper
from rtpsp.redaction import scrub
from rtpsp.stream.display import why_no_display
from rtpsp.stream.frame import View
from rtpsp.stream.pipeline import Pipeline
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.report import RunReport
from rtpsp.stream.snapshot import Snapshot
from rtpsp.stream.source import SourceInfo
from rtpsp.stream.source_list import NamedSource

if TYPE_CHECKING:
    from rtpsp.bench.target import Target

_EXIT_OF = {NAMES[number]: code for number, code in EXIT_OF.items()}
_TELL_SECONDS = 1.0
"""How long a process that hangs may take to say so: what it hangs in may be its terminal."""


def segment(given: dict[str, Any]) -> None:
    """One run.

    Args:
        given: The options of ``rtpsp run`` by name, as click converted them.

    Raises:
        RtpspError: As `rtpsp.run`; what was recorded and the report are written before.
        Exit: The run was stopped by a signal.
    """
    sources = sources_of(given)
    check_use(given, sources)
    names = [source.name for source in sources]
    paths = paths_of(given, names)
    check_recordings(given, paths["--output"], [source.uri for source in sources])
    several = len(sources) > 1
    inputs = {f"source {source.name}" if several else "the source": source.uri for source in sources}
    check_outputs(paths, {**inputs, "the list of sources": given["sources"], "the engine": given["engine"]})
    check_writable(given["report"])
    if given["threads"] > usable_threads():
        stderr.print(f"--threads {given['threads']}: this process may use {usable_threads()}, more wait for each other")
    options = _to_run_options(given)
    running: list[Pipeline] = []
    with ExitStack() as stack:
        if given["metrics"] is not None:
            from rtpsp.outside.server import serve

            served = stack.enter_context(serve(lambda: _state_of(running), given["metrics"]))
            stderr.print(f"metrics http://{served.address}/metrics", markup=False, soft_wrap=True)
        target = _target(given, options) if given["target_fps"] is not None else None
        if target is not None:
            engine, options = target.engine, replace(options, threads=target.chosen.threads)
            stderr.print(target.words, markup=False, soft_wrap=True)
        else:
            with steps("building the engine") as tell:
                engine = to_engine_path(given["engine"], tell, confidence=bool(options.min_confidence))
        sinks, no_window = sinks_of(given, paths, names)
        pipeline = open_pipeline([source.uri for source in sources], engine, sinks, options)
        running.append(pipeline)
        if no_window:
            nothing = (
                "" if any(given[name] for name in OUTPUTS) else "; nothing is written either: add --output FILE.mp4"
            )
            stderr.print(no_window + nothing, markup=False, soft_wrap=True)
        stderr.print(_banner(pipeline.report(), engine, sources), markup=False, soft_wrap=True)
        report = _run(pipeline, lambda report: _tell(report, given["report"], target, sources))
    if report.ended in _EXIT_OF:
        raise click.exceptions.Exit(_EXIT_OF[report.ended])
    if not report.frames.received and report.ended != "quit":
        what = (
            f"none of {len(sources)} sources gave a frame" if several else f"{report.source.uri}: no frame came from it"
        )
        raise SourceError(f"{what}: check --start, --end and the file")


def _to_run_options(given: dict[str, Any]) -> RunOptions:
    return RunOptions(
        source=to_source_options(given),
        render=RenderOptions(given["alpha"], given["legend"], given["hud"]),
        policy=given["policy"], pace=given["pace"], every=given["every"], max_fps=given["max_fps"],
        max_frames=given["max_frames"], threads=given["threads"], depth=given["depth"],
        min_confidence=given["min_confidence"], mask_size=given["mask_size"], smooth=given["smooth"],
        device_io=given["device_io"], stall_timeout=given["stall_timeout"],
        observed=given["metrics"] is not None, on_hang=_end_hung,
    )  # fmt: skip


def _state_of(running: Sequence[Pipeline]) -> Snapshot:
    """Of the run; before there is one nothing is ready."""
    return running[0].snapshot() if running else Snapshot((), {}, {}, (), (), ready=False, stopping="")


def _run(pipeline: Pipeline, tell: Callable[[RunReport], None]) -> RunReport:
    """The run itself, and what is told of it however it ends."""
    try:
        with _stopped_by_signals(pipeline), Keeper(pipeline.snapshot):
            pipeline.run()
    except BaseException:
        try:
            tell(pipeline.report())
        except OutputError as error:  # what the run itself failed of is what it ends with
            stderr.print(str(error), markup=False, soft_wrap=True)
        raise
    report = pipeline.report()
    # the terminal may be what hung up, and what it was to read is lost then; a report in a file is not
    with contextlib.suppress(*((OSError,) if report.ended == "SIGHUP" else ())):
        tell(report)
    return report


def _end_hung(message: str) -> None:
    """End the process: its main thread hangs where nothing can reach it; what could be closed is closed."""
    line = f"{to_line(message)}\n".encode()
    teller = threading.Thread(target=os.write, args=(2, line), daemon=True)
    teller.start()
    teller.join(_TELL_SECONDS)
    os._exit(OutputError.exit_code)


def _target(given: dict[str, Any], options: RunOptions) -> Target:
    """The engine and threads for the asked-for rate."""
    from rtpsp.bench.target import choose_engine

    drawn = given["output"] or given["show"] or (given["show"] is None and why_no_display() is None)
    view: View | None = given["view"] if drawn else None
    with steps("choosing the engine") as tell:
        return choose_engine(given["target_fps"], options, given["engine"], view, tell)


def _tell(report: RunReport, path: Path | None, target: Target | None, sources: Sequence[NamedSource]) -> None:
    told, went = report.to_dict(), ""
    for source, values in zip(sources, told["sources"], strict=False):
        values["name"] = source.name
    if target is not None:
        told["target"], went = {**target.to_dict(), "held": target.held(report)}, target.settle(report)
    try:
        if path:
            write_json(path, _scrubbed(told))
    finally:  # whichever of the two cannot be written, the other is
        if path != STDOUT and (report.frames.received or not report.ended.startswith("error")):
            print_run(report, shown_names(sources))
            if went:
                stdout.print(went, markup=False, soft_wrap=True)


def _scrubbed(value: Any) -> Any:
    """The texts of a report without secrets; its numbers stay, whatever digits a password has."""
    if isinstance(value, dict):
        return {key: _scrubbed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(item) for item in value]
    return scrub(value) if isinstance(value, str) else value


def _as_typed(path: Path) -> Path:
    """Seen from here, where it lies below here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _banner(report: RunReport, engine: Path, sources: Sequence[NamedSource]) -> str:
    infos = [source.info for source in report.sources] or [report.source]
    policies = [source.policy for source in report.sources] or [report.policy]
    lines = [
        f"source  {f'{name} = ' if name else ''}{_described(info)}, policy {policy}"
        for name, info, policy in zip(shown_names(sources), infos, policies, strict=True)
    ]
    return "\n".join([*map(scrub, lines), f"engine  {_as_typed(engine)}"])


def _described(info: SourceInfo) -> str:
    size = f"{info.height}x{info.width} (HxW)" if info.height else ""
    rate = f" at {info.fps:g} fps" if info.fps and size else ""
    return f"{info.uri}: {', '.join(filter(None, (size + rate, info.detail)))}"


@contextmanager
def _stopped_by_signals(pipeline: Pipeline) -> Iterator[None]:
    """The first signal ends the run in order; a second one acts as it always does."""
    before: dict[signal.Signals, Handler] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        pipeline.stop(NAMES[signal.Signals(number)])
        restore({signal.Signals(number): before[signal.Signals(number)]})

    before.update(install(stop))
    try:
        yield
    finally:
        restore(before)
