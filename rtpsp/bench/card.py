"""The precision card: what each precision and backend of one model brings in speed, and what it costs in accuracy.

All engines are open at once. Each first has to answer as the model does in FP32 (`rtpsp.bench.truth`); then, where
there are labels, every image is put to each in turn; then they are timed in turn on the same frames, and the ratio of
their latencies is taken pair by pair.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.bench.card_rows import Card as Card
from rtpsp.bench.card_rows import CardRow as CardRow
from rtpsp.bench.card_rows import to_card
from rtpsp.bench.frames import to_batches
from rtpsp.bench.lanes import EngineLane, Stopped, Tell, interleave
from rtpsp.bench.subjects import Skipped, Subject, Subjects
from rtpsp.bench.truth import FRAMES, check_truth
from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.errors import BoundNotMet, MissingError, RtpspError, UsageError
from rtpsp.evaluate import Evaluation, Scorer, answer_of, segmenter

_log = logging.getLogger(__name__)

_CHECK, _SCORE = 0.1, 0.5  # shares of the whole at which the check ends, and the scoring


def precision_card(
    subjects: Subjects,
    pictures: Sequence[Image],
    *,
    seconds: float,
    warmup: float,
    threads: int = 0,
    data: str | None = None,
    split: str = "val",
    most: int | None = None,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> Card:
    """Hold the engines of one model against each other.

    Args:
        subjects: The engines; the first in FP32 is the reference.
        pictures: uint8 [h, w, planes] of any sizes, to check and to time with.
        seconds: That count for each engine in the mean.
        warmup: Seconds for each before anything counts.
        threads: CPU threads of each engine; 0 leaves them to the backend.
        data: Labelled images, as `rtpsp.data.dataset.open_dataset` takes them; None leaves accuracy out.
        split: Which part of a folder of them.
        most: At most so many of them, evenly spread; None takes all.
        tell: Told what is being done, and how much of all.
        stopped: Asked between inferences; the card then holds what was measured until then.

    Raises:
        BoundNotMet: No engine answers as the model does in FP32.
        UsageError: The engines are of different models, and there is no one card for them.
        RtpspError: As opening a data set.
    """
    _check_one_model(subjects.entries)
    tell, stopped = tell or (lambda what, share: None), stopped or (lambda: False)
    spec = subjects.entries[0].header.spec
    images = None
    if data is not None:
        images = _spread(open_dataset(data, split, labels=spec.labels, planes=spec.planes), most)
    skipped = list(subjects.skipped)
    with ExitStack() as stack:
        opened = _open(subjects.entries, pictures, threads, stack, skipped)
        found = _checked(opened, subjects, pictures, threads, skipped, _part(tell, 0.0, _CHECK))
        scored: dict[str, Evaluation] = {}
        begin = _CHECK
        if images is not None:
            scored = _scored([lane for lane, _ in opened], images, _part(tell, _CHECK, _SCORE), stopped)
            begin = _SCORE
        lanes = [lane for lane, _ in opened]
        timed = interleave(
            lanes, len(pictures), seconds=seconds, warmup=warmup, tell=_part(tell, begin, 1.0), stopped=stopped
        )
        skipped += [Skipped(name, reason) for name, reason in timed.failed.items()]
        left = [(lane, subject) for lane, subject in opened if lane.name not in timed.failed]
        told = _told_of(images, next(iter(scored.values()))) if images is not None and scored else None
        return to_card(left, timed, found, scored, told, tuple(skipped))


def _check_one_model(entries: Sequence[Subject]) -> None:
    first = entries[0]
    for other in entries[1:]:
        one, two = first.header, other.header
        if (one.spec.size, one.spec.labels.names) != (two.spec.size, two.spec.labels.names):
            raise UsageError(
                f"{first.name} is of {one.spec.name} at {one.spec.height}x{one.spec.width}, {other.name} of "
                f"{two.spec.name} at {two.spec.height}x{two.spec.width}: a card is of one model; hold others against "
                f"each other with rtpsp compare"
            )


def _open(
    entries: Sequence[Subject],
    pictures: Sequence[Image],
    threads: int,
    stack: ExitStack,
    skipped: list[Skipped],
) -> list[tuple[EngineLane, Subject]]:
    """Those that can be opened; the error of the first, where none can."""
    opened = []
    first: RtpspError | None = None
    for subject in entries:
        try:
            engine = subject.load(threads)
            lane = EngineLane(subject.name, engine, to_batches(pictures, subject.header.spec, engine.batch))
            opened.append((stack.enter_context(lane), subject))
        except RtpspError as error:
            _log.info("%s is skipped: %s", subject.name, error)
            skipped.append(Skipped(subject.name, str(error)))
            first = first or error
    if not opened:
        raise first or MissingError("there is no engine to measure: give one, or a model")
    return opened


def _checked(
    opened: list[tuple[EngineLane, Subject]],
    subjects: Subjects,
    pictures: Sequence[Image],
    threads: int,
    skipped: list[Skipped],
    tell: Tell,
) -> dict[str, float | None]:
    """Agreement of each with FP32, in percent; those that fall below what can be expected are taken out of `opened`."""
    count = min(FRAMES, len(pictures))
    found: dict[str, float | None] = {}
    first: BoundNotMet | None = None
    for number, (lane, subject) in enumerate(list(opened)):
        tell("comparing with FP32", number / len(opened))
        batches = to_batches(pictures[:count], subject.header.spec)
        right = subjects.reference(subject, batches, threads)
        if right is None:
            found[subject.name] = None
            continue
        try:
            found[subject.name] = check_truth(
                subject.name,
                [lane.class_map(index) for index in range(count)],
                right,
                precision=subject.header.precision,
                trained=subject.trained,
            )
        except BoundNotMet as error:
            _log.info("%s", error)
            skipped.append(Skipped(subject.name, str(error)))
            opened.remove((lane, subject))
            first = first or error
    if not opened and first is not None:
        raise first
    return found


def _scored(lanes: Sequence[EngineLane], images: Dataset, tell: Tell, stopped: Stopped) -> dict[str, Evaluation]:
    """How right each is; each image is read once and put to all. Nothing where a person wanted an end of it."""
    ways = []
    for lane in lanes:
        spec = lane.engine.spec
        ways.append((lane.name, segmenter(_infer(lane), spec), Scorer(spec.labels)))
    for number, sample in enumerate(images):
        if stopped():
            return {}
        tell("accuracy", number / len(images))
        for _, segment, scorer in ways:
            scorer.add(sample, answer_of(segment, sample.image))
    return {name: scorer.result() for name, _, scorer in ways}


def _infer(lane: EngineLane) -> Callable[[Image], ClassMap]:
    engine = lane.engine

    def infer(frames: Image) -> ClassMap:
        full = np.repeat(frames, engine.batch, axis=0) if engine.batch > 1 else frames
        return engine.infer(full).class_map[:1]

    return infer


def _told_of(images: Dataset, scored: Evaluation) -> str:
    """Accuracy cannot be compared without these words."""
    name = images.source if "://" in images.source else Path(images.source).name
    where = f"{name} {images.split}" if images.split else name
    ignored = "" if scored.labels.ignore is None else f", id {scored.labels.ignore} left out"
    size = f", {scored.size[0]}x{scored.size[1]}" if scored.size else ""
    return f"{where}: {scored.images} images{size}, {len(scored.labels)} classes{ignored}"


def _spread(images: Dataset, most: int | None) -> Dataset:
    """At most so many, evenly spread: neighbours in a folder are often neighbours in a video."""
    if most is None or most >= len(images):
        return images
    return replace(images, entries=tuple(images.entries[place * len(images) // most] for place in range(most)))


def _part(tell: Tell, begin: float, end: float) -> Tell:
    return lambda what, share: tell(what, begin + share * (end - begin))
