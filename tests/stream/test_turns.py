"""Of several sources each has a place of its own, and turns go round."""

from __future__ import annotations

import threading

import pytest

from rtpsp.stream.slot import QUEUE_LENGTH, Policy
from rtpsp.stream.turns import Turns

Item = tuple[int, int]  # its source and its number


def turns(*policies: Policy) -> Turns[Item]:
    return Turns(policies, lambda item: item[0])


def test_sources_take_turns_and_each_shows_its_newest() -> None:
    dropped: list[Item] = []
    slot = Turns[Item](["latest"] * 3, lambda item: item[0], dropped.append)
    for item in ((0, 0), (1, 0), (0, 1), (0, 2), (2, 0)):
        assert slot.put(item)
    order = []
    for _ in range(3):
        taken = slot.get(0)
        assert taken is not None
        order.append(taken)
        if taken[0] == 0:
            slot.put((0, 3))  # whose source is quick again, and waits for the others all the same
    assert order == [(0, 2), (1, 0), (2, 0)]
    assert (slot.dropped, slot.drops, dropped) == (2, [2, 0, 0], [(0, 0), (0, 1)])
    assert slot.get(0) == (0, 3)
    with pytest.raises(TimeoutError):
        slot.get(0)


def test_under_every_a_source_waits_for_its_place_and_holds_up_no_other() -> None:
    slot = turns("every", "latest")
    for number in range(QUEUE_LENGTH):
        slot.put((0, number))
    waiting = threading.Thread(target=slot.put, args=((0, QUEUE_LENGTH),))
    waiting.start()
    for number in range(3):
        assert slot.put((1, number))
    assert waiting.is_alive()
    taken = [slot.get(5) for _ in range(QUEUE_LENGTH + 2)]
    waiting.join(5)
    assert [item for item in taken if item and item[0] == 0] == [(0, number) for number in range(QUEUE_LENGTH + 1)]
    assert taken[1] == (1, 2)
    assert slot.drops == [0, 2]


def test_a_source_that_ends_ends_itself_alone() -> None:
    slot = turns("latest", "every")
    slot.put((0, 7))
    slot.end_source(0)
    assert not slot.put((0, 8)) and slot.put((1, 0))
    assert [slot.get(0), slot.get(0)] == [(0, 7), (1, 0)]
    with pytest.raises(TimeoutError):
        slot.get(0)
    slot.put((1, 1))
    slot.end_source(1)
    assert [slot.get(), slot.get()] == [(1, 1), None]
    assert slot.drops == [0, 0], "what came after the end replaced nothing"
    slot = turns("every")
    slot.put((0, 0))
    assert slot.end_source(0, discard=True) == 1 and slot.get() is None


def test_ending_or_closing_it_frees_who_waits() -> None:
    for free in (Turns.end, Turns.close, lambda slot: slot.end_source(0)):
        slot = turns("every", "latest")
        results: list[bool] = []
        for number in range(QUEUE_LENGTH):
            slot.put((0, number))
        waiting = threading.Thread(target=lambda slot=slot, to=results: to.append(slot.put((0, 99))))
        waiting.start()
        free(slot)
        waiting.join(5)
        assert results == [False]
    assert slot.get() == (0, 0)
    slot.close()
    assert slot.get() is None
