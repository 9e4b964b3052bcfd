"""Models of one and of four planes, from their export to masks, a video and an accuracy, by the commands of a user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.fit import plan_fit
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.onnx_file import save_model
from rtpsp.planes import to_planes
from rtpsp.spec import Channels, ModelSpec, Planes
from tests.cli.conftest import Call

SIZE, PICTURE = (48, 64), (60, 90)
COUNT = 10
LABELS = LabelSet("four", ("a", "b", "c", "d"), distinct_palette(4), ignore=255)
MEAN, STD = (0.45, 0.5, 0.55, 0.4), (0.2, 0.22, 0.25, 0.3)
CHANNELS: dict[int, Channels] = {1: "grey", 4: "rgbx"}


class Set:
    """A model, images as its planes have them, and what the network says to them by torch alone."""

    def __init__(self, folder: Path, planes: Planes) -> None:
        import dataclasses

        from rtpsp.model.export import to_onnx
        from rtpsp.model.pspnet import ARCHS, build
        from rtpsp.model.synthetic import randomise_statistics

        self.folder, self.planes = folder, planes
        self.engines: dict[tuple[str, ...], Path] = {}
        self.spec = ModelSpec(
            f"planes{planes}", "pspnet18", *SIZE, LABELS, mean=MEAN[:planes], std=STD[:planes],
            channels=CHANNELS[planes], fit="letterbox",
        )  # fmt: skip
        self.network = build(dataclasses.replace(ARCHS["pspnet18"].narrowed(8), blocks=(1, 1, 1, 1)), 4, inputs=planes)
        randomise_statistics(self.network)
        self.model, self.data = folder / "x.onnx", folder / "data"
        save_model(to_onnx(self.network, self.spec), self.spec, self.model)
        random = np.random.default_rng(planes)
        for name in ("images", "labels"):
            (self.data / name).mkdir(parents=True)
        for number in range(COUNT):
            coarse = random.integers(0, 256, (6, 8, planes), np.uint8)
            image = cv2.resize(coarse, PICTURE[::-1], interpolation=cv2.INTER_CUBIC)
            assert cv2.imwrite(str(self.data / "images" / f"{number}.png"), image)
            answer = self.answer(np.asarray(image, np.uint8).reshape(*PICTURE, planes))
            answer[:, :5] = 255  # void
            assert cv2.imwrite(str(self.data / "labels" / f"{number}.png"), answer)

    def answer(self, image: Image) -> ClassMap:
        """Class ids of an image's own size: normalised as published, through the network, and back."""
        import torch

        plan = plan_fit(PICTURE, self.spec)
        ordered = plan.to_model(image)[..., [2, 1, 0, 3][: self.planes] if self.planes == 4 else [0]]
        normal = (ordered / 255 - np.array(self.spec.mean)) / np.array(self.spec.std)
        with torch.no_grad():
            logits = self.network(torch.from_numpy(normal.transpose(2, 0, 1)[None]).float())
        return plan.to_source(logits[0].argmax(0).numpy().astype(np.uint8))

    def built(self, rtpsp: Call, *options: str) -> Path:
        """An engine of the model, of the same options the same one."""
        if options not in self.engines:
            path = self.folder / f"{len(self.engines)}.engine"
            plain = ("--threads", "1", "--head", "plain", "--tail", "graph")
            done = rtpsp("build-engine", self.model, "-o", path, *plain, *options)
            assert done.code == 0, done.err
            self.engines[options] = path
        return self.engines[options]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Set]:
    made: dict[int, Set] = {}

    def get(planes: int) -> Set:
        if planes not in made:
            made[planes] = Set(tmp_path_factory.mktemp(f"planes{planes}"), 1 if planes == 1 else 4)
        return made[planes]

    return get


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))


def masks_of(folder: Path) -> list[ClassMap]:
    found = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))]
    return [np.asarray(mask, np.uint8) for mask in found if mask is not None]


FP32 = ("--fp32", "--backend", "onnxruntime")
LOOSE = ("--min-agreement", "0", "--max-miou-drop", "100")


