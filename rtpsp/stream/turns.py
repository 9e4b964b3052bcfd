"""A slot that several sources share: of each what waits is its own, and whose turn it is goes round.

A source under ``latest`` has one place, in which its newest item replaces the one before; one under ``every`` has a
short queue and waits for a place (`rtpsp.stream.slot`). Turns go round the sources that have something waiting, so that
none is served twice while another waits: a quick source cannot starve a slow one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from rtpsp.stream.slot import QUEUE_LENGTH, Policy, Slot

T = TypeVar("T")


class Turns(Slot[T]):
    """Hands items of several sources from their threads to one.

    Args:
        policies: Of each source, in the order of their numbers; at least one.
        source_of: Gives the number of an item's source.
        on_drop: Called with each item that a newer one replaced, in the producer's thread.

    Attributes:
        drops: How many items of each source a newer one replaced; `dropped` is their sum.
    """

    def __init__(
        self,
        policies: Sequence[Policy],
        source_of: Callable[[T], int],
        on_drop: Callable[[T], None] = lambda item: None,
    ) -> None:
        super().__init__(policies[0])
        self.drops = [0] * len(policies)
        self._policies = tuple(policies)
        self._source_of = source_of
        self._on_drop = on_drop
        self._waiting: list[deque[T]] = [deque() for _ in policies]
        self._over = [False] * len(policies)
        self._turn = 0

    def put(self, item: T) -> bool:
        """Let an item wait for its source's turn; waits for a place under ``every``.

        Returns:
            False when the slot was closed, or the source ended, and the item went nowhere.
        """
        source = self._source_of(item)
        queue = self._waiting[source]
        with self._condition:
            if self._policies[source] == "every":
                self._condition.wait_for(lambda: self._shut(source) or len(queue) < QUEUE_LENGTH)
            elif queue and not self._shut(source):
                self._on_drop(queue.popleft())
                self.drops[source] += 1
                self.dropped += 1
            if self._shut(source):
                return False
            queue.append(item)
            self._condition.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """The oldest item of the source whose turn it is, of those that have one; None at the end.

        Raises:
            TimeoutError: Nothing came within the time.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._ended or any(self._waiting), timeout):
                raise TimeoutError
            count = len(self._waiting)
            for source in ((self._turn + place) % count for place in range(count)):
                if self._waiting[source]:
                    self._turn = (source + 1) % count
                    self._condition.notify_all()
                    return self._waiting[source].popleft()
            return None

    def end_source(self, source: int, discard: bool = False) -> int:
        """This source has no more; when none has, the slot is ended.

        Args:
            source: Its number.
            discard: Whether what waits of it is let go.

        Returns:
            How many items were.
        """
        with self._condition:
            discarded = len(self._waiting[source]) if discard else 0
            if discard:
                self._waiting[source].clear()
            self._over[source] = True
            self._ended = self._ended or all(self._over)
            self._condition.notify_all()
            return discarded

    def close(self) -> None:
        """Nobody is interested any more: what waits is let go, and both sides return at once."""
        with self._condition:
            self._ended = True
            for queue in self._waiting:
                queue.clear()
            self._condition.notify_all()

    def _shut(self, source: int) -> bool:
        return self._ended or self._over[source]
