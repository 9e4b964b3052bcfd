"""Latency against pixels, batch and threads, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtpsp.bench.growth import ALL_THREADS, DEFAULT_SIZES, growth
from rtpsp.bench.growth_words import Line, fit_line, growth_words
from rtpsp.errors import MissingError, UsageError
from tests.bench.tiny import pictures, tiny_networks

SMALL, LARGE = (240, 320), (1080, 1440)


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.bench.growth.street_pictures", lambda: list(pictures()))


def ends(first: float, last: float) -> list[tuple[tuple[int, int], float, float]]:
    """Milliseconds at the smallest and the largest size."""
    return [(size, size[0] * size[1] / 1e6, time) for size, time in ((SMALL, first), (LARGE, last))]


def test_a_line_through_points_that_lie_on_one() -> None:
    line = fit_line([(pixels, 7.0 + 120.0 * pixels) for pixels in (0.1, 0.3, 1.5)])
    assert line.slope == pytest.approx(120) and line.intercept == pytest.approx(7) and line.r2 == pytest.approx(1)


def test_a_line_through_points_that_do_not() -> None:
    """Of three points at 0, 1, 2 with 0, 0, 3: slope 1.5, intercept -0.5, and 1.5 of a variance of 6 left over."""
    line = fit_line([(0.0, 0.0), (1.0, 0.0), (2.0, 3.0)])
    assert line.to_dict() == {"slope_ms": 1.5, "intercept_ms": -0.5, "r2": 0.75}


def test_words_of_growth() -> None:
    straight = growth_words(Line(200.0, 0.2, 0.9999), *ends(15.5, 311.0))
    assert straight.startswith("Latency is proportional to pixels: 202 ms a megapixel at 240x320, 200 at 1080x1440")
    offset = growth_words(Line(200.0, 9.0, 0.9999), *ends(24.4, 320.0))
    assert offset.startswith("Latency is linear in pixels, with 9.0 ms that a frame takes whatever its size: 318 ms")
    bent = growth_words(Line(300.0, -20.0, 0.97), *ends(12.0, 460.0))
    assert bent.startswith("Latency is not proportional to pixels, a large frame takes more for each: 156 ms")


def test_growth_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def peak(path: Path, threads: int) -> int:
        asked.append((path.name, threads))
        if threads == 2:
            raise MissingError("no process")
        return 123 << 20

    monkeypatch.setattr("rtpsp.bench.growth.peak_memory", peak)
    monkeypatch.setattr("rtpsp.bench.growth.usable_threads", lambda: 2)
    seen: list[float] = []
    with tiny_networks():
        found = growth(
            "pspnet18", sizes=[(128, 160), (64, 96), (96, 128)], batches=[2], threads=[1], size=(64, 96),
            precision="fp32", backend="openvino", seconds=0.03, warmup=0.0,
            tell=lambda what, share: seen.append(share),
        )  # fmt: skip
    told = found.to_dict()
    assert [(row["height"], row["width"]) for row in told["pixels"]] == [(64, 96), (96, 128), (128, 160)]
    assert {row["threads"] for row in told["pixels"]} == {2}
    small, _, large = told["pixels"]
    assert large["gmac"] / small["gmac"] == pytest.approx(128 * 160 / (64 * 96), rel=0.1)
    assert small["ms_per_megapixel"] == pytest.approx(small["latency_ms"]["median"] / (64 * 96 / 1e6), rel=1e-3)
    (batch,) = told["batch"]
    assert batch["batch"] == 2 and batch["ms_per_frame"] == pytest.approx(batch["latency_ms"]["median"] / 2, rel=1e-2)
    assert batch["fps"] == pytest.approx(2e3 / batch["latency_ms"]["mean"], rel=0.5)
    (threads,) = told["threads"]
    assert threads["threads"] == 1 and threads["peak_memory_bytes"] == 123 << 20
    assert small["peak_memory_bytes"] is None
    assert sorted({one["name"] for one in told["skipped"]}) == sorted(
        f"memory of {row['height']}x{row['width']}, batch {row['batch']}, 2 threads" for row in (*told["pixels"], batch)
    )
    assert set(told["linear"]) == {"slope_ms", "intercept_ms", "r2", "words"}
    assert len({row["latency_ms"]["count"] for row in told["pixels"]}) == 1, "they were timed in turn"
    assert told["network"].startswith("pspnet18, output stride 16, random weights, fp32 by openvino, ")
    assert seen == sorted(seen) and seen[-1] <= 1


def test_parts_that_nobody_asked_for_are_left_out() -> None:
    with tiny_networks():
        found = growth(
            "pspnet18", sizes=(), batches=(), threads=(ALL_THREADS,), size=(64, 96), precision="fp32",
            backend="openvino", memory=False, seconds=0.02, warmup=0.0,
        )  # fmt: skip
    told = found.to_dict()
    assert told["pixels"] == [] and told["batch"] == [] and told["linear"] is None
    counts = [row["threads"] for row in told["threads"]]
    assert counts[0] == 1 and counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batches": [0]}, "batch is 0, expected 1 to"),
        ({"threads": [2, 0]}, "threads is 0, expected 1 or more"),
        ({"model": "resnet50"}, "no architecture 'resnet50'"),
        ({"sizes": [(8, 8)]}, "size is 8x8, expected 64x64 or more"),
    ],
)
def test_growth_over_what_cannot_be(given: dict[str, object], message: str) -> None:
    asked: dict[str, object] = {"sizes": (), "batches": (), "threads": (), "seconds": 0.01, "warmup": 0.0, **given}
    with pytest.raises(UsageError, match=message):
        growth(**asked)  # type: ignore[arg-type]


def test_the_default_sizes() -> None:
    assert DEFAULT_SIZES[0] == SMALL and DEFAULT_SIZES[-1] == LARGE


def test_stopped_before_anything_was_timed() -> None:
    with tiny_networks():
        found = growth("pspnet18", sizes=[(64, 96)], seconds=1.0, warmup=0.0, stopped=lambda: True)
    assert found.to_dict()["pixels"] == []
