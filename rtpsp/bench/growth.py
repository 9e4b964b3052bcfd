"""How latency and memory grow with the input's pixels, with frames an inference, and with threads.

The networks have random weights, for a model file has one size. Precision and head are the same throughout, so that
what is seen is growth and not another choice. Everything of one question is open at once and timed in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtpsp import zoo
from rtpsp.arrays import ClassMap
from rtpsp.bench.frames import street_pictures, to_batches
from rtpsp.bench.growth_words import Line, fit_line, growth_words
from rtpsp.bench.lanes import EngineLane, Stopped, Tell, interleave
from rtpsp.bench.memory import peak_memory
from rtpsp.bench.random_networks import RandomNetwork
from rtpsp.bench.subjects import Skipped
from rtpsp.bench.timeline import Timeline
from rtpsp.bench.truth import check_truth, reference_answers
from rtpsp.build_options import default_precision
from rtpsp.engine import default_backend, load_engine
from rtpsp.engine.base import EngineOptions
from rtpsp.errors import BoundNotMet, EngineFileError, MissingError, UsageError
from rtpsp.header import MAX_BATCH, Precision
from rtpsp.machine import usable_threads

DEFAULT_SIZES = ((240, 320), (360, 480), (480, 640), (720, 960), (1080, 1440))
DEFAULT_BATCHES = (1, 2, 4, 8)
ALL_THREADS = 0
"""In place of numbers of threads: one, two, four, ... and all that this machine has."""
_BUILD = 0.5  # share of each part that building takes


@dataclass(frozen=True, eq=False)
class Point:
    """One engine.

    Attributes:
        size: Input (height, width) in pixels.
        batch: Frames of one inference.
        threads: CPU threads.
        timeline: Of its inferences.
        peak_memory: Bytes of a process that opens it and infers (`rtpsp.bench.memory`); None where it cannot be told.
        multiply_adds: Of one frame, as the model has it.
    """

    size: tuple[int, int]
    batch: int
    threads: int
    timeline: Timeline
    peak_memory: int | None
    multiply_adds: int

    @property
    def megapixels(self) -> float:
        """Of one frame."""
        return self.size[0] * self.size[1] / 1e6

    @property
    def milliseconds(self) -> float:
        """Median of one inference."""
        return self.timeline.summary().median

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; latency is that of an inference, ``ms_per_frame`` and ``fps`` of a frame in it."""
        fps = self.timeline.fps
        return {
            "height": self.size[0],
            "width": self.size[1],
            "batch": self.batch,
            "threads": self.threads,
            "latency_ms": self.timeline.summary().to_dict(),
            "stable": self.timeline.stable,
            "fps": None if fps is None else round(self.batch * fps, 3),
            "ms_per_frame": round(self.milliseconds / self.batch, 3),
            "ms_per_megapixel": round(self.milliseconds / self.batch / self.megapixels, 3),
            "gmac": round(self.multiply_adds / 1e9, 3),
            "peak_memory_bytes": self.peak_memory,
        }


@dataclass(frozen=True, eq=False)
class Growth:
    """The section ``growth`` of a report.

    Attributes:
        network: What was measured, in words.
        pixels: By the input's size, the smallest first.
        batch: By frames an inference.
        threads: By CPU threads.
        line: Milliseconds of a frame by megapixels; None with fewer than three sizes.
        skipped: What could not be measured.
    """

    network: str
    pixels: tuple[Point, ...]
    batch: tuple[Point, ...]
    threads: tuple[Point, ...]
    line: Line | None
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        linear = None
        if self.line is not None:
            ends = [(point.size, point.megapixels, point.milliseconds) for point in (self.pixels[0], self.pixels[-1])]
            linear = {**self.line.to_dict(), "words": growth_words(self.line, *ends)}
        return {
            "network": self.network,
            "pixels": [point.to_dict() for point in self.pixels],
            "batch": [point.to_dict() for point in self.batch],
            "threads": [point.to_dict() for point in self.threads],
            "linear": linear,
            "skipped": [one.to_dict() for one in self.skipped],
        }


