"""How far down the ladder an asked-for rate takes a machine, with machines that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rtpsp.bench.ladder import RESERVE, Rung, Tried, climb, ladder_of, thread_counts
from rtpsp.errors import BoundNotMet, MissingError
from rtpsp.header import EngineHeader, Precision
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec


def header(precision: Precision, backend: str = "openvino", size: tuple[int, int] = (360, 480)) -> EngineHeader:
    return EngineHeader(ModelSpec("m", "pspnet18", *size, CAMVID), backend, precision, "")


def path_of(rung: Rung) -> Path:
    return Path(str(rung))


def machine(fps: float, threads: Callable[[int], float] = lambda count: float(count)) -> Callable[[Path, int], float]:
    """One that does so many 360x480 INT8 frames a second with a thread, in proportion to pixels; FP32 costs thrice."""

    def probe(path: Path, count: int) -> float:
        size, precision = str(path).split()
        height, width = map(int, size.split("x"))
        return fps * threads(count) * (360 * 480) / (height * width) / (1 if precision == "int8" else 3)

    return probe


def test_the_ladder_keeps_shape_and_stride() -> None:
    assert [str(rung) for rung in ladder_of(header("int8"))] == [
        "360x480 int8", "288x384 int8", "240x320 int8", "192x256 int8"
    ]  # fmt: skip


def test_a_faster_precision_comes_before_a_smaller_size() -> None:
    ladder = ladder_of(header("fp16", "tensorrt"))
    assert [str(rung) for rung in ladder[:4]] == ["360x480 fp16", "360x480 int8", "288x384 fp16", "288x384 int8"]
    assert {rung.backend for rung in ladder} == {"tensorrt"}


@pytest.mark.parametrize(("budget", "counts"), [(1, (1,)), (2, (2, 1)), (6, (6, 3, 1)), (64, (64, 32, 16, 8, 4, 2, 1))])
def test_thread_counts(budget: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(budget) == counts


def test_a_fast_machine_gives_the_fewest_threads_that_do() -> None:
    chosen, tried, path = climb(15, ladder_of(header("int8")), (8, 4, 2, 1), path_of, machine(10.0))
    assert (str(chosen.rung), chosen.threads, str(path)) == ("360x480 int8", 2, "360x480 int8")
    assert [one.threads for one in tried] == [8, 4, 2, 1]


def test_the_reserve_counts() -> None:
    ladder = ladder_of(header("int8"))
    assert str(climb(15, ladder, (1,), path_of, machine(15 * RESERVE))[0].rung) == "360x480 int8"
    assert str(climb(15, ladder, (1,), path_of, machine(15 * RESERVE - 0.1))[0].rung) == "288x384 int8"


def test_all_threads_may_be_more_than_a_network_can_use() -> None:
    speed = {64: 5.0, 32: 25.0, 16: 20.0, 8: 12.0}
    chosen, tried, _ = climb(15, ladder_of(header("int8")), (64, 32, 16, 8, 4), path_of, lambda _, count: speed[count])
    assert chosen.threads == 16
    assert [one.threads for one in tried] == [64, 32, 16, 8]


def test_sizes_that_are_hopeless_are_not_built() -> None:
    built: list[Rung] = []

    def build(rung: Rung) -> Path:
        built.append(rung)
        return path_of(rung)

    chosen, _, _ = climb(15, ladder_of(header("int8")), (2, 1), build, machine(3.5))
    assert [str(rung) for rung in built] == ["360x480 int8", "240x320 int8", "192x256 int8"]  # not what gives 10.9
    assert (chosen.rung, chosen.threads) == (built[2], 2)
    assert chosen.fps == pytest.approx(7.0 * 360 * 480 / (192 * 256))


def test_smaller_sizes_are_tried_in_the_faster_precision_alone() -> None:
    built: list[Rung] = []

    def build(rung: Rung) -> Path:
        built.append(rung)
        return path_of(rung)

    climb(100, ladder_of(header("fp32", "onnxruntime")), (1,), build, machine(60.0))
    assert [str(rung) for rung in built] == ["360x480 fp32", "360x480 int8", "240x320 int8"]


def test_where_nothing_reaches_it_the_fastest_is_taken() -> None:
    chosen, tried, path = climb(60, ladder_of(header("int8")), (2, 1), path_of, machine(3.0))
    assert chosen == max(tried, key=lambda one: one.fps)
    assert str(path) == "192x256 int8"
    assert len({one.rung for one in tried}) == 2, "the model as it is, and the last resort"


def test_a_rung_that_cannot_be_built_is_passed_over_but_not_the_first() -> None:
    def build(rung: Rung) -> Path:
        if rung.size == (288, 384):
            raise BoundNotMet("agrees too seldom")
        return path_of(rung)

    chosen, _, _ = climb(15, ladder_of(header("int8")), (1,), build, machine(15.0))
    assert str(chosen.rung) == "240x320 int8"
    with pytest.raises(MissingError, match="no such package"):
        climb(15, ladder_of(header("int8")), (1,), missing, machine(15.0))


def missing(rung: Rung) -> Path:
    raise MissingError("no such package")


def test_what_was_tried_survives_a_file() -> None:
    one = Tried(ladder_of(header("int8"))[1], 3, 17.25)
    assert Tried.from_dict(one.to_dict()) == one
    with pytest.raises(ValueError, match="int4"):
        Tried.from_dict(replace(one, rung=replace(one.rung, precision="int4")).to_dict())  # type: ignore[arg-type]
