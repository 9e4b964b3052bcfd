from __future__ import annotations

from rtpsp.bench.verdict import headline, main_engine, sentence, sentences, tiles
from tests.bench.sample_report import sample_report


def test_of_engines_of_one_model_the_fastest_is_meant() -> None:
    report = sample_report()
    report["engines"].reverse()
    engine = main_engine(report)
    assert engine is not None and engine["name"] == "openvino int8"
    assert headline(report) == "pspnet18-camvid at 360x480 takes 56.0 ms a frame in openvino int8: 17.7 fps"


def test_of_engines_that_differ_the_first_is_meant() -> None:
    report = sample_report()
    report["engines"].reverse()
    report["engines"][0]["height"] = 720
    engine = main_engine(report)
    assert engine is not None and engine["name"] == "onnxruntime int8"


def test_a_batch_is_called_one() -> None:
    report = sample_report()
    for row in report["engines"]:
        row["batch"] = 4
    assert "ms a batch of 4 in openvino int8" in headline(report)


def test_each_section_has_its_say_and_warnings_come_last() -> None:
    told = sentences(sample_report())
    begins = ("INT8 is 3.91x", "The live loop at 16.5 fps adds 4.10 ms (3.60 to 4.70) to the engine, 7.3 % of a frame.",
              "PSPNet-50 on CamVid, 720x960: 1210 ms here, 185 ms as published (6.54x); what differs", "PSPNet-18",
              "Latency is linear", "rtpsp is ahead", "1 camera", "The head's", "Not stable: openvino fp16;",
              "While this was measured, other programs used 12 %")  # fmt: skip
    assert len(told) == len(begins)
    for sentence_, begin in zip(told, begins, strict=True):
        assert sentence_.startswith(begin)


def test_a_report_without_engines_begins_with_what_it_has() -> None:
    report = {"peers": {"words": "rtpsp is ahead"}, "cameras": {"words": "no camera fits"}}
    assert headline(report) == "rtpsp is ahead."
    assert sentences(report) == ["No camera fits."]
    assert headline({}) == "Nothing was timed."
    assert sentences({}) == [] and tiles({}) == []


def test_runs_that_are_no_measurement_say_so() -> None:
    told = " ".join(sentences({"quick": True, "interrupted": True}))
    assert "quick run" in told and "ended early" in told


def test_the_large_figures() -> None:
    assert tiles(sample_report()) == [
        ("56.0", "ms", "median latency"),
        ("59.4", "ms", "95th percentile"),
        ("17.7", "fps", "engine alone"),
        ("16.5", "fps", "whole live loop"),
        ("99.59", "%", "agreement with FP32"),
    ]


def test_a_sentence_has_a_capital_and_a_stop_unless_it_has_its_own() -> None:
    assert [sentence(text) for text in ("a b", "A.", "rtpsp is", "why?")] == [
        "A b.",
        "A.",
        "rtpsp is.",
        "why?".capitalize(),
    ]
