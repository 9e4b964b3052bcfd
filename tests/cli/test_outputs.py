"""No verb writes over what it was given, and ``-`` is standard output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rtpsp.cli.outputs import STDOUT, check_outputs
from rtpsp.errors import UsageError
from tests.cli.conftest import Call


@pytest.mark.parametrize(
    "words",
    [
        ("build-engine", "x.onnx", "-o", "x.onnx"),
        ("build-engine", "x.onnx", "-o", "./deep/../x.onnx"),
        ("build-engine", "x.onnx", "-o", "link.onnx"),
        ("export", "x.onnx", "--arch", "pspnet18", "--size", "48x64", "--labels", "camvid", "-o", "x.onnx"),
        ("export", "y", "--arch", "pspnet18", "--size", "48x64", "--labels", "x.onnx", "-o", "x.onnx"),
        ("run", "--source", "x.onnx", "--report", "x.onnx"),
        ("run", "--source", "sim://street", "--engine", "x.onnx", "--stats", "x.onnx"),
        ("run", "--source", "sim://street", "--engine", "x.onnx", "--output", "x.onnx"),
        ("inspect", "x.onnx", "--json", "x.onnx"),
        ("bench", "x.onnx", "--json", "x.onnx"),
        ("eval", "x.onnx", "--data", "sim://street?frames=2", "--json", "x.onnx"),
        ("eval", "y", "--data", "x.onnx", "--json", "x.onnx"),
        ("eval", "x.onnx", "--data", "sim://street?frames=2", "--confusion", "x.onnx"),
        ("eval", "y", "--against", "x.onnx", "--data", "sim://street?frames=2", "--json", "x.onnx"),
        ("compare", "y", "x.onnx", "--json", "x.onnx"),
        ("compare", "y", "z", "--data", "x.onnx", "--json", "x.onnx"),
        ("compare", "y", "z", "--data", "deep", "--worst", "deep"),
    ],
)
def test_what_was_given_is_not_written_over(
    words: tuple[str, ...], rtpsp: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "x.onnx").write_text("precious")
    os.link(tmp_path / "x.onnx", tmp_path / "link.onnx")
    told = rtpsp(*words)
    assert told.code == 2 and "itself and would be lost" in told.err, told.err
    assert (tmp_path / "x.onnx").read_text() == "precious"


def test_a_place_each(tmp_path: Path) -> None:
    check_outputs({"--rle": tmp_path / "a", "--stats": tmp_path / "b", "--report": None, "--json": STDOUT}, {})
    with pytest.raises(UsageError, match="--rle and --stats both go to"):
        check_outputs({"--rle": tmp_path / "a", "--stats": tmp_path / "." / "a"}, {})
    check_outputs({"--json": STDOUT, "--report": STDOUT}, {"the source": "sim://street?w=1&h=\0"})


def test_a_report_on_standard_output_stands_alone(
    rtpsp: Call, colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "sim://street?w=160&h=120&frames=3"
    told = rtpsp("run", "--source", source, "--engine", str(colour_engine), "--no-show", "--report", "-")
    assert told.code == 0 and json.loads(told.out)["frames"]["shown"] == 3
    told = rtpsp("eval", str(colour_engine), "--data", source, "--json", "-")
    assert told.code == 0 and json.loads(told.out)["data"] == source
    told = rtpsp("bench", str(colour_engine), "--duration", "0.2", "--warmup", "0", "--json", "-")
    assert told.code == 0 and json.loads(told.out)["engines"]
    assert list(tmp_path.iterdir()) == [], "no file is called '-'"


@pytest.mark.parametrize("option", ["--output", "--rle", "--stats", "--save-masks"])
def test_standard_output_is_for_reports(
    option: str, rtpsp: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = rtpsp("run", "--source", "sim://street", option, "-")
    assert told.code == 2 and f"{option} is -" in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_found_and_one_that_is_not_there_is_a_name(
    rtpsp: Call, colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    told = rtpsp("inspect", str(colour_engine), "--json", "~/x.json")
    assert told.code == 0 and (tmp_path / "home" / "x.json").exists()
    told = rtpsp("inspect", str(colour_engine), "--json", "~nobody-is-called-so/x.json")
    assert told.code == 0 and (tmp_path / "work" / "~nobody-is-called-so" / "x.json").exists()
    told = rtpsp("inspect", "~nobody-is-called-so/y", "--json", "~nobody-is-called-so/y")
    assert told.code == 3 and "Traceback" not in told.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "drive.mp4"), "did you mean --source drive.mp4?"),
        (("run", "--source", "a.png", "b.png"), "put a pattern in quotes"),
    ],
)
def test_a_source_without_its_option(words: tuple[str, ...], says: str, rtpsp: Call) -> None:
    told = rtpsp(*words)
    assert told.code == 2 and says in told.err
