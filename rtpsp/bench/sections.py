"""One report of all that was asked for: engines or their card, the loop, and the sections beside them.

Each section is measured after the other, never beside it. One that fails leaves the others as they are: it is skipped
with its reason, and its error is handed back, for the caller to end with once the report is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rtpsp.bench.carded import bench_carded
from rtpsp.bench.frames import Scene
from rtpsp.bench.lanes import Stopped, Tell
from rtpsp.bench.measure import BenchOptions, bench_subjects, scene_of
from rtpsp.bench.report import BenchReport
from rtpsp.bench.subjects import Skipped, Subject, SubjectOptions, Subjects, open_subjects
from rtpsp.bench.truth import model_of
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import RtpspError, UsageError
from rtpsp.model.arch import ARCHS

_CAMERA_SECONDS = 8.0
_LAYER_ROUNDS = 10
_QUICK_CAMERA_SECONDS = 2.0
_QUICK_LAYER_ROUNDS = 3


@dataclass(frozen=True)
class GrowthAxes:
    """What latency is to be measured against; an empty tuple leaves a part out.

    Attributes:
        sizes: (height, width) of the input.
        batches: Frames of one inference.
        threads: CPU threads; 0 alone stands for one to all.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    batches: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sizes or self.batches or self.threads)


@dataclass(frozen=True)
class Asked:
    """What a report is to hold, beside engines and the loop.

    Attributes:
        card: Whether engines are measured as a card of precisions.
        data: Labelled images for the card's accuracy.
        split: Which part of them.
        baselines: Keys of published rows (`rtpsp.bench.baseline.BASELINES`).
        beside: Whether the baselines' networks are held against the engines, too, for somebody gave these.
        growth: What latency is measured against.
        layers: Whether the layers are timed.
        cameras: Whether it is found how many cameras fit.
        bound: Most milliseconds of their p95 age; None is three intervals between frames.
        peers: Whether other libraries race.
        quick: All in seconds: it is shown what is measured, and no figure to rely on.
    """

    card: bool = False
    data: str | None = None
    split: str = "val"
    baselines: tuple[str, ...] = ()
    beside: bool = False
    growth: GrowthAxes = field(default_factory=GrowthAxes)
    layers: bool = False
    cameras: bool = False
    bound: float | None = None
    peers: bool = False
    quick: bool = False


@dataclass(frozen=True)
class Measured:
    """What came of it.

    Attributes:
        report: With all sections that could be measured.
        error: The first of a section that could not.
    """

    report: BenchReport
    error: RtpspError | None


