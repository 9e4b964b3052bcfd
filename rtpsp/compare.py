"""Two engines over the same frames: how alike they answer, how right each is, and how much faster one is.

Both are open at the same time, in one process and with the same threads, and take turns on each frame, A B A B, so that
whatever else the machine does falls on both alike. The ratio of their latencies is taken pair by pair.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from rtpsp.agreement import Picture, check_same_classes, evaluate_pair
from rtpsp.arrays import ClassMap, Image
from rtpsp.comparison import Comparison, Difference, Ratio, Side
from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.data.sample import Sample
from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.errors import UsageError
from rtpsp.evaluate import Progress, segmenter
from rtpsp.labels import LabelSet
from rtpsp.machine import usable_threads
from rtpsp.spec import Planes
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import Source, SourceOptions, open_source
from rtpsp.timing import now, summarise

DEFAULT_SOURCE = "sim://street?w=640&h=480"
DEFAULT_STEP = 15
"""Frames from one to the next of the default source: half a second of a drive, for neighbours hardly differ."""
DEFAULT_FRAMES = 100
"""Of a source that has no end: enough pairs for a p10 and a p90 of their ratio."""


@dataclass(frozen=True)
class CompareOptions:
    """What to compare on, and how.

    Attributes:
        data: Labelled images, as `rtpsp.data.dataset.open_dataset` takes them.
        split: Which part of a folder of `data`.
        source: Frames without labels by URI, in place of `data`; with neither, frames of a drawn street.
        frames: At most so many: spread evenly over `data`, the first ones of a source. None takes all, of a source
            without an end `DEFAULT_FRAMES`.
        threads: CPU threads of each engine; 0 takes all.
        warmup: Seconds for which both infer in turn before anything counts.
        worst: How many of the frames that differ most are kept with both answers.
    """

    data: str | None = None
    split: str = "val"
    source: str | None = None
    frames: int | None = None
    threads: int = 0
    warmup: float = 1.0
    worst: int = 5

    def __post_init__(self) -> None:
        if self.data is not None and self.source is not None:
            raise UsageError(f"got data {self.data!r} and source {self.source!r}, expected one of them: leave one out")
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"frames is {self.frames}, expected at least 1")


def compare_engines(
    a: str | Path | Engine,
    b: str | Path | Engine,
    options: CompareOptions | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Hold two engines against each other on the same frames.

    Args:
        a: An engine file, or an engine that is not open and keeps its own number of threads.
        b: The other; the same file twice shows how much two measurements of one engine differ.
        options: On what, and how.
        progress: Called after every frame.

    Raises:
        UsageError: An engine takes batches, or the options contradict each other.
        InputError: The engines have different class lists.
        RtpspError: As opening an engine, a data set or a source.
    """
    options = options or CompareOptions()
    threads = options.threads or usable_threads()
    turns = [_Turns(given, threads) for given in (a, b)]
    first, second = turns
    check_same_classes(first.labels, second.labels, (f"A ({first.name})", f"B ({second.name})"))
    with ExitStack() as stack:
        planes = max(first.engine.spec.planes, second.engine.spec.planes)
        frames = _open_frames(options, stack, first.labels, planes)
        for turn in turns:
            stack.enter_context(turn.engine)
        worst = _Worst(options.worst)
        pair = evaluate_pair(
            first.segment,
            second.segment,
            _warmed(frames.images, turns, options.warmup),
            first.labels,
            (lambda done, _: progress(done, frames.expected)) if progress else None,
            worst.add,
        )
        ratio = Ratio.of(first.seconds, second.seconds)
        return Comparison(first.side(), second.side(), pair, ratio, worst.kept(), frames.name, frames.split, threads)


@dataclass(frozen=True)
class _Frames:
    images: Iterable[Sample | Picture]
    expected: int
    name: str
    split: str | None


class _Turns:
    """One engine, asked frame by frame, with the time that each took."""

    def __init__(self, given: str | Path | Engine, threads: int) -> None:
        self.engine = given if isinstance(given, Engine) else load_engine(given, EngineOptions(threads=threads))
        self.name = self.engine.spec.name if isinstance(given, Engine) else Path(given).name
        self.labels = self.engine.spec.labels
        self.seconds: list[float] = []
        if self.engine.batch != 1:
            raise UsageError(
                f"{self.name} takes batches of {self.engine.batch}, compare needs 1: build it without a batch"
            )
        self.segment = segmenter(self._infer, self.engine.spec)

    def _infer(self, frames: Image) -> ClassMap:
        result = self.engine.infer(frames)
        self.seconds.append(result.collected - result.submitted)
        return result.class_map

    def side(self) -> Side:
        spec, header = self.engine.spec, self.engine.header
        latency = summarise(self.seconds)
        assert latency is not None
        told = {
            "file": self.name, "model": spec.name, "height": spec.height, "width": spec.width, "fit": spec.fit,
            "backend": header.backend, "precision": header.precision, "ran": self.engine.ran,
            "versions": dict(header.versions), "model_sha256": header.model_digest,
        }  # fmt: skip
        return Side(told, latency)


class _Worst:
    """Keeps the frames that differ most, and no other."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, Difference]] = []
        self._order = count()

    def add(self, image: Sample | Picture, first: ClassMap, second: ClassMap) -> None:
        agreement = 100 * float((first == second).mean())
        if agreement == 100 or not self._most:
            return
        truth = image.truth if isinstance(image, Sample) else None
        found = Difference(image.name, image.image, first, second, truth, agreement)
        entry = (-agreement, -next(self._order), found)  # the root is the one to go; of equals the later
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def kept(self) -> tuple[Difference, ...]:
        return tuple(found for *_, found in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def _open_frames(options: CompareOptions, stack: ExitStack, labels: LabelSet, planes: Planes) -> _Frames:
    if options.data is not None:
        samples = open_dataset(options.data, options.split, labels=labels, planes=planes)
        chosen = _spread(samples, options.frames)
        return _Frames(chosen, len(chosen), options.data, samples.split)
    source = open_source(options.source or DEFAULT_SOURCE, SourceOptions(planes=planes))
    most = options.frames or (DEFAULT_FRAMES if options.source is None or source.info.frames is None else None)
    selected = stack.enter_context(Selection(source, 1 if options.source else DEFAULT_STEP, max_frames=most))
    return _Frames(_pictures(selected), selected.info.frames or 0, source.info.uri, None)


def _spread(samples: Dataset, most: int | None) -> Dataset:
    """At most so many, evenly spread: neighbours in a folder are often neighbours in a video."""
    if most is None or most >= len(samples):
        return samples
    return replace(samples, entries=tuple(samples.entries[place * len(samples) // most] for place in range(most)))


def _pictures(source: Source) -> Iterator[Picture]:
    while (frame := source.read()) is not None:
        yield Picture(frame.name or f"frame {frame.index}", frame.to_bgr(None))


def _warmed(images: Iterable[Sample | Picture], turns: Iterable[_Turns], seconds: float) -> Iterator[Sample | Picture]:
    """The same images, once both engines have had the first one in turn for so long, and at least once."""
    rest = iter(images)
    first = next(rest, None)
    if first is None:
        return
    begin = now()
    while True:
        for turn in turns:
            turn.segment(first.image)
        if now() - begin >= seconds:
            break
    for turn in turns:
        turn.seconds.clear()
    yield first
    yield from rest