@pytest.mark.parametrize(
    ("planes", "options", "least"),
    [
        (1, FP32, 0.999),
        (4, FP32, 0.999),
        (1, ("--int8", "--backend", "openvino", "--head", "split"), 0.9),
        (4, ("--int8", "--backend", "onnxruntime"), 0.9),
    ],
)
def test_from_the_export_to_masks_a_video_and_an_accuracy(
    rtpsp: Call, sets: Callable[[int], Set], tmp_path: Path,
    planes: int, options: tuple[str, ...], least: float,
) -> None:  # fmt: skip
    given = sets(planes)
    calibrated = ("--calib", str(given.data), *LOOSE) if "--int8" in options else ()
    engine = given.built(rtpsp, *options, *calibrated)
    images = given.data / "images"
    done = rtpsp(
        "run", "--source", images, "--engine", engine, "--save-masks", tmp_path / "masks", "-o", tmp_path / "x.mp4",
        "--view", "side-by-side", "--no-show", "--threads", "1",
    )  # fmt: skip
    assert done.code == 0, done.err
    truths, masks = masks_of(given.data / "labels"), masks_of(tmp_path / "masks")
    assert len(masks) == COUNT and all(mask.shape == PICTURE for mask in masks)
    counted = [truth != 255 for truth in truths]
    same = [(mask == truth)[where].mean() for mask, truth, where in zip(masks, truths, counted, strict=True)]
    assert np.mean(same) > least, "of the pixels have the class that the network gives them"
    with av.open(str(tmp_path / "x.mp4")) as video:
        pictures = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    assert len(pictures) == COUNT
    shown = cv2.imread(str(images / "0.png"), cv2.IMREAD_COLOR)  # the left half is the frame as anybody sees it
    assert shown is not None and np.abs(pictures[0][:, : PICTURE[1]].astype(float) - shown).mean() < 12
    done = rtpsp("eval", engine, "--data", given.data, "--json", tmp_path / "x.json", "--threads", "1")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["images"] == COUNT and told["pixel_accuracy"] == pytest.approx(100 * np.mean(same), abs=0.01)


def test_a_model_of_grey_frames_takes_colour_ones(rtpsp: Call, sets: Callable[[int], Set], tmp_path: Path) -> None:
    """Files, the simulator and comparisons; what it sees of a colour is its luma."""
    given = sets(1)
    engine = given.built(rtpsp, *FP32)
    (tmp_path / "colour").mkdir()
    random = np.random.default_rng(8)
    colour = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), PICTURE[::-1], interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(tmp_path / "colour" / "a.png"), colour)
    saved = ("--no-show", "--threads", "1", "--save-masks", tmp_path / "masks")
    assert rtpsp("run", "--source", tmp_path / "colour", "--engine", engine, *saved).code == 0
    expected = given.answer(to_planes(np.asarray(colour, np.uint8), 1))
    assert (masks_of(tmp_path / "masks")[0] == expected).mean() > 0.999
    street = "sim://street?w=160&h=120&frames=3"
    ran = rtpsp("run", "--source", street, "--engine", engine, "-o", tmp_path / "x.mp4", "--no-show")
    assert ran.code == 0, ran.err
    with av.open(str(tmp_path / "x.mp4")) as video:
        (picture, *_) = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    assert np.ptp(picture.astype(int), axis=2).max() > 30, "a video in colour is drawn over in colour"
    compared = rtpsp("compare", engine, engine, "--source", street, "--threads", "1", "--json", tmp_path / "c.json")
    assert compared.code == 0, compared.err
    assert json.loads((tmp_path / "c.json").read_text())["agreement"] == 100


def test_a_model_of_four_planes_says_what_it_lacks(rtpsp: Call, sets: Callable[[int], Set], tmp_path: Path) -> None:
    given = sets(4)
    engine = given.built(rtpsp, *FP32)
    told = rtpsp("inspect", engine).out
    assert "rgbx, mean 0.45 0.5 0.55 0.4, std 0.2 0.22 0.25 0.3" in told
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "labels").mkdir()
    for number, planes in enumerate((4, 3)):
        image = np.full((*PICTURE, planes), 60, np.uint8)
        assert cv2.imwrite(str(tmp_path / "data" / "images" / f"{number}.png"), image)
        assert cv2.imwrite(str(tmp_path / "data" / "labels" / f"{number}.png"), image[..., 0] // 60)
    images = tmp_path / "data" / "images"
    run = ("--no-show", "--save-masks", tmp_path / "masks", "--engine", engine)
    for words, says in (
        (("run", "--source", "sim://street?frames=3", *run), "is the simulator without a fourth plane, and the model"),
        (("run", "--source", images, *run), "1.png is an image of 3 plane(s) without a fourth plane"),
        (("eval", engine, "--data", tmp_path / "data"), "1.png has planes 3, the model takes 4: give files with a"),
        (("eval", engine, "--data", "sim://street?frames=2&w=160&h=120"), "such as RGBA PNG files"),
        (("compare", engine, engine), "is the simulator without a fourth plane"),
        (("build-engine", given.model, "--calib", images, "-o", tmp_path / "y.engine"), "1.png has planes 3"),
    ):
        done = rtpsp(*words)
        last = done.err.strip().splitlines()[-1]
        assert done.code == 3 and says in last, (words, done.err)


def test_a_bench_has_frames_of_them(rtpsp: Call, sets: Callable[[int], Set], tmp_path: Path) -> None:
    engine = sets(4).built(rtpsp, "--fp32", "--backend", "openvino")
    short = ("--duration", "0.05", "--warmup", "0", "--threads", "1")
    done = rtpsp("bench", engine, *short, "--json", tmp_path / "b.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "b.json").read_text())["loop"]["source"]["planes"] == 4
