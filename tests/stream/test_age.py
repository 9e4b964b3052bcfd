"""The age that is reported against the time code in the picture: through the whole loop, with faults in between."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.engine.fake import FakeEngine
from rtpsp.sim.timecode import read_timecode
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.slot import Policy
from rtpsp.stream.source import open_source
from tests.stream.doubles import Collector


@pytest.mark.parametrize(
    ("faults", "policy"),
    [("", "latest"), ("&burst=6&fifo=30", "latest"), ("&burst=6&fifo=1000", "every"), ("&jitter=60ms", "latest")],
    ids=["healthy", "bursts", "backlog in bursts", "jitter"],
)
def test_captured_is_when_the_scene_was_seen(faults: str, policy: Policy) -> None:
    sink = Collector("frame")
    source = open_source(f"sim://street?w=160&h=120&fps=30&frames=90&live=1&timecode=1{faults}")
    Pipeline(source, FakeEngine(latency=0.04), [sink], PipelineOptions(policy=policy)).run()
    codes = [read_timecode(item.pictures["frame"]) for item in sink.items]
    assert None not in codes
    true = np.array([code or 0 for code in codes]) / 1e6
    captured = np.array([item.stamps.captured for item in sink.items])
    ages = np.array([item.stamps.rendered for item in sink.items]) - captured
    # The first frames of a delayed stream cannot be told from a slow clock: the anchor settles with the first on time.
    settled = slice(12, None)
    # A reader that is late from the first burst on never sees a frame on time: it is off by less than that burst lasts,
    # for good, and growth shows all the same.
    never_on_time = policy == "every"
    assert np.abs(captured - true)[settled].max() < (6 / 30 if never_on_time else 0.02)
    assert np.ptp((captured - true)[settled]) < 0.02
    if policy == "every":
        assert ages[-1] > 0.4, "ninety frames at 25 fps are half a second behind thirty"
    else:
        assert np.median(ages[settled]) < 0.25
