"""What a race against a peer came to, and all of them in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rtpsp.bench.ratios import PairRatio
from rtpsp.bench.timeline import Timeline
from rtpsp.errors import BoundNotMet

OURS = "rtpsp"
ENOUGH = 4
"""Peers that have to run, in any of their precisions, before the table says anything about the field."""

PRECISION_OF = {"f32": "fp32", "bf16": "fp16", "f16": "fp16", "i8": "int8", "u8": "int8"}
"""For the number format of a peer's convolutions the precision of ours that is alike."""


@dataclass(frozen=True)
class Skipped:
    """A peer, or one of its precisions, that was not timed.

    Attributes:
        name: Its title, with the precision where only that is missing.
        reason: In one line.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class PeerRow:
    """One peer in one precision, held against ours.

    Attributes:
        peer: Name of its folder.
        title: For people.
        precision: By the peer's own name.
        default: Whether that is what it does when nobody says anything.
        ran: Number format of its convolutions.
        versions: Of its packages.
        threads: That it took by itself; None where it does not tell.
        guide: What its code follows.
        times: Of each frame; of a loop, of each play, divided by the frames.
        ours: Ours of the same rounds, by precision.
        alike: The precision of ours that is like the peer's; None where we have none here.
        our_default: The precision that ours takes when nobody says anything.
        agreement: With the model in FP32, in percent of pixels.
        cores_busy: How many cores it kept busy in its turns; None for a loop.
        idle_percent: CPU that the process would burn while it waits, in percent of one core; it is stopped meanwhile.
        loop: Whether it is the whole loop, from the video file to the drawn picture.
    """

    peer: str
    title: str
    precision: str
    default: bool
    ran: str
    versions: Mapping[str, str]
    threads: int | None
    guide: str
    times: Timeline
    ours: Mapping[str, Timeline]
    alike: str | None
    our_default: str
    agreement: float
    cores_busy: float | None
    idle_percent: float
    loop: bool

    @property
    def name(self) -> str:
        """Title and precision."""
        return f"{self.title} {self.precision}"

    def ratio_to(self, precision: str | None) -> PairRatio | None:
        """The peer's time over ours, pair by pair; None where ours was not in the race."""
        ours = None if precision is None else self.ours.get(precision)
        return None if ours is None or not len(ours) else PairRatio.of(self.times.durations, ours.durations)

    @property
    def ratio(self) -> PairRatio | None:
        """Like against like."""
        return self.ratio_to(self.alike)

    @property
    def default_ratio(self) -> PairRatio | None:
        """Default against default; None for what is no default."""
        return self.ratio_to(self.our_default) if self.default else None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values. A loop has ``fps`` and no percentiles of single frames."""
        times = self.times.to_dict()
        if self.loop:
            del times["windows_ms"], times["stable"]
            times["frame_ms"] = times.pop("latency_ms")["median"]
        return {
            "name": self.name,
            "peer": self.peer,
            "precision": self.precision,
            "ran": self.ran,
            "default": self.default,
            "version": ", ".join(f"{package} {version}" for package, version in self.versions.items()),
            "threads": self.threads,
            "guide": self.guide,
            **times,
            "agreement_percent": round(self.agreement, 3),
            "cores_busy": None if self.cores_busy is None else round(self.cores_busy, 2),
            "idle_cpu_percent": round(self.idle_percent, 1),
            "against": None if self.alike is None else f"{OURS} {self.alike}",
            "ratio": _told(self.ratio),
            "default_against": f"{OURS} {self.our_default}" if self.default else None,
            "default_ratio": _told(self.default_ratio),
            "ours_ms": {name: round(ours.summary().median, 3) for name, ours in self.ours.items() if len(ours)},
        }


@dataclass(frozen=True, eq=False)
class PeersReport:
    """All races.

    Attributes:
        entries: In the order in which they were run.
        skipped: What was not timed, with the reason.
    """

    entries: tuple[PeerRow, ...]
    skipped: tuple[Skipped, ...]

    @property
    def rows(self) -> tuple[PeerRow, ...]:
        """Frame by frame."""
        return tuple(row for row in self.entries if not row.loop)

    @property
    def loops(self) -> tuple[PeerRow, ...]:
        """From the video file to the drawn picture."""
        return tuple(row for row in self.entries if row.loop)

    @property
    def running(self) -> int:
        """How many different peers were timed."""
        return len({row.peer for row in self.entries})

    @property
    def enough(self) -> bool:
        """Whether `ENOUGH` peers were timed."""
        return self.running >= ENOUGH

    @property
    def words(self) -> str:
        """The outcome in a sentence or two; what is behind is told before what is ahead."""
        if not self.enough:
            return f"{self.running} peers ran, expected at least {ENOUGH}: this is no comparison with the field"
        pairs = [(row, ratio) for row in self.entries if (ratio := row.ratio or row.default_ratio) is not None]
        if not pairs:
            return f"{self.running} peers ran, and none beside an engine of ours that is like it"
        # behind, or not to be told from it: the interval reaches below 1
        behind = [pair for pair in pairs if (pair[1].interval.low if pair[1].interval else pair[1].median) <= 1]
        if behind:
            told = ", ".join(f"{row.name} {ratio.words()}" for row, ratio in behind)
            return f"{OURS} is not ahead of {told}, like against like"
        row, ratio = min(pairs, key=lambda pair: pair[1].median)
        return (
            f"{OURS} is ahead of all {self.running} peers in each of their {len(pairs)} precisions, like against like: "
            f"least of {row.name}, {ratio.words()}"
        )

    def check(self) -> None:
        """Whether the table may stand for the field; to be asked once it is written.

        Raises:
            BoundNotMet: Fewer than `ENOUGH` peers ran.
        """
        if not self.enough:
            why = "; ".join(f"{entry.name}: {entry.reason}" for entry in self.skipped[:3])
            raise BoundNotMet(f"{self.words}{f' ({why})' if why else ''}")

    def to_dict(self) -> dict[str, Any]:
        """The report's section ``peers``, as plain JSON values."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "loops": [row.to_dict() for row in self.loops],
            "skipped": [{"name": entry.name, "reason": entry.reason} for entry in self.skipped],
            "running": self.running,
            "enough": self.enough,
            "words": self.words,
        }


def _told(ratio: PairRatio | None) -> dict[str, Any] | None:
    return None if ratio is None else ratio.to_dict()
