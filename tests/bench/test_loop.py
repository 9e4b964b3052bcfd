from __future__ import annotations

import json

import numpy as np
import pytest

from rtpsp.bench.frames import PictureSource, street_pictures, to_batches
from rtpsp.bench.loop import LoopFigures, measure_loop
from rtpsp.bench.turns import SLICES
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import SourceError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec

SPEC = ModelSpec("small", "test", 48, 64, CAMVID)
PICTURES = street_pictures(count=2, size=(120, 160))


def measured(engine: FakeEngine, source: PictureSource | str | None = None, seconds: float = 0.1) -> LoopFigures:
    batches = to_batches(PICTURES, engine.spec)
    return measure_loop(engine, batches, source or PictureSource(PICTURES), seconds=seconds, warmup=0.02)


def test_the_loop_and_its_own_engine_take_turns() -> None:
    figures = measured(FakeEngine(SPEC, latency=0.002))
    assert figures.report.ended == "measured" and figures.report.frames.dropped == {"infer": 0, "render": 0}
    assert 3 <= len(figures.costs) <= SLICES and figures.cost is not None
    assert figures.engine.summary().min >= 2 and figures.report.fps is not None
    told = json.loads(json.dumps(figures.to_dict()))
    assert told["cost_ms"] == pytest.approx(figures.cost, abs=1e-3) and told["slices"] == len(figures.costs)
    assert told["seconds"] == pytest.approx(figures.report.seconds, abs=1e-3)
    assert told["cost_percent"] == pytest.approx(0.1 * told["cost_ms"] * (figures.engine.fps or 0), rel=0.02)
    assert told["age_ms"]["count"] == len(figures.ages) and len(told["age_series"]) <= 2000
    assert told["age_series"][0][0] == 0 and all(age > 0 for _, age in told["age_series"])
    assert {"capture", "preprocess", "infer", "render", "sink"} <= set(told["stages_ms"])


def test_an_engine_with_device_io_keeps_it_in_the_loop() -> None:
    def scores(frames: np.ndarray) -> np.ndarray:
        return np.zeros((len(frames), len(CAMVID), 6, 8), np.float32)

    options = EngineOptions(device_io="on")
    figures = measured(FakeEngine(SPEC, scores=scores, cells=(6, 8), can_device_io=True, options=options))
    assert figures.report.engine["device_io"] is True and figures.report.engine["mask_size"] == "frame"
    assert len(figures.engine) > 0


def test_a_source_that_ends_begins_again() -> None:
    figures = measured(FakeEngine(SPEC, latency=0.001), "sim://street?w=160&h=120&frames=3")
    assert figures.report.frames.shown > 3 and figures.cost is not None


def test_a_live_source_sets_the_pace() -> None:
    figures = measured(FakeEngine(SPEC), "sim://street?w=160&h=120&live=1&fps=60")
    assert figures.costs == () and figures.cost is None and figures.interval is None
    assert len(figures.engine) == 0 and figures.report.fps is not None
    assert figures.to_dict()["cost_percent"] is None


def test_an_error_of_the_loop_is_the_callers() -> None:
    with pytest.raises(SourceError):
        measured(FakeEngine(SPEC), "no-such-video.mp4")
