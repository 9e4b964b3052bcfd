"""Engines, one or several, and the loop around the first: checked, then timed in turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtpsp.arrays import Image
from rtpsp.bench.frames import PictureSource, Scene, look, street_scene, to_batches
from rtpsp.bench.lanes import EngineLane, Stopped, Tell, interleave
from rtpsp.bench.loop import LoopFigures, measure_loop
from rtpsp.bench.memory import peak_memory
from rtpsp.bench.noise import Noise
from rtpsp.bench.ratios import PairRatio
from rtpsp.bench.report import BenchReport, EngineFigures, NamedRatio
from rtpsp.bench.subjects import Skipped, Subject, SubjectOptions, Subjects, open_subjects, told_of
from rtpsp.bench.timeline import Timeline
from rtpsp.bench.truth import FRAMES, MODEL, Reference, check_truth, reference_of
from rtpsp.engine.base import Engine
from rtpsp.errors import MissingError, RtpspError, UsageError
from rtpsp.machine import usable_threads
from rtpsp.spec import Planes


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and for how long.

    Attributes:
        warmup: Seconds of inference before anything counts.
        duration: Seconds that count, of each engine, and of the loop.
        threads: CPU threads; 0 takes all.
        source: URI for the loop and for the frames that engines see; None takes frames of a street that are drawn
            before the measurement, with its grey for a fourth plane.
        loop: Whether the loop is measured, too.
        memory: Whether each engine's peak of memory is, by a process of its own.
        checked_frames: Frames on which answers are checked before anything is timed.
    """

    warmup: float = 2.0
    duration: float = 10.0
    threads: int = 0
    source: str | None = None
    loop: bool = True
    memory: bool = True
    checked_frames: int = FRAMES


def bench(
    path: Path, options: BenchOptions | None = None, tell: Tell | None = None, stopped: Stopped | None = None
) -> BenchReport:
    """Measure an engine file, alone and in the loop.

    Args:
        path: The engine file.
        options: What, and for how long.
        tell: Told what is being done.
        stopped: Asked often; once it says so, what was measured is reported.

    Raises:
        BoundNotMet: The engine does not answer as FP32 does: it is not timed.
        RtpspError: The engine or the source fails.
    """
    with open_subjects(SubjectOptions(engines=(str(path),))) as subjects:
        return bench_subjects(subjects, options, tell, stopped)


