"""``rtpsp build-engine --int8`` through the real entry point: what it prints, keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtpsp.calibrate import DEFAULT_METHOD
from rtpsp.engine.file import read_engine_file
from rtpsp.int8 import MAX_MIOU_DROP, MIN_AGREEMENT, Int8Options
from tests.cli.conftest import Call
from tests.conftest import save_frames


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pspnet_model: Path) -> Path:
    """A model ``x.onnx`` and labelled frames in ``data``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    (tmp_path / "x.onnx").symlink_to(pspnet_model)
    save_frames(tmp_path / "data", 20)
    return tmp_path


BUILD = ("build-engine", "x.onnx", "-o", "x.engine", "--threads", "1", "--head", "plain")
LOOSE = ("--min-agreement", "50", "--max-miou-drop", "50")


def test_frames_in_an_engine_and_its_table_out(rtpsp: Call, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = rtpsp(*BUILD, "--calib", "data", *LOOSE)
    assert done.code == 0, done.err
    (cache,) = Path("calib").glob("small-*.json")
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert lines[0] == "pixels that change when a part alone runs in INT8"
    row = next(line.split() for line in lines if "backbone/layer2/0" in line)
    assert row[1::2][:2] == ["backbone/layer2/0", "3"] and float(row[5]) > 0 and row[7] == "INT8"
    told = lines[lines.index("x.engine") :]
    ranges, head, accuracy, ran, then = told[1:]
    assert ranges == f"  ranges: mse over 16 frames of data, kept in {here / 'calib' / cache.name}"
    assert head == "  plain head, as asked for" and then.startswith("  next: rtpsp run --camera --engine x.engine")
    assert (
        accuracy.startswith("  accuracy against FP32: ")
        and "on 2 frames of data (train), held out of the calibration" in accuracy
    )
    assert ran.startswith("  openvino, int8, runs in ") and "4/4" in done.err
    assert "calibration set data has 20 frame(s), expected 100 or more" in caplog.text
    again = ("--int8", "--calib-cache", cache.name, "--min-agreement", "50")
    done = rtpsp(*BUILD[:-2], "--head", "split", *again)
    assert done.code == 2 and "no measured accuracy" in done.err, "it was measured with the other head"
    done = rtpsp(*BUILD[:-2], *again)
    assert done.code == 0 and f"ranges: mse over 16 frames, from {here / 'calib' / cache.name}" in done.out
    assert done.err.count("\n") == 1, "one line, of the steps"
    told_by_inspect = rtpsp("inspect", "x.engine")
    assert "asked for a class agreement of 50.00% or more" in told_by_inspect.out
    assert (
        "form         plain head, class map by the host" in told_by_inspect.out and "│ pyramid/0" in told_by_inspect.out
    )


def test_options_reach_the_builder(rtpsp: Call, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtpsp import build
    from rtpsp.errors import UsageError

    seen: list[build.BuildOptions] = []

    def stop(model: Path, path: Path | None, options: build.BuildOptions, progress: object) -> None:
        seen.append(options)
        raise UsageError("enough: seen")

    monkeypatch.setattr(build, "build_engine", stop)
    words = "--calib data --calib-images 40 --calib-split val --calib-method entropy"
    rtpsp(*BUILD, *words.split(), "--min-agreement", "99.5", "--max-miou-drop", "0.2")
    rtpsp(*BUILD, "--int8", "--calib-cache", "c.json")
    rtpsp("build-engine")
    assert seen[0].precision == "int8"
    assert seen[0].int8 == Int8Options("data", 40, "val", None, "entropy", 0.995, 0.2)
    assert seen[1].int8 == Int8Options(cache=Path("c.json"))
    assert seen[2].precision is None and seen[2].int8 == Int8Options()


def test_the_help_tells_the_defaults(rtpsp: Call) -> None:
    told = " ".join(rtpsp("build-engine", "--help").out.split())
    assert f"[default: {Int8Options().images}]" in told and f"[default: {DEFAULT_METHOD}]" in told
    assert f"[default with --calib: {100 * MIN_AGREEMENT:g}]" in told
    assert f"[default with labels: {MAX_MIOU_DROP:g}]" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--int8 --min-agreement 0.99", "0.99 would be 0.99 %, expected a share in percent, such as 99"),
        ("--int8 --min-agreement 101", "101.0 is not in the range"),
        ("--int8 --min-agreement much", "'much' is not a valid float"),
        ("--int8 --max-miou-drop -1", "-1.0 is not in the range"),
        ("--int8 --max-miou-drop nan --calib data", "max_miou_drop is nan"),
        ("--int8 --calib-images 0", "0 is not in the range"),
        ("--int8 --calib-method best", "'best' is not one of 'minmax'"),
        ("--int8 --fp32", "got --fp32 and --int8, expected one"),
        ("--fp32 --calib data", "--calib is for INT8, and --fp32 was asked for: leave one out"),
        ("--fp16 --calib-images 5", "--calib-images is for INT8, and --fp16 was asked for"),
        ("--int8 --calib-split val", "--calib-split is about frames, and there are none: give them with --calib"),
        ("--calib-cache c.json --calib-method mse", "--calib-method is about frames"),
        ("--int8 --calib data --calib-cache c.json", "leave --calib or --calib-cache out"),
        ("--int8", "no ranges come with it: give images or a video like those it will see with --calib, or"),
        ("--min-agreement 99", "no ranges come with it"),
    ],
)
def test_what_cannot_be_asked_for(rtpsp: Call, here: Path, words: str, says: str) -> None:
    done = rtpsp(*BUILD, *words.split())
    assert done.code == 2 and says in done.err, done.err
    assert sum(line.startswith("rtpsp: ") for line in done.err.splitlines()) == 1 and "Traceback" not in done.err
    assert not Path("x.engine").exists() and not Path("calib").exists()


def test_a_file_of_options_is_beaten_by_the_command_line(rtpsp: Call, here: Path) -> None:
    """Whose --fp32 takes what the file says of INT8 with it."""
    Path("rtpsp.toml").write_text(
        '[build-engine]\nint8 = true\ncalib = "data"\ncalib-images = 12\nmin-agreement = 99\n'
    )
    done = rtpsp(*BUILD, "--config", "rtpsp.toml", "--fp32")
    assert done.code == 0, done.err
    assert read_engine_file(Path("x.engine")).header.precision == "fp32"
    done = rtpsp(*BUILD, "--config", "rtpsp.toml", "--calib-cache", "none.json")
    assert done.code == 3 and "none.json: cannot be read" in done.err, "nor do its frames count beside a cache"


def test_frames_are_never_written_over(rtpsp: Call, here: Path) -> None:
    Path("list.txt").write_text("data/images/00.png\n")
    done = rtpsp(*BUILD[:2], "--int8", "--calib", "list.txt", "-o", "list.txt")
    assert done.code == 2 and "list.txt is the frames itself" in done.err
    Path("c.json").write_text("{}")
    done = rtpsp(*BUILD[:2], "--int8", "--calib-cache", "c.json", "-o", "c.json")
    assert done.code == 2 and "c.json is the ranges itself" in done.err
    assert json.loads(Path("c.json").read_text()) == {}
