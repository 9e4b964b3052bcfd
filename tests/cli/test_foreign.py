"""``rtpsp build-engine`` of models from elsewhere through the real entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from rtpsp.engine import load_engine
from rtpsp.engine.file import read_engine_file
from rtpsp.onnx_file import load_model
from tests.cli.conftest import Call
from tests.conftest import COLOUR_HEIGHT, COLOUR_WIDTH, save_frames


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pspnet_model: Path) -> Path:
    """``x.onnx``, a small PSPNet as another program might have left it: without spec, of any batch, other names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    model = onnx.load(pspnet_model)
    del model.metadata_props[:]
    names = {"image": "pixels", "logits": "scores"}
    for node in model.graph.node:
        for ends in (node.input, node.output):
            for place, name in enumerate(ends):
                ends[place] = names.get(name, name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for place, word in ((0, "n"), (2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = word
    onnx.save(model, tmp_path / "x.onnx")
    return tmp_path


SIZE = ("--size", f"{COLOUR_HEIGHT}x{COLOUR_WIDTH}")
OPTIONS = ("--threads", "1", "--head", "plain", "--tail", "graph")
BUILD = ("build-engine", "x.onnx", "-o", "x.engine", *OPTIONS)


def test_an_engine_of_a_foreign_model(rtpsp: Call, here: Path, pspnet_model: Path) -> None:
    """It answers as that of the model which it was, by another way."""
    values = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    words = ("--labels", "camvid", *SIZE, "--bgr", *values, "--name", "mine", "--save-model", "kept.onnx")
    done = rtpsp(*BUILD, *words, "--fp32")
    assert done.code == 0, done.err
    file, takes, values_told, pyramid, agrees, kept, *_ = done.out.splitlines()
    assert file == "x.onnx (rtpsp, opset 19)"
    assert takes.startswith("  takes 'pixels', float32 NCHW of 3 planes at 48x64 (--size), and gives 'scores'")
    assert values_told.startswith("  mean and std are on 0..1: BGR by mean 0.485 0.456 0.406, std")
    assert pyramid.startswith("  its pyramid has") and agrees.startswith("  class agreement with the original")
    assert "assumed" not in done.out and kept == "kept.onnx: the model with what was said of it"
    header = read_engine_file(Path("x.engine")).header
    assert header.options["model"] == "kept.onnx" and header.spec.channels == "bgr"
    rtpsp("build-engine", pspnet_model, "-o", "own.engine", "--fp32", *OPTIONS)
    frames = np.random.default_rng(0).integers(0, 256, (1, COLOUR_HEIGHT, COLOUR_WIDTH, 3), np.uint8)
    with load_engine("x.engine") as foreign, load_engine("own.engine") as own:
        swapped = np.ascontiguousarray(frames[..., ::-1])
        answer = foreign.infer(swapped).class_map.copy()
        assert np.mean(answer == own.infer(frames).class_map) > 0.999
    kept_model, spec = load_model("kept.onnx")
    assert spec == header.spec and [one.name for one in kept_model.graph.outputs] == ["logits"]
    done = rtpsp("build-engine", "kept.onnx", *BUILD[2:], "--fp32", "--backend", "onnxruntime")
    assert done.code == 0 and "onnxruntime, fp32" in done.out, done.err


def test_int8_at_once(rtpsp: Call, here: Path) -> None:
    save_frames(here / "data", 10)
    loose = ("--calib", "data", "--min-agreement", "50", "--max-miou-drop", "50")
    done = rtpsp(*BUILD, "--labels", "camvid", *SIZE, *loose, "--backend", "onnxruntime")
    assert done.code == 0 and "onnxruntime, int8" in done.out, done.err
    header = read_engine_file(Path("x.engine")).header
    assert header.options["model"] == "x.onnx" and header.spec.labels.name == "camvid"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((*BUILD, *SIZE), 3, "tells 11 classes apart, and nothing says which: name them with --labels SET|FILE"),
        (BUILD, 2, "takes images of any size (?x?): say which one"),
        ((*BUILD, "--labels", "camvit"), 2, "did you mean camvid"),
        ((*BUILD, "--labels", "voc", *SIZE), 3, "names 21 classes, the model gives 11: take 10 out"),
        ((*BUILD, "--labels", "camvid", "--rgb", "--bgr"), 2, "got --rgb and --bgr, expected one"),
        ((*BUILD, "--labels", "camvid", "--mean", "a,b,c"), 2, "'a,b,c' is no list of numbers"),
        ((*BUILD, "--labels", "camvid", "--mean", "nan,0,0"), 2, "is no list of numbers"),
        ((*BUILD, "--labels", "camvid", *SIZE, "--std", "1,1,1"), 2, "--std without --mean"),
        ((*BUILD, "--save-model", "x.onnx"), 2, "x.onnx is the model itself"),
        ((*BUILD, "--save-model", "x.engine"), 2, "-o and --save-model both go to x.engine"),
        ((*BUILD, "--labels", "camvid", *SIZE, "--name", "a/b"), 3, "name is 'a/b', expected one without slashes"),
        (("build-engine", "--labels", "camvid"), 2, "brings its own spec, which says all of that"),
        (("build-engine", "--save-model", "y.onnx"), 2, "and --save-model is for models without one: leave it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_said(rtpsp: Call, here: Path, words: tuple[str, ...], code: int, says: str) -> None:
    done = rtpsp(*words)
    assert done.code == code and says in done.err, done.err
    assert sum(line.startswith("rtpsp: ") for line in done.err.splitlines()) == 1 and "Traceback" not in done.err
    assert not Path("x.engine").exists()


def test_a_file_of_options_says_it_too(rtpsp: Call, here: Path) -> None:
    Path("rtpsp.toml").write_text(
        '[build-engine]\nlabels = "camvid"\nsize = "48x64"\nmean = "0.5,0.5,0.5"\nstd = "0.5,0.5,0.5"\nrgb = true\n'
    )
    done = rtpsp(*BUILD, "--fp32", "--config", "rtpsp.toml", "--bgr")
    assert done.code == 0, done.err
    spec = read_engine_file(Path("x.engine")).header.spec
    assert spec.channels == "bgr" and spec.mean == (0.5, 0.5, 0.5), "what the command line says wins"
