"""The sinks of a run together: one that can take no more."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from rtpsp.errors import OutputError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Frame, Rendered, Stamps
from rtpsp.stream.sinks import Sinks
from rtpsp.stream.source import SourceInfo
from tests.stream.doubles import Collector

SPEC = ModelSpec("tiny", "fake", 48, 64, CAMVID)
FRAME = Frame(0, 0.0, 0.0, 48, 64, lambda out: np.zeros((48, 64, 3), np.uint8))
ITEM = Rendered(FRAME, {}, np.zeros((48, 64), np.uint8), Stamps(0.0))


class Full(Collector):
    """Its disk is full from the second frame on."""

    def write(self, item: Rendered) -> None:
        super().write(item)
        if len(self.items) > 1:
            raise OutputError("stats.jsonl: No space left on device")


def opened(*sinks: Any, live: bool, observed: bool = False) -> Sinks:
    together = Sinks(sinks, 30.0, observed)
    together.open_all([SourceInfo("test", "camera", 48, 64, live=live)], SPEC)
    return together


def test_a_live_run_goes_on_without_an_output_whose_disk_is_full(caplog: pytest.LogCaptureFixture) -> None:
    full, window = Full(), Collector("overlay")
    together = opened(full, window, live=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            together.write(ITEM)
            assert together.poll() == ""
    assert (len(full.items), len(window.items)) == (2, 4)
    assert [record.getMessage() for record in caplog.records] == ["stats.jsonl: No space left on device"]
    assert together.failures == ("stats.jsonl: No space left on device",) and together.first_failure is not None


@pytest.mark.parametrize("observed", [False, True])
def test_it_ends_where_nothing_else_has_a_use(observed: bool) -> None:
    together = opened(Full(), live=True, observed=observed)
    together.write(ITEM)
    together.write(ITEM)
    assert together.poll() == ("" if observed else "error: stats.jsonl: No space left on device")


def test_of_a_file_it_is_the_end_at_once() -> None:
    together = opened(Full(), Collector("overlay"), live=False)
    together.write(ITEM)
    with pytest.raises(OutputError):
        together.write(ITEM)
