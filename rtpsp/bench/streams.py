"""Several live streams through one engine: what a machine does with so many cameras.

    capture ─┐
    capture ─┼─▶ Turns ─▶ infer ─▶ Slot ─▶ class map at the frame's size
    capture ─┘

A thread reads each stream; of each the newest frame waits, and the engine takes them in turn. Turns and the inference
stage are the live loop's own (`rtpsp.stream.turns`, `rtpsp.stream.inference`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from rtpsp.arrays import Image
from rtpsp.engine.base import Engine
from rtpsp.errors import MissingError
from rtpsp.stream.frame import Frame, Segmented
from rtpsp.stream.inference import Inference
from rtpsp.stream.slot import Policy, Slot
from rtpsp.stream.source import Source, SourceInfo
from rtpsp.stream.turns import Turns
from rtpsp.timing import Series, now

_POLL = 0.05
_JOIN = 10.0


class ClockedPictures(Source):
    """A camera of frames from memory: one is exposed every 1/fps seconds, whether or not anyone reads.

    What is read late is the newest frame; those before it are counted as missed.

    Args:
        pictures: uint8 [H, W, planes] each, all of one size; shown over and over.
        fps: Frames a second.
        phase: Share of a frame by which it is late against other cameras, 0..1.
        clock: Stands in for time in tests, with `sleep`.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        pictures: Sequence[Image],
        fps: float,
        phase: float = 0.0,
        *,
        clock: Callable[[], float] = now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        height, width = pictures[0].shape[:2]
        self.info = SourceInfo("frames from memory on a clock", "sim", height, width, fps, live=True)
        self._pictures, self._interval, self._phase = pictures, 1 / fps, phase / fps
        self._clock, self._sleep = clock, sleep
        self._start: float | None = None
        self._next = 0
        self._closed = False

    def read(self) -> Frame | None:
        """The newest frame that was not read yet, or the next one once it is exposed; None once closed."""
        if self._start is None:
            self._start = self._clock() + self._phase
        newest = int((self._clock() - self._start) / self._interval + 1e-6)
        if newest > self._next:
            self.missed += newest - self._next
            self._next = newest
        index, self._next = self._next, self._next + 1
        due = self._start + index * self._interval
        while (rest := due - self._clock()) > 0:
            if self._closed:
                return None
            self._sleep(min(rest, _POLL))
        picture = self._pictures[index % len(self._pictures)]
        height, width = picture.shape[:2]

        def to_bgr(out: Image | None) -> Image:
            if out is None:
                return picture.copy()
            out[...] = picture
            return out

        return None if self._closed else Frame(index, index * self._interval, due, height, width, to_bgr)

    def interrupt(self) -> None:
        """End a wait for the next frame."""
        self._closed = True

    def close(self) -> None:
        """Switch it off."""
        self._closed = True


@dataclass
class Streamed:
    """What came of a run; times are in seconds of `rtpsp.timing.now`.

    Attributes:
        answered: For each stream (captured, handed over) of each frame that was segmented.
        dropped: For each stream the time of capture of each frame that a newer one replaced.
        stages: Durations of ``preprocess``, ``infer`` and ``render`` as the live loop has them, and of ``capture`` of
            the first stream.
        missed: Frames that their camera lost before they were read.
        begun: When the first was read.
        seconds: From then to the end.
    """

    answered: list[list[tuple[float, float]]]
    dropped: list[list[float]]
    stages: dict[str, Series]
    missed: int = 0
    begun: float = 0.0
    seconds: float = 0.0


def run_streams(
    sources: Sequence[Source],
    engine: Engine,
    seconds: float,
    policy: Policy = "latest",
    stopped: Callable[[], bool] = lambda: False,
) -> Streamed:
    """Segment live streams with one engine for some seconds.

    Args:
        sources: Open, all of one size; they are closed at the end.
        engine: Not open; a thread of its own enters it.
        seconds: From the moment the engine is open.
        policy: ``latest`` as for cameras; ``every`` never drops, for the rate that the machine can do.
        stopped: Asked often; True ends the run early.

    Raises:
        RtpspError: The first error of any stage.
    """
    series = {stage: Series() for stage in ("capture", "preprocess", "infer", "smooth", "render")}
    captures = [series["capture"], *(Series() for _ in sources[1:])]  # a series is one thread's
    dropped: list[list[float]] = [[] for _ in sources]
    frames = Turns[Frame](
        [policy] * len(sources), lambda frame: frame.source, lambda frame: dropped[frame.source].append(frame.captured)
    )
    answers = Slot[Segmented]("every")
    info = sources[0].info
    inference = Inference(engine, frames, answers, series, first_size=(info.height, info.width))
    failures: list[BaseException] = []
    over = threading.Event()

    def attempt(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            over.set()

    def capture(stream: int) -> None:
        source = sources[stream]
        try:
            while not over.is_set():
                with captures[stream].timed():
                    frame = source.read()
                if frame is None or not frames.put(replace(frame, source=stream)):
                    break
        finally:
            source.close()
            frames.end_source(stream)

    worker = threading.Thread(target=attempt, args=(inference.run,), name="rtpsp-infer", daemon=True)
    threads = [
        threading.Thread(target=attempt, args=(lambda stream=stream: capture(stream),), daemon=True)
        for stream in range(len(sources))
    ]
    done = Streamed([[] for _ in sources], dropped, series)
    worker.start()
    while not inference.ready.wait(_POLL) and worker.is_alive() and not stopped():
        pass
    done.begun = now()
    if not failures and inference.ready.is_set() and not stopped():
        for thread in threads:
            thread.start()
        while now() - done.begun < seconds and not failures and not stopped():
            with suppress(TimeoutError):
                item = answers.get(_POLL)
                if item is None:
                    break
                _hand_over(item, inference, series["render"], done)
    over.set()
    done.seconds = now() - done.begun
    frames.close()
    answers.close()
    for source, thread in zip(sources, threads, strict=True):
        source.interrupt()
        if thread.ident is None:
            source.close()
    for thread in (thread for thread in (*threads, worker) if thread.ident is not None):
        thread.join(_JOIN)
        if thread.is_alive():
            failures.append(MissingError(f"thread {thread.name} hangs in a driver: it did not end in {_JOIN:.0f} s"))
    if failures:
        raise failures[0]
    done.missed = sum(source.missed for source in sources)
    return done


def _hand_over(item: Segmented, inference: Inference, render: Series, done: Streamed) -> None:
    with render.timed():
        if inference.mask_size == "model":
            item.plan.to_source(item.class_map)
    done.answered[item.frame.source].append((item.stamps.captured, now()))
