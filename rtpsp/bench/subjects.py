"""What a benchmark measures: engine files as they are, or one model in every precision and backend that was asked for.

What has to be built goes into a temporary folder, so that no engine of the user's is written over; one of the shipped
model that was built before is taken as it is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.bench.lanes import Stopped, Tell
from rtpsp.engine import BACKENDS, default_backend, load_engine, why_not_here
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import MissingError, RtpspError, UsageError
from rtpsp.header import EngineHeader, Precision
from rtpsp.model.arch import ARCHS

if TYPE_CHECKING:
    import onnx_ir as ir

_log = logging.getLogger(__name__)

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ALL = "all"


@dataclass(frozen=True)
class SubjectOptions:
    """What to measure.

    Attributes:
        engines: Engine files; with neither these nor a model it is the shipped model.
        model: A model file (.onnx), or the name of an architecture, which gets random weights.
        size: (height, width) in pixels of a random network; None is 720x960.
        output_stride: Of a random network, 8 or 16.
        classes: Of a random network.
        precisions: None is the best one of each backend.
        backends: Names in `rtpsp.engine.BACKENDS`, or `ALL` that run here; none is the best one here.
        batch: Frames of one inference.
        threads: CPU threads; 0 leaves them to the backend.
        calib: Frames to take INT8's ranges from, for a model file that brings none, as
            `rtpsp.calibration_set.open_calibration` takes them.
    """

    engines: tuple[str, ...] = ()
    model: str | None = None
    size: tuple[int, int] | None = None
    output_stride: int = 8
    classes: int = 11
    precisions: tuple[Precision, ...] = ()
    backends: tuple[str, ...] = ()
    batch: int = 1
    threads: int = 0
    calib: str | None = None

    def __post_init__(self) -> None:
        built = {"--model": self.model, "--precisions": self.precisions, "--backends": self.backends}
        given = [name for name, value in built.items() if value]
        if self.engines and given:
            raise UsageError(
                f"got the engine {self.engines[0]} and {given[0]}, expected one of them: an engine file is measured as "
                f"it is; {given[0]} says what is to be built"
            )
        for kind, names, known in (
            ("precision", self.precisions, PRECISIONS), ("backend", self.backends, (*BACKENDS, ALL)),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise UsageError(f"no {kind} {name!r}: use one of {', '.join(known)}")
        if self.size is not None and self.model not in ARCHS:
            what = self.model or (self.engines[0] if self.engines else "the shipped model")
            raise UsageError(
                f"got a size and {what}, whose size is in its file: leave the size out, export the model at it, or "
                f"name an architecture ({', '.join(ARCHS)}), which gets random weights"
            )


@dataclass(frozen=True)
class Subject:
    """An engine to be measured.

    Attributes:
        name: What tables call it; no two are called alike.
        path: Its file.
        header: As written in it.
        trained: False where its weights are random.
    """

    name: str
    path: Path
    header: EngineHeader
    trained: bool = True

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def load(self, threads: int = 0) -> Engine:
        """Its engine, not open.

        Raises:
            RtpspError: As `rtpsp.engine.load_engine`.
        """
        return load_engine(self.path, EngineOptions(threads=threads))


@dataclass(frozen=True)
class Skipped:
    """What could not be measured, and why."""

    name: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """As plain JSON values."""
        return {"name": self.name, "reason": self.reason}


@dataclass
class Subjects:
    """Engines side by side.

    Attributes:
        entries: What can be measured, in the order that was asked for.
        skipped: What cannot.
        model: What the engines were built of: a model file, or the graph of a random network; None where the engines
            were given.
    """

    entries: tuple[Subject, ...]
    skipped: tuple[Skipped, ...] = ()
    model: Path | ir.Model | None = None
    _answers: dict[str, list[ClassMap]] = field(default_factory=dict, repr=False)

    @property
    def first_fp32(self) -> Subject:
        """The one that others are held against: the first in FP32, else the first."""
        return next((one for one in self.entries if one.header.precision == "fp32"), self.entries[0])

    def reference(self, subject: Subject, batches: Sequence[Image], threads: int = 0) -> list[ClassMap] | None:
        """What an engine has to answer, in FP32.

        Args:
            subject: One of the entries.
            batches: uint8 [N, H, W, planes]; the first frame of each is asked. Answers to the same frames are computed
                once for all entries that were built here.
            threads: For ONNX Runtime; 0 leaves it the choice.

        Returns:
            Class ids [H, W], one a batch; None where there is nothing to ask (`rtpsp.bench.truth.reference_of`).
        """
        from rtpsp.bench.truth import reference_answers, reference_of

        asked = hashlib.sha256(b"".join(np.ascontiguousarray(batch[:1]).data for batch in batches)).hexdigest()
        key = asked if self.model is not None else f"{subject.name} {asked}"
        if key not in self._answers:
            if self.model is not None:
                self._answers[key] = reference_answers(self.model, batches, threads)
            else:
                found = reference_of(subject.path, batches, threads)
                if found is None:
                    return None
                self._answers[key] = list(found.answers)
        return self._answers[key]


@contextmanager
def open_subjects(
    options: SubjectOptions, *, tell: Tell | None = None, stopped: Stopped | None = None
) -> Iterator[Subjects]:
    """Engine files to be measured; those that had to be built are gone at the end.

    Args:
        options: What to measure.
        tell: Told what is being built, and how much of all.
        stopped: Asked before each build; what was not built until then is skipped.

    Raises:
        UsageError: No such architecture.
        RtpspError: A given engine cannot be read; or nothing could be built, for the reason of the first that failed.
    """
    if options.engines:
        yield _given(options.engines)
        return
    with tempfile.TemporaryDirectory(prefix="rtpsp-bench-") as folder:
        yield _built(options, Path(folder), tell or (lambda what, share: None), stopped or (lambda: False))


def _given(engines: Sequence[str]) -> Subjects:
    used: Counter[str] = Counter()
    entries = []
    for given in engines:
        path = Path(os.path.expanduser(given))
        header = read_engine_file(path).header
        used[path.name] += 1
        name = path.name if used[path.name] == 1 else f"{path.name} ({used[path.name]})"
        entries.append(Subject(name, path, header, trained=_trained(header)))
    return Subjects(tuple(entries))


def _built(options: SubjectOptions, folder: Path, tell: Tell, stopped: Stopped) -> Subjects:
    from rtpsp.bench.builds import writer_of

    backends, skipped = choose_backends(options.backends)
    wanted = [(backend, precision) for backend in backends for precision in (options.precisions or (None,))]
    write, model = writer_of(options)
    entries: list[Subject] = []
    first: RtpspError | None = None
    for number, (backend, precision) in enumerate(wanted):
        name = f"{precision} {backend}" if precision else backend
        if stopped():
            skipped.append(Skipped(name, "stopped before it was built"))
            continue

        def told(step: str, done: int, total: int, name: str = name, number: int = number) -> None:
            tell(f"{name}: {step}", (number + done / max(total, 1)) / len(wanted))

        try:
            path = write(folder / f"{backend}-{precision or 'usual'}.engine", backend, precision, told)
            header = read_engine_file(path).header
        except RtpspError as error:
            _log.info("%s is skipped: %s", name, error)
            skipped.append(Skipped(name, str(error)))
            first = first or error
        else:
            entries.append(Subject(f"{header.precision} {backend}", path, header, trained=_trained(header)))
    if not entries:
        if first is not None:
            raise first
        raise MissingError("; ".join(f"{one.name}: {one.reason}" for one in skipped) or "nothing was built")
    return Subjects(tuple(entries), tuple(skipped), model)


def choose_backends(asked: Sequence[str]) -> tuple[list[str], list[Skipped]]:
    """The backends to measure, and those of `ALL` that do not run here, with the reason."""
    if ALL not in asked:
        return list(dict.fromkeys(asked)) or [default_backend()], []
    reasons = {name: why_not_here(name) for name in BACKENDS}
    runs = [name for name, why in reasons.items() if why is None]
    return runs, [Skipped(name, why) for name, why in reasons.items() if why is not None]


def _trained(header: EngineHeader) -> bool:
    from rtpsp.bench.random_networks import RANDOM

    return not header.options.get(RANDOM, False)


def told_of(subject: Subject) -> dict[str, Any]:
    """What a report says of an engine, but for figures."""
    spec, header = subject.header.spec, subject.header
    return {
        "name": subject.name, "model": spec.name, "model_digest": header.model_digest, "height": spec.height,
        "width": spec.width, "backend": header.backend, "precision": header.precision,
    }  # fmt: skip