def growth(
    model: str | None = None,
    *,
    sizes: Sequence[tuple[int, int]] = DEFAULT_SIZES,
    batches: Sequence[int] = DEFAULT_BATCHES,
    threads: Sequence[int] = (ALL_THREADS,),
    size: tuple[int, int] | None = None,
    backend: str | None = None,
    precision: Precision | None = None,
    output_stride: int | None = None,
    classes: int | None = None,
    seconds: float,
    warmup: float,
    memory: bool = True,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> Growth:
    """Measure growth.

    Args:
        model: Name of an architecture; None is that of the shipped model.
        sizes: (height, width) of the input; none leaves that part out.
        batches: Frames of one inference; none leaves that part out.
        threads: CPU threads; none leaves that part out, `ALL_THREADS` is a choice from one to all.
        size: Of the input where batch or threads grow; None is the shipped model's.
        backend: None is the best one here.
        precision: None is the backend's usual one.
        output_stride: None is the shipped model's, or 8.
        classes: None is as many as the shipped model has.
        seconds: That count for each engine in the mean.
        warmup: Seconds for each before anything counts.
        memory: Measure its peak, by a process for each engine.
        tell: Told what is being done, and how much of all.
        stopped: Asked often; what was measured until then is given.

    Raises:
        UsageError: No such architecture, or a size, batch or number of threads that cannot be.
        RtpspError: An engine cannot be built or opened.
    """
    spec = zoo.model_spec()
    stride = output_stride or (spec.output_stride if model in (None, spec.arch) else 8)
    network = RandomNetwork(model or spec.arch, output_stride=stride, classes=classes or len(spec.labels))
    backend = backend or default_backend()
    base = size or spec.size
    everything = usable_threads()
    parts: list[tuple[str, list[_Wanted]]] = [
        ("pixels", [_Wanted(one, 1, everything) for one in sorted(set(sizes), key=lambda one: one[0] * one[1])]),
        ("batch", [_Wanted(base, one, everything) for one in sorted(set(batches))]),
        ("threads", [_Wanted(base, 1, one) for one in sorted(set(_counts(threads, everything)))]),
    ]
    for _, wanted in parts:
        _check(wanted, network)
    parts = [(name, wanted) for name, wanted in parts if wanted]
    work = _Work(network, backend, precision or default_precision(backend), seconds, warmup, memory, stopped)
    found: dict[str, tuple[Point, ...]] = {}
    with tempfile.TemporaryDirectory(prefix="rtpsp-bench-") as folder:
        for number, (name, wanted) in enumerate(parts):

            def told(what: str, share: float, name: str = name, number: int = number) -> None:
                if tell:
                    tell(f"growth by {name}: {what}", (number + share) / len(parts))

            found[name] = work.measure(wanted, Path(folder), told)
    pixels = found.get("pixels", ())
    line = fit_line([(point.megapixels, point.milliseconds) for point in pixels]) if len(pixels) > 2 else None
    words = f"{network.arch}, output stride {stride}, random weights, {work.precision} by {backend}, {work.head} head"
    return Growth(words, pixels, found.get("batch", ()), found.get("threads", ()), line, tuple(work.skipped))


@dataclass(frozen=True)
class _Wanted:
    size: tuple[int, int]
    batch: int
    threads: int

    @property
    def name(self) -> str:
        return f"{self.size[0]}x{self.size[1]}, batch {self.batch}, {self.threads} threads"


class _Work:
    """Builds and measures; an engine that several questions need is built once."""

    def __init__(
        self, network: RandomNetwork, backend: str, precision: Precision, seconds: float, warmup: float, memory: bool,
        stopped: Stopped | None,
    ) -> None:  # fmt: skip
        self.precision, self.head, self.skipped = precision, "auto", list[Skipped]()
        self._network, self._backend, self._memory = network, backend, memory
        self._seconds, self._warmup = seconds, warmup
        self._stopped = stopped or (lambda: False)
        self._pictures = street_pictures()
        self._files: dict[tuple[tuple[int, int], int], Path] = {}
        self._right: dict[tuple[int, int], list[ClassMap]] = {}

    def measure(self, wanted: Sequence[_Wanted], folder: Path, tell: Tell) -> tuple[Point, ...]:
        """All of one question, in turn; none where a person wanted an end of it before anything was timed."""
        building, timing = _part(tell, 0.0, _BUILD), _part(tell, _BUILD, 1.0)
        middle = wanted[len(wanted) // 2]
        with ExitStack() as stack:
            lanes: dict[str, EngineLane] = {}
            for number, one in enumerate(sorted(wanted, key=lambda one: one != middle)):  # the head is chosen on it
                if self._stopped():
                    return ()
                building(one.name, number / len(wanted))
                try:
                    lanes[one.name] = stack.enter_context(self._checked(one, folder))
                except (BoundNotMet, EngineFileError, MissingError) as error:
                    self.skipped.append(Skipped(one.name, str(error)))
            if not lanes:
                raise BoundNotMet("; ".join(f"{one.name}: {one.reason}" for one in self.skipped))
            timed = interleave(
                list(lanes.values()), len(self._pictures), seconds=self._seconds, warmup=self._warmup, tell=timing,
                stopped=self._stopped,
            )  # fmt: skip
        self.skipped += [Skipped(name, reason) for name, reason in timed.failed.items()]
        return tuple(self._point(one, timed[one.name]) for one in wanted if timed.get(one.name))

    def _point(self, one: _Wanted, timeline: Timeline) -> Point:
        peak = None
        if self._memory and not self._stopped():
            try:
                peak = peak_memory(self._files[one.size, one.batch], one.threads)
            except MissingError as error:
                self.skipped.append(Skipped(f"memory of {one.name}", str(error)))
        from rtpsp.graph.work import multiply_adds

        return Point(one.size, one.batch, one.threads, timeline, peak, multiply_adds(self._network.model(one.size)))

    @contextmanager
    def _checked(self, one: _Wanted, folder: Path) -> Iterator[EngineLane]:
        """An open engine that answers as its network does in FP32, on one frame."""
        fresh = (one.size, one.batch) not in self._files
        path = self._file(one, folder)
        engine = load_engine(path, EngineOptions(threads=one.threads))
        batches = to_batches(self._pictures, engine.spec, one.batch)
        with EngineLane(one.name, engine, batches) as lane:
            if fresh:
                if one.size not in self._right:
                    self._right[one.size] = reference_answers(self._network.model(one.size), batches[:1])
                answers = [lane.class_map(0)]
                check_truth(one.name, answers, self._right[one.size], precision=self.precision, trained=False)
            yield lane

    def _file(self, one: _Wanted, folder: Path) -> Path:
        key = one.size, one.batch
        if key not in self._files:
            path = folder / f"{one.size[0]}x{one.size[1]}-b{one.batch}.engine"
            header = self._network.write_engine(
                path, one.size, self._backend, self.precision, batch=one.batch, head=self.head
            )
            self.head = str(header.options["head"])
            self._files[key] = path
        return self._files[key]


def _check(wanted: Sequence[_Wanted], network: RandomNetwork) -> None:
    for one in wanted:
        network.spec(one.size)  # which knows how small it may be
        if not 1 <= one.batch <= MAX_BATCH:
            raise UsageError(f"batch is {one.batch}, expected 1 to {MAX_BATCH}")
        if one.threads < 1:
            raise UsageError(f"threads is {one.threads}, expected 1 or more, or {ALL_THREADS} alone for one to all")


def _counts(asked: Sequence[int], everything: int) -> list[int]:
    """Numbers of threads: as asked for, or powers of two up to all, and all."""
    if tuple(asked) != (ALL_THREADS,):
        return list(asked)
    return [*(1 << power for power in range(everything.bit_length()) if 1 << power < everything), everything]


def _part(tell: Tell, begin: float, end: float) -> Tell:
    return lambda what, share: tell(what, begin + share * (end - begin))
