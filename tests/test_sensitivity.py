"""Which parts of a network run in INT8: by engines whose answers are known, pixel by pixel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.data.sample import Sample
from rtpsp.engine.fake import FakeEngine
from rtpsp.labels import CAMVID
from rtpsp.sensitivity import Bound, Cost, Judge, Part, choose_parts, measure_parts
from rtpsp.spec import ModelSpec

SPEC = ModelSpec("fake", "fake", 10, 10, CAMVID)
GROUPS = {"stem": ("stem/conv",), "block": ("block/conv1", "block/conv2"), "head": ("head/conv",)}
PIXELS = {"stem": 10, "block": 40, "head": 20}
"""Of 100, how many each group changes when it runs in INT8; no two change the same one."""


def frames(count: int, side: int = 10) -> list[Image]:
    return [np.full((side, side, 3), number, np.uint8) for number in range(count)]


def silent(step: str, done: int, total: int) -> None:
    pass


def engine(answer: ClassMap | None = None) -> FakeEngine:
    """Gives the same answer to every frame: class 0 everywhere by default."""
    constant = np.zeros((10, 10), np.uint8) if answer is None else answer
    return FakeEngine(SPEC, answer=lambda batch: constant[np.newaxis])


class Builder:
    """Makes engines whose answer shows which groups run in INT8, and keeps count of them."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    def __call__(self, keep: Collection[str]) -> FakeEngine:
        self.asked.append(frozenset(keep))
        answer = np.zeros(100, np.uint8)
        begin = 0
        for group, names in GROUPS.items():
            whole = {name in keep for name in names}
            assert len(whole) == 1, "a group is not taken apart"
            if whole == {False}:
                answer[begin : begin + PIXELS[group]] = 3
            begin += PIXELS[group]
        return engine(answer.reshape(10, 10))


@pytest.mark.parametrize(
    ("bound", "cost", "holds"),
    [
        (Bound(), Cost(1, 0.0, 0.0), True),
        (Bound(0.99), Cost(1, 0.99, 0.5), True),
        (Bound(0.99), Cost(1, 0.9899, 0.9899), False),
        (Bound(0.99), Cost(1, float("nan"), 1.0), False),
        (Bound(None, 0.5), Cost(1, 0.1, 0.1, 60.0, 0.5), True),
        (Bound(None, 0.5), Cost(1, 1.0, 1.0, 60.0, 0.51), False),
        (Bound(None, 0.0), Cost(1, 1.0, 1.0, 60.0, -0.2), True),
        (Bound(None, 0.5), Cost(1, 1.0, 1.0), False),
        (Bound(0.99, 0.5), Cost(1, 0.98, 0.98, 60.0, 0.0), False),
    ],
)
def test_a_bound_holds_where_all_of_it_was_measured_to_hold(bound: Bound, cost: Cost, holds: bool) -> None:
    assert bound.holds(cost) is holds


def test_what_is_asked_and_what_it_costs_in_words() -> None:
    assert str(Bound()) == "nothing"
    assert str(Bound(0.985, 0.5)) == "a class agreement of 98.50% or more and a drop of 0.50 mIoU or less"
    assert str(Cost(4, 0.99685, 0.9952)) == "99.685% class agreement (worst frame 99.52%) on 4 frames"
    assert "0.31 mIoU less on" in str(Cost(4, 0.99, 0.98, 60.0, 0.314))
    assert str(Cost(1, 0.5, 0.5)).endswith(" on 1 frame")
    assert "0.31 mIoU more on" in str(Cost(4, 0.99, 0.98, 60.0, -0.314))


def test_parts_and_costs_survive_their_json() -> None:
    for part in (Part("a", 2, 0.25, False), Part("b", 1)):
        assert Part.from_dict(part.to_dict()) == part
    for cost in (Cost(4, 0.75, 0.5), Cost(4, 0.75, 0.5, 61.5, -0.25)):
        assert Cost.from_dict(cost.to_dict()) == cost
    assert Cost(4, 0.75, 0.5).to_dict() == {"frames": 4, "agreement": 0.75, "worst": 0.5}


@pytest.mark.parametrize(
    "values",
    [
        None, [], "x", {},
        {"group": "a", "convolutions": 1, "loss": "much", "int8": True, "frames": 1, "agreement": "1", "worst": 1},
        {"group": 1, "convolutions": 1, "loss": 0.1, "int8": True, "frames": True, "agreement": 1, "worst": 1},
        {"group": "a", "convolutions": 1.5, "loss": 0.1, "int8": True, "frames": 1.5, "agreement": 1, "worst": 1},
        {"group": "a", "convolutions": 1, "loss": 0.1, "int8": 1, "frames": 1, "agreement": None, "worst": 1},
        {"group": "a", "convolutions": 1, "loss": float("nan"), "int8": True, "frames": 1, "agreement": 1},
        {"group": "a", "convolutions": 1, "loss": 10**400, "int8": True, "frames": 1, "agreement": 10**400, "worst": 1},
        {"group": "a\nb", "convolutions": 1, "loss": 0.1, "int8": True, "frames": 1, "agreement": True, "worst": 1},
    ],
)  # fmt: skip
def test_what_somebody_else_wrote_in_their_place(values: Any) -> None:
    for kind in (Part, Cost):
        with pytest.raises(ValueError, match=r"tells of no|no finite number"):
            kind.from_dict(values)


