"""What a run tells of itself when it is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rtpsp.stream.source import SourceInfo
from rtpsp.timing import Summary


@dataclass(frozen=True)
class FrameCounts:
    """Where the frames went: ``received = shown + dropped + discarded``, and beside them what never reached us.

    Attributes:
        received: Frames that the source gave us to segment.
        shown: Frames that every sink had.
        dropped: Frames that a newer one replaced while they waited, by the stage that they waited for.
        discarded: Frames under way when the run was stopped; 0 after a run to the end.
        missed: Frames that the device or network lost before we could read them.
        skipped: Frames passed over on request (every Nth, at most so many a second).
    """

    received: int
    shown: int
    dropped: dict[str, int]
    discarded: int
    missed: int
    skipped: int

    def __add__(self, other: FrameCounts) -> FrameCounts:
        """Of two sources together, whose stages are the same."""
        return FrameCounts(
            self.received + other.received,
            self.shown + other.shown,
            {stage: count + other.dropped[stage] for stage, count in self.dropped.items()},
            self.discarded + other.discarded,
            self.missed + other.missed,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True)
class ThreadPlan:
    """How the budget of CPU threads is divided.

    Attributes:
        budget: Threads in all; the machine's cores unless told otherwise.
        engine: For inference.
        decoder: For the video decoder of each source.
        encoder: For x264.
        opencv: For resizing and drawing.
    """

    budget: int
    engine: int
    decoder: int
    encoder: int
    opencv: int


def divide_threads(budget: int, live: bool) -> ThreadPlan:
    """One budget for every library, since each would otherwise make a pool of its own as large as the machine.

    Inference is most of the work, so on up to three cores it may use them all and the rest is squeezed in; from four on
    one is left for the other stages. A live source gets at most two decoder threads: more would cost latency.

    Args:
        budget: Threads in all, at least 1.
        live: Whether the source is live.
    """
    spare = budget >= 4
    decoder = 1 if not spare else 2 if live else max(2, budget // 4)
    return ThreadPlan(budget, engine=budget - 1 if spare else budget, decoder=decoder, encoder=1, opencv=1)


@dataclass(frozen=True)
class SourceReport:
    """Figures of one source of a run.

    Attributes:
        info: As last opened.
        policy: ``latest`` or ``every``.
        frames: Where its frames went.
        fps: (n - 1) / seconds from its first frame handed over to its last; None before the second.
        age: Milliseconds from captured to handed over.
        reconnects: How often it came back.
        faults: How many faults of each kind, failed tries to connect included (`rtpsp.stream.health.FaultKind`).
        stamps: Time stamps that had to be put in order, by what was wrong with them.
        late: Frames that were not decoded because they were too old by then.
        downtime: Seconds for which it was away, the current absence included.
        hardware: What decoded, empty where the CPU did.
        ended: Why it gave no more frames, in words; empty while it does.
    """

    info: SourceInfo
    policy: str
    frames: FrameCounts
    fps: float | None
    age: Summary | None
    reconnects: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)
    late: int = 0
    downtime: float = 0.0
    hardware: str = ""
    ended: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        told = asdict(self)
        told["fps"] = None if self.fps is None else round(self.fps, 3)
        told["downtime"] = round(self.downtime, 3)
        told["age_ms"] = self.age.to_dict() if self.age else None
        del told["age"]
        return told


@dataclass(frozen=True)
class RunReport:
    """Figures of a run, as far as it came.

    Attributes:
        source: What was read; of several the first.
        engine: What segmented: model, size, backend, precision asked for, number format that ran, ``mask_size``,
            ``device_io`` (whether the device resized frames and drew pictures), ``smooth`` (whether scores were
            filtered over time), and ``min_confidence`` where pixels below it got no class.
        policy: ``latest`` or ``every``; of several sources the first one's.
        threads: How the CPU was divided.
        frames: Where the frames of all sources went.
        seconds: From the first frame handed over to the last.
        fps: (n - 1) / seconds at the sinks, all sources together; None before the second frame.
        stages: Milliseconds by stage, all sources together: ``capture`` (waiting for a live source included),
            ``preprocess``, ``infer`` (with device IO the fit and the drawing, too), ``smooth`` (filtering the scores,
            where that was asked for, which ``infer`` leaves out), ``render``, ``sink``, and ``encode`` in the
            recorder's own thread.
        age: Milliseconds from captured to handed over.
        outputs: Paths that were written.
        ended: Why it ended, in words.
        versions: Of the packages that the engine was built with.
        sources: Each one for itself.
        sink_drops: Pictures that outputs were too slow to take, by output, where there are any.
    """

    source: SourceInfo
    engine: dict[str, Any]
    policy: str
    threads: ThreadPlan
    frames: FrameCounts
    seconds: float
    fps: float | None
    stages: dict[str, Summary]
    age: Summary | None
    outputs: tuple[str, ...] = ()
    ended: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    sources: tuple[SourceReport, ...] = ()
    sink_drops: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; durations in milliseconds carry ``_ms`` in their key."""
        return {
            "source": asdict(self.source),
            "engine": self.engine,
            "policy": self.policy,
            "threads": asdict(self.threads),
            "frames": asdict(self.frames),
            "seconds": round(self.seconds, 3),
            "fps": None if self.fps is None else round(self.fps, 3),
            "stages_ms": {name: summary.to_dict() for name, summary in self.stages.items()},
            "age_ms": self.age.to_dict() if self.age else None,
            "outputs": list(self.outputs),
            "ended": self.ended,
            "versions": self.versions,
            "sources": [source.to_dict() for source in self.sources],
            "sink_drops": self.sink_drops,
        }
