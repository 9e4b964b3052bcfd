"""Pictures on their way to a thread that may be slower than the run: an encoder, a disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from rtpsp.stream.slot import QUEUE_LENGTH
from rtpsp.timing import now

BEHIND_SECONDS = 1.0
"""A disk's hiccup that costs no picture; also what a killed process has not recorded, at most, behind a slow disk."""
BEHIND_BYTES = 192 << 20
"""A second of 1920x1080 at 30 fps, and less than half a second of 3840x2160."""

T = TypeVar("T")


class Backlog(Generic[T]):
    """A queue whose producer waits for a place, as a file's may, or loses what finds none, as a camera's has to.

    Args:
        waits: Whether the producer waits; it then finds `QUEUE_LENGTH` places. Else there is place as long as the
            oldest item has waited for less than `BEHIND_SECONDS` and all of them hold less than `BEHIND_BYTES`.
        size_of: Bytes of an item.
        clock: Seconds that only grow.

    Attributes:
        dropped: Items that found no place. Only the producer's thread changes it.
    """

    def __init__(self, waits: bool, size_of: Callable[[T], int], clock: Callable[[], float] = now) -> None:
        self.dropped = 0
        self._waits, self._size_of, self._clock = waits, size_of, clock
        self._items: deque[tuple[float, T]] = deque()
        self._bytes = 0
        self._condition = threading.Condition()
        self._ended = False

    def put(self, item: T) -> bool:
        """Hand an item over, or drop it.

        Returns:
            False when the queue was closed, and nobody will ever take an item.
        """
        with self._condition:
            if self._waits:
                self._condition.wait_for(lambda: self._ended or len(self._items) < QUEUE_LENGTH)
            if self._ended:
                return False
            if not self._waits and self._is_behind():
                self.dropped += 1
                return True
            self._items.append((self._clock(), item))
            self._bytes += self._size_of(item)
            self._condition.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """Take the next item; None at the end, once everything that was put has been taken.

        Args:
            timeout: Seconds to wait; None waits for as long as it takes.

        Raises:
            TimeoutError: Nothing came within the time.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._items or self._ended, timeout):
                raise TimeoutError
            if not self._items:
                return None
            _, item = self._items.popleft()
            self._bytes -= self._size_of(item)
            self._condition.notify_all()
            return item

    def end(self) -> None:
        """The producer has no more: the consumer gets what is there, then None."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def close(self) -> None:
        """Nobody takes any more: what is there is let go, and both sides return at once."""
        with self._condition:
            self._ended = True
            self._items.clear()
            self._bytes = 0
            self._condition.notify_all()

    def _is_behind(self) -> bool:
        if len(self._items) < QUEUE_LENGTH:
            return False
        return self._bytes >= BEHIND_BYTES or self._clock() - self._items[0][0] >= BEHIND_SECONDS
