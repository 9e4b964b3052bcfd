from __future__ import annotations

import threading
import time

import pytest

from rtpsp.stream.slot import QUEUE_LENGTH, Slot


def test_latest_keeps_the_newest_and_counts_the_rest() -> None:
    slot: Slot[int] = Slot("latest")
    for number in range(5):
        assert slot.put(number)
    assert slot.get() == 4
    assert slot.dropped == 4


def test_every_makes_the_producer_wait_and_loses_nothing() -> None:
    slot: Slot[int] = Slot("every")
    count = 50
    reached = []

    def produce() -> None:
        for number in range(count):
            slot.put(number)
            reached.append(number)
        slot.end()

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(0.05)
    assert len(reached) == QUEUE_LENGTH
    taken = list(iter(slot.get, None))
    producer.join(5)
    assert taken == list(range(count))
    assert slot.dropped == 0


def test_end_lets_the_consumer_have_the_rest() -> None:
    slot: Slot[str] = Slot("every")
    slot.put("last")
    slot.end()
    assert slot.get() == "last"
    assert slot.get() is None
    assert not slot.put("too late")


@pytest.mark.parametrize("policy", ["latest", "every"])
def test_close_frees_both_sides(policy: str) -> None:
    slot: Slot[int] = Slot("every" if policy == "every" else "latest")
    results: list[object] = []
    consumer = threading.Thread(target=lambda: results.append(slot.get()))
    consumer.start()
    time.sleep(0.02)
    slot.close()
    consumer.join(5)
    assert results == [None]

    full: Slot[int] = Slot("every")
    for number in range(QUEUE_LENGTH):
        full.put(number)
    producer = threading.Thread(target=lambda: results.append(full.put(99)))
    producer.start()
    time.sleep(0.02)
    full.close()
    producer.join(5)
    assert results == [None, False]
    assert full.get() is None


def test_get_gives_up_after_its_time() -> None:
    slot: Slot[int] = Slot("latest")
    with pytest.raises(TimeoutError):
        slot.get(0.01)
    slot.put(1)
    assert slot.get(0) == 1
