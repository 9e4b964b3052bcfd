"""``rtpsp bench``: what it takes, prints, writes and ends with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtpsp.bench import bench_subjects, problems
from rtpsp.cli import benching
from rtpsp.errors import BoundNotMet, MissingError
from tests.cli.conftest import Call

SHORT = ("--duration", "0.1", "--warmup", "0", "--quick")


class Told:
    """What a section's measurement gives."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def to_dict(self) -> dict[str, Any]:
        return self._values


def test_one_engine_and_the_loop(rtpsp: Call, colour_engine: Path, tmp_path: Path) -> None:
    done = rtpsp("bench", colour_engine, *SHORT, "--json", tmp_path / "b.json")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "b.json").read_text())
    assert problems(told) == [] and told["quick"] is True
    assert told["command"] == f"rtpsp bench {colour_engine} --duration 0.1 --warmup 0 --quick"
    (engine,) = told["engines"]
    assert engine["latency_ms"]["count"] >= 3 and engine["agreement_percent"] > 99.9
    assert "engine alone" in done.out and "answers like the model in FP32" in done.out
    assert "the loop costs" in done.out and "slices of each in turn" in done.out
    assert "quick: this shows what is measured" in done.out


def test_engine_files_side_by_side(rtpsp: Call, colour_engine: Path, tmp_path: Path) -> None:
    done = rtpsp("bench", colour_engine, "--engine", colour_engine, *SHORT, "--json", tmp_path / "b.json")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "b.json").read_text())
    names = ["colours.engine", "colours.engine (2)"]
    assert problems(told) == [] and [engine["name"] for engine in told["engines"]] == names
    assert [(ratio["first"], ratio["second"]) for ratio in told["ratios"]] == [tuple(names)]
    assert "colours.engine / colours.engine (2)" in done.out and "95 % interval" in done.out


def test_a_card_of_a_model(rtpsp: Call, colour_model: Path, tmp_path: Path) -> None:
    words = ("--model", colour_model, "--precisions", "fp32,int8", "--json", tmp_path / "b.json")
    done = rtpsp("bench", *words, *SHORT)
    assert done.code == 0, done.err
    command = json.loads((tmp_path / "b.json").read_text())["command"]
    assert command == f"rtpsp bench --model {colour_model} --precisions fp32,int8 --duration 0.1 --warmup 0 --quick"
    told = json.loads((tmp_path / "b.json").read_text())
    assert problems(told) == [] and [row["name"] for row in told["card"]["rows"]] == ["fp32 openvino"]
    assert [each["name"] for each in told["card"]["skipped"]] == ["int8 openvino"], "it has nothing to quantise"
    assert [engine["name"] for engine in told["engines"]] == ["fp32 openvino"] and told["loop"]["fps"]
    assert "precision card" in done.out and "INT8 has nothing to do" in done.out


def test_the_page_is_written(rtpsp: Call, colour_engine: Path, tmp_path: Path) -> None:
    done = rtpsp("bench", colour_engine, *SHORT, "--html", tmp_path / "page.html")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html") and "colours" in page and "page    " in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--split", "val"), "--split has no meaning without --data"),
        (("--bound", "50"), "--bound has no meaning without --cameras"),
        (("--baseline", "mnist"), "no published figures are called 'mnist': use camvid"),
        (("--precisions", "fp8"), "no precision 'fp8'"),
        (("--backends", "tpu"), "no backend 'tpu'"),
        (("--size", "48x64"), "leave the size out"),
        (("--sizes", "48x64,big"), "'big' is not a size"),
        (("--batch", "0"), "'0' is not a whole number from 1 on"),
        (("--html", "-"), "standard output is for --json alone"),
    ],
)
def test_what_cannot_be_meant(rtpsp: Call, words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "to_engine_path", lambda *given: Path("x.engine"))
    done = rtpsp("bench", *words)
    assert done.code == 2 and says in done.err and done.err.strip().count("\n") == 0, done.err


def test_an_engine_and_what_is_to_be_built(rtpsp: Call, colour_engine: Path) -> None:
    done = rtpsp("bench", colour_engine, "--precisions", "fp32")
    assert done.code == 2 and "an engine file is measured as it is" in done.err


def test_published_figures_are_listed(rtpsp: Call) -> None:
    done = rtpsp("bench", "--baseline", "list")
    assert done.code == 0 and "camvid" in done.out and "185 ms" in done.out and "nyudv2-101" in done.out


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Stands in for the sections' measurements, and gives what each was called with."""
    calls: dict[str, Any] = {}

    def stand_in(error: Exception | None = None, **gives: Any) -> dict[str, Any]:
        for place, values in gives.items():
            module, name = place.split("__")

            def call(*words: Any, name: str = name, values: Any = values, **options: Any) -> Told:
                calls[name] = (words, options)
                if error is not None:
                    raise error
                return Told(**values)

            monkeypatch.setattr(f"rtpsp.bench.{module}.{name}", call)
        return calls

    return stand_in


