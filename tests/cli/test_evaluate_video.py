"""``rtpsp eval --video``."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.build import BuildOptions, build_engine
from rtpsp.labels import CAMVID
from tests.cli.conftest import Call
from tests.conftest import save_frames

PALETTE_BGR = np.array(CAMVID.palette, np.uint8)[:, ::-1]
SKY, ROAD, CAR = 0, 3, 8


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Three frames of 48x64, Sky over Road by their labels; in the second a Car is seen in a quarter of them."""
    for name in ("images", "labels"):
        (tmp_path / "drive" / name).mkdir(parents=True)
    for number in range(3):
        ids = np.full((48, 64), SKY, np.uint8)
        ids[24:] = ROAD
        cv2.imwrite(str(tmp_path / "drive" / "labels" / f"f{number:02d}.png"), ids)
        if number == 1:
            ids[24:, :32] = CAR
        cv2.imwrite(str(tmp_path / "drive" / "images" / f"f{number:02d}.png"), PALETTE_BGR[ids])
    return tmp_path / "drive"


def test_flicker_and_miou_over_time(rtpsp: Call, colour_engine: Path, drive: Path, tmp_path: Path) -> None:
    figures, plain, plot = tmp_path / "v.json", tmp_path / "plain.json", tmp_path / "new" / "plot.png"
    words = ("eval", colour_engine, "--data", drive)
    done = rtpsp(*words, "--video", "--window", "1", "--plot", plot, "--json", figures)
    assert done.code == 0 and not done.err, done.err
    told = json.loads(figures.read_text())
    video = told.pop("video")
    assert video["flicker"] == 25 and video["truth_changes"] == 0 and video["truth_changes_followed"] is None
    assert video["per_class_flicker"]["Road"] == 50 and video["per_class_flicker"]["Sky"] == 0
    assert video["per_class_flicker"]["Car"] is None
    assert video["frames"]["flicker"] == [None, 25, 25] and video["frames"]["name"] == ["f00.png", "f01.png", "f02.png"]
    assert video["frames"]["window_miou"] == video["frames"]["miou"] and video["frames"]["miou"][::2] == [100, 100]
    assert told.pop("smooth") is False
    assert rtpsp(*words, "--json", plain).code == 0
    assert told == json.loads(plain.read_text()), "all else is as without --video"
    for line in ("flicker %", "flicker 25.00 % of the pixels", "labels change at 0.00 %, where - %", str(plot)):
        assert line in done.out, line
    assert "mIoU over 1 frames: 50.00 at f01.png to 100.00 at" in done.out
    picture = cv2.imread(str(plot))
    assert picture is not None and picture.shape[1] == 1000


