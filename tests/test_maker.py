"""Engines of one model in memory: plain or split head, FP32 or INT8; and which head is taken."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.build import BuildOptions, to_header
from rtpsp.calibration_cache import CalibrationCache, TensorRange
from rtpsp.comparison import Ratio
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import BoundNotMet
from rtpsp.graph.editing import constant, set_constant
from rtpsp.graph.groups import groups
from rtpsp.graph.pyramid import split_head
from rtpsp.graph.quantize import IntegerFormat
from rtpsp.graph.ranges import canonical, tensors_of
from rtpsp.graph.verify import sample_frames
from rtpsp.maker import RACE_ROUNDS, Form, Maker, choose_head
from rtpsp.onnx_file import load_model


@pytest.fixture(scope="module")
def maker(pspnet_model: Path) -> Maker:
    """Of the small PSPNet, with ranges that are as wide as anything in it gets."""
    model, spec = load_model(pspnet_model)
    header = to_header(spec, BuildOptions())
    made = Maker(model, spec, header, sample_frames(spec, count=1), "host", threads=1)
    ranges = {name: TensorRange(-8, 8, 8) for name in tensors_of(canonical(model))}
    made.ranges = CalibrationCache("small", "ab" * 32, "cd" * 32, 1, "minmax", "stretch/area 48x64", ranges)
    made.integers = IntegerFormat(unsigned=True)
    return made


@pytest.fixture
def headless(colour_model: Path) -> Maker:
    model, spec = load_model(colour_model)
    return Maker(model, spec, to_header(spec, BuildOptions()), sample_frames(spec, count=1), "host", threads=1)


def quantised(maker: Maker, form: Form) -> set[str | None]:
    """The convolutions with INT8 weights."""
    convs = [node for node in maker.graph_of(form).graph if node.op_type == "Conv"]
    producers = {conv.name: weight.producer() for conv in convs if (weight := conv.inputs[1]) is not None}
    return {name for name, node in producers.items() if node is not None and node.op_type == "DequantizeLinear"}


def test_a_head_is_lowered_once(maker: Maker) -> None:
    plain, split = maker.lowered("plain"), maker.lowered("split")
    assert maker.lowered("plain") is plain and maker.lowered("split") is split
    assert len(split.graph) > len(plain.graph), "the small maps are apart"
    assert maker.graph_of(Form("fp16")) is plain, "its precision is the backend's"


def test_integers_are_put_where_they_are_wanted(maker: Maker) -> None:
    parted = groups(maker.lowered("plain"))
    everything = {name for names in parted.values() for name in names}
    assert quantised(maker, Form("int8")) == everything
    keep = frozenset(parted["backbone/layer2/0"])
    assert quantised(maker, Form("int8", keep=keep)) == everything - keep
    assert quantised(maker, Form("fp32")) == set()


def test_an_engine_says_what_it_is(maker: Maker) -> None:
    header, payload = maker.make(Form("int8", "split"))
    assert (header.precision, header.options["head"], header.options["tail"]) == ("int8", "split", "host")
    assert b"DequantizeLinear" in payload and b"DequantizeLinear" not in maker.make(Form("fp32"))[1]
    everything = {name for names in groups(maker.lowered("plain")).values() for name in names}
    with maker.int8_without("plain", everything) as engine:
        given = engine.infer(maker.frames).class_map
        assert engine.header.precision == "int8"
    with maker.engine(Form("fp32")) as engine:
        np.testing.assert_array_equal(given, engine.infer(maker.frames).class_map)


def test_a_race_is_run_in_turn_without_what_comes_first(headless: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    time, asked = 0.0, list[str]()

    def engine(form: Form) -> FakeEngine:
        def answer(frames: Image) -> ClassMap:
            nonlocal time
            first = asked.count(form.head) < 2
            time += 900.0 if first else {"plain": 3.0, "split": 2.0}[form.head]
            asked.append(form.head)
            return np.zeros(frames.shape[:3], np.uint8)

        return FakeEngine(headless.spec, answer=answer)

    monkeypatch.setattr(headless, "engine", engine)
    monkeypatch.setattr("rtpsp.maker.now", lambda: time)
    ratio = headless.race(Form("fp32", "plain"), Form("fp32", "split"))
    assert (ratio.count, ratio.min, ratio.median, ratio.max) == (RACE_ROUNDS, 1.5, 1.5, 1.5)
    assert asked == ["plain", "split"] * (RACE_ROUNDS + 2)


@pytest.mark.parametrize(
    ("plain_over_split", "head", "says"),
    [
        (1.25, "split", r"split head: 1\.25x as fast as the plain one here \(median of 10 pairs\)"),
        (0.8, "plain", r"plain head: 1\.25x as fast as the split one here \(median of 10 pairs\)"),
        (1.0, "plain", r"plain head: 1\.00x as .*"),
    ],
)
def test_the_faster_head_is_taken(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, plain_over_split: float, head: str, says: str
) -> None:
    raced: list[tuple[Form, Form]] = []

    def race(first: Form, second: Form) -> Ratio:
        raced.append((first, second))
        return Ratio.of([plain_over_split], [1.0])

    monkeypatch.setattr(maker, "race", race)
    chosen, why = choose_head(maker, "auto", "int8")
    assert chosen == head and re.fullmatch(says, why)
    assert raced == [(Form("int8", "plain"), Form("int8", "split"))], "in the precision that is built"


def test_a_head_that_is_asked_for_is_not_timed(maker: Maker, headless: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtpsp.graph.pyramid import HeadNotFound

    for made in (maker, headless):
        monkeypatch.setattr(made, "race", None)
    assert choose_head(maker, "plain", "fp32")[0] == "plain" and choose_head(maker, "split", "fp32")[0] == "split"
    head, why = choose_head(headless, "auto", "fp32")
    assert head == "plain" and why.startswith("plain head: ") and len(why) > 30, "the reason stands there"
    with pytest.raises(HeadNotFound):
        choose_head(headless, "split", "fp32")


def test_a_split_that_answers_otherwise_is_not_taken(pspnet_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, spec = load_model(pspnet_model)

    def wrong(graph: ir.Model) -> ir.Model:
        split = split_head(graph)
        for value in split.graph.initializers.values():
            found = constant(value)
            if found is not None and found.dtype == np.float32 and "split" in str(value.name):
                set_constant(value, found * np.float32(1.05))
        return split

    monkeypatch.setattr("rtpsp.graph.lower.split_head", wrong)
    made = Maker(model, spec, to_header(spec, BuildOptions()), sample_frames(spec, count=1), "host", threads=1)
    head, why = choose_head(made, "auto", "fp32")
    assert head == "plain" and why.startswith("plain head: splitting the head changed the model")
    with pytest.raises(BoundNotMet, match="splitting the head changed the model"):
        choose_head(made, "split", "fp32")
