"""How many cameras a machine serves: estimated from the cost of one frame, then confirmed at that number.

Every stream goes through one engine, which takes the newest frame of each in turn (`rtpsp.bench.streams`). A number of
streams is held where each of them has its rate, but for one frame in a hundred, and its 95th percentile of age is under
the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rtpsp.arrays import Image
from rtpsp.bench.capacity import TOLERANCE, Cameras, Trial, search
from rtpsp.bench.frames import NAME, PictureSource, street_pictures
from rtpsp.bench.streams import ClockedPictures, Streamed, run_streams
from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.errors import UsageError
from rtpsp.machine import usable_threads
from rtpsp.stream.opencv import opencv_threads
from rtpsp.stream.report import ThreadPlan, divide_threads
from rtpsp.stream.selection import Selection
from rtpsp.stream.slot import Policy
from rtpsp.stream.source import Source, SourceOptions, open_source
from rtpsp.timing import summarise

__all__ = ["Cameras", "Trial", "fit_cameras"]

Tell = Callable[[str, float], None]
Stopped = Callable[[], bool]

INTERVALS = 3
"""The bound of age where none is given, in frame intervals: 100 ms at 30 fps."""
WARMUP = 1.0
"""Most seconds before those that count; less, a quarter, before short runs."""
LEAST_FRAMES = 20
"""Of each stream in a trial, however slow it is and short the trial."""
ENOUGH_FRAMES, LONG = 210, 5.0
"""Of each stream in a trial of so many seconds or more: enough for a 95th percentile (`rtpsp.timing`), in
twice the time at most."""
_PHASE = (5**0.5 - 1) / 2
"""By which each camera's clock is behind the one before, in frames: no two expose at the same time."""


