from __future__ import annotations

import threading

import pytest

from rtpsp.stream import backlog
from rtpsp.stream.backlog import BEHIND_SECONDS, Backlog


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_a_live_producer_never_waits_and_loses_what_is_a_second_behind() -> None:
    clock = Clock()
    queue: Backlog[int] = Backlog(False, lambda item: 1, clock)
    for number in range(40):  # of 30 a second, and nobody takes one
        assert queue.put(number)
        clock.time += 1 / 30
    taken = [queue.get() for _ in range(40 - queue.dropped)]
    assert len(taken) == pytest.approx(30 * BEHIND_SECONDS, abs=1)
    assert taken == list(range(len(taken))), "the newest are lost: what is there stays in order"
    assert queue.put(99) and queue.get() == 99, "and it goes on"


def test_memory_is_bound_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "BEHIND_BYTES", 1000)
    queue: Backlog[int] = Backlog(False, lambda item: item, Clock())
    for _ in range(10):
        queue.put(300)
    assert queue.dropped == 6
    queue.get()
    queue.put(300)
    assert queue.dropped == 6
    huge: Backlog[int] = Backlog(False, lambda item: item, Clock())
    for _ in range(3):
        huge.put(5000)
    assert huge.dropped == 1, "two have a place whatever they hold"


def test_a_file_waits_and_loses_nothing() -> None:
    queue: Backlog[int] = Backlog(True, lambda item: 1, Clock())

    def produce() -> None:
        for number in range(50):
            queue.put(number)
        queue.end()

    producer = threading.Thread(target=produce)
    producer.start()
    taken = []
    while (item := queue.get()) is not None:
        taken.append(item)
    producer.join()
    assert taken == list(range(50)) and queue.dropped == 0


@pytest.mark.parametrize("waits", [False, True])
def test_a_closed_queue_holds_nobody(waits: bool) -> None:
    queue: Backlog[int] = Backlog(waits, lambda item: 1)
    with pytest.raises(TimeoutError):
        queue.get(0)
    queue.put(1)
    queue.close()
    assert not queue.put(2) and queue.get() is None
