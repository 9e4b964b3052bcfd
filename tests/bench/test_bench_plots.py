from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest

from rtpsp.bench import plots, plots_growth, plots_rows
from rtpsp.bench.svg import SERIES, drawing, figure, to_svg
from tests.bench.sample_report import sample_report

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def marks(svg: str, colour: str = SERIES[0]) -> list[tuple[float, float]]:
    """Where the markers of a colour stand."""
    found = [use for use in ElementTree.fromstring(svg).iter(f"{SVG}use") if colour in (use.get("style") or "")]
    return [(float(use.get("x") or "nan"), float(use.get("y") or "nan")) for use in found]


def row(name: str, median: float, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "ratio": {"median": median, "p10": low, "p90": high, "interval": [low, high]}}


def test_a_ratio_stands_on_its_side_of_one() -> None:
    svg = plots_rows.forest_svg(
        [row("slower", 0.5, 0.4, 0.6), row("even", 1.0, 0.9, 1.1), row("faster", 2.0, 1.9, 2.2)], "f", "x"
    )
    slower, even, faster = marks(svg)
    assert slower[0] < even[0] < faster[0] and slower[1] < even[1] < faster[1]
    assert even[0] - slower[0] == pytest.approx(faster[0] - even[0], abs=0.1), "half and twice are as far from one"
    line = re.search(r'd="M ([\d.]+) [\d.]+ \s*L ([\d.]+) [^"]*"[^>]*stroke: var\(--ink', svg)
    assert line is not None and float(line[1]) == float(line[2]) == pytest.approx(even[0], abs=0.1)
    assert "0.50x (0.40 to 0.60)" in texts(svg)


def test_a_ratio_without_an_interval_is_a_dot() -> None:
    svg = plots_rows.forest_svg(
        [{"name": "few", "ratio": {"median": 2.0, "interval": None, "p10": None, "p90": None}}], "f", "x"
    )
    assert "2.00x" in texts(svg) and len(marks(svg)) == 1


def test_latencies_far_apart_get_a_logarithmic_axis_of_plain_figures() -> None:
    near = [{"name": "a", "samples_ms": [10.0, 11.0, 12.0]}, {"name": "b", "samples_ms": [13.0, 14.0]}]
    far = [{"name": "a", "samples_ms": [10.0, 11.0, 12.0]}, {"name": "b", "samples_ms": [400.0, 420.0]}]
    assert {"10", "20", "50", "100", "200"} <= set(texts(plots.latency_svg(far)))
    assert {"11", "12", "13"} <= set(texts(plots.latency_svg(near)))


def test_an_engine_looks_alike_in_every_figure() -> None:
    card = sample_report()["card"]
    places = {"openvino int8": 4}
    svg = plots_rows.card_svg(card, places)
    assert len(marks(svg, SERIES[4])) == 2, "once on each side"
    assert SERIES[4] in plots.windows_svg(sample_report()["engines"], places)


def test_accuracy_is_miou_where_it_is_known_and_agreement_elsewhere() -> None:
    card = sample_report()["card"]
    assert "mIoU, points from FP32" in texts(plots_rows.card_svg(card))
    for each in card["rows"]:
        each["miou_difference"] = None
    shown = texts(plots_rows.card_svg(card))
    assert "pixels unlike FP32, %" in shown and "0.41 %" in shown


def test_of_many_classes_those_are_drawn_that_differ_most() -> None:
    card = {
        "rows": [{"name": "int8", "per_class_iou_difference": {f"class {place}": place / 10 for place in range(150)}}]
    }
    shown = [text for text in texts(plots_rows.classes_svg(card)) if text.startswith("class")]
    assert shown == [f"class {149 - place}" for place in range(plots_rows.CLASSES)]


def test_stages_are_in_a_frames_order_with_their_shares() -> None:
    loop = {
        "stages_ms": {
            name: {"mean": mean} for name, mean in (("encode", 5.0), ("infer", 90.0), ("own", 4.0), ("preprocess", 1.0))
        }
    }
    shown = [text for text in texts(plots.stages_svg(loop)) if "ms, " in text]
    assert shown == ["preprocess: 1.00 ms, 1 %", "infer: 90.0 ms, 90 %", "encode: 5.00 ms, 5 %", "own: 4.00 ms, 4 %"]


