"""The live loop: a capture thread, an inference thread, and rendering in the thread that calls `run`.

    capture ─▶ Slot ─▶ infer ─▶ Slot ─▶ render ─▶ sinks

However a run ends, it ends alike: the slots are ended or closed, both threads are joined, every sink is closed, and
then the first error is raised in the caller. Rendering stays in the caller's thread: windows must live in the main one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from rtpsp.drawing import Drawing
from rtpsp.engine.base import Engine, check_mask_size, check_scores
from rtpsp.errors import MissingError, SourceLost, UsageError
from rtpsp.fit import MaskSize
from rtpsp.machine import usable_threads
from rtpsp.stream.frame import Frame, Rendered, Segmented, Stamps, View
from rtpsp.stream.inference import Inference, check_device_io, check_min_confidence
from rtpsp.stream.opencv import opencv_threads
from rtpsp.stream.render import Renderer, RenderOptions
from rtpsp.stream.report import FrameCounts, RunReport, ThreadPlan, divide_threads
from rtpsp.stream.sink import Sink
from rtpsp.stream.slot import Policy, Slot
from rtpsp.stream.source import Source, no_fourth_plane
from rtpsp.timing import Rate, RecentRate, Series, now

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.02
"""How often the main thread looks at keys and at a request to stop while no frame comes."""
JOIN_SECONDS = 10.0
"""How long a stage may take to come back after the end: a read lasts for at most its time-out, a batch for its time."""

STAGES = ("capture", "preprocess", "infer", "smooth", "render", "sink")


@dataclass(frozen=True)
class PipelineOptions:
    """How the loop runs.

    Attributes:
        policy: ``latest`` or ``every``; None follows the source: ``latest`` for a live one.
        threads: The budget of CPU threads as divided; None divides the machine's cores.
        render: How pictures are drawn.
        min_confidence: Pixels that the engine is less sure of get no class, 0..1; None and 0 leave every pixel its own.
        mask_size: ``model`` or ``frame``, see `rtpsp.fit.MaskSize`; None is ``frame`` with an engine whose device takes
            whole frames, and ``model`` with any other. ``model`` leaves that device's part to the CPU.
        smooth: Filter scores over time (`rtpsp.smoothing`), which the engine has to give; that is the CPU's part, too.
    """

    policy: Policy | None = None
    threads: ThreadPlan | None = None
    render: RenderOptions = field(default_factory=RenderOptions)
    min_confidence: float | None = None
    mask_size: MaskSize | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        check_min_confidence(self.min_confidence)
        check_mask_size(self.mask_size)


class Pipeline:
    """One run of one source through one engine into sinks. It is used once.

    Args:
        source: Open; the pipeline closes it.
        engine: Not open: the inference thread enters it.
        sinks: Opened before the first frame, closed at the end, in this order.
        options: How the loop runs.

    Raises:
        UsageError: The engine takes more than one frame at a time, lacks a confidence or scores that are needed, or is
            to have a device IO that the options stand against.
        SourceError: The engine's model takes a fourth plane, and the source was not opened for one.
    """

    def __init__(
        self, source: Source, engine: Engine, sinks: Sequence[Sink] = (), options: PipelineOptions | None = None
    ) -> None:
        if engine.batch != 1:
            raise UsageError(f"engine takes batches of {engine.batch}, a live run needs 1: build it with --batch 1")
        if engine.spec.planes == 4 and source.info.planes != 4:
            raise no_fourth_plane(source.info.uri, f"a source of {source.info.planes} plane(s)")
        options = options or PipelineOptions()
        check_min_confidence(options.min_confidence, engine)
        check_mask_size(options.mask_size, engine)
        if options.smooth:
            check_scores(engine, "--smooth")
        check_device_io(engine.options.device_io, options.min_confidence, options.mask_size, options.smooth)
        self._source = source
        self._engine = engine
        self._sinks = tuple(sinks)
        self.policy: Policy = options.policy or ("latest" if source.info.live else "every")
        self._threads = options.threads or divide_threads(usable_threads(), source.info.live)
        unknown = options.render.unknown or bool(options.min_confidence) or engine.spec.fit == "crop"
        self._renderer = Renderer(engine.spec.labels, replace(options.render, unknown=unknown))
        self._frames: Slot[Frame] = Slot(self.policy)
        self._answers: Slot[Segmented] = Slot(self.policy)
        self._drawing: Drawing | None = None
        self._series = {stage: Series() for stage in STAGES}
        self._age = Series()
        self._rate = Rate()
        self._recent = RecentRate()
        self._received = 0
        self._ended = ""
        self._stop_reason = ""
        self._failures: list[BaseException] = []
        self._inference = Inference(
            engine, self._frames, self._answers, self._series, options.min_confidence, options.mask_size,
            options.smooth, (source.info.height, source.info.width), lambda: self._drawing,
        )  # fmt: skip
        self._workers = [
            threading.Thread(target=self._attempt, args=(work,), name=f"rtpsp-{stage}", daemon=True)
            for stage, work in (("infer", self._inference.run), ("capture", self._capture))
        ]

    def stop(self, reason: str) -> None:
        """Ask the run to end soon and in order; may be called from any thread and from a signal handler.

        Args:
            reason: What the report gives as the cause.
        """
        self._stop_reason = self._stop_reason or reason

    def run(self) -> RunReport:
        """Run until the source ends, a sink wants to stop, `stop` is called, or a stage fails.

        Raises:
            RtpspError: The first error of any stage, after everything was closed.
        """
        opened: list[Sink] = []
        try:
            with opencv_threads(self._threads.opencv):
                for sink in self._sinks:
                    opened.append(sink)
                    sink.open(self._source.info, self._engine.spec)
                self._views()
                self._start_workers()
                self._render()
        except BaseException as error:
            self._fail(error)
        finally:
            self._attempt(self._end_workers)  # an interrupt while it waits must not cost a recording its end
            for sink in opened:
                self._attempt(sink.close)
        if self._failures:
            self._ended = self._ended or f"error: {self._failures[0]}"
            raise self._failures[0]
        return self.report()

    def report(self) -> RunReport:
        """Figures so far; whole once `run` has returned or raised."""
        dropped = {"infer": self._frames.dropped, "render": self._answers.dropped}
        shown = self._rate.count
        info = self._source.info
        counts = FrameCounts(
            received=self._received,
            shown=shown,
            dropped=dropped,
            discarded=self._received - shown - sum(dropped.values()),
            missed=self._source.missed,
            skipped=getattr(self._source, "skipped", 0),
        )
        stages = {stage: summary for stage, series in self._series.items() if (summary := series.summary())}
        for sink in self._sinks:
            stages |= sink.stages()
        return RunReport(
            source=info,
            engine=self._inference.describe(),
            policy=self.policy,
            threads=replace(self._threads, engine=self._engine.options.threads or self._threads.engine),
            frames=counts,
            seconds=self._rate.seconds,
            fps=self._rate.fps,
            stages=stages,
            age=self._age.summary(),
            outputs=tuple(sink.output for sink in self._sinks if sink.output),
            ended=self._ended or self._stop_reason or self._source.ended,
            versions=self._engine.header.versions,
        )

    def _start_workers(self) -> None:
        infer, capture = self._workers
        infer.start()
        # A live source is read only once the engine is there: what came before would be dropped, or be stale.
        while not self._inference.ready.wait(POLL_SECONDS) and infer.is_alive() and not self._stop_reason:
            self._poll_sinks()
        if not self._failures and not self._stop_reason:
            capture.start()

    def _end_workers(self) -> None:
        self._frames.close()
        self._answers.close()
        self._source.interrupt()
        for thread in self._workers:
            if thread.ident is not None:
                thread.join(JOIN_SECONDS)
            if thread is self._workers[0] and self._stop_reason and not self._inference.ready.is_set():
                if thread.is_alive():  # a large model on a slow machine, and nothing that was asked for is lost
                    _log.warning("the engine was still being opened when the run ended: its thread is left behind")
            elif thread.is_alive():
                lost = MissingError if thread is self._workers[0] else SourceLost
                self._fail(lost(f"thread {thread.name} hangs in a driver: it did not end within {JOIN_SECONDS:.0f} s"))
        if self._workers[1].ident is None:
            self._source.close()

    def _fail(self, error: BaseException) -> None:
        _log.debug("a stage failed", exc_info=error)
        self._failures.append(error)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._fail(error)

    # capture thread

    def _capture(self) -> None:
        try:
            while True:
                with self._series["capture"].timed():
                    frame = self._source.read()
                if frame is None:
                    break
                self._received += 1
                if not self._frames.put(frame):
                    break
        except SourceLost:
            if not self._stop_reason:
                raise
            _log.debug("the source was lost while the run was being stopped", exc_info=True)
        finally:
            self._frames.end()
            self._source.close()

    # the caller's thread

    def _render(self) -> None:
        while not self._stop_reason:
            try:
                item = self._answers.get(POLL_SECONDS)
            except TimeoutError:
                self._poll_sinks()
                continue
            if item is None:
                return
            self._show(item)
            self._poll_sinks()

    def _show(self, item: Segmented) -> None:
        with self._series["render"].timed():
            whole = self._inference.mask_size == "frame"
            class_map = item.class_map if whole else item.plan.to_source(item.class_map)
            views = self._views()
            status = self._status(item.stamps) if views else ""
            pictures = self._renderer.draw_all(views, item.image, class_map, status, item.drawn)
        rendered = replace(item.stamps, rendered=now())
        with self._series["sink"].timed():
            for sink in self._sinks:
                sink.write(Rendered(item.frame, pictures, class_map, rendered))
        handed_over = now()
        self._age.add(handed_over - item.stamps.captured)
        self._rate.add(handed_over)
        self._recent.add(handed_over)

    def _views(self) -> set[View]:
        """What the sinks want now; and from the next frame on a device draws what helps with it."""
        views = {view for sink in self._sinks if (view := sink.view)}
        self._drawing = self._renderer.to_drawing(views)
        return views

    def _status(self, stamps: Stamps) -> str:
        fps = self._recent.fps
        rate = f"{fps:.1f} fps" if fps else "-- fps"
        dropped = self._frames.dropped + self._answers.dropped
        return f"{rate}   age {(now() - stamps.captured) * 1e3:.0f} ms   dropped {dropped}"

    def _poll_sinks(self) -> None:
        for sink in self._sinks:
            sink.poll()
            if sink.wants_to_stop:
                self.stop("quit")
