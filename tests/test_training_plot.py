"""The curve of a training that has only begun."""

from __future__ import annotations

from typing import Any

import pytest

from rtpsp import training_plot
from rtpsp.model.train_records import EpochRecord, SetScore


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_epochs_stand_at_whole_numbers_and_small_differences_look_small(
    monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(training_plot, "to_png", drawn.append)
    scores = [SetScore(42 + 0.1 * number, 80, (1,)) for number in range(epochs)]
    records = [EpochRecord(at, 3 * at, 0.01, 1.2, 1.0, 3.0, {"val": score}) for at, score in enumerate(scores, 1)]
    training_plot.curve_png(records, "few")
    left, right = drawn[0].axes
    assert all(float(tick).is_integer() for tick in left.get_xticks()) and left.get_xlim()[1] >= 2
    low, high = right.get_ylim()
    assert high - low >= 10 and low < 42 < high
    assert left.get_ylim() == (0, pytest.approx(1.26))
