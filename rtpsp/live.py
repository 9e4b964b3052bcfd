"""The main job in one call: open a source, load an engine, run the loop, close everything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions, check_mask_size
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.errors import InputError, MissingError, RtpspError, SourceLost, UsageError
from rtpsp.fit import MaskSize
from rtpsp.machine import usable_threads
from rtpsp.stream.checks import check_device_io, check_min_confidence
from rtpsp.stream.names import shown
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.pipeline_options import check_stall_timeout
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.report import RunReport, ThreadPlan, divide_threads
from rtpsp.stream.selection import Pace, Selection
from rtpsp.stream.sink import Sink
from rtpsp.stream.slot import Policy
from rtpsp.stream.source import Source, SourceOptions, open_source
from rtpsp.stream.unopened import Unopened

_log = logging.getLogger(__name__)

READ_GRACE = 5.0
"""Seconds beyond the time-outs of a source after which a read of it hangs."""
LONGEST_READ = 15.0
"""Seconds that a read may take where a source has the time-out that suits its kind: the longest of those."""


@dataclass(frozen=True)
class RunOptions:
    """How a run goes; the defaults are right for most sources.

    Attributes:
        source: What to ask of each source that is opened by URI; its planes are the engine's.
        render: How pictures are drawn.
        policy: ``latest`` or ``every``; None follows each source: ``latest`` for a live one.
        pace: ``source`` plays a file at its own rate, like a camera; ``fast`` reads it as fast as it can.
        every: Take each Nth frame; this and the next two hold for each source.
        max_fps: Take at most so many frames a second of the source's time.
        max_frames: End after so many frames.
        threads: CPU threads for everything together; 0 takes as many as this process may use. An `Engine` that is
            given keeps its own number.
        depth: Batches in flight: 1 for the freshest picture, 2 for throughput. An `Engine` that is given keeps its own.
        min_confidence: Least probability, 0..1, at which a pixel gets its class; below it the class map holds
            `rtpsp.fit.no_class` and pictures show it hatched. Needs an engine that was built with confidence. None and
            0 leave every pixel the likeliest class.
        mask_size: ``model`` decides each pixel's class at the model's size, ``frame`` at the frame's own, from scores
            interpolated there: borders are smoother where the frame is the larger one. Needs an engine whose header
            says ``tail=host``. None is ``frame`` where `device_io` is on, else ``model``.
        device_io: Whether the engine's device brings frames to the model's size, makes class maps of the frame's own
            and draws overlay or mask: ``auto`` where it can and no other option stands against it, ``on`` or an error,
            ``off``. An `Engine` that is given keeps its own.
        smooth: Filter the network's scores over time (`rtpsp.smoothing.Smoother`), which lowers flicker and adds no
            frame of latency. Needs an engine whose header says ``tail=host``, and leaves `device_io` off.
        stall_timeout: Seconds for which engine, drawing or an output may be busy with one frame before they count as
            stalled. How long a read may take follows from `SourceOptions.read_timeout`.
        observed: See `rtpsp.stream.pipeline.PipelineOptions`, as for `on_hang`.
        on_hang: Called when the thread that called `run` hangs for good.
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    render: RenderOptions = field(default_factory=RenderOptions)
    policy: Policy | None = None
    pace: Pace = "fast"
    every: int = 1
    max_fps: float | None = None
    max_frames: int | None = None
    threads: int = 0
    depth: int = 1
    min_confidence: float | None = None
    mask_size: MaskSize | None = None
    device_io: DeviceIOChoice = "auto"
    smooth: bool = False
    stall_timeout: float = 30.0
    observed: bool = False
    on_hang: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        check_min_confidence(self.min_confidence)
        check_mask_size(self.mask_size)
        check_device_io(self.device_io, self.min_confidence, self.mask_size, self.smooth)
        check_stall_timeout(self.stall_timeout)


def run(
    source: str | Source | Sequence[str | Source],
    engine: str | Path | Engine,
    sinks: Sequence[Sink] = (),
    options: RunOptions | None = None,
) -> RunReport:
    """Segment a source from its beginning to its end, or several at once with one engine that they share in turn.

    Of several sources one that cannot be opened, ends or is lost ends itself alone.

    Args:
        source: A URI (`rtpsp.open_source` says which), or a source that is open, or several of them; they are closed
            at the end either way. For a model of four planes it is one of images, opened with as many.
        engine: An engine file, or an engine that is not open; the loop opens it in its own thread.
        sinks: Where the results go; opened before the first frame and closed at the end.
        options: How.

    Returns:
        What happened, with rates, stage times, ages and drops.

    Raises:
        RtpspError: The first error of any stage, else that of the first source that was lost. What was recorded up to
            then is closed and playable.
    """
    return open_pipeline(source, engine, sinks, options).run()


