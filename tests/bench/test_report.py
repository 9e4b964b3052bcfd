from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rtpsp.bench import BenchOptions, bench, problems


@pytest.fixture(scope="module")
def report(colour_engine: Path) -> dict[str, Any]:
    return bench(colour_engine, BenchOptions(warmup=0.0, duration=0.05, memory=False)).to_dict("rtpsp bench x.engine")


def test_a_report_says_where_when_and_how(report: dict[str, Any]) -> None:
    assert problems(report) == [] and report["schema"] == 2 and report["command"] == "rtpsp bench x.engine"
    assert report["rtpsp"] == report["versions"]["rtpsp"] and "openvino" in report["versions"]
    assert report["when"].endswith("Z") and report["machine"]["threads"] >= 1 and report["machine"]["memory_bytes"] > 0
    assert report["machine"]["features"] == sorted(report["machine"]["features"])
    assert len(report["engines"][0]["model_digest"]) == 64


def test_what_is_wrong_with_a_report_is_said(report: dict[str, Any]) -> None:
    def without(*keys: str | int) -> list[str]:
        told: Any = copy.deepcopy(report)
        place = told
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        return problems(told)

    assert problems([]) == ["a report is a list, expected an object"]
    assert problems({**report, "schema": 1}) == ["schema is 1, expected 2: measure again"]
    assert problems({**report, "surprise": 1}) == ["surprise is no section of a report"]
    assert without("noise") == ["noise is None, expected dict"]
    assert without("engines", 0, "fps") == ["engines[0] has no fps"]
    assert without("engines", 0, "latency_ms", "p99") == ["engines[0].latency_ms has no p99"]
    assert without("loop", "age_series") == ["loop has no age_series"]
    many = {**report["engines"][0], "samples_ms": [1.0] * 2001}
    assert problems({**report, "engines": [many]}) == ["engines[0] has 2001 samples, expected at most 2000"]


def test_the_bench_loads_nothing_that_it_may_not_need() -> None:
    program = (
        "import sys, rtpsp.bench, rtpsp.bench.sections, rtpsp.cli.benching\n"
        "heavy = ('torch', 'matplotlib', 'jinja2', 'onnx', 'onnx_ir', 'onnxruntime')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