def test_parts_are_stacked_for_each_engine_that_has_them() -> None:
    engines: list[Mapping[str, Any]] = [
        {"name": "a", "parts_ms": {"enqueue": 1.0, "compute": 4.0}},
        {"name": "b", "parts_ms": None},
        {"name": "c", "parts_ms": {"compute": 3.0}},
    ]
    shown = texts(plots.parts_svg(engines))
    assert {"a", "c", "enqueue", "compute"} <= set(shown) and "b" not in shown


def test_ages_are_drawn_with_their_bounds() -> None:
    loop = {"age_series": [[5.0, 80.0], [5.1, 90.0], [5.2, 85.0]], "age_ms": {"median": 85.0, "p95": None}}
    shown = texts(plots.age_svg(loop))
    assert "median 85.0" in shown and not [text for text in shown if text.startswith("p95")]
    assert plots.age_svg({"age_series": [[1.0, 80.0]]}), "a single frame has an age"


def test_batches_are_shown_by_the_frame() -> None:
    growth = {"batch": [{"batch": 1, "latency_ms": {"median": 50.0}}, {"batch": 4, "latency_ms": {"median": 200.0}}]}
    (_, first), (_, last) = marks(plots_growth.batch_svg(growth))
    assert first == pytest.approx(last)


def test_threads_are_shown_as_speed() -> None:
    rows = [{"threads": 2, "latency_ms": {"median": 50.0}}, {"threads": 1, "latency_ms": {"median": 100.0}}]
    svg = plots_growth.threads_svg({"threads": rows})
    assert "times as fast as with 1" in texts(svg)
    (right, upper), (left, lower) = marks(svg)
    assert right > left and upper < lower


def test_streams_that_held_are_full_and_the_others_hollow() -> None:
    over = {"streams": 2, "p95_age_ms": 241.0, "held": False}
    held = {"streams": 1, "p95_age_ms": 131.0, "held": True}
    svg = plots_growth.cameras_svg({"fps": 15.0, "bound_ms": 200.0, "tried": [over, held]})
    assert len(marks(svg, SERIES[0])) == len(marks(svg, SERIES[1])) == 1
    assert "fill-opacity: 0" in svg or "fill: none" in svg


@pytest.mark.parametrize(
    "draw",
    [
        plots.stages_svg, plots.age_svg, plots_rows.card_svg, plots_rows.classes_svg, plots_rows.layers_svg,
        plots_growth.pixels_svg, plots_growth.memory_svg, plots_growth.batch_svg, plots_growth.threads_svg,
        plots_growth.cameras_svg,
    ],
)  # fmt: skip
def test_nothing_to_draw_is_no_figure(draw: Any) -> None:
    nothing: Mapping[str, Any] = {}
    assert draw(nothing) == ""


def test_engines_without_samples_make_no_figure() -> None:
    assert plots.latency_svg([]) == plots.windows_svg([{"name": "a", "windows_ms": [1.0]}]) == plots.parts_svg([]) == ""
    assert plots_rows.forest_svg([], "f", "x") == ""


def test_names_are_shortened_in_the_middle() -> None:
    assert plots.shortened("short") == "short"
    name = plots.shortened("a" * 40 + "b" * 40)
    assert len(name) == plots.NAME_LENGTH and name[0] == "a" and name[-1] == "b" and "…" in name


def test_two_figures_share_no_ids_and_say_what_they_show() -> None:
    with drawing():
        drawn = figure(100)
        drawn.subplots().plot([1, 2], [1, 2], "o")
        first, second = (to_svg(drawn, name, 'a < "b"') for name in ("one", "two"))
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, second)]
    assert all(name.startswith("one-") for name in ids[0]) and not ids[0] & ids[1] and len(ids[0]) == len(ids[1]) > 0
    assert ElementTree.fromstring(first).get("aria-label") == 'a < "b"'
