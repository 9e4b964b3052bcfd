"""The main job in one call: open a source, load an engine, run the loop, close everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions, check_mask_size
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.errors import UsageError
from rtpsp.fit import MaskSize
from rtpsp.machine import usable_threads
from rtpsp.stream.inference import check_device_io, check_min_confidence
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.report import RunReport, divide_threads
from rtpsp.stream.selection import Pace, Selection
from rtpsp.stream.sink import Sink
from rtpsp.stream.slot import Policy
from rtpsp.stream.source import Source, SourceOptions, open_source


@dataclass(frozen=True)
class RunOptions:
    """How a run goes; the defaults are right for most sources.

    Attributes:
        source: What to ask of a source that is opened by URI; its planes are the engine's.
        render: How pictures are drawn.
        policy: ``latest`` or ``every``; None follows the source: ``latest`` for a live one.
        pace: ``source`` plays a file at its own rate, like a camera; ``fast`` reads it as fast as it can.
        every: Take each Nth frame.
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

    def __post_init__(self) -> None:
        check_min_confidence(self.min_confidence)
        check_mask_size(self.mask_size)
        check_device_io(self.device_io, self.min_confidence, self.mask_size, self.smooth)


def run(
    source: str | Source,
    engine: str | Path | Engine,
    sinks: Sequence[Sink] = (),
    options: RunOptions | None = None,
) -> RunReport:
    """Segment a source from its beginning to its end.

    Args:
        source: A URI (`rtpsp.open_source` says which), or a source that is open; it is closed at the end either way.
            For a model of four planes it is one of images, opened with as many.
        engine: An engine file, or an engine that is not open; the loop opens it in its own thread.
        sinks: Where the results go; opened before the first frame and closed at the end.
        options: How.

    Returns:
        What happened, with rates, stage times, ages and drops.

    Raises:
        RtpspError: The first error of any stage. What was recorded up to then is closed and playable.
    """
    return open_pipeline(source, engine, sinks, options).run()


def open_pipeline(
    source: str | Source,
    engine: str | Path | Engine,
    sinks: Sequence[Sink] = (),
    options: RunOptions | None = None,
) -> Pipeline:
    """What `run` runs, for callers that want to stop it from outside or read its report after an error.

    Raises:
        SourceError: The source cannot be opened.
        EngineFileError: The engine cannot be loaded.
        MissingError: A device or package is missing.
        UsageError: The options contradict each other, or the engine lacks the confidence or the scores that they need.
    """
    if not isinstance(source, str | Source):
        raise UsageError(f"the source is a {type(source).__name__}, expected a URI or a Source: see rtpsp.open_source")
    options = options or RunOptions()
    budget = options.threads or usable_threads()
    threads = divide_threads(budget, _may_be_live(source))
    try:
        if not isinstance(engine, Engine):
            device_io = "off" if options.smooth else options.device_io
            engine = load_engine(engine, EngineOptions(threads.engine, options.depth, device_io))
        if isinstance(source, str):
            how = replace(options.source, decoder_threads=threads.decoder, planes=engine.spec.planes)
            source = open_source(source, how)
            threads = divide_threads(budget, source.info.live)
        selected = Selection(source, options.every, options.max_fps, options.max_frames, options.pace)
        loop = PipelineOptions(
            options.policy, threads, options.render, options.min_confidence, options.mask_size, options.smooth
        )
        return Pipeline(selected, engine, sinks, loop)
    except BaseException:
        if isinstance(source, Source):
            source.close()
        raise


def _may_be_live(source: str | Source) -> bool:
    if isinstance(source, Source):
        return source.info.live
    return source.startswith(("sim://", "/dev/")) or source.isdigit()
