"""A whole race against peers that need no library: who is timed, who is left out and why."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rtpsp.bench.peers import PeersOptions, peers_folder, read_peers, run_peers
from rtpsp.bench.peers_material import make_material
from rtpsp.errors import DataError, MissingError, UsageError
from tests.bench.fake_peers import GOOD, PEERS, add_peer, fake_folder
from tests.conftest import COLOUR_HEIGHT, COLOUR_WIDTH, save_colour_model

FRAMES = np.random.default_rng(2).integers(0, 256, (3, COLOUR_HEIGHT, COLOUR_WIDTH, 3), np.uint8)
WRONG = GOOD.replace('"f32", 1', '"bf16", 1').replace(".astype(np.uint8)", ".astype(np.uint8) * 0")
NOT_HERE = GOOD.replace("def load(job):", "def load(job):\n    raise NotHere('it needs two heads')")


def options(folder: Path, model: Path, engine: Path) -> PeersOptions:
    return PeersOptions(
        model, seconds=0.1, warmup=0.0, frames=list(FRAMES), calibration=list(FRAMES), engines={"fp32": engine},
        folder=folder, quick=True,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def python_of(requirements: Path, folder: Path) -> Path:
        if requirements.parent.name == "absent":
            raise MissingError("absent could not be installed (no such wheel): is there a network?")
        return Path(sys.executable)

    monkeypatch.setattr("rtpsp.bench.peers_race.environment_python", python_of)


def test_a_race_times_who_answers_rightly_and_says_why_others_are_left_out(
    tmp_path: Path, colour_model: Path, colour_engine: Path
) -> None:
    folder = fake_folder(tmp_path)
    add_peer(folder, "absent")
    add_peer(folder, "good")
    add_peer(folder, "good-loop", race="loop")
    add_peer(folder, "not-here", NOT_HERE)
    add_peer(folder, "wrong", WRONG)
    told: list[tuple[str, float]] = []
    report = run_peers(options(folder, colour_model, colour_engine), lambda *what: told.append(what))
    (row,), (loop,) = report.rows, report.loops
    assert (row.name, row.ran, row.threads, row.agreement) == ("Good fp32", "f32", 1, 100.0)
    assert len(row.times) == len(row.ours["fp32"]) >= 3
    assert row.ratio is not None and row.default_ratio is not None and row.ratio.median > 0
    assert loop.name == "Good-Loop fp32" and len(loop.times) == len(loop.ours["fp32"]) == 3
    reasons = {entry.name: entry.reason for entry in report.skipped}
    assert reasons["Absent fp32"].startswith("absent could not be installed (no such wheel)")
    assert reasons["Not-Here fp32"] == "it needs two heads"
    assert "answers like FP32 on" in reasons["Wrong fp32"]
    assert not report.enough
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    json.dumps(report.to_dict())


def test_a_person_ends_it_without_an_error(tmp_path: Path, colour_model: Path, colour_engine: Path) -> None:
    folder = fake_folder(tmp_path)
    add_peer(folder, "good")
    report = run_peers(options(folder, colour_model, colour_engine), stopped=lambda: True)
    assert not report.entries and not report.skipped


def test_a_peer_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    folder = fake_folder(tmp_path)
    add_peer(folder, "good")
    with pytest.raises(UsageError, match="no peer 'better': use good"):
        read_peers(folder, ["better"])


def test_without_a_checkout_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rtpsp.bench.peers.__file__", str(tmp_path / "rtpsp" / "bench" / "peers.py"))
    with pytest.raises(UsageError, match="come with a checkout"):
        peers_folder()


def test_the_material_is_what_a_library_reads(tmp_path: Path, pspnet_model: Path) -> None:
    import cv2
    from onnx import load_model

    large = [np.repeat(np.repeat(frame, 2, 0), 2, 1) for frame in FRAMES]
    material = make_material(pspnet_model, tmp_path, large, large, None, 4)
    assert material.job["average"] and material.count == 3 and not material.brings_ranges
    assert np.load(material.small_frames).shape == FRAMES.shape
    assert [answer.shape for answer in material.reference] == [(COLOUR_HEIGHT, COLOUR_WIDTH)] * 3
    assert "Cast" not in {node.op_type for node in load_model(material.job["model"]).graph.node}
    names = set(np.load(material.job["weights"]).files)
    assert {"backbone.bn1.running_mean", "head.classifier.weight"} <= names
    assert not [name for name in names if "/" in name or name.startswith("pools.")]
    assert len(list(material.calibration_folder().glob("*.png"))) == 3
    video = cv2.VideoCapture(material.job["video"])
    frame = video.read()[1]
    assert frame is not None and frame.shape == (COLOUR_HEIGHT, COLOUR_WIDTH, 3)
    assert frame.std() > 5  # a street, and no grey


def test_the_weights_are_those_of_the_checkpoint(tmp_path: Path, pspnet_model: Path) -> None:
    import dataclasses

    import torch

    from rtpsp.model.pspnet import ARCHS, build

    material = make_material(pspnet_model, tmp_path, list(FRAMES), list(FRAMES), None, 2)
    network = build(dataclasses.replace(ARCHS["pspnet18"].narrowed(8), blocks=(1, 1, 1, 1)), 11)
    stored = np.load(material.job["weights"])
    state = {name: torch.from_numpy(stored[name]) for name in stored.files}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("aux.") or name.endswith("num_batches_tracked") for name in missing)


def test_a_model_that_does_not_stretch_gets_frames_of_its_size(tmp_path: Path) -> None:
    model = tmp_path / "boxed.onnx"
    save_colour_model(model, "letterbox")
    (tmp_path / "work").mkdir()
    wide = [np.repeat(frame, 2, 1) for frame in FRAMES]
    material = make_material(model, tmp_path / "work", wide, wide, None, 2)
    assert np.load(material.job["frames"]).shape == FRAMES.shape
    with pytest.raises(DataError, match="differ in size"):
        make_material(model, tmp_path / "work", [wide[0], FRAMES[0]], wide, None, 2)


@pytest.mark.parametrize("peer", read_peers(PEERS), ids=lambda peer: peer.name)
def test_each_peer_of_the_checkout_is_whole(peer: object) -> None:
    from rtpsp.bench.peers import Peer

    assert isinstance(peer, Peer)
    lines = (peer.folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")]
    tree = ast.parse(peer.file.read_text(encoding="utf-8"))
    assert "load" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert peer.precisions and peer.guide.startswith("https://")


def test_the_checkout_has_the_peers_that_people_use() -> None:
    names = {peer.name: peer.loops for peer in read_peers(peers_folder())}
    assert names == {
        "onnxruntime": False, "opencv-dnn": False, "openvino": False, "openvino-model-api": True, "plain-loop": True,
        "pytorch-compiled": False, "pytorch-eager": False,
    }  # fmt: skip
