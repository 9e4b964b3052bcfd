"""``rtpsp run --smooth``, with an engine as the builder makes it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.build import BuildOptions, build_engine
from rtpsp.class_mapper import ClassMapper
from rtpsp.engine import load_engine
from rtpsp.engine.base import EngineOptions
from rtpsp.fit import plan_fit
from rtpsp.smoothing import Smoother
from rtpsp.upsampling import Grid
from tests.cli.conftest import Call

SIZE, COUNT = (60, 80), 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pspnet_model: Path) -> Path:
    """One scene in the noise of a poor camera, in ``frames``, and an engine that gives scores."""
    folder = tmp_path_factory.mktemp("smooth")
    (folder / "frames").mkdir()
    random = np.random.default_rng(0)
    scene = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    for number in range(COUNT):
        frame = np.clip(scene + random.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "frames" / f"{number}.png"), frame)
    build_engine(pspnet_model, folder / "x.engine", BuildOptions("fp32", head="plain", tail="host"))
    return folder


def images(folder: Path) -> list[Image]:
    found = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png")))
    return [np.asarray(image, np.uint8) for image in found if image is not None]


def filtered(folder: Path, smoother: Smoother | None) -> list[ClassMap]:
    """Class maps of the engine's own scores, one by one, without a loop."""
    found = []
    with load_engine(folder / "x.engine", EngineOptions(threads=1)) as engine:
        assert engine.cells is not None
        mapper, plan = ClassMapper(Grid.whole(engine.cells, engine.spec.size), "uint8"), plan_fit(SIZE, engine.spec)
        for image in images(folder / "frames"):
            seen = plan.to_model(image)
            scores = engine.infer(seen[np.newaxis]).scores
            assert scores is not None
            found.append(plan.to_source(mapper(smoother(scores[0], seen) if smoother else scores[0])))
    return found


@pytest.mark.parametrize("depth", [1, 2])
def test_masks_are_those_of_scores_filtered_frame_by_frame(
    rtpsp: Call, folder: Path, tmp_path: Path, depth: int
) -> None:
    masks, told, printed = {}, {}, {}
    for name, words in (("plain", ()), ("smooth", ("--smooth",))):
        done = rtpsp(
            "run", "--source", folder / "frames", "--engine", folder / "x.engine", "--no-show", "--threads", "1",
            "--depth", depth, "--save-masks", tmp_path / name, "--report", tmp_path / f"{name}.json", *words,
        )  # fmt: skip
        assert done.code == 0, done.err
        masks[name], printed[name] = images(tmp_path / name), done.out
        told[name] = json.loads((tmp_path / f"{name}.json").read_text())
    np.testing.assert_array_equal(masks["plain"], filtered(folder, None))
    np.testing.assert_array_equal(masks["smooth"], filtered(folder, Smoother()))
    changes = {name: np.mean(np.diff(np.array(of, int), axis=0) != 0) for name, of in masks.items()}
    assert changes["smooth"] < changes["plain"]
    assert [told[name]["engine"]["smooth"] for name in ("plain", "smooth")] == [False, True]
    assert told["smooth"]["stages_ms"]["smooth"]["count"] == COUNT and "smooth" not in told["plain"]["stages_ms"]
    assert ", smoothed\n" in printed["smooth"] and "smooth" not in printed["plain"]


def test_what_cannot_be_smoothed_is_one_line(rtpsp: Call, colour_engine: Path) -> None:
    run = ("run", "--source", "sim://street?frames=2&w=160&h=120", "--no-show", "--smooth")
    done = rtpsp(*run, "--engine", colour_engine)
    assert done.code == 2
    assert done.err == (
        "rtpsp: engine of colours gives class maps of its own size alone, --smooth needs its scores: build it with "
        "'rtpsp build-engine MODEL --tail host'\n"
    )
    done = rtpsp(*run, "--device-io", "on", "--engine", "none.engine")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--smooth needs them: leave it or --device-io on out" in done.err


def test_a_config_file_may_ask_for_it(rtpsp: Call, colour_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "rtpsp.toml").write_text("[run]\nsmooth = true\n")
    words = ("--source", "sim://street?frames=2&w=160&h=120", "--engine", colour_engine, "--no-show")
    done = rtpsp("run", "--config", tmp_path / "rtpsp.toml", *words)
    assert done.code == 2 and "--smooth needs its scores" in done.err, done.err
