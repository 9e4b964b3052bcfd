from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.bench import BenchOptions, BenchReport, bench, bench_subjects, measure, problems
from rtpsp.bench.ratios import PairRatio
from rtpsp.bench.subjects import Skipped, Subject, Subjects
from rtpsp.engine.base import Engine
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import BoundNotMet, MissingError
from rtpsp.header import EngineHeader
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec

SPEC = ModelSpec("small", "test", 48, 64, CAMVID)
SHORT = BenchOptions(warmup=0.01, duration=0.1, memory=False)


@dataclass(frozen=True)
class FakeSubject(Subject):
    """An engine of a set latency; `fault` says what is wrong with it."""

    latency: float = 0.001
    fault: str = ""

    @property
    def file_bytes(self) -> int:
        return 17

    def load(self, threads: int = 0) -> Engine:
        if self.fault == "gone":
            raise MissingError(f"{self.name} is gone")
        wrong = np.full((1, *SPEC.size), 3, np.uint8)
        answer = (lambda frames: wrong) if self.fault == "wrong" else None
        return Failing(SPEC, self.latency, answer) if self.fault == "fails" else FakeEngine(SPEC, self.latency, answer)


class Failing(FakeEngine):
    """Falls over at its sixth batch: after its answers were checked."""

    def _start(self, frames: Image):  # type: ignore[no-untyped-def]
        self._left = getattr(self, "_left", 6) - 1
        if self._left < 0:
            raise MissingError("the device went away")
        return super()._start(frames)


class FakeSubjects(Subjects):
    """Subjects of one model, whose right answer is the first class everywhere."""

    def reference(self, subject: Subject, batches: Sequence[Image], threads: int = 0) -> list[ClassMap] | None:
        return [np.zeros(SPEC.size, np.uint8) for _ in batches]


def subject(name: str, **how: object) -> FakeSubject:
    return FakeSubject(name, Path(name), EngineHeader(SPEC, "fake", "fp32", "0" * 64), **how)  # type: ignore[arg-type]


def subjects(*given: FakeSubject) -> Subjects:
    return FakeSubjects(given, (Skipped("int8 fake", "no ranges"),), model=Path("model.onnx"))


def checked(report: BenchReport) -> dict[str, object]:
    told = json.loads(json.dumps(report.to_dict("rtpsp bench")))
    assert problems(told) == []
    return told  # type: ignore[no-any-return]


def test_one_engine_and_the_loop_around_it(colour_engine: Path) -> None:
    report = bench(colour_engine, BenchOptions(warmup=0.05, duration=0.2, memory=False))
    told = checked(report)
    (engine,) = report.engines
    assert engine.agreement is not None and engine.agreement > 99.9 and engine.told["ran"] == "f32"
    assert report.loop is not None and engine.timeline is report.loop.engine, "the engine's slices are its measurement"
    assert told["ratios"] == [] and report.frames == "8 frames of a drawn street, 480x640"
    assert engine.told["file_bytes"] == colour_engine.stat().st_size and not report.interrupted


def test_several_take_turns_and_are_held_against_the_first() -> None:
    report = bench_subjects(
        subjects(subject("slow", latency=0.004), subject("fast"), subject("faster", latency=0)), SHORT
    )
    checked(report)
    assert [engine.name for engine in report.engines] == ["slow", "fast", "faster"]
    assert len({len(engine.timeline) for engine in report.engines}) == 1
    assert [(ratio.first, ratio.second) for ratio in report.ratios] == [("slow", "fast"), ("slow", "faster")]
    slow, _, faster = (engine.timeline.durations for engine in report.engines)
    assert report.ratios[1].ratio == PairRatio.of(slow, faster) and report.loop is not None
    assert [skipped.name for skipped in report.skipped] == ["int8 fake"]


def test_one_that_fails_is_a_row_with_its_reason_and_the_others_are_measured() -> None:
    given = subjects(
        subject("first"), *(subject(fault, fault=fault) for fault in ("gone", "wrong", "fails"))
    )  # fmt: skip
    report = bench_subjects(given, BenchOptions(0.01, 0.1, memory=False, loop=False))
    checked(report)
    assert [engine.name for engine in report.engines] == ["first"] and report.loop is None
    reasons = {each.name: each.reason for each in report.skipped}
    assert reasons["gone"] == "gone is gone" and reasons["fails"] == "the device went away"
    assert "answers like FP32 on 0.0 % of pixels" in reasons["wrong"] and "not timed" in reasons["wrong"]


def test_a_loop_that_fails_costs_the_table_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object, **options: object) -> None:
        raise MissingError("no thread can be started")

    monkeypatch.setattr(measure, "measure_loop", fail)
    report = bench_subjects(subjects(subject("a"), subject("b")), SHORT)
    assert len(report.engines) == 2 and report.loop is None
    assert report.skipped[-1] == Skipped("the loop", "no thread can be started")
    with pytest.raises(MissingError):
        bench_subjects(subjects(subject("a")), SHORT)


def test_the_only_one_raises_and_a_wrong_one_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure_loop", lambda *words, **options: pytest.fail("it was timed"))
    monkeypatch.setattr(measure, "interleave", lambda *words, **options: pytest.fail("it was timed"))
    with pytest.raises(BoundNotMet, match="wrong answers like FP32 on"):
        bench_subjects(subjects(subject("wrong", fault="wrong")), SHORT)
    with pytest.raises(MissingError, match="gone is gone"):
        bench_subjects(subjects(subject("gone", fault="gone")), SHORT)


def test_what_was_measured_until_somebody_ended_it() -> None:
    report = bench_subjects(subjects(subject("a"), subject("b")), SHORT, stopped=lambda: True)
    told = checked(report)
    assert told["engines"] == [] and report.interrupted and report.loop is None
    asked = iter(range(10_000))
    late = bench_subjects(subjects(subject("a"), subject("b")), SHORT, stopped=lambda: next(asked) > 12)
    assert late.interrupted and len(late.engines) == 2 and late.loop is None


def test_a_live_source_leaves_the_engine_a_time_of_its_own() -> None:
    source = "sim://street?w=160&h=120&live=1&fps=60"
    report = bench_subjects(subjects(subject("a")), BenchOptions(0.01, 0.2, source=source, memory=False))
    checked(report)
    assert len(report.engines[0].timeline) >= 3 and report.loop is not None and report.loop.cost is None
    assert report.frames == "8 frames of sim://street?w=160&h=120&live=1&fps=60, 120x160"


def test_memory_is_asked_of_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(path: Path, threads: int) -> int:
        if path.name == "b":
            raise MissingError("no process could be started")
        return 12345

    monkeypatch.setattr(measure, "peak_memory", peak)
    report = bench_subjects(subjects(subject("a"), subject("b")), BenchOptions(0.01, 0.05, loop=False))
    assert [engine.memory for engine in report.engines] == [12345, None]
    assert report.skipped[-1] == Skipped("memory of b", "no process could be started")


def test_it_tells_what_it_does() -> None:
    told: list[tuple[str, float]] = []
    bench_subjects(subjects(subject("a"), subject("b")), SHORT, lambda what, share: told.append((what, share)))
    words = " / ".join(what for what, _ in told)
    assert "checking the answers of a" in words and "loop " in words
    assert re.search(r"a \d+\.\d ms, b \d+\.\d ms", words)
    assert all(0 <= share <= 1 for _, share in told)