def fit_cameras(
    engine: Path | Callable[[int], Engine],
    *,
    fps: float = 30.0,
    bound_ms: float | None = None,
    threads: int = 0,
    seconds: float = 8.0,
    source: str | None = None,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> Cameras:
    """Find how many live streams this machine serves with one engine.

    Args:
        engine: An engine file; or what gives an engine, not open, for a number of threads.
        fps: Frames a second of each stream; a file that has fewer plays at its own rate.
        bound_ms: Of the 95th percentile of age; None takes `INTERVALS` frame intervals.
        threads: CPU threads for everything together; 0 takes all.
        seconds: Of each run that count.
        source: What each stream opens for itself: a file is played at its own pace, and decoding it costs what it
            does. None takes frames drawn before, each stream on a clock of its own: cameras that cost nothing to read.
        tell: Told what is measured, and how much of it is done.
        stopped: Asked often; True ends early with what was found until then.

    Raises:
        UsageError: A number that cannot be meant, a webcam, which opens once only, or an engine that takes batches.
        RtpspError: As the engine and the source.
    """
    if not (fps > 0 and seconds > 0 and (bound_ms is None or bound_ms > 0)):
        raise UsageError(f"fps {fps:g}, bound {bound_ms} ms and {seconds:g} s: expected numbers above 0")
    plan = divide_threads(threads or usable_threads(), live=True)
    bench = _Bench(engine, plan, source, seconds, tell, stopped)
    with opencv_threads(plan.opencv):
        fps = min(fps, bench.rate or fps)
        capacity, shares = bench.capacity()
        estimate, confirmed, one, tried = search(
            lambda count, rate: bench.trial(count, rate, bound_ms), capacity, fps, bench.stopped
        )
    bound = bound_ms or INTERVALS * 1e3 / fps
    return Cameras(fps, bound, capacity, estimate, confirmed, one, tried, shares, bench.words, plan)


class _Bench:
    """Opens engine and streams for each run, and judges what came of it."""

    def __init__(
        self,
        engine: Path | Callable[[int], Engine],
        plan: ThreadPlan,
        uri: str | None,
        seconds: float,
        tell: Tell | None,
        stopped: Stopped | None,
    ) -> None:
        self._engine, self._threads, self._uri, self._seconds = engine, plan.engine, uri, seconds
        self._warmup = min(WARMUP, seconds / 4)
        self._tell, self._runs = tell or (lambda what, share: None), 0
        self.stopped = stopped or (lambda: False)
        first = self._load()
        if first.batch != 1:
            raise UsageError(f"engine takes batches of {first.batch}, live streams need 1: build it without --batch")
        self._planes = first.spec.planes
        self._pictures: Sequence[Image] = () if uri else street_pictures(self._planes)
        with self._fast() as source:
            info = source.info
        if info.kind == "camera":
            raise UsageError(f"{info.uri} is a camera, which one stream alone can open: give a file with --source")
        self._live, self.rate = info.live, info.fps
        size = f"{info.height}x{info.width}"
        self.words = f"{info.uri}, {size}" if uri else f"{NAME} from memory, each stream on a clock of its own, {size}"

    def capacity(self) -> tuple[float, dict[str, float]]:
        """Frames a second of one stream that waits for nobody, and for each stage the share of that time it works."""
        done = self._run([self._fast()], "every", "one stream without a pause")
        sums = {name: series.summary() for name, series in done.stages.items()}
        ms = {name: found.mean * found.count if found else 0.0 for name, found in sums.items()}
        handed = [stamp for _, stamp in done.answered[0] if stamp >= done.begun + self._warmup]
        fps = (len(handed) - 1) / (handed[-1] - handed[0]) if len(handed) > 1 else 1 / self._seconds
        whole = 1e3 * done.seconds
        if self._live:  # which waits for its camera: what it could do follows from what each frame cost
            count = max(1, len(done.answered[0]))
            whole = max(1e-3, ms["preprocess"] + ms["infer"])
            fps = 1e3 * count / whole
        named = {"inference": "infer", "preprocessing": "preprocess", "decoding": "capture", "rendering": "render"}
        shares = {name: min(1.0, ms[stage] / whole) for name, stage in named.items()}
        return fps, shares if not self._live else {**shares, "decoding": 0.0}

    def trial(self, count: int, rate: float, bound_ms: float | None) -> Trial:
        """So many streams at a rate, and whether they were held."""
        bound = bound_ms or INTERVALS * 1e3 / rate
        # A frame of the last moments may still be on its way, and is neither served nor lost yet.
        on_its_way = min(1.0, max(bound / 1e3, 2 / rate))
        sources = [self._paced(number, rate) for number in range(count)]
        enough = min(ENOUGH_FRAMES / rate, 2 * self._seconds) if self._seconds >= LONG else 0.0
        seconds = max(self._seconds, LEAST_FRAMES / rate, enough) + on_its_way
        done = self._run(sources, "latest", f"{count} x {rate:g} fps", seconds)
        first, last = done.begun + self._warmup, done.begun + done.seconds - on_its_way
        window = max(last - first, 1 / rate)
        ages = [[at - seen for seen, at in stream if first <= seen < last] for stream in done.answered]
        worst = min(map(len, ages))
        each, every = [summarise(stream) for stream in ages], summarise(age for stream in ages for age in stream)
        p95s = [found.p95 if found else None for found in each]
        known = [p95 for p95 in p95s if p95 is not None]
        p95 = max(known) if len(known) == count else every.p95 if every else None
        oldest = every.max if every else float("inf")
        reasons = []
        if worst < (1 - TOLERANCE) * int(rate * window):  # the window may begin or end between two frames
            reasons.append(f"{worst / window:.1f} fps of {rate:g}")
        age = oldest if p95 is None else p95  # of too few frames the oldest stands for the 95th percentile
        if age > bound:
            reasons.append(f"age {age:.0f} ms, bound {bound:.0f} ms")
        fps = min(rate, worst / window)
        return Trial(count, rate, fps, p95, oldest if every else 0.0, not reasons, ", ".join(reasons))

    def _run(self, sources: list[Source], policy: Policy, what: str, seconds: float = 0.0) -> Streamed:
        self._tell(what, min(0.95, self._runs / 4))
        self._runs += 1
        return run_streams(sources, self._load(), self._warmup + max(seconds, self._seconds), policy, self.stopped)

    def _load(self) -> Engine:
        if callable(self._engine):
            return self._engine(self._threads)
        return load_engine(self._engine, EngineOptions(threads=self._threads))

    def _fast(self) -> Source:
        return PictureSource(self._pictures) if self._uri is None else self._open(self._uri)

    def _paced(self, number: int, rate: float) -> Source:
        if self._uri is None:
            return ClockedPictures(self._pictures, rate, number * _PHASE % 1)
        slower = rate if self.rate is None or rate < self.rate else None
        return Selection(self._open(self._uri), max_fps=slower, pace="source")

    def _open(self, uri: str) -> Source:
        return open_source(uri, SourceOptions(loop=True, decoder_threads=1, planes=self._planes))
