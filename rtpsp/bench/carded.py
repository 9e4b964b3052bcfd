"""A card of precisions and the loop in one report: the card's own measurement is that of the engines' rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtpsp.bench.lanes import Stopped, Tell
from rtpsp.bench.loop import LoopFigures
from rtpsp.bench.measure import BenchOptions, loop_around, ratios_of, scene_of
from rtpsp.bench.memory import peak_memory
from rtpsp.bench.noise import Noise
from rtpsp.bench.report import BenchReport, EngineFigures
from rtpsp.bench.subjects import Skipped, Subjects, told_of
from rtpsp.bench.truth import MODEL, OWN_GRAPH, model_of
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import MissingError, RtpspError
from rtpsp.machine import usable_threads

if TYPE_CHECKING:
    from rtpsp.bench.card import CardRow


def bench_carded(
    subjects: Subjects, options: BenchOptions, data: str | None, split: str, tell: Tell, stopped: Stopped
) -> BenchReport:
    """The card of some engines, and the loop around the fastest of them.

    Args:
        subjects: The engines.
        options: For how long, and on what.
        data: Labelled images for accuracy.
        split: Which part of them.
        tell: Told what is being done.
        stopped: Asked often.

    Raises:
        RtpspError: As `rtpsp.bench.card.precision_card`.
    """
    from rtpsp.bench.card import precision_card

    skipped: list[Skipped] = []
    loop: LoopFigures | None = None
    with Noise() as noise:
        scene = scene_of(subjects, options.source)
        card = precision_card(
            subjects, scene.pictures, seconds=options.duration, warmup=options.warmup,
            threads=options.threads or usable_threads(), data=data, split=split, tell=tell, stopped=stopped,
        )  # fmt: skip
        timed = [row for row in card.rows if row.timeline is not None]
        if timed and options.loop and not stopped():
            fastest = min(timed, key=lambda row: card.timelines[row.subject.name].summary().median)
            try:
                loop = loop_around(fastest.subject, scene, options, tell, stopped)
            except RtpspError as error:
                skipped.append(Skipped("the loop", str(error)))
        figures = [_figures(row, subjects, options, skipped, stopped) for row in timed]
    ratios = ratios_of(figures, card.reference)
    return BenchReport(
        tuple(figures), tuple(ratios), loop if loop is not None and loop.report.fps else None,
        tuple(skipped), noise, scene.words, stopped(), {"card": card.to_dict()},
    )  # fmt: skip


def _figures(
    row: CardRow, subjects: Subjects, options: BenchOptions, skipped: list[Skipped], stopped: Stopped
) -> EngineFigures:
    assert row.timeline is not None
    subject, threads = row.subject, options.threads or usable_threads()
    told = {
        **told_of(subject), "ran": row.ran, "threads": threads, "batch": subject.header.options.get("batch", 1),
        "file_bytes": subject.file_bytes,
    }  # fmt: skip
    memory = None
    if options.memory and not stopped():
        try:
            memory = peak_memory(subject.path, threads)
        except MissingError as error:
            skipped.append(Skipped(f"memory of {subject.name}", str(error)))
    against = ""
    if row.agreement is not None:
        known = subjects.model is not None or model_of(read_engine_file(subject.path)) is not None
        against = MODEL if known else OWN_GRAPH
    return EngineFigures(told, row.timeline, row.agreement, against, None, memory)
