"""What the hardware allows: the least time by arithmetic and by bytes, and how far each measurement is from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu.models import BITS, NETWORKS, SIZES
from gpu.part import Job, Results, rounded

MEASURED = {"device_graph", "device", "graph_device", "graph_device_to_scores", "eager_device", "on_device_wall"}
"""Figures that are compared with floors: what the device takes, frames and answers being on it."""
RATES = {"fp32": "torch.matmul without TF32", "fp16": "torch.matmul", "int8": "torch._int_mm"}
"""Whose matrix rate stands for the hardware's. These need not be the fastest, least of all the third: a ratio below 1
says that the rate was too low."""


def floors(job: Job) -> dict[str, Any]:
    """Floors of every network in every precision, with its head plain and split, and ratios to them.

    ``floor_ms`` is the larger of 2 x multiply-adds / matrix rate and bytes / bandwidth, the bytes being the
    weights and the frame, once each: no engine is faster unless it multiplies faster than `RATES`, as `rate_of` tells.
    ``layers_ms`` adds up, convolution by convolution, the
    larger of its arithmetic and of its bytes if everything that it reads and writes went through device memory: engines
    that fuse convolutions or keep data in the cache may be faster than it.
    """
    rates = _rates(job.results)
    job.keep(rates=rates)
    for network in NETWORKS:
        found: dict[str, Any] = {}
        work = _work(job.results, network)
        for head, counted in work.items():
            for precision in BITS:
                floor = floor_of(counted, network, precision, rates)
                if floor:
                    found[f"{precision}-{head}"] = floor
        if found:
            job.keep(**{network: found})
    return {"ratios": list(_ratios(job.results, job.data))}


def floor_of(counted: Mapping[str, Any], network: str, precision: str, rates: Mapping[str, float]) -> dict[str, Any]:
    """Floors of one engine in milliseconds, with what limits it; empty where no rate was measured."""
    rate, bandwidth = rates.get(f"{precision}_tflop_s"), rates.get("device_copy_gb_s")
    if not rate or not bandwidth:
        return {}
    size = BITS[precision] // 8
    height, width = SIZES[network]
    arithmetic = 2 * counted["gmac"] / rate
    least = (counted["weights"] * size + height * width * 3) / bandwidth / 1e6
    by_layer = sum(
        max(2 * macs / rate / 1e9, (data + weights) * size / bandwidth / 1e6)
        for macs, data, weights in counted["layers"]
    )
    return {
        "rate_of": RATES[precision],
        "arithmetic_ms": rounded(arithmetic),
        "bytes_ms": rounded(least),
        "floor_ms": rounded(max(arithmetic, least)),
        "layers_ms": rounded(by_layer) if counted["layers"] else None,
    }


def _rates(results: Results) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in ("ceilings-copies", "ceilings-matrices"):
        data = results.get(part, {}).get("data", {})
        found |= {key: value for key, value in data.items() if key.endswith(("_tflop_s", "_gb_s"))}
    return found


def _work(results: Results, network: str) -> dict[str, Any]:
    data = {
        **results.get(f"torch-{network}", {}).get("data", {}),
        **results.get(f"models-{network}", {}).get("data", {}),
    }
    return {head: data[f"work_{head}"] for head in ("plain", "split") if f"work_{head}" in data}


def _ratios(results: Results, floors: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, part in results.items():
        network = next((network for network in NETWORKS if network in name.split("-")), None)
        if network is None or network not in floors or part.get("status") == "failed":  # wrong answers have no speed
            continue
        for path, median in _medians(part.get("data", {}), ()):
            words = "-".join((name, *path)).split("-")
            precision = next((word for word in words if word in BITS), "fp16" if "torch" in words else "")
            head = "split" if "split" in words else "plain"
            floor = floors[network].get(f"{precision}-{head}")
            if floor and not MEASURED.isdisjoint(path):
                yield {
                    "part": name, "figure": "/".join(path), "median_ms": median, "floor": f"{precision}-{head}",
                    "over_floor": rounded(median / floor["floor_ms"], 3),
                    "over_layers": rounded(median / floor["layers_ms"], 3) if floor["layers_ms"] else None,
                }  # fmt: skip


def _medians(data: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(data, Mapping):
        if isinstance(data.get("median_ms"), (int, float)):
            yield path, data["median_ms"]
        for key, value in data.items():
            yield from _medians(value, (*path, key))
