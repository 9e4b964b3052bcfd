"""A run as it stands, for whoever looks at it from outside while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rtpsp.stream.health import Health
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Series


@dataclass(frozen=True)
class SourceSnapshot:
    """One source; counts are from the beginning of the run.

    Attributes:
        info: As last opened.
        health: Connections, faults, time stamps; goes on changing.
        received: Frames that it gave us to segment.
        shown: Frames that every sink had.
        dropped: Frames that a newer one replaced while they waited, by the stage that they waited for.
        missed: Frames that were lost before we could read them.
        fps: Shown over the last seconds; None where there were too few.
        last_age: Seconds from captured to handed over, of the last frame shown; None before the first.
        last_shown: When that was, in seconds of `time.monotonic`; None before the first.
        age: Ages of all frames shown, in seconds.
        ended: Why it gives no more frames, in words; empty while it does.
    """

    info: SourceInfo
    health: Health
    received: int
    shown: int
    dropped: Mapping[str, int]
    missed: int
    fps: float | None
    last_age: float | None
    last_shown: float | None
    age: Series
    ended: str


@dataclass(frozen=True)
class Snapshot:
    """All of it.

    Attributes:
        sources: In the order in which they were given.
        stages: Durations by stage, over all sources, in seconds.
        sink_drops: Pictures that sinks were too slow to take, by the sink's output.
        failures: Outputs that have ended while the run goes on, in words.
        stalled: Stages that have been busy with one thing for too long.
        ready: Whether the engine is open and warm.
        stopping: Why the run is about to end; empty while it goes on.
    """

    sources: Sequence[SourceSnapshot]
    stages: Mapping[str, Series]
    sink_drops: Mapping[str, int]
    failures: Sequence[str]
    stalled: Sequence[str]
    ready: bool
    stopping: str
