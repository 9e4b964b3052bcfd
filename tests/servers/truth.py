"""What came out of a run: ages by the time code in each picture, and what this process holds on to."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rtpsp.sim.timecode import read_timecode
from rtpsp.stream.frame import Absent, Rendered
from rtpsp.stream.sink import Sink
from rtpsp.timing import now


@dataclass(frozen=True)
class Seen:
    """One picture as it was handed over, in seconds of `time.monotonic`.

    Attributes:
        shown: When.
        exposed: When the server says that it was exposed; None where its time code could not be read.
        captured: When rtpsp says that it was.
        height: Pixels.
        width: Pixels.
    """

    shown: float
    exposed: float | None
    captured: float
    height: int
    width: int


class TimeCodes(Sink):
    """Reads the time code of every picture.

    Attributes:
        count: Pictures in all.
        unread: Those whose code could not be read.
        absences: Pictures of a missing signal.
    """

    view = "frame"

    def __init__(self) -> None:
        self.count = self.unread = self.absences = 0
        self._seen: list[Seen] = []

    def write(self, item: Rendered) -> None:
        """Note one picture."""
        picture = item.pictures["frame"]
        code = read_timecode(picture)
        self.count += 1
        self.unread += code is None
        exposed = None if code is None else code / 1e6
        self._seen.append(Seen(now(), exposed, item.stamps.captured, *picture.shape[:2]))

    def absent(self, item: Absent) -> None:
        """Count one."""
        self.absences += 1

    def take(self) -> list[Seen]:
        """What came since the last call; from any thread."""
        taken, self._seen = self._seen, []
        return taken


@dataclass(frozen=True)
class Held:
    """What this process holds.

    Attributes:
        threads: Of the system, those of libraries included.
        files: Open files, sockets and pipes.
        memory: Resident bytes.
    """

    threads: int
    files: int
    memory: int


def held() -> Held:
    """Of this process, now; Linux only."""
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    memory = int(fields["VmRSS"].split()[0]) * 1024
    return Held(int(fields["Threads"]), len(os.listdir("/proc/self/fd")) - 1, memory)  # less the listing's own
