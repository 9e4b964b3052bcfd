"""How many cameras fit: the search on machines that are made up, and the real thing with an engine that sleeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtpsp.bench.cameras import fit_cameras
from rtpsp.bench.capacity import Cameras, Trial, search
from rtpsp.engine.base import Engine
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import UsageError
from rtpsp.header import EngineHeader
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream import source
from rtpsp.stream.report import ThreadPlan
from rtpsp.stream.source import Source, SourceOptions
from tests.conftest import save_frames

PLAN = ThreadPlan(2, 2, 1, 1, 1)
SHARES = {"inference": 0.9, "preprocessing": 0.05, "decoding": 0.1, "rendering": 0.02}


def trial_of(streams: int, fps: float, held: bool = True) -> Trial:
    return Trial(streams, fps, fps, 50.0 + streams, 80.0, held, "" if held else "age 300 ms, bound 100 ms")


def serves(total: float) -> Callable[[int, float], Trial]:
    """A machine that serves so many frames a second in all."""
    return lambda streams, fps: trial_of(streams, fps, streams * fps <= total)


def cameras_of(confirmed: int, one: Trial | None = None, shares: dict[str, float] | None = None) -> Cameras:
    tried = (trial_of(max(1, confirmed), 30.0, bool(confirmed)), *([one] if one else []))
    return Cameras(30.0, 100.0, 71.5, confirmed, confirmed, one, tried, {**SHARES, **(shares or {})}, "a street", PLAN)


@pytest.mark.parametrize(
    ("capacity", "total", "estimate", "confirmed", "counts"),
    [
        (70, 70, 2, 2, [2, 3]),  # the estimate holds, one more does not
        (70, 100, 2, 3, [2, 3, 4]),  # it was too low
        (130, 40, 4, 1, [4, 3, 2, 1]),  # it was too high: decoders want the CPU, too
        (29.8, 30, 1, 1, [1, 2]),  # one frame in a hundred may be lost
        (27.5, 30, 0, 1, [1, 2]),  # near enough to be tried
    ],
)
def test_the_number_that_is_held(
    capacity: float, total: float, estimate: int, confirmed: int, counts: list[int]
) -> None:
    found = search(serves(total), capacity, 30.0)
    assert found[:3] == (estimate, confirmed, None)
    assert [one.streams for one in found[3]] == counts


def test_many_streams_are_stepped_down_by_an_eighth() -> None:
    _, confirmed, _, tried = search(serves(30 * 30), 30 * 40, 30.0)
    assert [one.streams for one in tried] == [40, 35, 30, 31]
    assert confirmed == 30


def test_where_none_fits_the_rate_of_one_is_told() -> None:
    estimate, confirmed, one, tried = search(serves(10.5), 11.4, 30.0)
    assert (estimate, confirmed) == (0, 0)
    assert [(trial.streams, trial.fps) for trial in tried] == [(1, 11.0), (1, 10.0)]
    assert one == tried[-1]


def test_a_rate_below_two_is_no_whole_number() -> None:
    assert [one.fps for one in search(serves(1.0), 1.5, 30.0)[3]] == [1.35, 1.22, 1.09, 0.98]


def test_an_age_that_is_never_held_ends() -> None:
    _, confirmed, one, tried = search(lambda count, fps: trial_of(count, fps, False), 100.0, 30.0)
    assert (confirmed, one) == (0, None)
    assert [(trial.streams, trial.fps) for trial in tried[:4]] == [(3, 30.0), (2, 30.0), (1, 30.0), (1, 27.0)]


def test_it_stops_when_asked() -> None:
    assert search(serves(100), 100.0, 30.0, lambda: True) == (3, 0, None, ())


@pytest.mark.parametrize(
    ("shares", "bottleneck"),
    [
        ({}, "inference"),
        ({"inference": 0.3, "preprocessing": 0.65}, "preprocessing"),
        ({"inference": 0.5, "decoding": 0.97}, "decoding"),
        ({"inference": 0.5, "rendering": 0.85}, "rendering"),
        ({"inference": 0.5}, "threads"),
    ],
)
def test_the_bottleneck_is_the_thread_that_the_others_wait_for(shares: dict[str, float], bottleneck: str) -> None:
    assert cameras_of(2, shares=shares).bottleneck == bottleneck


def test_words() -> None:
    assert cameras_of(2).words == (
        "2 cameras fit at 30 fps, 95 % of frames younger than 52 ms; the limit is inference, 90 % of the time"
    )
    assert "1 camera fits at 30 fps" in cameras_of(1, shares={"inference": 0.5}).words
    assert cameras_of(1, shares={"inference": 0.5}).words.endswith("the limit is threads")
    assert "0 cameras fit at 30 fps; one at 11 fps fits, 95 % of frames younger than 51 ms (the engine can do" in (
        cameras_of(0, trial_of(1, 11.0)).words
    )
    assert "nor one at the rate that the engine can do (the engine can do 71.5 fps)" in cameras_of(0).words


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.bench.cameras.street_pictures", lambda planes: [np.zeros((48, 64, planes), np.uint8)])


def fake(latency: float) -> Callable[[int], Engine]:
    return lambda threads: FakeEngine(ModelSpec("fake", "fake", 48, 64, CAMVID), latency)


@pytest.mark.usefixtures("no_drawing")
def test_an_engine_of_5_fps_serves_no_camera_of_30(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.bench.cameras.LEAST_FRAMES", 1)
    told: list[str] = []
    found = fit_cameras(fake(0.2), seconds=1.0, threads=2, tell=lambda what, share: told.append(what))
    assert (found.estimate, found.confirmed) == (0, 0)
    assert 0 < found.capacity_fps <= 5.0
    assert all(trial.streams == 1 and trial.fps <= 5 for trial in found.tried)
    assert told[0] == "one stream without a pause"
    section = json.loads(json.dumps(found.to_dict()))
    assert section["tried"][0].keys() >= {"streams", "fps", "processed_percent", "p95_age_ms", "held", "why"}
    assert section["threads"]["engine"] == 2


def test_each_stream_opens_the_source_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_frames(tmp_path / "set", 3)
    opened: list[str] = []

    def open_source(uri: str, options: SourceOptions) -> Source:
        opened.append(uri)
        return source.open_source(uri, options)

    monkeypatch.setattr("rtpsp.bench.cameras.open_source", open_source)
    monkeypatch.setattr("rtpsp.bench.cameras.search", lambda trial, *more: (2, 2, None, (trial(2, 25.0),)))
    folder = str(tmp_path / "set" / "images")
    found = fit_cameras(fake(0.0), fps=60.0, bound_ms=1e6, seconds=0.4, source=folder)
    assert found.fps == 25.0, "there are no more in a source of 25 a second"
    assert opened == [folder] * 4  # to look at it, for the capacity, and two streams
    assert found.source.endswith("48x64")
    assert found.tried[0].processed_fps > 0


@pytest.mark.parametrize("wrong", [{"fps": 0.0}, {"seconds": -1.0}, {"bound_ms": 0.0}])
def test_numbers_are_above_0(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected numbers above 0"):
        fit_cameras(fake(0.0), **wrong)  # type: ignore[arg-type]


def test_an_engine_of_batches_is_refused() -> None:
    def batches(threads: int) -> Engine:
        engine = FakeEngine()
        engine.header = replace(engine.header, options={"batch": 2})
        engine.batch = int(EngineHeader.to_dict(engine.header)["options"]["batch"])
        return engine

    with pytest.raises(UsageError, match="batches of 2, live streams need 1"):
        fit_cameras(batches)
