from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.engine.tensorrt_progress import LONG, LONGEST, Phases


class Told(list[tuple[str, float]]):
    def __call__(self, phase: str, share: float) -> None:
        self.append((phase, share))

    @property
    def share(self) -> float:
        return self[-1][1]


def test_phases_of_unknown_names_share_their_steps() -> None:
    told = Told()
    phases = Phases(told)
    phases.start("whole", None, 4)
    phases.step("whole", 0)
    assert told.share == 0.25
    phases.start("part", "whole", 2)
    assert told[-1] == ("part", 0.25)
    phases.step("part", 0)
    assert told.share == pytest.approx(0.25 + 0.25 * 0.5 * 0.5)
    phases.finish("part")
    assert told[-1][0] == "whole" and told.share == pytest.approx(0.25 + 0.25 * 0.5)
    phases.start("next", "whole", 1)
    phases.step("next", 0)
    assert told.share == pytest.approx(0.25 + 0.25 * 0.75)
    phases.step("whole", 1)
    assert told[-1] == ("whole", 0.5)


def test_most_goes_to_where_the_time_goes() -> None:
    told = Told()
    phases = Phases(told)
    for name, outer in zip((*LONG, LONGEST), (None, *LONG), strict=True):
        phases.start(name, outer, 10)
    before = told.share
    for step in range(10):
        phases.step(LONGEST, step)
    assert before < 0.01 and 0.6 < told.share < 0.9
    shares = [share for phase, share in told if phase == LONGEST][1:]
    steps = [later - sooner for sooner, later in pairwise(shares)]
    assert steps == pytest.approx([steps[0]] * 9)
    for name in reversed((*LONG, LONGEST)):
        phases.finish(name)
    assert told.share > 0.85


def test_several_subgraphs_each_bring_it_further() -> None:
    told = Told()
    phases = Phases(told)
    phases.start(LONG[0], None, 6)
    shares = []
    for _ in range(3):
        phases.start(LONG[1], LONG[0], 1)
        phases.step(LONG[1], 0)
        phases.finish(LONG[1])
        shares.append(told.share)
    assert shares == sorted(set(shares)) and shares[-1] < 1


NAMES = ("a", "b", *LONG, LONGEST)
EVENTS = st.one_of(
    st.tuples(
        st.just("start"),
        st.sampled_from(NAMES),
        st.none() | st.sampled_from(NAMES),
        st.integers(min_value=-1, max_value=5),
    ),
    st.tuples(st.just("step"), st.sampled_from(NAMES), st.integers(min_value=0, max_value=9)),
    st.tuples(st.just("finish"), st.sampled_from(NAMES)),
)


@given(st.lists(EVENTS, max_size=40))
def test_whatever_is_reported_the_share_grows_and_stays_below_one(events: list[tuple[object, ...]]) -> None:
    """Also a phase that lies in itself, that starts twice, or that nobody started."""
    told = Told()
    phases = Phases(told)
    for kind, *arguments in events:
        getattr(phases, str(kind))(*arguments)
    shares = [share for _, share in told]
    assert shares == sorted(shares) and all(0 <= share <= 1 for share in shares)


def test_phases_may_be_reported_from_several_threads() -> None:
    told = Told()
    phases = Phases(told)
    phases.start("whole", None, 4000)

    def report(number: int) -> None:
        for step in range(1000):
            phases.start(f"{number}", "whole", 1)
            phases.step(f"{number}", 0)
            phases.finish(f"{number}")
            phases.step("whole", number * 1000 + step)

    threads = [threading.Thread(target=report, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[-1] == 1
