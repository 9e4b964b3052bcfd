"""Snapshots as a run would make them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rtpsp.stream.health import Health
from rtpsp.stream.snapshot import Snapshot, SourceSnapshot
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Series, now


def of_source(
    uri: str = "rtsp://***@cam/1", *, live: bool = True, shown_ago: float | None = 0.0, **changes: Any
) -> Any:
    age = Series()
    for seconds in (0.03, 0.06, 0.06):
        age.add(seconds)
    health = Health()
    source = SourceSnapshot(
        info=SourceInfo(uri, "network", 48, 64, live=live), health=health, received=100, shown=90,
        dropped={"infer": 8, "render": 1}, missed=2, fps=24.5, last_age=0.06,
        last_shown=None if shown_ago is None else now() - shown_ago, age=age, ended="",
    )  # fmt: skip
    return replace(source, **changes)


def of_run(*sources: SourceSnapshot, **changes: Any) -> Snapshot:
    infer = Series()
    infer.add(0.011)
    run = Snapshot(sources or (of_source(),), {"infer": infer}, {"cam.mp4": 3}, (), (), ready=True, stopping="")
    return replace(run, **changes)
