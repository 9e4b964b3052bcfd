"""Which ratio is told of whom, and what all of them come to in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rtpsp.bench.peers_row import PeerRow, PeersReport, Skipped
from rtpsp.bench.timeline import Timeline
from rtpsp.errors import BoundNotMet


def timeline(seconds: float, count: int = 8) -> Timeline:
    return Timeline.of((float(number), number + seconds) for number in range(count))


def row(peer: str = "one", seconds: float = 0.2, **changes: Any) -> PeerRow:
    fields: dict[str, Any] = {
        "peer": peer, "title": peer.title(), "precision": "fp32", "default": True, "ran": "f32",
        "versions": {"library": "1.2"}, "threads": None, "guide": "a page", "times": timeline(seconds),
        "ours": {"fp32": timeline(0.1), "int8": timeline(0.05)}, "alike": "fp32", "our_default": "int8",
        "agreement": 99.9876, "cores_busy": 1.987, "idle_percent": 0.0, "loop": False,
    }  # fmt: skip
    return PeerRow(**{**fields, **changes})


def test_like_stands_against_like_and_default_against_default() -> None:
    told = row().to_dict()
    assert told["against"] == "rtpsp fp32"
    assert told["ratio"]["median"] == pytest.approx(2)
    assert told["default_against"] == "rtpsp int8"
    assert told["default_ratio"]["median"] == pytest.approx(4)
    assert told["ours_ms"] == {"fp32": 100.0, "int8": 50.0}
    assert (told["version"], told["cores_busy"], told["agreement_percent"]) == ("library 1.2", 1.99, 99.988)
    json.dumps(told)


def test_what_is_no_default_is_not_held_against_ours() -> None:
    assert row(default=False).to_dict()["default_ratio"] is None
    assert row(alike=None).ratio is None


def test_of_a_loop_there_are_frames_a_second_and_no_percentiles() -> None:
    told = row(loop=True).to_dict()
    assert told["fps"] == pytest.approx(5)
    assert told["frame_ms"] == pytest.approx(200)
    assert not {"latency_ms", "windows_ms", "stable"} & set(told)


def test_ahead_of_all_names_the_least() -> None:
    report = PeersReport(tuple(row(name, times) for name, times in zip("abcd", (0.2, 0.3, 0.15, 0.4), strict=True)), ())
    assert report.enough
    report.check()
    assert report.words.startswith("rtpsp is ahead of all 4 peers in each of their 4 precisions")
    assert report.words.endswith("least of C fp32, 1.50x (1.50 to 1.50)")


def test_who_is_not_behind_for_sure_is_named() -> None:
    noise = np.random.default_rng(0).normal(0.1, 0.01, 41) + 0.0005
    shaky = Timeline.of((float(number), number + seconds) for number, seconds in enumerate(noise))
    rows = [row("a"), row("b", 0.08), row("c"), row("d", ours={"fp32": timeline(0.1, 41)}, times=shaky)]
    ratio = rows[3].ratio
    assert ratio is not None and ratio.interval is not None and 1 in ratio.interval
    words = PeersReport(tuple(rows), ()).words
    assert "not ahead of B fp32 0.80x" in words and "D fp32" in words
    assert "A fp32" not in words


def test_two_precisions_of_a_peer_are_one_peer_and_three_are_not_enough() -> None:
    rows = (row("a"), row("a", precision="bf16"), row("b"), row("c", loop=True))
    report = PeersReport(rows, (Skipped("D", "could not be installed"),))
    assert (report.running, len(report.rows), len(report.loops)) == (3, 3, 1)
    with pytest.raises(BoundNotMet, match=r"3 peers ran, expected at least 4: .* \(D: could not be installed\)"):
        report.check()
    assert report.to_dict()["enough"] is False
    assert report.to_dict()["skipped"] == [{"name": "D", "reason": "could not be installed"}]
