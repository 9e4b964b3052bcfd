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


@dataclass(frozen=True)
class ThreadPlan:
    """How the budget of CPU threads is divided.

    Attributes:
        budget: Threads in all; the machine's cores unless told otherwise.
        engine: For inference.
        decoder: For the video decoder.
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
class RunReport:
    """Figures of a run, as far as it came.

    Attributes:
        source: What was read.
        engine: What segmented: model, size, backend, precision asked for, number format that ran, ``mask_size``,
            ``device_io`` (whether the device resized frames and drew pictures), ``smooth`` (whether scores were
            filtered over time), and ``min_confidence`` where pixels below it got no class.
        policy: ``latest`` or ``every``.
        threads: How the CPU was divided.
        frames: Where the frames went.
        seconds: From the first frame handed over to the last.
        fps: (n - 1) / seconds at the sinks; None before the second frame.
        stages: Milliseconds by stage: ``capture`` (waiting for a live source included), ``preprocess``, ``infer``
            (with device IO the fit and the drawing, too), ``smooth`` (filtering the scores, where that was asked for,
            which ``infer`` leaves out), ``render``, ``sink``, and ``encode`` in the recorder's own thread.
        age: Milliseconds from captured to handed over.
        outputs: Paths that were written.
        ended: Why it ended, in words.
        versions: Of the packages that the engine was built with.
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
        }
