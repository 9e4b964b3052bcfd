"""``rtpsp compare``, and what ``rtpsp eval`` says of two engines and of what was taken for what."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.build import BuildOptions, build_engine
from rtpsp.cli.figures import percentages
from rtpsp.engine.file import write_engine_file
from rtpsp.header import EngineHeader
from rtpsp.labels import CAMVID, CITYSCAPES
from rtpsp.spec import ModelSpec
from tests.cli.conftest import Call
from tests.conftest import save_colour_model

PALETTE_BGR = np.array(CAMVID.palette, np.uint8)[:, ::-1]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine like the colour engine that sees the middle of a wide frame and nothing beside it."""
    folder = tmp_path_factory.mktemp("half")
    save_colour_model(folder / "half.onnx", "crop", (48, 32))
    return build_engine(folder / "half.onnx", folder / "half.engine", BuildOptions("fp16")).path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of 48x64: Sky over Road; each column of the second image's left quarter is labelled Car."""
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in (1, 2):
        ids = np.zeros((48, 64), np.uint8)
        ids[24:] = 3
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{number}.png"), PALETTE_BGR[ids])
        if number == 2:
            ids[:, :16] = 8
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{number}.png"), ids)
    return tmp_path / "data"


def test_compare_on_labelled_images(rtpsp: Call, colour_engine: Path, half: Path, data: Path, tmp_path: Path) -> None:
    figures, worst = tmp_path / "new" / "compare.json", tmp_path / "er" / "worst"
    done = rtpsp("compare", colour_engine, half, "--data", data, "--worst", worst, "--json", figures, "--threads", "1")
    assert done.code == 0 and not done.err, done.err
    told = json.loads(figures.read_text())
    assert told["agreement"] == 50 and told["a"]["accuracy"]["pixel_accuracy"] == 87.5
    assert told["b"]["accuracy"]["unanswered"] == 50 and told["b"]["accuracy"]["per_class_iou"]["Car"] == 0
    assert told["miou_difference"] < 0 and told["threads"] == 1 and told["split"] == "val" and told["images"] == 2
    assert [Path(one["picture"]).name for one in told["worst"]] == ["worst-1.png", "worst-2.png"]
    assert {path.name for path in worst.iterdir()} == {"worst-1.png", "worst-2.png"}
    *_, last = done.out.splitlines()
    assert last == told["verdict"] and "they agree on 50.00 % of pixels; B loses" in last
    for line in (
        "IoU % of A",
        "ran in f32",
        "2 of",
        "over 2 pairs in turn",
        "worst-1.png to worst-2.png",
        "all pixels",
    ):
        assert line in done.out, line


def test_compare_on_a_source(rtpsp: Call, colour_engine: Path, data: Path, tmp_path: Path) -> None:
    done = rtpsp("compare", colour_engine, colour_engine, "--source", data / "images", "--worst", tmp_path / "worst")
    assert done.code == 0 and not done.err, done.err
    assert "they agree on every pixel" in done.out and "never differ: no picture was written" in done.out
    assert "mIoU" not in done.out and "IoU % of A" not in done.out
    done = rtpsp("compare", colour_engine, colour_engine, "--frames", "2", "--json", "-")
    assert done.code == 0 and json.loads(done.out)["frames"].startswith("sim://street")