@pytest.mark.parametrize("mask_size", ["model", "frame"])
def test_smoothing_steadies_what_noise_shakes(mask_size: str, rtpsp: Call, pspnet_model: Path, tmp_path: Path) -> None:
    save_frames(tmp_path, 1, (60, 80))
    clean = cv2.imread(str(tmp_path / "images" / "00.png"))
    assert clean is not None
    noise = np.random.default_rng(0)
    for number in range(4):
        shaken = np.clip(clean + noise.normal(0, 6, clean.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number:02d}.png"), shaken)
        label = cv2.imread(str(tmp_path / "labels" / "00.png"), cv2.IMREAD_UNCHANGED)
        assert label is not None
        cv2.imwrite(str(tmp_path / "labels" / f"{number:02d}.png"), label)
    engine = build_engine(pspnet_model, tmp_path / "e.engine", BuildOptions("fp32", head="plain", tail="host")).path
    flicker = []
    for words in ((), ("--smooth",)):
        what = ("--data", tmp_path, "--video", "--mask-size", mask_size, "--json", tmp_path / "f.json")
        done = rtpsp("eval", engine, *what, *words)
        assert done.code == 0 and not done.err, done.err
        told = json.loads((tmp_path / "f.json").read_text())
        assert told["smooth"] == bool(words) and told["mask_size"] == mask_size
        flicker.append(told["video"]["flicker"])
    assert 0 < flicker[1] < flicker[0], flicker


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--plot", "p.png"], 2, "--plot is about the frames of a video: add --video"),
        (["--smooth"], 2, "--smooth is about the frames of a video: add --video"),
        (["--window", "3"], 2, "--window is about the frames of a video: add --video"),
        (["--video", "--window", "0"], 2, "--window"),
        (["--video", "--against", "E"], 2, "--video measures one engine, --against compares two"),
        (["--video", "--plot", "p.jpg"], 2, "--plot is p.jpg, expected the name of a picture that ends in .png"),
        (["--video", "--plot", "p.png", "--confusion", "p.png"], 2, "both go to p.png"),
        (["--video", "--plot", "file/p.png"], 7, "give another place with --plot"),
        (["--video", "--data", "sim://street?frames=1&w=160&h=120"], 3, "no two of 1 frames (street-1-000000) follow"),
        (["--video", "--smooth"], 2, "gives class maps of its own size alone, --smooth needs its scores: build it"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(
    words: list[str], code: int, says: str, rtpsp: Call, colour_engine: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    words = [str(colour_engine) if word == "E" else word for word in words]
    data = [] if "--data" in words else ["--data", "sim://street?frames=2&w=160&h=120"]
    done = rtpsp("eval", colour_engine, *data, *words)
    assert done.code == code and says in done.err, done.err
    assert done.err.count("\n") == 1 and "Traceback" not in done.err


def test_frames_in_another_order_are_refused_before_an_engine_is_looked_for(rtpsp: Call, tmp_path: Path) -> None:
    save_frames(tmp_path, 2)
    (tmp_path / "list.txt").write_text("images/01.png labels/01.png\nimages/00.png labels/00.png\n")
    done = rtpsp("eval", tmp_path / "none.engine", "--data", tmp_path / "list.txt", "--video")
    assert done.code == 3 and "images/00.png comes after images/01.png" in done.err, done.err


class Still:
    """A street on which nothing moves, made at once."""

    def __init__(self, height: int, width: int, fps: float, seed: int) -> None:
        self.size = height, width

    def draw(self, index: int, /) -> Image:
        return np.zeros((*self.size, 3), np.uint8)

    def truth(self, index: int, /) -> ClassMap:
        return np.full(self.size, ROAD, np.uint8)


def test_the_simulator_gives_every_frame_unless_it_is_told_a_step(
    rtpsp: Call, colour_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtpsp.data.simulated._make_street", Still)
    for words, step in (("", 1), ("&step=4", 4)):
        data = f"sim://street?frames=2&w=160&h=120{words}"
        done = rtpsp("eval", colour_engine, "--data", data, "--video")
        assert done.code == 0 and not done.err, done.err
        assert f"{data.removesuffix('&step=4')}&step={step}: 2 images" in done.out
        assert ("each frame 4 after the one before" in done.out) == (step == 4)
    assert "step=15" in rtpsp("eval", "--help").out


def test_a_window_that_no_run_fills_has_no_figure(rtpsp: Call, colour_engine: Path, drive: Path) -> None:
    for window, full in ((3, True), (99, False)):
        done = rtpsp("eval", colour_engine, "--data", drive, "--video", "--window", window)
        assert done.code == 0 and not done.err, done.err
        assert ("mIoU over 3 frames" in done.out) == full and ("mIoU over 99" in done.out) is False
        assert ("\n3 frames, fewer than the window of 99\n" in done.out) != full


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["first.onnx"], 2, "is a model, an engine was expected: make one with 'rtpsp build-engine first.onnx'"),
        (["model.pth"], 2, "model.pth is a checkpoint, an engine was expected: make one with 'rtpsp export model.pth"),
        (["--data", "o.mp4"], 3, "o.mp4 is a video, which has no labels: give a folder of frames and their labels"),
        (["--data", "."], 3, "for split 'val' expected folders val/ and valannot/"),
    ],
)  # fmt: skip
def test_what_is_no_engine_and_what_is_no_data(
    words: list[str], code: int, says: str, rtpsp: Call, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data are looked at first: no engine is built for these."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path / "engines"))
    for name in ("first.onnx", "model.pth", "o.mp4"):
        Path(name).touch()
    data = [] if "--data" in words else ["--data", str(drive)]
    done = rtpsp("eval", *words, *data)
    assert done.code == code and says in done.err and done.err.count("\n") == 1, done.err
    assert not Path("engines").exists()
