"""Peaks: that the products are really computed, in which format, and that quiet rounds are told from loud ones."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.bench.peaks import PeakMeter, PeakWork, peak_format, quiet, quiet_mean
from rtpsp.engine.openvino_backend import half_format
from rtpsp.errors import UsageError

SMALL = PeakWork(16, ((3, 16, 32), (1, 32, 32), (3, 32, 16)), 1001)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_every_format_of_this_processor_has_a_peak(backend: str) -> None:
    with PeakMeter(backend, 1, SMALL) as meter:
        meter.turn()
        ran = [engine.ran for engine in meter._engines]
        peaks = meter.peaks()
    half = half_format() if backend == "openvino" else None
    assert ran == ["f32", half or "f32", "u8"]
    assert set(peaks.rates) == {"f32", "i8"} | ({half} if half else set())
    assert all(rate > 0 for rate in peaks.rates.values()) and peaks.bandwidth > 0
    assert set(peaks.shapes) == set(peaks.rates)
    assert all("at 16x16" in shape and "convolution" in shape for shape in peaks.shapes.values())


def test_the_products_are_computed_and_not_folded_away() -> None:
    """Each of them averages over what it sees: in the middle of an even frame all of its value goes through."""
    with PeakMeter("openvino", 1, SMALL) as meter:
        frames = np.full((1, 16, 16, 3), 200, np.uint8)
        for engine in meter._engines:
            middle = int(engine.infer(frames).class_map[0, 8, 8])
            edge = int(engine.infer(frames).class_map[0, 0, 0])
            assert middle == pytest.approx(200, abs=20)
            assert edge < middle / 2  # the zeros around the frame are in its sums
        graphs = meter._graphs
    assert {graph.macs for graph in graphs} == {
        sum(16 * 16 * k * k * before * after for k, before, after in SMALL.shapes)
    }


def test_the_copy_copies_all_of_it() -> None:
    meter = PeakMeter("openvino", 3, SMALL)
    with meter:
        meter._copy()
    assert meter._target.all() and len(meter._target) == 1001


def test_a_backend_whose_layers_are_not_told_has_no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.engine.profile.engine_class", lambda name: None)
    with pytest.raises(UsageError, match="does not tell the times of its layers"):
        PeakMeter("tensorrt", threads=1)


def test_products_of_bytes_have_one_peak() -> None:
    assert [peak_format(name) for name in ("u8", "i8", "f32", "bf16")] == ["i8", "i8", "f32", "bf16"]


@pytest.mark.parametrize(
    ("durations", "places", "mean"),
    [
        ((5.0,), [0], 5.0),
        ((5.0, 1.0), [0, 1], 3.0),
        ((9.0, 1.0, 3.0), [1, 2], 2.0),
        ((4.0, 9.0, 2.0, 8.0, 3.0), [0, 2, 4], 3.0),
    ],
)
def test_the_shorter_half_is_taken_in_its_own_order(
    durations: tuple[float, ...], places: list[int], mean: float
) -> None:
    assert quiet(durations) == places
    assert quiet_mean(durations) == pytest.approx(mean)
