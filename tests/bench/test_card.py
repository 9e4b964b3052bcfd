"""The precision card: verdicts in words, and a card of a network that can be built in a second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rtpsp.bench.card import Card, precision_card
from rtpsp.bench.card_words import Offer, verdict
from rtpsp.bench.ratios import Interval, PairRatio
from rtpsp.bench.subjects import SubjectOptions, Subjects, open_subjects
from rtpsp.errors import BoundNotMet, UsageError
from tests.bench.tiny import SIZE, pictures, tiny_networks

DATA = "sim://street?frames=2&w=160&h=120"


def ratio(median: float, spread: float = 0.02) -> PairRatio:
    interval = Interval(median * (1 - spread), median * (1 + spread))
    return PairRatio(100, median, None, None, None, None, interval)


def offer(times: float, **changes: object) -> Offer:
    return replace(Offer("INT8", "FP32", ratio(times)), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (offer(3.9, miou_difference=-0.1), "INT8 is 3.9x as fast as FP32 and loses 0.1 mIoU: use it"),
        (offer(1.62, miou_difference=0.02), "INT8 is 1.62x as fast as FP32 and has the same mIoU: use it"),
        (offer(3.9, miou_difference=0.3), "INT8 is 3.9x as fast as FP32 and gains 0.3 mIoU: use it"),
        (
            offer(3.9, miou_difference=-2.3),
            "INT8 is 3.9x as fast as FP32 and loses 2.3 mIoU: use it only where that accuracy is enough, or build it "
            "with --max-miou-drop",
        ),
        (
            offer(1.06, miou_difference=-0.3),
            "INT8 is not worth it on this device: 1.06x as fast as FP32 and loses 0.3 mIoU",
        ),
        (
            offer(1.3, ratio=ratio(1.3, 0.4)),
            "INT8 is not worth it on this device: 1.30x as fast as FP32, which this run cannot tell from equal",
        ),
        (offer(0.5), "INT8 is not worth it on this device: it takes 2.00x as long as FP32"),
        (
            offer(1.0, same_format="f32"),
            "INT8 is no other engine on this device: FP32 runs in f32, too",
        ),
        (
            offer(3.9, agreement=99.2),
            "INT8 is 3.9x as fast as FP32 and agrees with it on 99.2 % of pixels: use it, unless --data shows that the "
            "rest matters",
        ),
        (
            offer(3.9, agreement=97.0),
            "INT8 is 3.9x as fast as FP32 and agrees with it on 97.0 % of pixels: see with --data what that costs in "
            "mIoU before you use it",
        ),
        (
            offer(3.9, agreement=97.0, trained=False),
            "INT8 is 3.9x as fast as FP32: what it costs in accuracy, random weights cannot tell",
        ),
        (offer(3.9, ratio=None), "INT8 was not timed"),
    ],
)
def test_a_verdict(given: Offer, words: str) -> None:
    assert verdict(given) == words


@pytest.fixture(scope="module")
def subjects() -> Iterator[Subjects]:
    options = SubjectOptions(model="pspnet18", size=SIZE, precisions=("int8", "fp32"), threads=1)
    with tiny_networks(), open_subjects(options) as found:
        yield found


@pytest.fixture(scope="module")
def card(subjects: Subjects) -> Card:
    return precision_card(subjects, pictures(), seconds=0.05, warmup=0.01, threads=1, data=DATA)


def test_a_card_with_labels(card: Card) -> None:
    told = card.to_dict()
    int8, fp32 = told["rows"]
    assert told["reference"] == "fp32 openvino" == fp32["name"] and told["skipped"] == []
    assert told["data"].startswith(DATA) and "2 images, 120x160, 11 classes" in told["data"]
    assert fp32["ratio"] is None and fp32["agreement_percent"] == 100.0 and fp32["miou_difference"] is None
    assert fp32["verdict"] == "the others are held against it"
    assert int8["ratio"]["count"] == int8["latency_ms"]["count"] == fp32["latency_ms"]["count"] >= 3
    assert int8["miou_difference"] == pytest.approx(int8["miou"] - fp32["miou"], abs=2e-3)
    differences = int8["per_class_iou_difference"]
    assert set(differences) == set(card.rows[0].subject.header.spec.labels.names)
    assert 50 <= int8["agreement_percent"] < 100 and int8["ran"] in ("u8", "i8")
    assert "INT8" in int8["verdict"] and int8["file_bytes"] < fp32["file_bytes"]
    assert set(card.timelines) == {"int8 openvino", "fp32 openvino"}


def test_without_labels_there_is_no_word_of_accuracy(subjects: Subjects) -> None:
    card = precision_card(subjects, pictures()[:1], seconds=0.02, warmup=0.0, threads=1)
    told = card.to_dict()
    assert told["data"] is None
    assert all(row["miou"] is None and row["per_class_iou_difference"] == {} for row in told["rows"])
    assert "mIoU" not in told["rows"][0]["verdict"]


def test_an_engine_of_other_answers_is_not_timed(subjects: Subjects) -> None:
    """As one that lost its weights on the way: it may be as fast as it likes."""
    int8, fp32 = subjects.entries
    options = SubjectOptions(model="pspnet34", size=SIZE, precisions=("fp32",), threads=1)
    with tiny_networks(), open_subjects(options) as others:
        wrong = replace(others.entries[0], name="wrong")
        mixed = Subjects((fp32, wrong), (), subjects.model)
        card = precision_card(mixed, pictures()[:1], seconds=0.02, warmup=0.0, threads=1)
        assert [row.subject.name for row in card.rows] == ["fp32 openvino"]
        (skipped,) = card.skipped
        assert skipped.name == "wrong" and "it is not timed" in skipped.reason
        alone = Subjects((wrong,), (), subjects.model)
        with pytest.raises(BoundNotMet, match="wrong answers like FP32 on"):
            precision_card(alone, pictures()[:1], seconds=0.02, warmup=0.0, threads=1)
    assert int8.trained is False


def test_a_card_is_of_one_model(subjects: Subjects) -> None:
    header = subjects.entries[0].header
    other = replace(subjects.entries[0], name="larger", header=replace(header, spec=replace(header.spec, height=128)))
    mixed = Subjects((subjects.entries[1], other))
    with pytest.raises(UsageError, match="larger of pspnet18-random at 128x96: a card is of one model"):
        precision_card(mixed, pictures()[:1], seconds=0.02, warmup=0.0)


def test_stopped_before_anything_was_timed(subjects: Subjects) -> None:
    card = precision_card(subjects, pictures()[:1], seconds=1.0, warmup=0.0, threads=1, data=DATA, stopped=lambda: True)
    assert card.timelines == {} and card.to_dict()["data"] is None
    assert [row.verdict for row in card.rows] == ["INT8 was not timed", "the others are held against it"]
