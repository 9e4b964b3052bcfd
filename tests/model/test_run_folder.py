"""What a training leaves on disk: whole files or none, the best beside the last, a log with every epoch."""

from __future__ import annotations

import csv
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rtpsp.errors import InputError, OutputError
from rtpsp.model import run_folder
from rtpsp.model.checkpoint import open_checkpoint
from rtpsp.model.pspnet import ARCHS, build
from rtpsp.model.train import Trainer
from rtpsp.model.train_options import TrainOptions
from rtpsp.model.train_records import EpochRecord, SetScore
from rtpsp.spec import ModelSpec
from tests.shapes import SHAPES, SPEC, Drawn, narrowed

BIAS = "head.classifier.bias"


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """One that has done nothing; epochs are added to its history by hand."""
    monkeypatch.setitem(ARCHS, "pspnet18", narrowed())
    torch.manual_seed(1)
    return Trainer(build("pspnet18", len(SHAPES)), SPEC, Drawn(2), 2, TrainOptions(batch=2, precision="fp32"))


def close_epoch(trainer: Trainer, miou: float | None) -> None:
    scores = {} if miou is None else {"val": SetScore(miou, 2 * miou, (miou, None, miou)), "w, x": SetScore(1, 2, (3,))}
    trainer.step += 1
    trainer.history.append(EpochRecord(trainer.step, trainer.step, 0.01, 1.25, 0.75, 3.25, scores))
    with torch.no_grad():
        trainer.average.module.get_parameter(BIAS).fill_(trainer.step)


def bias_of(path: Path) -> float:
    return float(open_checkpoint(path).model.state_dict()[BIAS][0])


def test_the_best_stays_and_the_last_follows(trainer: Trainer, tmp_path: Path) -> None:
    for miou in (None, 30.0, 50.0, 40.0, None):
        close_epoch(trainer, miou)
        run_folder.save(tmp_path, trainer)
    assert bias_of(tmp_path / "model.pth") == 5 and bias_of(tmp_path / "best.pth") == 3
    kept = torch.load(tmp_path / "best.pth", weights_only=True)
    assert kept["training"]["epoch"] == 3 and kept["training"]["scores"]["val"]["miou"] == 50
    assert ModelSpec.from_json(kept["rtpsp"]["spec"]) == SPEC
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pth", "log.csv", "model.pth", "state.pth"]


def test_the_log_has_a_line_an_epoch(trainer: Trainer, tmp_path: Path) -> None:
    for miou in (None, 30.0):
        close_epoch(trainer, miou)
    run_folder.save(tmp_path, trainer)
    first, second = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert first["val: miou"] == "" and first["loss"] == "1.25" and first["seconds"] == "3.2"
    assert (second["epoch"], second["val: miou"], second["val: pixel_accuracy"]) == ("2", "30.000", "60.000")
    assert (second["val: iou red"], second["val: iou blue"], second["w, x: iou red"]) == ("30.000", "", "3.000")


def test_in_the_middle_of_an_epoch_the_state_alone_is_written(trainer: Trainer, tmp_path: Path) -> None:
    close_epoch(trainer, 1.0)
    trainer.step += 1
    run_folder.save(tmp_path, trainer)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pth"] and run_folder.has_state(tmp_path)


@pytest.mark.parametrize("fails_at", ["model.pth", "best.pth", "log.csv", "state.pth"])
def test_a_full_disk_leaves_what_was_there(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    close_epoch(trainer, 1.0)
    run_folder.save(tmp_path, trainer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    close_epoch(trainer, 2.0)
    replace_file = os.replace

    def full(part: Any, target: Any) -> None:
        if Path(target).name == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(part, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=rf"{fails_at}.*No space left on device.*free the disk"):
        run_folder.save(tmp_path, trainer)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys() and after[fails_at] == before[fails_at]
    run_folder.restore(tmp_path, trainer)
    assert trainer.step == 1 and len(trainer.history) == 1, "the state is never newer than the rest"


def test_a_state_comes_back_to_the_bit(trainer: Trainer, tmp_path: Path) -> None:
    close_epoch(trainer, 12.3)
    run_folder.save(tmp_path, trainer)
    drawn = torch.rand(3)
    history = list(trainer.history)
    close_epoch(trainer, None)
    run_folder.restore(tmp_path, trainer)
    assert trainer.history == history and torch.equal(torch.rand(3), drawn)
    assert float(trainer.weights_now()[BIAS][0]) == 1


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def other(path: Path) -> None:
    torch.save({"version": 99}, path)


def of_another(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    del state["model"][BIAS]
    torch.save(state, path)


def without_history(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    del state["history"][0]["epoch"]
    torch.save(state, path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (damaged, r"state\.pth is damaged.*train again.*--init"),
        (other, r"state\.pth is not the state of a training by this rtpsp"),
        (of_another, r"state\.pth does not fit the recipe\.json beside it"),
        (without_history, r"state\.pth does not fit"),
        (Path.unlink, r"holds no state\.pth"),
    ],
)
def test_a_spoilt_state_gets_one_line(trainer: Trainer, tmp_path: Path, spoil: Any, says: str) -> None:
    close_epoch(trainer, 1.0)
    run_folder.save(tmp_path, trainer)
    spoil(tmp_path / "state.pth")
    with pytest.raises(InputError, match=says) as caught:
        run_folder.restore(tmp_path, trainer)
    assert "\n" not in str(caught.value)


def test_another_training_set_is_noticed(trainer: Trainer, tmp_path: Path) -> None:
    close_epoch(trainer, 1.0)
    trainer.history[0] = replace(trainer.history[0], epoch=1, step=3)
    with pytest.raises(InputError, match="had 3 steps and has 1 now"):
        trainer.restore(trainer.state(), trainer.history)
    with pytest.raises(InputError, match="2 steps of an epoch were done and it has 1 now"):
        trainer.restore({**trainer.state(), "step": 2}, [])


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_damaged_recipe_gets_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InputError, match=r"recipe\.json is (damaged|not the recipe)"):
        run_folder.read_recipe(tmp_path)
    with pytest.raises(InputError, match=r"recipe\.json cannot be read \(No such file"):
        run_folder.read_recipe(tmp_path / "none")
