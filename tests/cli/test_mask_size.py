"""``--mask-size frame`` from the command line, with an engine as the builder makes it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.build import BuildOptions, build_engine
from rtpsp.cli import main
from tests.conftest import save_frames

SIZE = (100, 130)  # larger than the model's 48x64, and no multiple of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pspnet_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    save_frames(folder, 3, SIZE)
    for tail in ("host", "graph"):
        build_engine(pspnet_model, folder / f"{tail}.engine", BuildOptions("fp32", head="plain", tail=tail))
    return folder


def ran(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_masks_of_the_frames_own_size_have_finer_borders(folder: Path) -> None:
    masks = {}
    for size in ("model", "frame"):
        out = folder / size
        words = ("--source", str(folder / "images"), "--engine", str(folder / "host.engine"), "--save-masks", str(out))
        assert ran("run", *words, "--mask-size", size) == 0
        masks[size] = [np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in sorted(out.glob("*.png"))]
        assert [mask.shape for mask in masks[size]] == [SIZE] * 3
    same = np.mean([np.mean(one == other) for one, other in zip(*masks.values(), strict=True)])
    assert 0.8 < same < 1, "the same answer, decided on other points"


def test_accuracy_at_the_frames_own_size(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = {}
    for size in ("model", "frame"):
        report = folder / f"{size}.json"
        words = (str(folder / "host.engine"), "--data", str(folder), "--json", str(report))
        assert ran("eval", *words, "--mask-size", size) == 0, capfd.readouterr().err
        found[size] = json.loads(report.read_text())
    assert found["model"]["pixels"] == found["frame"]["pixels"] == 3 * SIZE[0] * SIZE[1]
    assert found["model"]["confusion"] != found["frame"]["confusion"]
    assert abs(found["model"]["pixel_accuracy"] - found["frame"]["pixel_accuracy"]) < 10


def test_an_engine_whose_graph_gives_class_maps_cannot(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran("eval", str(folder / "graph.engine"), "--data", str(folder), "--mask-size", "frame") == 2
    assert "--tail host" in capfd.readouterr().err