def measure_all(
    subject_options: SubjectOptions,
    options: BenchOptions,
    asked: Asked,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> Measured:
    """Measure everything that was asked for.

    Args:
        subject_options: Which engines.
        options: For how long, and on what.
        asked: Which sections.
        tell: Told what is being done.
        stopped: Asked often; once it says so, what was measured is reported.

    Raises:
        RtpspError: As `rtpsp.bench.bench_subjects`: there is no engine to speak of.
    """
    say, ended = tell or (lambda what, share: None), stopped or (lambda: False)
    with open_subjects(subject_options, tell=say, stopped=ended) as subjects:
        if asked.card:
            report = bench_carded(subjects, options, asked.data, asked.split, say, ended)
        else:
            report = bench_subjects(subjects, options, say, ended)
        sections: dict[str, Any] = dict(report.sections)
        skipped: list[Skipped] = []
        first: RtpspError | None = None
        work = _Sections(subjects, _chosen(subjects, report, asked.card), subject_options, options, asked, say, ended)
        for name, measure in work.wanted():
            if ended():
                skipped.append(Skipped(name, "stopped before it was measured"))
                continue
            say(name, 0.0)
            try:
                sections[name] = measure()
            except RtpspError as error:
                skipped.append(Skipped(name, str(error)))
                first = first or error
    done = replace(
        report, sections=sections, skipped=(*report.skipped, *skipped), interrupted=report.interrupted or ended()
    )
    return Measured(done, first)


def _chosen(subjects: Subjects, report: BenchReport, card: bool) -> Subject:
    """The engine that a section is about, where it is about one: a card's fastest, else the first that was timed."""
    medians = {engine.name: engine.timeline.summary().median for engine in report.engines}
    timed = [entry for entry in subjects.entries if entry.name in medians] or list(subjects.entries)
    return min(timed, key=lambda entry: medians.get(entry.name, 0.0)) if card else timed[0]


@dataclass(frozen=True)
class _Sections:
    subjects: Subjects
    chosen: Subject
    given: SubjectOptions
    options: BenchOptions
    asked: Asked
    tell: Tell
    stopped: Stopped

    def wanted(self) -> Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]:
        """In the order of a report."""
        if self.asked.baselines:
            yield "baseline", self.baseline
        if self.asked.growth:
            yield "growth", self.growth
        if self.asked.layers:
            yield "layers", self.layers
        if self.asked.peers:
            yield "peers", self.peers
        if self.asked.cameras:
            yield "cameras", self.cameras

    @property
    def path(self) -> Path:
        return self.chosen.path

    @property
    def architecture(self) -> str | None:
        return self.given.model if self.given.model in ARCHS else None

    def scene(self) -> Scene:
        return scene_of(self.subjects, self.options.source)

    def baseline(self) -> Mapping[str, Any]:
        from rtpsp.bench.baseline import baseline_rows

        found = baseline_rows(
            self.asked.baselines, self.scene().pictures, seconds=self.options.duration, warmup=self.options.warmup,
            threads=self.options.threads, beside=self.subjects if self.asked.beside else None,
            quick=self.asked.quick, tell=self.tell, stopped=self.stopped,
        )  # fmt: skip
        return found.to_dict()

    def growth(self) -> Mapping[str, Any]:
        from rtpsp.bench.growth import growth

        asked, given = self.asked.growth, self.given
        found = growth(
            self.architecture, sizes=asked.sizes, batches=asked.batches, threads=asked.threads, size=given.size,
            backend=next((name for name in given.backends if name != "all"), None),
            precision=next(iter(given.precisions), None),
            output_stride=given.output_stride if self.architecture else None,
            classes=given.classes if self.architecture else None, seconds=self.options.duration,
            warmup=self.options.warmup, memory=self.options.memory, tell=self.tell, stopped=self.stopped,
        )  # fmt: skip
        return found.to_dict()

    def layers(self) -> Mapping[str, Any]:
        from rtpsp.bench.layers import profile

        rounds = _QUICK_LAYER_ROUNDS if self.asked.quick else _LAYER_ROUNDS
        return profile(self.path, self.options.threads, rounds, tell=self.tell, stopped=self.stopped).to_dict()

    def cameras(self) -> Mapping[str, Any]:
        from rtpsp.bench.cameras import fit_cameras

        seconds = _QUICK_CAMERA_SECONDS if self.asked.quick else _CAMERA_SECONDS
        found = fit_cameras(
            self.path, bound_ms=self.asked.bound, threads=self.options.threads, seconds=seconds,
            source=self.options.source, tell=self.tell, stopped=self.stopped,
        )  # fmt: skip
        return found.to_dict()

    def peers(self) -> Mapping[str, Any]:
        from rtpsp.bench.peers import PeersOptions, run_peers

        scene = self.scene()
        one_size = len({picture.shape for picture in scene.pictures}) == 1
        with self._model_file() as model:
            return run_peers(
                PeersOptions(
                    model=model, seconds=self.options.duration, warmup=self.options.warmup,
                    frames=scene.pictures if one_size else None, threads=self.options.threads,
                    trained=self.chosen.trained, quick=self.asked.quick,
                ),
                self.tell, self.stopped,
            ).to_dict()  # fmt: skip

    @contextmanager
    def _model_file(self) -> Iterator[Path]:
        """The model that peers run: a file, of which the engines were built, or one of random weights.

        Raises:
            UsageError: An engine file whose model is not found.
        """
        model = self.subjects.model
        if model is None:
            file = read_engine_file(self.path)
            model = model_of(file)
            if model is None:
                raise UsageError(
                    f"peers run the model itself, and {file.header.options.get('model') or 'that'} of {self.path} is "
                    "not found beside it: give the model with --model FILE.onnx"
                )
        if isinstance(model, Path):
            yield model
            return
        from rtpsp.onnx_file import save_model

        with tempfile.TemporaryDirectory(prefix="rtpsp-bench-") as folder:
            path = Path(folder) / "model.onnx"
            save_model(model, self.chosen.header.spec, path)
            yield path
