"""``--target-fps``: what is measured and kept, what is told, and whether a run held it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rtpsp.bench import target as module
from rtpsp.bench.ladder import Rung, Tried
from rtpsp.bench.probe import WARMUP, RateSink, loop_rate
from rtpsp.bench.target import Target, choose_engine
from rtpsp.build import BuildOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import UsageError
from rtpsp.live import RunOptions
from rtpsp.stream.report import FrameCounts, RunReport, ThreadPlan
from rtpsp.stream.source import SourceInfo
from tests.cli.conftest import Call
from tests.cli.conftest import rtpsp as rtpsp

RUNG = Rung("int8", "openvino", (360, 480))
MISSED, HELD, ALL = "missed; the next start measures again", "held", "all that the source gave"


def target_of(fps: float, did: float, *, kept: Path = Path("kept.json"), own: bool = False) -> Target:
    chosen = Tried(RUNG, 1, did)
    return Target(fps, Path("e.engine"), chosen, (Tried(RUNG, 2, did / 2), chosen), kept, own=own)


def report_of(fps: float | None, source: float | None, dropped: int, policy: str = "latest") -> RunReport:
    counts = FrameCounts(100, 100 - dropped, {"infer": dropped, "render": 0}, 0, 0, 0)
    info = SourceInfo("0", "camera", 480, 640, source, live=policy == "latest")
    return RunReport(info, {}, policy, ThreadPlan(1, 1, 1, 1, 1), counts, 1.0, fps, {}, None)


class Speeds:
    """Stands in for the probe: rates by threads, and how often it was asked."""

    def __init__(self, **by_threads: float) -> None:
        self.by_threads = {int(name[1:]): fps for name, fps in by_threads.items()}
        self.asked: list[tuple[str, int]] = []

    def __call__(self, engine: Path, pictures: object, options: RunOptions, view: object) -> float:
        self.asked.append((engine.name, options.threads))
        return self.by_threads[options.threads]


@pytest.fixture(autouse=True)
def small_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour_engine: Path) -> None:
    """Two threads, a folder of this test, and an engine of 48x64 in the place of the shipped model's."""
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr("rtpsp.machine.usable_threads", lambda: 2)
    monkeypatch.setattr(module, "default_engine", lambda progress, confidence: colour_engine)
    monkeypatch.setattr(module, "street_pictures", lambda planes, count: [np.zeros((48, 64, planes), np.uint8)])


