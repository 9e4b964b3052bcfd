"""How a source fares: whether its frames come, what went wrong and how often, what its time stamps were like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rtpsp.timing import now

FaultKind = Literal[
    "refused",  # the host answers, nothing listens there
    "unreachable",  # no route, or no host of that name
    "authentication",  # user name or password
    "not-found",  # the host answers and knows no such stream
    "time-out",  # connected, and nothing comes
    "codec",  # a stream that this FFmpeg cannot decode
    "server",  # the server says that it has a fault of its own
    "protocol",  # what came is not what the protocol allows
    "ended",  # the other side ended a stream that should have none
    "stalled",  # a read that does not come back, which the watchdog gave up on
    "lost",  # the device went away, the connection broke, or anything else
]

PERMANENT: frozenset[str] = frozenset({"", "authentication", "not-found", "codec"})
"""Kinds that a second try does not cure as long as the source was never there."""


@dataclass
class Health:
    """Counts of one source, over all of its connections. Only the thread that reads it writes; anybody may look.

    Attributes:
        present: Whether frames are expected to come; False while the source is being waited for or connected anew.
        since: When `present` last changed, in seconds of `time.monotonic`.
        kind: Of the last fault; empty as long as there was none.
        reason: The last fault in one line without secrets; empty as long as there was none.
        attempt: How many tries to connect have failed since the source was lost; 0 while it is present.
        next_try: When it is tried again, in seconds of `time.monotonic`; None while a try is under way or none is due.
        reconnects: How many times it came back.
        downtime: Seconds of absence that are over.
        faults: How many faults of each kind, failed tries included.
        stamps: Time stamps that had to be put in order, by what was wrong with them: ``missing``, ``duplicate``,
            ``backwards``, ``jump``; and ``slow`` for every ten seconds of a camera below its promised rate.
        late: Frames that were not decoded because they were too old by then.
        hardware: What decodes, ``cuda`` for example; empty where the CPU does.
    """

    present: bool = True
    since: float = field(default_factory=now)
    kind: str = ""
    reason: str = ""
    attempt: int = 0
    next_try: float | None = None
    reconnects: int = 0
    downtime: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)
    late: int = 0
    hardware: str = ""

    def fault(self, kind: str, reason: str) -> None:
        """Note a fault; `reason` is a line without secrets."""
        self.kind, self.reason = kind, reason
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def stamp(self, what: str) -> None:
        """Note a time stamp that had to be put in order."""
        self.stamps[what] = self.stamps.get(what, 0) + 1

    def lose(self) -> None:
        """The source is gone; does nothing where it was already."""
        if self.present:
            self.present, self.since, self.attempt, self.next_try = False, now(), 0, None

    def regain(self) -> None:
        """Its frames come (again)."""
        if not self.present:
            self.downtime += now() - self.since
            self.present, self.since, self.attempt, self.next_try = True, now(), 0, None
