"""Several live streams through one engine: what a machine does with so many cameras.

    capture ─┐
    capture ─┼─▶ Newest ─▶ infer ─▶ Slot ─▶ class map at the frame's size
    capture ─┘

A thread reads each stream; of each the newest frame waits, and the engine takes them in turn. The inference stage is
the live loop's own (`rtpsp.stream.inference`).
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


class Newest(Slot[Frame]):
    """Of each stream the newest frame, given out in turn, so that none is served twice while another waits.

    Args:
        streams: How many; a frame's `name` is the number of its own.
        policy: ``latest`` replaces a frame that waits, ``every`` makes its stream wait.

    Attributes:
        dropped_of: Frames of each stream that a newer one replaced, with the time at which they were captured.
    """

    def __init__(self, streams: int, policy: Policy = "latest") -> None:
        super().__init__(policy)
        self.dropped_of: list[list[float]] = [[] for _ in range(streams)]
        self._waiting: list[Frame | None] = [None] * streams
        self._turn = 0

    def put(self, item: Frame) -> bool:
        """Let a frame wait for its stream's turn; under ``every`` once the one before it has been taken."""
        stream = stream_of(item)
        with self._condition:
            if self.policy == "every":
                self._condition.wait_for(lambda: self._ended or self._waiting[stream] is None)
            if self._ended:
                return False
            before = self._waiting[stream]
            if before is not None:
                self.dropped += 1
                self.dropped_of[stream].append(before.captured)
            self._waiting[stream] = item
            self._condition.notify_all()
            return True

    def get(self, timeout: float | None = None) -> Frame | None:
        """The frame of the stream whose turn it is, of those that have one; None at the end.

        Raises:
            TimeoutError: Nothing came within the time.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._ended or any(self._waiting), timeout):
                raise TimeoutError
            count = len(self._waiting)
            for stream in ((self._turn + place) % count for place in range(count)):
                item = self._waiting[stream]
                if item is not None:
                    self._waiting[stream], self._turn = None, (stream + 1) % count
                    self._condition.notify_all()
                    return item
            return None

    def close(self) -> None:
        """Let what waits go, and both sides return at once."""
        with self._condition:
            self._ended = True
            self._waiting = [None] * len(self._waiting)
            self._condition.notify_all()


def stream_of(frame: Frame) -> int:
    """The number of a frame's stream."""
    return int(frame.name or 0)


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
    frames, answers = Newest(len(sources), policy), Slot[Segmented]("every")
    info = sources[0].info
    inference = Inference(engine, frames, answers, series, first_size=(info.height, info.width))
    failures: list[BaseException] = []
    over = threading.Event()
    reading = [len(sources)]
    lock = threading.Lock()

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
                if frame is None or not frames.put(replace(frame, name=str(stream))):
                    break
        finally:
            source.close()
            with lock:
                reading[0] -= 1
                if not reading[0]:
                    frames.end()

    worker = threading.Thread(target=attempt, args=(inference.run,), name="rtpsp-infer", daemon=True)
    threads = [
        threading.Thread(target=attempt, args=(lambda stream=stream: capture(stream),), daemon=True)
        for stream in range(len(sources))
    ]
    done = Streamed([[] for _ in sources], frames.dropped_of, series)
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
    done.answered[stream_of(item.frame)].append((item.stamps.captured, now()))
