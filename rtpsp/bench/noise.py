"""What else the machine did while something was measured: without it nobody can tell a slow engine from a busy day."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

from rtpsp.timing import now

BUSY = 10.0
"""Percent of the CPU that other programs may use before a report says that latencies are not to be quoted."""
STOLEN = 2.0
"""As much, of time that a hypervisor gave to other machines."""


class _Times(NamedTuple):
    """Seconds of CPU since some moment, over all processors."""

    at: float
    total: float
    idle: float
    stolen: float
    ours: float


@dataclass
class Noise:
    """Watches the machine from entering to leaving.

    A control group's limits do not count: in a container the figures are those of the whole machine, others' included.

    Attributes:
        load: Load averages over a minute, before and after; our own threads are in them. None where there are none.
        megahertz: Clock of the processor, before and after; None where it is not told.
        others_percent: Share of all processors' time that other programs used; None where it cannot be told.
        stolen_percent: Share of it that a hypervisor gave to other machines; None where it cannot be told.
        seconds: From entering to leaving.
    """

    load: tuple[float, float] | None = None
    megahertz: tuple[float, float] | None = None
    others_percent: float | None = None
    stolen_percent: float | None = None
    seconds: float = 0.0

    def __enter__(self) -> Noise:
        self._before, self._load, self._clock = _times(), _load(), _clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before, after = self._before, _times()
        load, clock = _load(), _clock()
        self.seconds = after.at - before.at
        if self._load is not None and load is not None:
            self.load = (self._load, load)
        if self._clock is not None and clock is not None:
            self.megahertz = (self._clock, clock)
        total = after.total - before.total
        if total > 0:
            stolen = after.stolen - before.stolen
            busy = total - (after.idle - before.idle) - stolen
            self.others_percent = max(0.0, 100 * (busy - (after.ours - before.ours)) / total)
            self.stolen_percent = max(0.0, 100 * stolen / total)

    @property
    def quiet(self) -> bool:
        """Whether latencies can be quoted as they are."""
        return (self.others_percent or 0.0) <= BUSY and (self.stolen_percent or 0.0) <= STOLEN

    @property
    def words(self) -> str:
        """``other programs used 12 % of the CPU; steal 0 %``."""
        if self.others_percent is None or self.stolen_percent is None:
            return "what other programs used of the CPU cannot be told here"
        return f"other programs used {self.others_percent:.0f} % of the CPU; steal {self.stolen_percent:.0f} %"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "seconds": round(self.seconds, 3),
            "load": [round(value, 2) for value in self.load] if self.load else None,
            "frequency_mhz": [round(value) for value in self.megahertz] if self.megahertz else None,
            "others_percent": None if self.others_percent is None else round(self.others_percent, 2),
            "steal_percent": None if self.stolen_percent is None else round(self.stolen_percent, 2),
            "quiet": self.quiet,
            "words": self.words,
        }


def _times() -> _Times:
    import psutil  # type: ignore[import-untyped]

    times = psutil.cpu_times()
    # guest time is in user time already, on Linux, which alone tells it
    counted = {name: value for name, value in times._asdict().items() if not name.startswith("guest")}
    idle = counted.get("idle", 0.0) + counted.get("iowait", 0.0)
    return _Times(now(), sum(counted.values()), idle, counted.get("steal", 0.0), _ours())


def _ours() -> float:
    """Of this process and its children, those that have ended included."""
    import psutil

    me = psutil.Process()
    own = me.cpu_times()
    seconds = own.user + own.system + getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            used = child.cpu_times()
            seconds += used.user + used.system
    return float(seconds)


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return None


def _clock() -> float | None:
    import psutil

    try:
        found = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError):  # a container without /sys, a Mac of Apple's own
        return None
    return float(found.current) if found is not None and found.current else None
