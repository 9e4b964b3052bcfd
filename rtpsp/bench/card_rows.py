"""What stands on a precision card: a row an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtpsp.bench.card_words import Offer, verdict
from rtpsp.bench.lanes import EngineLane
from rtpsp.bench.ratios import PairRatio
from rtpsp.bench.subjects import Skipped, Subject
from rtpsp.bench.timeline import Timeline
from rtpsp.evaluate import Evaluation


@dataclass(frozen=True, eq=False)
class CardRow:
    """One engine.

    Attributes:
        subject: Which.
        ran: Number format of its convolutions.
        timeline: Of its inferences; None where it was not timed.
        ratio: Latency of the card's reference over its own; None for the reference itself.
        agreement: With the model in FP32, in percent of pixels; None where there is nothing to ask.
        evaluation: How right it is; None without labels.
        miou_difference: Points of mIoU, its own minus the reference's.
        iou_differences: The same of each class, by name.
        verdict: What it is worth, in a sentence.
    """

    subject: Subject
    ran: str
    timeline: Timeline | None
    ratio: PairRatio | None
    agreement: float | None
    evaluation: Evaluation | None
    miou_difference: float | None
    iou_differences: dict[str, float | None]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; differences in points, percentages rounded to three decimals."""
        subject, timeline = self.subject, self.timeline
        return {
            "name": subject.name,
            "backend": subject.header.backend,
            "precision": subject.header.precision,
            "ran": self.ran,
            "head": subject.header.options.get("head"),
            "latency_ms": timeline.summary().to_dict() if timeline else None,
            "fps": _rounded(timeline.fps) if timeline else None,
            "file_bytes": subject.file_bytes,
            "agreement_percent": _rounded(self.agreement),
            "miou": _rounded(self.evaluation.miou) if self.evaluation else None,
            "miou_difference": _rounded(self.miou_difference),
            "per_class_iou_difference": {name: _rounded(value) for name, value in self.iou_differences.items()},
            "ratio": self.ratio.to_dict() if self.ratio else None,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, eq=False)
class Card:
    """The card.

    Attributes:
        reference: Name of the engine that the others are held against.
        rows: The engines, in the order in which they were asked for.
        data: The labelled images by which accuracy was measured, in words; None without.
        skipped: What could not be measured, and why.
    """

    reference: str
    rows: tuple[CardRow, ...]
    data: str | None
    skipped: tuple[Skipped, ...]

    @property
    def timelines(self) -> dict[str, Timeline]:
        """Of each engine that was timed, by name."""
        return {row.subject.name: row.timeline for row in self.rows if row.timeline is not None}

    def to_dict(self) -> dict[str, Any]:
        """The section ``card`` of a report."""
        return {
            "reference": self.reference,
            "rows": [row.to_dict() for row in self.rows],
            "data": self.data,
            "skipped": [one.to_dict() for one in self.skipped],
        }


def to_card(
    opened: Sequence[tuple[EngineLane, Subject]],
    timed: Mapping[str, Timeline],
    agreements: Mapping[str, float | None],
    scored: Mapping[str, Evaluation],
    data: str | None,
    skipped: tuple[Skipped, ...],
) -> Card:
    """The card of what was measured.

    Args:
        opened: The engines, open.
        timed: Their inferences, by name.
        agreements: With the model in FP32, in percent, by name.
        scored: How right each is, by name.
        data: By which labels, in words.
        skipped: What could not be measured.
    """
    reference = next((one for one in opened if one[1].header.precision == "fp32"), opened[0])
    backends = {subject.header.backend for _, subject in opened}
    rows = []
    for lane, subject in opened:
        first = lane is reference[0]
        timeline = timed.get(lane.name)
        timeline = timeline if timeline else None  # an empty one was not timed
        other = timed.get(reference[0].name)
        ratio = PairRatio.of(other.durations, timeline.durations) if timeline and other and not first else None
        mine, theirs = scored.get(lane.name), scored.get(reference[0].name)
        points = mine.miou - theirs.miou if mine and theirs and not first else None
        same = lane.engine.ran if _same(lane, reference[0]) else ""
        offer = Offer(
            _called(subject, len(backends)), _called(reference[1], len(backends)), ratio, same, points,
            agreements.get(lane.name), subject.trained,
        )  # fmt: skip
        words = "the others are held against it" if first else verdict(offer)
        rows.append(
            CardRow(
                subject, lane.engine.ran, timeline, ratio, agreements.get(lane.name), mine, points,
                {} if points is None or not mine or not theirs else _differences(mine, theirs), words,
            )
        )  # fmt: skip
    return Card(reference[0].name, tuple(rows), data, skipped)


def _same(lane: EngineLane, reference: EngineLane) -> bool:
    """Whether two engines of one backend compute in one format, whatever they are called."""
    one, other = lane.engine, reference.engine
    return one.ran == other.ran and one.header.backend == other.header.backend


def _called(subject: Subject, backends: int) -> str:
    precision = subject.header.precision.upper()
    return precision if backends == 1 else f"{precision} by {subject.header.backend}"


def _differences(mine: Evaluation, theirs: Evaluation) -> dict[str, float | None]:
    pairs = zip(mine.labels.names, mine.per_class_iou, theirs.per_class_iou, strict=True)
    return {name: None if one is None or other is None else one - other for name, one, other in pairs}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
