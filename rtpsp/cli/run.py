"""``rtpsp run``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from rtpsp import build
from rtpsp.cli.console import Size, check_writable, stderr, steps, write_json
from rtpsp.cli.show import ProgressLine, print_run
from rtpsp.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, MissingError, OutputError, SourceError, UsageError
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.stream.display import Window, why_no_display
from rtpsp.stream.frame import View
from rtpsp.stream.pipeline import Pipeline
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.report import RunReport
from rtpsp.stream.sink import MaskFolder, Sink
from rtpsp.stream.source import SourceOptions

_EXIT_OF = {"Ctrl-C": EXIT_INTERRUPTED, "SIGTERM": EXIT_TERMINATED}


@click.command("run")
@click.option(
    "--camera",
    is_flag=False,
    flag_value="0",
    default=None,
    metavar="[N|DEVICE]",
    help="A webcam: 0 unless you give another number, or /dev/video2.",
)
@click.option(
    "--source", metavar="URI", help="A video, a folder or 'pattern*.png' of images, or sim://street?w=640&h=480."
)
@click.option("--engine", metavar="FILE", help="An engine file; without it the shipped model's, built once.")
@click.option("--camera-size", type=Size(), help="What to ask a webcam for, e.g. 720x1280.")
@click.option("--camera-fps", type=click.FloatRange(0, min_open=True), help="What to ask a webcam for.")
@click.option("--loop", is_flag=True, help="Start again at the end.")
@click.option("--start", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Begin there in a file.")
@click.option("--end", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Stop there in a file.")
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Take each Nth frame.")
@click.option(
    "--max-fps", type=click.FloatRange(0, min_open=True), help="Frames a second of the source's time, at most."
)
@click.option("--max-frames", type=click.IntRange(1), help="End after so many frames.")
@click.option(
    "--policy",
    type=click.Choice(["latest", "every"]),
    help="When the engine is slower than the source: show the latest frame, or every one. Default: latest if live.",
)
@click.option(
    "--pace",
    type=click.Choice(["source", "fast"]),
    default="fast",
    show_default=True,
    help="Play a file at its own rate like a camera, or read it as fast as possible.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Record to this .mp4, .mkv or .mov (H.264)."
)
@click.option(
    "--save-masks", type=click.Path(file_okay=False, path_type=Path), help="Class-id PNGs at the source's size."
)
@click.option(
    "--view",
    type=click.Choice(["overlay", "mask", "side-by-side"]),
    default="overlay",
    show_default=True,
    help="What to show and record.",
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of colour in the overlay."
)
@click.option("--legend/--no-legend", default=False, help="Names and colours of the classes in the picture.")
@click.option("--hud/--no-hud", default=False, help="Rate, age and drops in the picture.")
@click.option("--show/--no-show", default=None, help="A window; by default where there is a display.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the run report as JSON.")
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads for everything together; 0 takes all.")
@click.option(
    "--depth", type=click.IntRange(1, 8), default=1, show_default=True, help="Batches in flight; 2 for throughput."
)
def command(**given: Any) -> None:
    """Segment a camera, a video, images or the simulator, live.

    In the window: q or Esc quits, space freezes the view while recording goes on, m goes through overlay, mask, side by
    side and frame.
    """
    uri = _uri(given["camera"], given["source"])
    if given["report"]:
        check_writable(given["report"])
    with steps("building the engine") as tell:
        engine = build.to_engine_path(given["engine"], tell)
    sinks = _sinks(given)
    options = RunOptions(
        source=SourceOptions(
            camera_size=given["camera_size"], camera_fps=given["camera_fps"], loop=given["loop"], start=given["start"],
            end=given["end"],
        ),
        render=RenderOptions(given["alpha"], given["legend"], given["hud"]),
        policy=given["policy"], pace=given["pace"], every=given["every"], max_fps=given["max_fps"],
        max_frames=given["max_frames"], threads=given["threads"], depth=given["depth"],
    )  # fmt: skip
    pipeline = open_pipeline(uri, engine, sinks, options)
    stderr.print(_banner(pipeline, engine), markup=False, soft_wrap=True)
    try:
        with _stopped_by_signals(pipeline):
            pipeline.run()
    except BaseException:
        try:
            _tell(pipeline.report(), given["report"])
        except OutputError as error:  # what the run itself failed of is what it ends with
            stderr.print(str(error), markup=False, soft_wrap=True)
        raise
    report = pipeline.report()
    _tell(report, given["report"])
    if report.ended in _EXIT_OF:
        raise click.exceptions.Exit(_EXIT_OF[report.ended])
    if not report.frames.received and report.ended != "quit":
        raise SourceError(f"{uri}: no frame came from it: check --start, --end and the file")


def _tell(report: RunReport, path: Path | None) -> None:
    try:
        if path:
            write_json(path, report.to_dict())
    finally:  # whichever of the two cannot be written, the other is
        if report.frames.received or not report.ended.startswith("error"):
            print_run(report)


def _uri(camera: str | None, source: str | None) -> str:
    if (camera is None) == (source is None):
        got = "neither" if camera is None else "both"
        raise UsageError(
            f"got {got} of --camera and --source, expected one; to try it: rtpsp run --source sim://street"
        )
    if camera is None:
        assert source is not None
        return source
    if not camera.isdigit() and not camera.startswith("/dev/"):
        raise UsageError(f"--camera is {camera!r}, expected a number or a device such as /dev/video2")
    return camera


def _sinks(given: dict[str, Any]) -> list[Sink]:
    sinks: list[Sink] = []
    view: View = given["view"]
    if given["show"] is not False:
        reason = why_no_display()
        if reason is None:
            sinks.append(Window(view=view))
        elif given["show"]:
            raise MissingError(f"no window: {reason}; leave --show out to run without one")
        else:
            stderr.print(f"no window: {reason}", markup=False, soft_wrap=True)
    if given["output"]:
        from rtpsp.stream import recording  # after the window: see there

        sinks.append(recording.VideoFile(given["output"], view))
    if given["save_masks"]:
        sinks.append(MaskFolder(given["save_masks"]))
    sinks.append(ProgressLine())
    return sinks


def _banner(pipeline: Pipeline, engine: Path) -> str:
    report = pipeline.report()
    source = report.source
    rate = f" at {source.fps:g} fps" if source.fps else ""
    detail = f", {source.detail}" if source.detail else ""
    return (
        f"source  {source.uri}: {source.width}x{source.height}{rate}{detail}, policy {report.policy}\nengine  {engine}"
    )


@contextmanager
def _stopped_by_signals(pipeline: Pipeline) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the run in order; a second one acts as it always does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        pipeline.stop("Ctrl-C" if number == signal.SIGINT else "SIGTERM")
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