def test_agreement_is_over_pixels_and_the_worst_over_frames() -> None:
    given = [*frames(1), *frames(2, side=20)[1:]]
    judge = Judge(engine(), given, silent)
    answers = iter((np.zeros((1, 10, 10), np.uint8), np.full((1, 10, 10), 5, np.uint8)))
    cost = judge.cost(FakeEngine(SPEC, answer=lambda batch: next(answers)), silent, "")
    assert (cost.frames, cost.worst) == (2, 0.0)
    assert cost.agreement == pytest.approx(100 / 500), "the second frame has 400 pixels"


def test_with_labels_the_drop_of_miou_is_measured() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:5] = 3
    samples = [Sample(str(number), image, truth) for number, image in enumerate(frames(2))]
    right, half = truth.copy(), np.full((10, 10), 3, np.uint8)
    cost = Judge(engine(right), samples, silent).cost(engine(half), silent, "")
    assert (cost.miou, cost.miou_drop) == (25.0, 75.0), "class 0 is never found, class 3 at half of its union"
    cost = Judge(engine(half), samples, silent).cost(engine(right), silent, "")
    assert cost.miou_drop == -75.0, "INT8 may be right where FP32 is not"
    assert Judge(engine(), [*samples, *frames(1)], silent).cost(engine(), silent, "").miou is None


def test_each_part_is_measured_alone() -> None:
    build, told = Builder(), list[tuple[str, int, int]]()
    parts = measure_parts(GROUPS, build, Judge(engine(), frames(2), silent), lambda *step: told.append(step))
    assert [(part.group, part.convolutions, part.int8) for part in parts] == [
        ("stem", 1, True), ("block", 2, True), ("head", 1, True)
    ]  # fmt: skip
    assert [part.loss for part in parts] == pytest.approx([0.1, 0.4, 0.2])
    assert build.asked[1] == {"stem/conv", "head/conv"}
    assert told == [("sensitivity of each part", number, 3) for number in (1, 2, 3)]


PARTS = tuple(Part(group, len(names), PIXELS[group] / 100) for group, names in GROUPS.items())


@pytest.mark.parametrize(
    ("least", "left", "agreement", "held"),
    [
        (0.3, set(), 0.3, True),
        (0.7, {"block"}, 0.7, True),
        (0.71, {"block", "head"}, 0.9, True),
        (0.91, {"block", "head"}, 0.9, False),  # that would be no INT8 any more
    ],
)
def test_those_that_lose_most_stay_in_float(least: float, left: set[str], agreement: float, held: bool) -> None:
    build, told = Builder(), list[str]()
    judge = Judge(engine(), frames(2), silent)
    choice = choose_parts(GROUPS, PARTS, build, judge, Bound(least), lambda step, done, total: told.append(step))
    assert {part.group for part in choice.parts if not part.int8} == left
    assert [part.group for part in choice.parts] == list(GROUPS), "in the graph's order"
    assert choice.cost.agreement == pytest.approx(agreement) and choice.held is held
    assert len(build.asked) == len(left) + 1, "no more is tried than is needed"
    assert told[0] == "INT8" and (not left or told[-1] == f"INT8 with {len(left)} of 3 parts in float")


def test_the_best_is_given_where_none_keeps_the_bound() -> None:
    """More in floating point is not always better: here the first try is the best."""
    answers = {0: 0.99, 1: 0.5, 2: 0.7}
    count = iter(range(3))

    def build(keep: Collection[str]) -> FakeEngine:
        answer = np.zeros(100, np.uint8)
        answer[round(100 * answers[next(count)]) :] = 3
        return engine(answer.reshape(10, 10))

    choice = choose_parts(GROUPS, PARTS, build, Judge(engine(), frames(1), silent), Bound(1.0), silent)
    assert not choice.held and choice.cost.agreement == pytest.approx(0.99)
    assert all(part.int8 for part in choice.parts)


def test_a_choice_has_to_hold_on_other_frames_too() -> None:
    """On the first ones two parts in float would do; on the others FP32 calls what is left of INT8 something else."""
    build, told = Builder(), list[str]()
    other = np.zeros(100, np.uint8)
    other[70:80] = 5  # of the pixels that are those of no group
    choice = choose_parts(
        GROUPS, PARTS, build, Judge(engine(), frames(2), silent), Bound(0.7),
        lambda step, done, total: told.append(step), Judge(engine(other.reshape(10, 10)), frames(3), silent),
    )  # fmt: skip
    assert choice.held and choice.cost.frames == 3, "the accuracy is that on the other frames"
    assert choice.cost.agreement == pytest.approx(0.8)
    assert {part.group for part in choice.parts if not part.int8} == {"block", "head"}
    steps = list(dict.fromkeys(told))
    assert steps == [
        "INT8", "INT8 with 1 of 3 parts in float", "INT8 with 1 of 3 parts in float, on other frames",
        "INT8 with 2 of 3 parts in float", "INT8 with 2 of 3 parts in float, on other frames",
    ]  # fmt: skip


def test_what_other_frames_never_confirm_does_not_hold() -> None:
    none = Judge(engine(np.full((10, 10), 7, np.uint8)), frames(1), silent)
    choice = choose_parts(GROUPS, PARTS, Builder(), Judge(engine(), frames(1), silent), Bound(0.5), silent, none)
    assert not choice.held and choice.cost.agreement == 0
