"""What ``rtpsp run`` does: options to sinks and pipeline, then the run, its report and its exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from rtpsp.cli._signals import Handler, install, restore
from rtpsp.cli.console import stderr, stdout, steps
from rtpsp.cli.outputs import STDOUT, check_outputs, check_writable, write_json
from rtpsp.cli.show import ProgressLine, print_run
from rtpsp.default import to_engine_path
from rtpsp.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, MissingError, OutputError, SourceError, UsageError
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.machine import usable_threads
from rtpsp.stream.display import Window, why_no_display
from rtpsp.stream.frame import View
from rtpsp.stream.pipeline import Pipeline
from rtpsp.stream.records import RleFile, StatsFile
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.report import RunReport
from rtpsp.stream.sink import MaskFolder, Sink
from rtpsp.stream.source import SourceOptions

if TYPE_CHECKING:
    from rtpsp.bench.target import Target

_OUTPUTS = ("output", "save_masks", "rle", "stats", "report")
_EXIT_OF = {"Ctrl-C": EXIT_INTERRUPTED, "SIGTERM": EXIT_TERMINATED}


def segment(given: dict[str, Any]) -> None:
    """One run.

    Args:
        given: The options of ``rtpsp run`` by name, as click converted them.

    Raises:
        RtpspError: As `rtpsp.run`; what was recorded and the report are written before.
        Exit: The run was stopped by a signal.
    """
    uri = _uri(given["camera"], given["source"])
    outputs = {f"--{name.replace('_', '-')}": given[name] for name in _OUTPUTS}
    check_outputs(outputs, {"the source": uri, "the engine": given["engine"]})
    for option, path in outputs.items():
        if path == STDOUT and option != "--report":
            raise UsageError(f"{option} is -, and standard output is for --report alone: give the name of a file")
    check_writable(given["report"])
    threshold: float | None = given["min_confidence"]
    if given["threads"] > usable_threads():
        stderr.print(f"--threads {given['threads']}: this process may use {usable_threads()}, more wait for each other")
    options = RunOptions(
        source=SourceOptions(
            camera_size=given["camera_size"], camera_fps=given["camera_fps"], loop=given["loop"], start=given["start"],
            end=given["end"],
        ),
        render=RenderOptions(given["alpha"], given["legend"], given["hud"]),
        policy=given["policy"], pace=given["pace"], every=given["every"], max_fps=given["max_fps"],
        max_frames=given["max_frames"], threads=given["threads"], depth=given["depth"], min_confidence=threshold,
        mask_size=given["mask_size"], smooth=given["smooth"], device_io=given["device_io"],
    )  # fmt: skip
    target = _target(given, options) if given["target_fps"] is not None else None
    if target is not None:
        engine, options = target.engine, replace(options, threads=target.chosen.threads)
        stderr.print(target.words, markup=False, soft_wrap=True)
    else:
        with steps("building the engine") as tell:
            engine = to_engine_path(given["engine"], tell, confidence=bool(threshold))
    sinks, no_window = _sinks(given)
    pipeline = open_pipeline(uri, engine, sinks, options)
    if no_window:
        nothing = "" if any(given[name] for name in _OUTPUTS) else "; nothing is written either: add --output FILE.mp4"
        stderr.print(no_window + nothing, markup=False, soft_wrap=True)
    stderr.print(_banner(pipeline, engine), markup=False, soft_wrap=True)
    try:
        with _stopped_by_signals(pipeline):
            pipeline.run()
    except BaseException:
        try:
            _tell(pipeline.report(), given["report"], target)
        except OutputError as error:  # what the run itself failed of is what it ends with
            stderr.print(str(error), markup=False, soft_wrap=True)
        raise
    report = pipeline.report()
    _tell(report, given["report"], target)
    if report.ended in _EXIT_OF:
        raise click.exceptions.Exit(_EXIT_OF[report.ended])
    if not report.frames.received and report.ended != "quit":
        raise SourceError(f"{uri}: no frame came from it: check --start, --end and the file")


def _target(given: dict[str, Any], options: RunOptions) -> Target:
    """The engine and threads for the asked-for rate."""
    from rtpsp.bench.target import choose_engine

    drawn = given["output"] or given["show"] or (given["show"] is None and why_no_display() is None)
    view: View | None = given["view"] if drawn else None
    with steps("choosing the engine") as tell:
        return choose_engine(given["target_fps"], options, given["engine"], view, tell)


def _tell(report: RunReport, path: Path | None, target: Target | None) -> None:
    told, went = report.to_dict(), ""
    if target is not None:
        told["target"], went = {**target.to_dict(), "held": target.held(report)}, target.settle(report)
    try:
        if path:
            write_json(path, told)
    finally:  # whichever of the two cannot be written, the other is
        if path != STDOUT and (report.frames.received or not report.ended.startswith("error")):
            print_run(report)
            if went:
                stdout.print(went, markup=False, soft_wrap=True)


def _uri(camera: str | None, source: str | None) -> str:
    if (camera is None) == (source is None):
        if camera is not None:
            raise UsageError("got both --camera and --source, expected one: leave one of them out")
        raise UsageError(
            "got neither --camera nor --source, expected one; to try it: rtpsp run --source 'sim://street?frames=60' "
            "--output try.mp4"
        )
    if camera is None:
        assert source is not None
        return source
    from rtpsp.stream.cameras import to_camera_uri

    return to_camera_uri(camera)


def _sinks(given: dict[str, Any]) -> tuple[list[Sink], str]:
    """The run's outputs, and why there is no window among them; empty if there is, or none was wanted."""
    sinks: list[Sink] = []
    no_window = ""
    view: View = given["view"]
    if given["show"] is not False:
        reason = why_no_display()
        if reason is None:
            sinks.append(Window(view=view))
        elif given["show"]:
            raise MissingError(f"no window: {reason}; leave --show out to run without one")
        else:
            no_window = f"no window: {reason}"
    if given["output"]:
        from rtpsp.stream import recording  # after the window: see there

        sinks.append(recording.VideoFile(given["output"], view))
    if given["save_masks"]:
        sinks.append(MaskFolder(given["save_masks"]))
    if given["rle"]:
        sinks.append(RleFile(given["rle"]))
    if given["stats"]:
        sinks.append(StatsFile(given["stats"]))
    sinks.append(ProgressLine())
    return sinks, no_window


def _as_typed(path: Path) -> Path:
    """Seen from here, where it lies below here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _banner(pipeline: Pipeline, engine: Path) -> str:
    report = pipeline.report()
    source = report.source
    rate = f" at {source.fps:g} fps" if source.fps else ""
    detail = f", {source.detail}" if source.detail else ""
    return (
        f"source  {source.uri}: {source.height}x{source.width} (HxW){rate}{detail}, policy {report.policy}\n"
        f"engine  {_as_typed(engine)}"
    )


@contextmanager
def _stopped_by_signals(pipeline: Pipeline) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the run in order; a second one acts as it always does."""
    before: dict[signal.Signals, Handler] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        pipeline.stop("Ctrl-C" if number == signal.SIGINT else "SIGTERM")
        restore({signal.Signals(number): before[signal.Signals(number)]})

    before.update(install(stop))
    try:
        yield
    finally:
        restore(before)