def open_pipeline(
    source: str | Source | Sequence[str | Source],
    engine: str | Path | Engine,
    sinks: Sequence[Sink] = (),
    options: RunOptions | None = None,
) -> Pipeline:
    """What `run` runs, for callers that want to stop it from outside or read its report after an error.

    Raises:
        SourceError: The source cannot be opened; of several, none can.
        EngineFileError: The engine cannot be loaded.
        MissingError: A device or package is missing.
        UsageError: The options contradict each other, or the engine lacks the confidence or the scores that they need.
    """
    given = [source] if isinstance(source, str | Source) or not isinstance(source, Sequence) else list(source)
    for each in given:
        if not isinstance(each, str | Source):
            raise UsageError(
                f"the source is a {type(each).__name__}, expected a URI or a Source: see rtpsp.open_source"
            )
    if not given:
        raise UsageError("the list of sources is empty, expected at least one URI or Source")
    options = options or RunOptions()
    budget = options.threads or usable_threads()
    threads = _divide(budget, any(map(_may_be_live, given)), len(given))
    opened: list[Source] = [each for each in given if isinstance(each, Source)]
    try:
        if not isinstance(engine, Engine):
            device_io = "off" if options.smooth else options.device_io
            engine = load_engine(engine, EngineOptions(threads.engine, options.depth, device_io))
        how = replace(options.source, decoder_threads=threads.decoder, planes=engine.spec.planes)
        opened = _open_all(given, how)
        if any(isinstance(each, str) for each in given):
            threads = _divide(budget, any(each.info.live for each in opened), len(given))
        selected = [
            Selection(each, options.every, options.max_fps, options.max_frames, options.pace) for each in opened
        ]
        loop = PipelineOptions(
            options.policy, threads, options.render, options.min_confidence, options.mask_size, options.smooth,
            options.stall_timeout, _read_limit(options.source), options.observed, options.on_hang,
        )  # fmt: skip
        return Pipeline(selected, engine, sinks, loop)
    except BaseException:
        for each in opened:
            each.close()
        raise


def _open_all(given: Sequence[str | Source], options: SourceOptions) -> list[Source]:
    """Each of them, in order; where others can be opened, one that cannot takes its place as what it failed of.

    They are opened at the same time: each may take its whole time-out.
    """
    if len(given) == 1:
        return [open_source(each, options) if isinstance(each, str) else each for each in given]
    with ThreadPoolExecutor(len(given), "rtpsp-open") as pool:
        found = list(pool.map(lambda each: _try_to_open(each, options), given))
    failures = [each for each in found if isinstance(each, RtpspError)]
    final = next((each for each in failures if not isinstance(each, InputError | MissingError | SourceLost)), None)
    if final is not None or len(failures) == len(found):
        for each in found:
            if isinstance(each, Source):
                each.close()
        raise final or failures[0]
    sources = []
    for uri, each in zip(given, found, strict=True):
        if isinstance(each, RtpspError):
            _log.warning("%s; the other sources go on", each)
            each = Unopened(shown(str(uri)), each, options.planes)
        sources.append(each)
    return sources


def _try_to_open(source: str | Source, options: SourceOptions) -> Source | RtpspError:
    if isinstance(source, Source):
        return source
    try:
        return open_source(source, options)
    except RtpspError as error:
        return error


def _read_limit(options: SourceOptions) -> float:
    """Seconds that no read lasts, nor a try to open the source anew, unless it hangs.

    FFmpeg takes the open time-out twice, to connect and to find the streams, and the first packet may take a read's.
    """
    return 2 * options.open_timeout + (options.read_timeout or LONGEST_READ) + READ_GRACE


def _divide(budget: int, live: bool, sources: int) -> ThreadPlan:
    """Several decoders keep a machine busy with a thread each."""
    plan = divide_threads(budget, live)
    return plan if sources == 1 else replace(plan, decoder=1)


def _may_be_live(source: str | Source) -> bool:
    if isinstance(source, Source):
        return source.info.live
    return "://" in source or source.startswith("/dev/") or source.isdigit()
