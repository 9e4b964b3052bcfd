"""How the live loop runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rtpsp.engine.base import Engine, check_mask_size, check_scores
from rtpsp.errors import UsageError
from rtpsp.fit import MaskSize
from rtpsp.stream.checks import check_device_io, check_min_confidence
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.report import ThreadPlan
from rtpsp.stream.slot import Policy
from rtpsp.stream.source import Source, no_fourth_plane


@dataclass(frozen=True)
class PipelineOptions:
    """How the loop runs.

    Attributes:
        policy: ``latest`` or ``every``; None follows each source: ``latest`` for a live one.
        threads: The budget of CPU threads as divided; None divides the machine's cores.
        render: How pictures are drawn.
        min_confidence: Pixels that the engine is less sure of get no class, 0..1; None and 0 leave every pixel its own.
        mask_size: ``model`` or ``frame``, see `rtpsp.fit.MaskSize`; None is ``frame`` with an engine whose device takes
            whole frames, and ``model`` with any other. ``model`` leaves that device's part to the CPU.
        smooth: Filter scores over time (`rtpsp.smoothing`), which the engine has to give; that is the CPU's part, too.
        stall_timeout: Seconds for which engine, drawing or an output may be busy with one frame before they count as
            stalled; an engine that is still being opened may take its time.
        read_limit: The same for a read: longer than the source's time-outs.
        observed: Somebody looks at `Pipeline.snapshot`: the run has a use even when every output has failed.
        on_hang: Called in the watchdog's thread with one line, when the thread that called `run` hangs in a sink or in
            drawing and recordings were closed: nothing can end that thread but the end of the process.

    Raises:
        UsageError: A number that cannot be meant.
    """

    policy: Policy | None = None
    threads: ThreadPlan | None = None
    render: RenderOptions = field(default_factory=RenderOptions)
    min_confidence: float | None = None
    mask_size: MaskSize | None = None
    smooth: bool = False
    stall_timeout: float = 30.0
    read_limit: float = 40.0
    observed: bool = False
    on_hang: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        check_min_confidence(self.min_confidence)
        check_mask_size(self.mask_size)
        check_stall_timeout(self.stall_timeout)


def check_stall_timeout(seconds: float) -> None:
    """A time that means something.

    Raises:
        UsageError: It does not.
    """
    if not 0 < seconds < math.inf:
        raise UsageError(f"the stall time-out is {seconds:g}, expected seconds above 0, such as 30")


def check_run(sources: Sequence[Source], engine: Engine, options: PipelineOptions) -> None:
    """Whether an engine can do what a run asks of it.

    Raises:
        UsageError: It cannot, or there is no source.
        SourceError: Its model takes a fourth plane, and a source was not opened for one.
    """
    if not sources:
        raise UsageError("a run got no source, expected at least one")
    if engine.batch != 1:
        raise UsageError(f"engine takes batches of {engine.batch}, a live run needs 1: build it with --batch 1")
    for source in sources:
        if engine.spec.planes == 4 and source.info.planes != 4:
            raise no_fourth_plane(source.info.uri, f"a source of {source.info.planes} plane(s)")
    check_min_confidence(options.min_confidence, engine)
    check_mask_size(options.mask_size, engine)
    if options.smooth:
        check_scores(engine, "--smooth")
    check_device_io(engine.options.device_io, options.min_confidence, options.mask_size, options.smooth)
