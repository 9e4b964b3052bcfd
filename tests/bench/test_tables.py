from __future__ import annotations

import math
from typing import Any

import pytest

from rtpsp.bench import tables
from rtpsp.bench.numbers import NONE, interval, number, shares, signed, size, times
from rtpsp.bench.tables import Table
from tests.bench.sample_report import sample_report


@pytest.mark.parametrize(
    ("value", "text"),
    [(55.83, "55.8"), (5.583, "5.58"), (9.996, "10.0"), (558.3, "558"), (99.96, "100"), (0.05, "0.05"), (8, "8"),
     (1234.4, "1234"), (-3.456, "-3.46"), (None, NONE), (True, NONE), (math.nan, NONE), (math.inf, NONE), ("7", NONE)],
)  # fmt: skip
def test_a_number_keeps_three_digits_that_count(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (times(3.912), "3.91x"),
        (times(4), "4.00x"),
        (times(None), NONE),
        (signed(0.041), "+0.04"),
        (signed(-0.041), "−0.04"),  # noqa: RUF001  # the minus sign
        (signed(-0.001), "0.00"),
        (signed(None), NONE),
        (size(512), "512 bytes"),
        (size(13_900_000), "13.3 MiB"),
        (size(3 * 2**30), "3.00 GiB"),
        (size(None), NONE),
        (shares(100), "100 %"),
        (shares(99.587), "99.59 %"),
        (shares(99.9988), "99.999 %"),
        (shares(99.9999999), "99.99999 %"),
        (shares(None), NONE),
    ],
)
def test_figures_in_words(told: str, text: str) -> None:
    assert told == text


def test_what_is_not_all_is_never_written_as_all() -> None:
    assert all(shares(100 - 10.0**-digits) != "100 %" for digits in range(12))


def test_an_interval_is_there_or_not() -> None:
    assert interval({"interval": [1, 2.5]}) == (1.0, 2.5)
    assert interval({"interval": None}) is None
    assert interval(None) is None
    assert tables.ratio_words({"median": 3.91, "interval": None}) == "3.91x"


def column(table: Table, title: str) -> list[str]:
    return [row[table.columns.index(title)] for row in table.rows]


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    rows = [{"name": "a", "latency_ms": {"median": 3.0, "p95": None}}, {"name": "b", "latency_ms": {"median": 4.0}}]
    table = tables.engines_table(rows)
    assert table.columns == ("engine", "median ms")
    assert table.rows == (("a", "3.00"), ("b", "4.00"))


def test_places_of_words_move_with_the_columns_before_them() -> None:
    table = Table(("a", "b", "c", "d"), (("1", NONE, "x", "2"),), left=(2,), strong=0).without_empty()
    assert table == Table(("a", "c", "d"), (("1", "x", "2"),), left=(1,), strong=0)


def test_models_are_named_where_there_are_several() -> None:
    engines = sample_report()["engines"]
    assert "model" not in tables.engines_table(engines).columns
    engines[1]["model"] = "other"
    assert column(tables.engines_table(engines), "model")[1] == "other"


def test_the_card_is_about_its_fastest_row() -> None:
    table = tables.card_table(sample_report()["card"])
    assert table.strong is not None and table.rows[table.strong][0] == "openvino int8"
    assert column(table, "from FP32") == ["0.00", "−0.02", "+0.01", "−0.01"]  # noqa: RUF001
    assert column(table, "as fast as the reference")[1] == "3.91x (3.87 to 3.95)"
    assert tables.card_table({}).rows == ()


def test_classes_are_shown_of_rows_that_differ() -> None:
    table = tables.classes_table(sample_report()["card"])
    assert table.columns == ("class", "openvino int8", "openvino fp16", "onnxruntime int8")
    assert len(table.rows) == 11


def test_a_baseline_row_says_what_differs_and_where_it_is_from() -> None:
    table = tables.baseline_table(sample_report()["baseline"])
    assert column(table, "what differs")[0].count("\n") == 3
    assert column(table, "here / published") == ["6.54x", "5.37x"]
    assert column(table, "published in")[0].startswith("Papers with Code")


def test_every_table_is_as_wide_as_its_head_and_marks_words_that_are_there() -> None:
    report = sample_report()
    made = [
        tables.engines_table(report["engines"]), tables.ratios_table(report["ratios"]),
        tables.card_table(report["card"]), tables.classes_table(report["card"]),
        tables.baseline_table(report["baseline"]), tables.losses_table(report["layers"]),
        tables.pixels_table(report["growth"]), tables.batch_table(report["growth"]),
        tables.threads_table(report["growth"]), tables.parts_table(report["layers"]),
        tables.layers_table(report["layers"]), tables.peers_table(report["peers"]), tables.loops_table(report["peers"]),
        tables.cameras_table(report["cameras"]), tables.stages_table(report["loop"]),
        tables.skipped_table(report["peers"]["skipped"]),
    ]  # fmt: skip
    for table in made:
        assert table.rows and {len(row) for row in table.rows} == {len(table.columns)}
        assert all(0 < place < len(table.columns) for place in table.left)
        assert not any("None" in cell or "nan" in cell for row in table.rows for cell in row)


def test_peers_are_held_against_ours_in_their_format_and_by_default() -> None:
    table = tables.peers_table(sample_report()["peers"])
    assert column(table, "its time / ours")[2] == "5.40x (5.35 to 5.45)"
    assert column(table, "default / our default")[1:3] == ["5.80x (5.74 to 5.86)", NONE]


def test_a_stream_that_was_not_served_says_why() -> None:
    assert column(tables.cameras_table(sample_report()["cameras"]), "held") == ["no: frames were dropped", "yes"]
