"""The only thing between two stages of the live flow: a slot with a named policy.

latest   one place, the newest wins: what a live source needs. A queue in front of a slow model would lose no frame
         but show them late: at 30 fps into 8 fps, each second adds three quarters of a second of delay.
every    a short queue, the producer waits: what a file needs, so that no frame is ever dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Literal, TypeVar

Policy = Literal["latest", "every"]

QUEUE_LENGTH = 2
"""Places of an ``every`` slot: one being filled while one is being emptied. More would only add latency."""

T = TypeVar("T")


class Slot(Generic[T]):
    """Hands items from one thread to another.

    Args:
        policy: What happens when the consumer is slower than the producer.

    Attributes:
        dropped: Items that a newer one replaced before the consumer took them. Only the producer's thread changes it.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.dropped = 0
        self._items: deque[T] = deque()
        self._condition = threading.Condition()
        self._ended = False

    def put(self, item: T) -> bool:
        """Hand an item over; waits for a place under ``every``.

        Returns:
            False when the slot was closed and the item went nowhere.
        """
        with self._condition:
            if self.policy == "every":
                self._condition.wait_for(lambda: self._ended or len(self._items) < QUEUE_LENGTH)
            elif self._items and not self._ended:
                self._items.clear()
                self.dropped += 1
            if self._ended:
                return False
            self._items.append(item)
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
            item = self._items.popleft()
            self._condition.notify_all()
            return item

    def end(self) -> None:
        """The producer has no more: the consumer gets what is there, then None."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def close(self) -> None:
        """Nobody is interested any more: what is there is let go, and both sides return at once."""
        with self._condition:
            self._ended = True
            self._items.clear()
            self._condition.notify_all()