def test_it_is_measured_once(colour_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = Speeds(_2=40.0, _1=20.0)
    monkeypatch.setattr(module, "loop_rate", speeds)
    first = choose_engine(15)
    assert speeds.asked == [(colour_engine.name, 2), (colour_engine.name, 1)]
    assert (first.engine, first.chosen.threads, first.reached, first.again) == (colour_engine, 1, True, False)
    second = choose_engine(15)
    assert second == replace(first, again=True)
    assert len(speeds.asked) == 2
    choose_engine(16)
    choose_engine(15, RunOptions(depth=2))
    assert len(speeds.asked) == 6, "another question"


def test_what_is_kept_may_be_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = Speeds(_2=40.0, _1=20.0)
    monkeypatch.setattr(module, "loop_rate", speeds)
    kept = choose_engine(15).kept
    whole = json.loads(kept.read_text())
    for text in ("", "[]", '{"tried": [], "chosen": 0}', json.dumps({**whole, "chosen": -1}), "\xff"):
        kept.write_text(text, encoding="latin-1")
        asked = len(speeds.asked)
        assert not choose_engine(15).again
        assert len(speeds.asked) == asked + 2


def test_smaller_frames_are_built_of_the_shipped_model(
    colour_engine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[int, int] | None] = []
    speeds = {colour_engine.name: 16.0, "None-int8": 17.0, "(40, 48)-int8": 30.0}

    def engine_of(options: BuildOptions, progress: object, size: tuple[int, int] | None) -> Path:
        asked.append(size)
        return tmp_path / f"{size}-{options.precision}"

    monkeypatch.setattr(module, "engine_of", engine_of)
    monkeypatch.setattr("rtpsp.zoo.model_spec", lambda: read_engine_file(colour_engine).header.spec)
    monkeypatch.setattr(module, "loop_rate", lambda engine, pictures, options, view: speeds[engine.name])
    found = choose_engine(15, RunOptions(threads=1))
    assert (asked, found.engine.name) == ([None, (40, 48)], "(40, 48)-int8")
    assert "40x48 int8, 1 thread: 30.0 fps in a probe (48x64 fp32 with 1: 16.0; 48x64 int8 with 1: 17.0)" in found.words
    assert found.words.endswith("smaller frames lose small things, 'rtpsp eval' on the engine tells how many")


def test_of_an_engine_of_ones_own_the_threads_alone(colour_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "loop_rate", Speeds(_2=9.0, _1=5.0))
    found = choose_engine(15, engine=str(colour_engine))
    assert (found.engine, found.chosen.threads, found.reached) == (colour_engine, 2, False)
    assert "out of reach here, the fastest is taken: 48x64 fp32, 2 threads: 9.0 fps" in found.words
    assert "an engine of lower precision or a smaller size" in found.words


def test_a_given_number_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = Speeds(_2=40.0)
    monkeypatch.setattr(module, "loop_rate", speeds)
    assert choose_engine(15, RunOptions(threads=2)).chosen.threads == 2


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_is_above_0(fps: float) -> None:
    with pytest.raises(UsageError, match="expected a number above 0"):
        choose_engine(fps)


def test_words() -> None:
    assert (
        target_of(15, 20).words
        == "target  15 fps: 360x480 int8, 1 thread: 20.0 fps in a probe (360x480 int8 with 2: 10.0)"
    )
    assert "15 fps is just in reach, without a reserve" in target_of(15, 16).words
    assert "what would help: more cores, an NVIDIA GPU, or a lower target" in target_of(15, 14).words


@pytest.mark.parametrize(
    ("report", "held", "words"),
    [
        (report_of(15.0, 30.0, 40), True, HELD),
        (report_of(14.9, 30.0, 40), False, MISSED),
        (report_of(14.9, None, 40), False, MISSED),
        (report_of(9.9, 10.0, 1), None, ALL),
        (report_of(12.0, None, 0), None, ALL),
        (report_of(14.0, 30.0, 0, "every"), False, MISSED),
        (report_of(None, 30.0, 0), None, "too few frames to tell"),
    ],
)
def test_whether_a_run_held_it(report: RunReport, held: bool | None, words: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.touch()
    target = target_of(15, 20, kept=kept)
    assert target.held(report) is held
    assert target.settle(report).endswith(words)
    assert kept.exists() is (held is not False)


def test_the_probe_counts_after_its_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second at 10 ms a frame behind a warm-up of 5 s: 100 fps."""
    clock = iter([5.0 + 0.01 * number for number in range(200)])
    monkeypatch.setattr("rtpsp.bench.probe.now", lambda: next(clock))
    sink, frames = RateSink(1.0), 0
    while not sink.wants_to_stop:
        sink.write(None)  # type: ignore[arg-type]
        frames += 1
    assert sink.fps == pytest.approx(100.0)
    assert frames == WARMUP + 101


def test_the_probe_runs_the_loop() -> None:
    fps = loop_rate(FakeEngine(latency=0.01), [np.zeros((48, 64, 3), np.uint8)], RunOptions(), "overlay", seconds=0.05)
    assert 0 < fps <= 100


def test_the_command(rtpsp: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "loop_rate", partial(loop_rate, seconds=0.1))
    report = tmp_path / "r.json"
    source = "sim://street?w=160&h=120&frames=12"
    for again in (False, True):
        done = rtpsp("run", "--source", source, "--target-fps", "2", "--no-show", "--report", report)
        assert done.code == 0, done.err
        assert "target  2 fps: 48x64 fp32, 1 thread: " in done.err
        assert ("in a probe of an earlier start" in done.err) is again
        assert done.out.rstrip().endswith("fps, held")
        told = json.loads(report.read_text())
        assert (told["target"]["held"], told["target"]["from_earlier_start"]) == (True, again)
        assert told["threads"]["budget"] == 1
