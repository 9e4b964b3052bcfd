"""The live loop: a capture thread a source, an inference thread, and rendering in the thread that calls `run`.

    capture ─┐
    capture ─┼─▶ Turns ─▶ infer ─▶ Turns ─▶ render ─▶ sinks
    capture ─┘

However a run ends, it ends alike: the slots are ended or closed, the threads are joined, every sink is closed, and then
the first error is raised in the caller. Rendering stays in the caller's thread: windows must live in the main one. A
source that ends or fails ends itself alone; the run ends with the last one. A watchdog sees to it that a thread which
hangs in a driver holds up nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add

from rtpsp.arrays import ClassMap
from rtpsp.engine.base import Engine
from rtpsp.errors import MissingError, SourceLost
from rtpsp.machine import usable_threads
from rtpsp.stream.beat import Beat
from rtpsp.stream.channel import Channel, SharedSeries
from rtpsp.stream.frame import Frame, Segmented
from rtpsp.stream.inference import Inference
from rtpsp.stream.opencv import opencv_threads
from rtpsp.stream.pipeline_options import PipelineOptions as PipelineOptions
from rtpsp.stream.pipeline_options import check_run
from rtpsp.stream.render import Renderer
from rtpsp.stream.rendering import Rendering
from rtpsp.stream.report import RunReport, divide_threads
from rtpsp.stream.sink import Sink
from rtpsp.stream.sinks import Sinks
from rtpsp.stream.slot import Policy
from rtpsp.stream.snapshot import Snapshot
from rtpsp.stream.source import Source
from rtpsp.stream.stalls import Stalls
from rtpsp.stream.turns import Turns
from rtpsp.timing import Series, now

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.02
"""How often the main thread looks at keys and at a request to stop while no frame comes."""
JOIN_SECONDS = 10.0
"""How long a stage may take to come back after the end: a read lasts for at most its time-out, a batch for its time."""
NETWORK_JOIN_SECONDS = 2.0
"""How long a read of the network may take after the end: it may have a longer time-out, and nothing is lost with it."""

STAGES = ("capture", "preprocess", "infer", "smooth", "render", "sink")


class Pipeline:
    """One run of sources through one engine into sinks. It is used once.

    Args:
        source: Open, one or several; the pipeline closes them.
        engine: Not open: the inference thread enters it.
        sinks: Opened before the first frame, closed at the end, in this order.
        options: How the loop runs.

    Raises:
        UsageError: The engine takes more than one frame at a time, lacks a confidence or scores that are needed, or is
            to have a device IO that the options stand against; or there is no source.
        SourceError: The engine's model takes a fourth plane, and a source was not opened for one.
    """

    def __init__(
        self,
        source: Source | Sequence[Source],
        engine: Engine,
        sinks: Sequence[Sink] = (),
        options: PipelineOptions | None = None,
    ) -> None:
        sources = (source,) if isinstance(source, Source) else tuple(source)
        options = options or PipelineOptions()
        check_run(sources, engine, options)
        self._engine, self._options = engine, options
        policies: list[Policy] = [options.policy or ("latest" if each.info.live else "every") for each in sources]
        self.policy: Policy = policies[0]
        self._live = any(each.info.live for each in sources)
        self._threads = options.threads or divide_threads(usable_threads(), self._live)
        self._frames: Turns[Frame] = Turns(policies, lambda frame: frame.source)
        self._answers: Turns[Segmented] = Turns(policies, lambda item: item.frame.source)
        captured = SharedSeries()
        self._series: dict[str, Series] = {stage: Series() for stage in STAGES} | {"capture": captured}
        self._channels = [
            Channel(
                number, each, policy, self._frames, captured, options.read_limit, self._on_loss, lambda: self._why_over
            )
            for number, (each, policy) in enumerate(zip(sources, policies, strict=True))
        ]
        self._sinks = Sinks(sinks, options.stall_timeout, options.observed)
        unknown = options.render.unknown or bool(options.min_confidence) or engine.spec.fit == "crop"
        self._rendering = Rendering(
            Renderer(engine.spec.labels, replace(options.render, unknown=unknown)), self._sinks, self._channels,
            lambda number: sum(self._dropped(number).values()), self._to_class_map, self._series,
            Beat("render", options.stall_timeout),
        )  # fmt: skip
        self._stop_reason = ""
        self._failures: list[BaseException] = []
        self._lost: list[BaseException] = []
        self._raised = ""
        size = next(((info.height, info.width) for each in sources if (info := each.info).height), None)
        self._inference = Inference(
            engine, self._frames, self._answers, self._series, options.min_confidence, options.mask_size,
            options.smooth, size, lambda: self._rendering.drawing,
            lambda frame, error: self._channels[frame.source].fail(error), options.stall_timeout,
        )  # fmt: skip
        self._worker = threading.Thread(
            target=self._attempt, args=(self._inference.run,), name="rtpsp-infer", daemon=True
        )
        self._stalls = Stalls(
            self._channels, self._inference.beats, self._worker, self._rendering.beat, self._sinks, self._fail,
            options.on_hang,
        )  # fmt: skip

    def stop(self, reason: str) -> None:
        """Ask the run to end soon and in order; may be called from any thread and from a signal handler.

        Args:
            reason: What the report gives as the cause.
        """
        self._stop_reason = self._stop_reason or reason

    def run(self) -> RunReport:
        """Run until every source has ended, a sink wants to stop, `stop` is called, or a stage fails.

        Raises:
            RtpspError: The first error of any stage, else that of the first source that was lost, else that of the
                first output that gave up; after everything was closed.
        """
        try:
            with opencv_threads(self._threads.opencv):
                self._sinks.open_all([channel.source.info for channel in self._channels], self._engine.spec)
                self._rendering.look_at_views()
                self._stalls.start()
                self._start_workers()
                self._render()
        except BaseException as error:
            self._fail(error)
        finally:
            self._attempt(self._end_workers)  # an interrupt while it waits must not cost a recording its end
            self._sinks.close(self._attempt)
            self._stalls.stop()
        if (first := self._first_error) is not None:
            self._raised = f"error: {first}"
            raise first
        return self.report()

    def report(self) -> RunReport:
        """Figures so far; whole once `run` has returned or raised. May be called from any thread."""
        sources = tuple(channel.report(self._dropped(channel.number)) for channel in self._channels)
        stages = {stage: summary for stage, series in self._series.items() if (summary := series.summary())}
        ends = {channel.ended or channel.source.ended for channel in self._channels}
        return RunReport(
            source=sources[0].info,
            engine=self._inference.describe(),
            policy=self.policy,
            threads=replace(self._threads, engine=self._engine.options.threads or self._threads.engine),
            frames=reduce(add, (source.frames for source in sources)),
            seconds=self._rendering.rate.seconds,
            fps=self._rendering.rate.fps,
            stages=stages | self._sinks.stages(),
            age=self._rendering.age.summary(),
            outputs=self._sinks.outputs,
            ended=self._raised or self._why_over or (ends.pop() if len(ends) == 1 else "every source has ended"),
            versions=self._engine.header.versions,
            sources=sources,
            sink_drops=self._sinks.drops,
        )

    def snapshot(self) -> Snapshot:
        """The run as it stands; cheap, and may be called from any thread at any time."""
        return Snapshot(
            sources=[channel.snapshot(self._dropped(channel.number)) for channel in self._channels],
            stages=self._series,
            sink_drops=self._sinks.drops,
            failures=self._sinks.failures,
            stalled=self._stalls.stalled,
            ready=self._inference.ready.is_set(),
            stopping=self._why_over,
        )

    @property
    def _first_error(self) -> BaseException | None:
        """What ended the run goes before a source or an output that was lost on the way."""
        outputs = [] if self._sinks.first_failure is None else [self._sinks.first_failure]
        return next(iter([*self._failures, *self._lost, *outputs]), None)

    @property
    def _why_over(self) -> str:
        """Why the run is about to end, in words; empty while it goes on."""
        return self._stop_reason or (f"error: {self._failures[0]}" if self._failures else "")

    def _dropped(self, number: int) -> dict[str, int]:
        return {"infer": self._frames.drops[number], "render": self._answers.drops[number]}

    def _to_class_map(self, item: Segmented) -> ClassMap:
        return item.class_map if self._inference.mask_size == "frame" else item.plan.to_source(item.class_map)

    def _start_workers(self) -> None:
        self._worker.start()
        # A live source is read only once the engine is there: what came before would be dropped, or be stale.
        while not self._inference.ready.wait(POLL_SECONDS) and self._worker.is_alive() and not self._stop_reason:
            self._poll()
        if not self._failures and not self._stop_reason:
            for channel in self._channels:
                channel.start()

    def _render(self) -> None:
        while not self._stop_reason and not self._stalls.halted:
            try:
                item = self._answers.get(POLL_SECONDS)
            except TimeoutError:
                pass
            else:
                if item is None:
                    return
                self._rendering.show(item)
            self._rendering.show_absent()
            self._poll()

    def _poll(self) -> None:
        if why := self._sinks.poll():
            self.stop(why)

    def _end_workers(self) -> None:
        self._stalls.ending = True
        self._frames.close()
        self._answers.close()
        for channel in self._channels:
            self._attempt(channel.source.interrupt)
        self._join_engine()
        begin = now()
        for channel in self._channels:
            self._attempt(partial(self._join_reader, channel, begin))

    def _join_engine(self) -> None:
        if self._worker.ident is None or self._worker in self._stalls.hung:
            return
        self._worker.join(JOIN_SECONDS)
        if not self._worker.is_alive():
            return
        if self._stop_reason and not self._inference.ready.is_set():
            # a large model on a slow machine, and nothing that was asked for is lost
            _log.warning("the engine was still being opened when the run ended: its thread is left behind")
        else:
            self._fail(_hangs(MissingError, self._worker))

    def _join_reader(self, channel: Channel, begin: float) -> None:
        network = channel.source.info.kind == "network"
        patience = NETWORK_JOIN_SECONDS if network else JOIN_SECONDS
        hung = channel.thread in self._stalls.hung
        if channel.join(0.0 if hung else begin + patience - now()) or hung:
            return
        if network:
            _log.debug("%s: a read was still waiting when the run ended: its thread is left behind", channel.name)
        else:
            self._fail(_hangs(SourceLost, channel.thread))

    def _fail(self, error: BaseException) -> None:
        _log.debug("a stage failed", exc_info=error)
        self._failures.append(error)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._fail(error)

    def _on_loss(self, channel: Channel, error: BaseException) -> None:
        _log.debug("%s failed", channel.name, exc_info=error)
        self._lost.append(error)
        if any(not other.ended for other in self._channels if other is not channel):
            _log.warning("%s; the other sources go on", error)


def _hangs(kind: type[MissingError | SourceLost], thread: threading.Thread) -> MissingError | SourceLost:
    return kind(f"thread {thread.name} hangs in a driver: it did not end within {JOIN_SECONDS:.0f} s")