def test_a_config_file_gives_way_to_another_kind_of_frames(
    rtpsp: Call, colour_engine: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(f'[compare]\ndata = "{data.as_posix()}"\nsplit = "val"\n')
    words = ("compare", colour_engine, colour_engine, "--config", tmp_path / "c.toml", "--json", "-")
    assert json.loads(rtpsp(*words).out)["split"] == "val"
    assert json.loads(rtpsp(*words, "--source", data / "images").out)["split"] is None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["A", "x.onnx"], 2, "x.onnx is a model, an engine was expected: make one with 'rtpsp build-engine x.onnx'"),
        (["A", "none.engine"], 3, "none.engine: No such file"),
        (["A"], 2, "Missing argument 'B'"),
        (["A", "A", "--data", "d", "--source", "s"], 2, "expected one of them"),
        (["A", "A", "--split", "val"], 2, "--split has no meaning without --data"),
        (["A", "A", "--data", "nowhere"], 3, "no data set at nowhere"),
        (["A", "A", "--source", "nowhere.mp4"], 3, "no file 'nowhere.mp4'"),
        (["A", "A", "--frames", "0"], 2, "--frames"),
        (["A", "A", "--worst", "file"], 2, "--worst"),
        (["A", "A", "--worst", "file/in"], 7, "give another folder with --worst"),
        (["A", "CITY"], 3, "has the 11 classes of 'camvid', B (city.engine) the 19 of 'cityscapes'"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(
    words: list[str], code: int, says: str, rtpsp: Call, colour_engine: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    header = EngineHeader(ModelSpec("city", "test", 8, 8, CITYSCAPES), "openvino", "fp32", "ab" * 32)
    write_engine_file(Path("city.engine"), header, b"")
    given = {"A": str(colour_engine), "CITY": "city.engine"}
    done = rtpsp("compare", *[given.get(word, word) for word in words])
    assert done.code == code and says in done.err, done.err
    assert done.err.count("\n") == 1 and "Traceback" not in done.err


# --- eval ------------------------------------------------------------------------------------------------------------


def test_eval_against_another(rtpsp: Call, colour_engine: Path, half: Path, data: Path, tmp_path: Path) -> None:
    figures, alone, matrix = tmp_path / "e.json", tmp_path / "alone.json", tmp_path / "new" / "matrix.PNG"
    done = rtpsp("eval", half, "--against", colour_engine, "--data", data, "--json", figures, "--confusion", matrix)
    assert done.code == 0 and not done.err, done.err
    assert rtpsp("eval", half, "--data", data, "--json", alone).code == 0
    told = json.loads(figures.read_text())
    against = told.pop("against")
    assert told == json.loads(alone.read_text()), "the engine's own figures are the same"
    assert told["confusion"]["pixels_of_truth"]["Car"] == [0] * 11 + [16 * 48]
    assert against["engine"] == colour_engine.name and against["ran"] == "f32" and against["agreement"] == 50
    assert against["miou_difference"] == pytest.approx(told["miou"] - against["miou"], abs=0.002)
    sky = told["per_class_iou"]["Sky"] - against["per_class_iou"]["Sky"]
    assert against["per_class_iou_difference"]["Sky"] == pytest.approx(sky, abs=0.002) and sky < 0
    assert against["per_class_iou_difference"]["Tree"] is None and against["per_class_agreement"]["Sky"] == 50
    assert "both agree on 50.00 % of pixels" in done.out and "other's" in done.out and str(matrix) in done.out
    picture = cv2.imread(str(matrix))
    assert picture is not None and picture.shape[0] > 600


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--confusion", "matrix.jpg"], 2, "--confusion is matrix.jpg, expected the name of a picture that ends in"),
        (["--confusion", "-"], 2, "--confusion is -, expected"),
        (["--confusion", "file/m.png"], 7, "give another place with --confusion"),
        (["--confusion", "m.png", "--json", "m.png"], 2, "both go to m.png"),
        (["--against", "x.onnx"], 2, "rtpsp build-engine x.onnx"),
        (["--against", "CITY"], 3, "the 19 of 'cityscapes'"),
        (["--mask-size", "frame"], 2, "--mask-size frame needs its scores"),
    ],
)
def test_what_eval_cannot_do_is_one_clear_line(
    words: list[str], code: int, says: str, rtpsp: Call, colour_engine: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    header = EngineHeader(ModelSpec("city", "test", 8, 8, CITYSCAPES), "openvino", "fp32", "ab" * 32)
    write_engine_file(Path("city.engine"), header, b"")
    words = ["city.engine" if word == "CITY" else word for word in words]
    done = rtpsp("eval", colour_engine, "--data", "sim://street?frames=1&w=160&h=120", *words)
    assert done.code == code and says in done.err, done.err
    assert done.err.count("\n") == 1 and "Traceback" not in done.err


def test_a_difference_has_a_sign_unless_it_rounds_to_nothing() -> None:
    row = percentages([1, None, -0.004, 2.346], signed=2)
    assert row == ["1.00", "-", "+0.00", "2.35"]
    assert percentages([-0.006, -5], signed=0) == ["-0.01", "-5.00"]
