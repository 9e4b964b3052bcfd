"""``rtpsp calib`` through the real entry point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtpsp.calibration_cache import CalibrationCache, TensorRange, read_cache, write_cache
from rtpsp.graph.ranges import graph_digest
from rtpsp.onnx_file import load_model
from tests.cli.conftest import Call

TABLE = "TRT-8501-MinMaxCalibration\nlogits: 3d23d70a\nimage: 3c010204\n(Unnamed Layer* 4) [Shuffle]_output: 3c010204\n"
CACHE = CalibrationCache(
    "colours", "ab" * 32, "cd" * 32, 300, "mse", "stretch/area 48x64",
    {"a [red]": TensorRange(-1.0, 3.0, 2.5), "b": TensorRange(0.0, 1.0, 1.0), "c": TensorRange(0.0, 0.0, 0.0)},
    {
        "u8 data": {"sensitivity": [{"group": "[stem]", "loss": 0.125}, {"group": "head", "loss": None}]},
        "agreement": 0.9951234,
    },
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.table").write_text(TABLE)
    write_cache(tmp_path / "cache.json", CACHE)
    return tmp_path


def test_a_table_comes_in_and_goes_out(rtpsp: Call, here: Path, colour_model: Path) -> None:
    done = rtpsp("calib", "import", "net.table", "--model", colour_model)
    (path,) = Path("calib").iterdir()
    assert (done.code, done.out, done.err) == (0, f"{path}\n  3 tensors of colours, minmax\n", "")
    cache = read_cache(path)
    assert (
        cache.graph == graph_digest(load_model(colour_model)[0])
        and path.name.startswith("colours-48x64-")
        and "-minmax-" in path.name
    )
    done = rtpsp("calib", "export", path)
    assert done.out == f"{path.with_suffix('.table')}\n  3 tensors, TRT-8501-MinMaxCalibration\n"
    assert sorted(path.with_suffix(".table").read_text().splitlines()) == sorted(TABLE.splitlines())


def test_standard_output_has_nothing_else(rtpsp: Call, here: Path, colour_model: Path) -> None:
    done = rtpsp("calib", "import", "net.table", "--model", colour_model, "-o", "-")
    assert CalibrationCache.from_json(done.out).ranges.keys() == {
        "logits", "image", "(Unnamed Layer* 4) [Shuffle]_output"
    }  # fmt: skip
    done = rtpsp("calib", "export", "cache.json", "-o", "-", "--release", "100300", "--algorithm", "EntropyCalibration")
    assert done.out.splitlines()[:2] == ["TRT-100300-EntropyCalibration", "a [red]: 3ca14285"] and done.code == 0


def test_what_a_cache_holds_is_shown(rtpsp: Call, here: Path, colour_model: Path) -> None:
    done = rtpsp("calib", "show", "cache.json")
    assert done.code == 0 and done.err == ""
    for told in (
        "cache.json: a calibration cache of colours",
        "300 images, sha256 cdcdcdcdcdcdcdcd; fit stretch/area 48x64",
        "3 tensors, from 0 ('c') to 2.5 ('a [red]')",
        "2 never negative; 1 with values beyond their range",
        "1 always 0: 'c'",
        "agreement    0.99512",
    ):
        assert told in done.out, told
    rows = [line.strip("│ \n").split() for line in done.out.splitlines()]
    assert ["[stem]", "│", "0.125"] in rows and ["head", "│", "-"] in rows
    write_cache(Path("odd.json"), replace(CACHE, measured={"a\x1b[2J": "\x1b[2J", "layers": {"x": {"y": [1.0, "z"]}}}))
    odd = rtpsp("calib", "show", "odd.json").out
    assert "\x1b" not in odd and "1, z" in odd
    rtpsp("calib", "import", "net.table", "--model", colour_model, "-o", "imported.json")
    assert "frames       unknown: from a TensorRT table" in rtpsp("calib", "show", "imported.json").out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("import", "net.table"), 2, "--model MODEL.onnx"),
        (("show", "cache.json", "-o", "x"), 2, "-o means nothing to 'calib show'"),
        (("export", "cache.json", "--model", "x.onnx"), 2, "--model means nothing"),
        (("import", "net.table", "--model", "x.onnx", "--release", "1"), 2, "--release means nothing"),
        (("export", "cache.json", "-o", "cache.json"), 2, "is the file itself"),
        (("export", "cache.json", "--release", "eight"), 2, "--release"),
        (("show", "none.json"), 3, "none.json: cannot be read"),
        (("show", "net.table"), 3, "calib import net.table"),
        (("import", "cache.json", "--model", "x.onnx"), 3, "cache.json is JSON"),
        (("import", "net.table", "--model", "x.onnx"), 3, "x.onnx: cannot be read"),
        (("export", "cache.json", "-o", "cache.json/x"), 7, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(rtpsp: Call, here: Path, words: tuple[str, ...], code: int, told: str) -> None:
    done = rtpsp("calib", *words)
    assert done.code == code and told in done.err and done.err.count("\n") == 1 and not done.out


def test_a_cache_named_as_its_table_is_not_lost(rtpsp: Call, here: Path) -> None:
    write_cache(Path("cache.table"), CACHE)
    done = rtpsp("calib", "export", "cache.table")
    assert done.code == 2 and "is the file itself" in done.err and read_cache(Path("cache.table")) == CACHE


def test_a_table_of_another_model(rtpsp: Call, here: Path, colour_model: Path) -> None:
    Path("net.table").write_text(TABLE.replace("logits", "conv9"))
    done = rtpsp("calib", "import", "net.table", "--model", colour_model)
    assert done.code == 3 and "3 tensors 1 are not in colours ('conv9') and 1 are" in done.err
    assert not Path("calib").exists()
