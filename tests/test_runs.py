from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.errors import DataError
from rtpsp.runs import Run, find_runs


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["0016E5_07959.png", "0016E5_07961.png", "0016E5_07963.png"], [Run(0, 3, 2)]),
        (["val/9.png", "val/10.png"], [Run(0, 2, 1)]),
        (["aachen_000000_000019_leftImg8bit.png", "aachen_000000_000020_leftImg8bit.png"], [Run(0, 2, 1)]),
        (["a_1", "a_2", "b_2", "b_3"], [Run(0, 2, 1), Run(2, 4, 1)]),  # another drive
        (["street-1-000000", "street-1-000002", "street-2-000000", "street-2-000002"], [Run(0, 2, 2), Run(2, 4, 2)]),
        ([f"f{number}" for number in (0, 1, 2, 9, 10, 12)], [Run(0, 3, 1), Run(3, 5, 1), Run(5, 6, 0)]),  # gaps
        ([f"f{number}" for number in (0, 30, 60, 61, 91)], [Run(0, 5, 30)]),  # a step that is shorter is none
        (["x", "f1", "f2", "y"], [Run(0, 1, 0), Run(1, 3, 1), Run(3, 4, 0)]),
        (["1_1", "1_2", "2_2", "3_2"], [Run(0, 2, 1), Run(2, 4, 1)]),  # the number that counts is another one
    ],
)
def test_frames_that_follow_each_other_are_a_run(names: list[str], runs: list[Run]) -> None:
    assert list(find_runs(names)) == runs


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["f1.png", "f10.png", "f2.png"], "f2.png comes after f10.png, expected frames in the order of time: .* zeros"),
        (["f2", "f1"], "f1 comes after f2"),
        (["f2", "f2"], "f2 comes after f2"),
    ],
)
def test_frames_in_another_order_are_refused(names: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        find_runs(names)


@pytest.mark.parametrize("names", [[], ["f1"], ["left", "right"], ["a1", "b2"], ["1_1", "2_2"], ["cat", "f1", "dog"]])
def test_frames_of_which_none_follows_another_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError, match=rf"no two of {len(names)} frames .*drive_0017"):
        find_runs(names)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=12))
def test_every_frame_is_in_one_run(frames: list[tuple[str, int]]) -> None:
    names = [f"{drive}_{number}" for drive, number in frames]
    try:
        runs = find_runs(names)
    except DataError:
        return
    assert [frame for run in runs for frame in range(run.start, run.stop)] == list(range(len(names)))
    for run in runs:
        numbers = [frames[frame][1] for frame in range(run.start, run.stop)]
        assert len({frames[frame][0] for frame in range(run.start, run.stop)}) == 1
        assert all(0 < after - before <= run.step for before, after in pairwise(numbers))
