"""Published speeds beside this machine's: the same backbone at the same input size, one frame at a time.

A published figure was taken on another device, with another runtime, of something that is seldom told exactly. So no
ratio goes without a list of what differs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from rtpsp.arrays import Image
from rtpsp.bench.differences import what_differs
from rtpsp.bench.frames import to_batches
from rtpsp.bench.lanes import EngineLane, Stopped, Tell, interleave
from rtpsp.bench.published import BASELINES as BASELINES
from rtpsp.bench.published import Published as Published
from rtpsp.bench.subjects import Subject, SubjectOptions, Subjects, open_subjects
from rtpsp.bench.timeline import Timeline
from rtpsp.bench.truth import FRAMES, check_truth
from rtpsp.errors import BoundNotMet, UsageError

_log = logging.getLogger(__name__)

SHIPPED_BESIDE = "camvid"
"""Of the baselines' data sets the one that the shipped model is trained on: a user of that model asks about it."""
_BUILD = 0.6  # share of the whole that building takes


@dataclass(frozen=True, eq=False)
class BaselineRow:
    """A published figure beside one of this machine.

    Attributes:
        published: The published row.
        subject: The engine that was measured here.
        timeline: Of its inferences, one frame each.
        differs: What differs between the two, a sentence each; never empty.
        same_network: Whether it is the published backbone at the published size, or another network beside it.
    """

    published: Published
    subject: Subject
    timeline: Timeline
    differs: tuple[str, ...]
    same_network: bool

    @property
    def ratio(self) -> float:
        """Median time here over the published one: below 1 where this machine is faster."""
        return self.timeline.summary().median / self.published.ms

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        spec, summary = self.subject.header.spec, self.timeline.summary()
        beside = "" if self.same_network else f"; beside it {spec.name} at {spec.height}x{spec.width}"
        return {
            **self.published.to_dict(),
            "title": self.published.title + beside,
            "network": spec.name,
            "height": spec.height,
            "width": spec.width,
            "same_network": self.same_network,
            "engine": self.subject.name,
            "measured_ms": round(summary.median, 3),
            "latency_ms": summary.to_dict(),
            "ratio": round(self.ratio, 4),
            "differs": list(self.differs),
        }


@dataclass(frozen=True, eq=False)
class Baselines:
    """The section ``baseline`` of a report."""

    rows: tuple[BaselineRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"rows": [row.to_dict() for row in self.rows]}


def list_baselines() -> list[dict[str, Any]]:
    """All published rows, as plain JSON values."""
    return [row.to_dict() for row in BASELINES.values()]


def baseline_rows(
    keys: Sequence[str],
    pictures: Sequence[Image],
    *,
    seconds: float,
    warmup: float,
    threads: int = 0,
    beside: Subjects | None = None,
    quick: bool = False,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> Baselines:
    """Measure the networks of published rows by the best engine that this machine has for them.

    Args:
        keys: Of `BASELINES`.
        pictures: uint8 [h, w, planes] of any sizes, to check and to time with.
        seconds: That count for each engine.
        warmup: Seconds for each before anything counts.
        threads: CPU threads; 0 leaves them to the backend.
        beside: Engines of one's own that are measured in turn with each row's network; None takes the shipped model's
            beside the row of its data set.
        quick: One frame is compared with FP32 before an engine is timed, and no shipped model stands beside.
        tell: Told what is being done.
        stopped: Asked between inferences; rows that were measured until then are given.

    Raises:
        UsageError: No such baseline.
        BoundNotMet: A row's own network is not answered as in FP32; one beside it is left out, with a warning.
        RtpspError: An engine cannot be built or opened.
    """
    for key in keys:
        if key not in BASELINES:
            raise UsageError(f"no published row {key!r}: use one of {', '.join(BASELINES)}")
    tell, stopped = tell or (lambda what, share: None), stopped or (lambda: False)
    rows: list[BaselineRow] = []
    for number, key in enumerate(keys):
        if stopped():
            break

        def told(what: str, share: float, number: int = number, key: str = key) -> None:
            tell(f"{key}: {what}", (number + share) / len(keys))

        rows += _rows_of(
            BASELINES[key], pictures, seconds, warmup, threads, beside, quick, told, stopped
        )  # fmt: skip
    return Baselines(tuple(rows))


def _rows_of(
    published: Published, pictures: Sequence[Image], seconds: float, warmup: float, threads: int,
    beside: Subjects | None, quick: bool, tell: Tell, stopped: Stopped,
) -> list[BaselineRow]:  # fmt: skip
    options = SubjectOptions(model=published.arch, size=published.size, classes=published.classes, threads=threads)
    with ExitStack() as stack:
        built = stack.enter_context(open_subjects(options, tell=_part(tell, 0.0, _BUILD), stopped=stopped))
        groups = [built]
        if beside is not None:
            groups.append(beside)
        elif published.key == SHIPPED_BESIDE and not quick:
            groups.append(stack.enter_context(open_subjects(SubjectOptions(threads=threads))))
        opened = []
        for group in groups:
            for subject in group.entries:
                try:
                    lane = stack.enter_context(_checked(subject, group, pictures, threads, 1 if quick else FRAMES))
                except BoundNotMet as error:
                    if group is built:
                        raise
                    _log.warning("%s", error)
                    continue
                opened.append((lane, subject, group.model))
        lanes = [lane for lane, _, _ in opened]
        timing = _part(tell, _BUILD, 1.0)
        timed = interleave(lanes, len(pictures), seconds=seconds, warmup=warmup, tell=timing, stopped=stopped)
        rows = []
        for lane, subject, model in opened:
            timeline = timed.get(lane.name)
            if timeline:  # there is none, or an empty one, where it failed or was stopped
                differs = what_differs(published, subject, lane.engine.ran, threads, model)
                rows.append(BaselineRow(published, subject, timeline, differs, same_network=subject in built.entries))
        return rows


@contextmanager
def _checked(
    subject: Subject, group: Subjects, pictures: Sequence[Image], threads: int, frames: int
) -> Iterator[EngineLane]:
    """An open engine of one frame at a time that answers as its network does in FP32, as far as anybody can tell."""
    spec, engine = subject.header.spec, subject.load(threads)
    if engine.batch != 1:
        raise UsageError(
            f"{subject.name} takes batches of {engine.batch}, expected 1, for published times are of one frame: build "
            f"it without a batch"
        )
    batches = to_batches(pictures, spec)
    few = batches[:frames]
    with EngineLane(f"{spec.name} {spec.height}x{spec.width} {subject.name}", engine, batches) as lane:
        right = group.reference(subject, few, threads)
        if right is not None:
            answers = [lane.class_map(index) for index in range(len(few))]
            precision = subject.header.precision
            check_truth(lane.name, answers, right, precision=precision, trained=subject.trained)
        yield lane


def _part(tell: Tell, begin: float, end: float) -> Tell:
    return lambda what, share: tell(what, begin + share * (end - begin))
