from __future__ import annotations

from rtpsp.stream.told_apart import told_apart


def test_no_two_names_are_alike_and_the_first_stays_as_it_is() -> None:
    assert told_apart(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
    assert told_apart([]) == []