def bench_subjects(
    subjects: Subjects,
    options: BenchOptions | None = None,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> BenchReport:
    """Measure engines in turn on the same frames, and the loop around the first that can be measured.

    One that fails, or answers wrongly, is skipped with its reason; the only one raises.

    Args:
        subjects: The first is what the others are compared with.
        options: What, and for how long.
        tell: Told what is being done.
        stopped: Asked often; once it says so, what was measured is reported.

    Raises:
        RtpspError: The only engine, or the last that was left, or the source fails.
    """
    work = _Work(subjects, options or BenchOptions(), tell or (lambda what, share: None), stopped or (lambda: False))
    with Noise() as noise:
        scene = scene_of(subjects, work.options.source)
        checked = work.check(scene)
        loop: LoopFigures | None = None
        timelines: Mapping[str, Timeline] = {}
        in_turn_with_loop = len(checked) == 1 and work.options.loop and not scene.live
        if checked and not in_turn_with_loop:
            timelines = work.race(checked)
        first = next((each for each in checked if in_turn_with_loop or each.name in timelines), None)
        if first is not None and work.options.loop and not work.stopped():
            loop = work.loop(first, scene, alone=in_turn_with_loop)
        if loop is not None and in_turn_with_loop:
            timelines = {checked[0].name: loop.engine}
        figures = work.figures([each for each in checked if len(timelines.get(each.name, ()))], timelines)
    return BenchReport(
        tuple(figures), tuple(ratios_of(figures)), loop if loop is not None and loop.report.fps else None,
        tuple(work.skipped), noise, scene.words, work.stopped(),
    )  # fmt: skip


def scene_of(subjects: Subjects, source: str | None) -> Scene:
    """The frames that engines see: of the source, or else of a drawn street.

    Raises:
        RtpspError: As opening and reading the source.
    """
    planes: Planes = max(entry.header.spec.planes for entry in subjects.entries)
    return street_scene(planes) if source is None else look(source, planes)


def load_one(subject: Subject, threads: int) -> Engine:
    """The engine of a subject, not open.

    Raises:
        UsageError: It takes more than one frame at a time.
        RtpspError: As loading it.
    """
    engine = subject.load(threads)
    if engine.batch != 1:
        raise UsageError(
            f"{subject.name} takes batches of {engine.batch}, the live loop needs 1: build it without a batch, or see "
            "what batches gain with --batch"
        )
    return engine


def loop_around(subject: Subject, scene: Scene, options: BenchOptions, tell: Tell, stopped: Stopped) -> LoopFigures:
    """The loop around an engine, over the source, or over the scene's pictures.

    Raises:
        RtpspError: As loading the engine, and as `rtpsp.live.run`.
    """
    engine = load_one(subject, options.threads or usable_threads())
    return measure_loop(
        engine, to_batches(scene.pictures, engine.spec), options.source or PictureSource(scene.pictures),
        seconds=options.duration, warmup=options.warmup, threads=options.threads, tell=tell, stopped=stopped,
    )  # fmt: skip


def ratios_of(figures: Sequence[EngineFigures], reference: str | None = None) -> Iterable[NamedRatio]:
    """Of one engine over each other one, pair by pair.

    Args:
        figures: Of one race.
        reference: The one's name; None is the first, as it is where the one was not timed.
    """
    first = next((one for one in figures if one.name == reference), next(iter(figures), None))
    for other in figures:
        if first is not None and other is not first:
            ratio = PairRatio.of(first.timeline.durations, other.timeline.durations)
            yield NamedRatio(first.name, other.name, ratio)


def engine_facts(subject: Subject, engine: Engine) -> dict[str, Any]:
    """What a report tells of an engine that is open, beside its figures."""
    return {
        **told_of(subject), "ran": engine.ran, "threads": engine.options.threads, "batch": engine.batch,
        "file_bytes": subject.file_bytes,
    }  # fmt: skip


@dataclass(eq=False)
class _Checked:
    """An engine that answers rightly."""

    subject: Subject
    batches: list[Image]
    agreement: float | None
    against: str
    told: dict[str, Any]
    parts: dict[str, float] | None = None

    @property
    def name(self) -> str:
        return self.subject.name


@dataclass(eq=False)
class _Work:
    subjects: Subjects
    options: BenchOptions
    tell: Tell
    stopped: Stopped
    skipped: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.skipped += self.subjects.skipped
        self._threads = self.options.threads or usable_threads()

    def check(self, scene: Scene) -> list[_Checked]:
        """Those that answer as FP32 does."""
        found: list[_Checked] = []
        entries = self.subjects.entries
        for number, subject in enumerate(entries):
            if self.stopped():
                break
            self.tell(f"checking the answers of {subject.name}", number / len(entries))
            try:
                found.append(self._checked(subject, load_one(subject, self._threads), scene))
            except RtpspError as error:
                self._skip(subject.name, error, alone=not found and subject is entries[-1])
        return found

    def race(self, checked: Sequence[_Checked]) -> Mapping[str, Timeline]:
        """All in turn; those that cannot be open beside the others are skipped."""
        with ExitStack() as stack:
            lanes: dict[str, EngineLane] = {}
            for each in checked:
                lane = EngineLane(each.name, load_one(each.subject, self._threads), each.batches)
                try:
                    lanes[each.name] = stack.enter_context(lane)
                except RtpspError as error:
                    self._skip(each.name, error, alone=not lanes and each is checked[-1])
            found = interleave(
                list(lanes.values()), len(checked[0].batches), seconds=self.options.duration,
                warmup=self.options.warmup, tell=self.tell, stopped=self.stopped,
            )  # fmt: skip
            for each in checked:
                if len(found.get(each.name, ())):
                    each.parts = lanes[each.name].parts(found[each.name].summary().median)
        self.skipped += [Skipped(name, reason) for name, reason in found.failed.items()]
        return found

    def loop(self, of: _Checked, scene: Scene, alone: bool) -> LoopFigures | None:
        try:
            return loop_around(of.subject, scene, self.options, self.tell, self.stopped)
        except RtpspError as error:
            self._skip("the loop", error, alone)
            return None

    def figures(self, checked: Sequence[_Checked], timelines: Mapping[str, Timeline]) -> list[EngineFigures]:
        found = []
        for number, each in enumerate(checked):
            memory = None
            if self.options.memory and not self.stopped():
                self.tell(f"memory of {each.name}", number / len(checked))
                try:
                    memory = peak_memory(each.subject.path, self._threads)
                except MissingError as error:
                    self.skipped.append(Skipped(f"memory of {each.name}", str(error)))
            found.append(
                EngineFigures(each.told, timelines[each.name], each.agreement, each.against, each.parts, memory)
            )
        return found

    def _checked(self, subject: Subject, engine: Engine, scene: Scene) -> _Checked:
        batches = to_batches(scene.pictures, engine.spec)
        count = self.options.checked_frames
        asked = batches[:: max(1, len(batches) // count)][:count]
        reference = self._reference(subject, asked)
        agreement = None
        with EngineLane(subject.name, engine, asked) as lane:
            if reference is not None:
                answers = [lane.class_map(index) for index in range(len(asked))]
                agreement = check_truth(
                    subject.name, answers, reference.answers, precision=engine.header.precision,
                    trained=subject.trained,
                )  # fmt: skip
            told = engine_facts(subject, engine)
        return _Checked(subject, batches, agreement, reference.words if reference else "", told)

    def _reference(self, subject: Subject, batches: Sequence[Image]) -> Reference | None:
        if self.subjects.model is None:
            return reference_of(subject.path, batches, self.options.threads)
        answers = self.subjects.reference(subject, batches, self.options.threads)
        return None if answers is None else Reference(MODEL, tuple(answers))

    def _skip(self, name: str, error: RtpspError, alone: bool) -> None:
        """Note it, and go on with the others if there are any.

        Raises:
            RtpspError: There are none: the error itself.
        """
        if alone:
            raise error
        self.skipped.append(Skipped(name, str(error)))
