"""Whether decoding keeps up with a live stream, and which packets to leave undecoded where it does not.

A frame is late for one of three reasons: the network was slow, whoever reads let it wait, or decoding takes longer than
there is time from frame to frame. The last alone is cured by decoding less. It is what is left of the lateness when
that of the last moment at which the reader had to wait for a packet is taken off (it had caught up then: the rest is
the network's), and so is the time that was spent elsewhere since.

Without time stamps the same is told by how long packets have been at hand without a wait.
"""

from __future__ import annotations

NONREF, PASS, CALM = 0.5, 1.0, 0.1
"""Seconds behind, from which on frames that no other refers to are left out, then all up to a key frame; and up to
which decoding counts as keeping up."""

_WAITED = 2e-3
"""Seconds that a packet which is at hand never takes, where stamps do not tell more."""


class Lag:
    """Of one connection.

    Args:
        interval: Seconds from one frame to the next.
        stamped: Whether the stream has time stamps.

    Attributes:
        nonref: Whether to decode no frames but those that others refer to.
        passing: Whether packets are being left out up to a key frame.
    """

    def __init__(self, interval: float, stamped: bool) -> None:
        self._waited = interval / 2 if stamped else _WAITED
        self._stamped = stamped
        self._calm: float | None = None
        self._elsewhere = 0.0
        self._left: float | None = None
        self._edge: float | None = None
        self._last: tuple[float, float] | None = None
        self.nonref = self.passing = False

    def away(self, moment: float) -> None:
        """The reader goes to do something else."""
        self._left = moment

    def back(self, moment: float) -> None:
        """The reader is back."""
        if self._left is not None:
            self._elsewhere += moment - self._left
        self._left = None

    def seen(self, stamp: float | None, arrival: float, captured: float) -> None:
        """A frame was decoded; `arrival` and `captured` are in seconds of `time.monotonic`."""
        if stamp is None:
            return
        self._last = stamp, captured
        lateness = arrival - captured
        if self._calm is None or lateness - self._calm <= CALM:
            self._caught_up(arrival, lateness if self._calm is None else min(self._calm, lateness))

    def leaves(self, stamp: float | None, key: bool, arrival: float, waited: float) -> bool:
        """Whether to leave a packet undecoded.

        Args:
            stamp: Its presentation time in seconds, None where it has none.
            key: Whether decoding can begin with it.
            arrival: When it came, in seconds of `time.monotonic`.
            waited: Seconds that it had to be waited for.
        """
        caught_up = waited > self._waited or self._edge is None
        behind = 0.0 if caught_up else self._behind(stamp, arrival)
        if caught_up:
            self._caught_up(arrival, self._lateness(stamp, arrival))
        if self.passing:
            self.passing = not (key and behind <= NONREF)
        elif behind > PASS:
            self.passing = True
        self.nonref = behind > (CALM if self.nonref else NONREF)
        return self.passing

    def _behind(self, stamp: float | None, arrival: float) -> float:
        if not self._stamped:
            return 0.0 if self._edge is None else arrival - self._edge - self._elsewhere
        lateness = self._lateness(stamp, arrival)
        return 0.0 if lateness is None or self._calm is None else lateness - self._calm - self._elsewhere

    def _lateness(self, stamp: float | None, arrival: float) -> float | None:
        if stamp is None or self._last is None:
            return None
        return arrival - (self._last[1] + stamp - self._last[0])

    def _caught_up(self, moment: float, lateness: float | None) -> None:
        self._edge, self._elsewhere = moment, 0.0
        if lateness is not None:
            self._calm = lateness