def test_sections_get_what_was_asked_for(
    rtpsp: Call, colour_engine: Path, measured: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    calls = measured(
        baseline__baseline_rows={"rows": []}, growth__growth={"pixels": [], "linear": {"words": "it is linear"}},
        layers__profile={"parts": [], "rows": [], "words": "the head limits"},
        cameras__fit_cameras={"tried": [], "words": "two cameras fit"},
        peers__run_peers={"rows": [], "loops": [], "skipped": [], "enough": True, "words": "ahead of all"},
    )  # fmt: skip
    asked = ("--baseline", "camvid", "--sizes", "48x64,96x128", "--threads", "1,2", "--layers", "--cameras", "--peers")
    done = rtpsp("bench", colour_engine, *SHORT, *asked, "--bound", "50", "--json", tmp_path / "b.json")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "b.json").read_text())
    assert problems(told) == [] and {"baseline", "growth", "layers", "cameras", "peers"} <= set(told)
    assert calls["baseline_rows"][0][0] == ("camvid",) and calls["baseline_rows"][1]["beside"] is not None
    grown = calls["growth"][1]
    assert grown["sizes"] == ((48, 64), (96, 128)) and grown["threads"] == (1, 2) and grown["batches"] == ()
    assert calls["profile"][0][0] == colour_engine and calls["fit_cameras"][1]["bound_ms"] == 50
    assert calls["run_peers"][0][0].model == colour_engine.with_suffix(".onnx"), "the model beside the engine"
    for words in ("it is linear", "the head limits", "two cameras fit", "ahead of all"):
        assert words in done.out


def test_a_section_that_fails_is_told_once_the_rest_is_written(
    rtpsp: Call, colour_engine: Path, measured: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    measured(MissingError("no counters on this machine"), layers__profile={})
    done = rtpsp("bench", colour_engine, *SHORT, "--layers", "--json", tmp_path / "b.json")
    assert done.code == 4 and done.err.strip().endswith("no counters on this machine")
    told = json.loads((tmp_path / "b.json").read_text())
    assert told["skipped"] == [{"name": "layers", "reason": "no counters on this machine"}] and told["engines"]
    assert "the loop costs" in done.out


def test_too_few_peers_are_no_comparison(
    rtpsp: Call, colour_engine: Path, measured: Callable[..., dict[str, Any]]
) -> None:
    measured(peers__run_peers={"rows": [], "loops": [], "skipped": [], "enough": False, "words": "2 peers ran"})
    done = rtpsp("bench", colour_engine, *SHORT, "--peers")
    assert done.code == BoundNotMet.exit_code and "2 peers ran" in done.err and "the loop costs" in done.out


def test_a_wrong_engine_is_not_timed(rtpsp: Call, colour_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.bench.truth.LEAST", {"fp32": 101.0})
    done = rtpsp("bench", colour_engine, *SHORT)
    assert done.code == 6 and "it is not timed" in done.err and done.out == ""


def test_ctrl_c_ends_it_early_with_what_there_is(
    rtpsp: Call, colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench_subjects

    def interrupted(*words: Any) -> Any:
        report = real(*words)
        os.kill(os.getpid(), signal.SIGINT)
        return report

    monkeypatch.setattr("rtpsp.bench.sections.bench_subjects", interrupted)
    done = rtpsp("bench", colour_engine, *SHORT, "--layers", "--json", tmp_path / "b.json")
    assert done.code == 130, done.err
    told = json.loads((tmp_path / "b.json").read_text())
    assert told["interrupted"] is True and told["engines"] and "layers" not in told
    assert told["skipped"] == [{"name": "layers", "reason": "stopped before it was measured"}]
    assert "ended early" in done.out


def test_ctrl_c_while_it_measures(colour_engine: Path, tmp_path: Path) -> None:
    report = tmp_path / "b.json"
    words = ["bench", str(colour_engine), "--duration", "600", "--warmup", "0", "--json", str(report)]
    program = (
        "import os, signal, sys, threading\n"
        "from rtpsp.bench import turns\n"
        "say = turns.Turns._say\n"
        "def told(self, at):\n"
        "    say(self, at)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "turns.Turns._say = told\n"
        "turns.LONGEST = 0.05\n"
        "from rtpsp.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 130, done.stderr
    told = json.loads(report.read_text())
    assert told["interrupted"] is True and told["engines"][0]["latency_ms"]["count"] >= 3
    assert told["loop"]["slices"] >= 1 and "ended early" in done.stdout
