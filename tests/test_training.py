"""Trainings from end to end: they learn, they go on where they were to the bit, and they say what is wrong first."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtpsp.data.dataset import open_dataset
from rtpsp.errors import DataError, ModelError, UsageError
from rtpsp.evaluate import evaluate, segmenter
from rtpsp.labels import CAMVID
from rtpsp.onnx_file import load_model
from rtpsp.train_job import TrainJob
from tests.shapes import SHAPES, SIZE, SPEC, narrowed, save_shapes, spec

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from rtpsp.graph.verify import run  # noqa: E402
from rtpsp.model import train as steps  # noqa: E402
from rtpsp.model.export import export_checkpoint  # noqa: E402
from rtpsp.model.pspnet import ARCHS  # noqa: E402
from rtpsp.model.run_lock import RunLock  # noqa: E402
from rtpsp.model.train import Trainer  # noqa: E402
from rtpsp.model.train_options import Precision, TrainOptions  # noqa: E402
from rtpsp.model.train_records import Moment, Stopped  # noqa: E402
from rtpsp.training import Listener, resume, train  # noqa: E402

SHORT = TrainOptions(epochs=2, batch=2, lr=0.02, warmup=0.2, ema=0.9, validate_every=1, precision="fp32")
"""Of five images: three steps an epoch."""


@pytest.fixture(autouse=True, scope="module")
def narrow() -> Iterator[None]:
    """One thread, and networks of a 64th of the width's work, one block a layer."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHS, "pspnet18", replace(narrowed(), blocks=(1, 1, 1, 1)))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_shapes(tmp_path_factory.mktemp("data"), {"train": 5, "val": 2})


def job(data: Path, options: TrainOptions = SHORT, **more: Any) -> TrainJob:
    return TrainJob(**{"data": str(data), "spec": SPEC, "options": options, **more})


def go(job: TrainJob, folder: Path, **more: Any) -> Trainer:
    return train(job, folder, Listener(**more), device="cpu", threads=1)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    go(job(data), folder)
    return folder


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def results(folder: Path) -> dict[str, Any]:
    """All that a training left, but for seconds."""
    read = {name: torch.load(folder / f"{name}.pth", weights_only=True) for name in ("state", "model", "best")}
    read["state"]["sums"].pop()
    for record in read["state"]["history"]:
        record.pop("seconds")
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    return {**read, "log": [{key: value for key, value in row.items() if key != "seconds"} for row in rows]}


def stop_at(step: int) -> dict[str, Any]:
    """A listener's parts that stop behind that step."""
    reached: list[bool] = []

    def note(moment: Moment) -> None:
        reached.extend([True] * (moment.step >= step))

    return {"moment": note, "stopped": lambda: bool(reached)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_is_stopped_and_resumed_ends_as_if_it_had_not_been(
    data: Path, whole: Path, tmp_path: Path, precision: Precision
) -> None:
    options = replace(SHORT, precision=precision)
    if precision == "bf16":
        whole = tmp_path / "whole"
        go(job(data, options), whole)
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        go(job(data, options), folder, **stop_at(1))
    for step in (3, 5):  # the end of an epoch, before its validation; and the middle of the next one
        with pytest.raises(Stopped):
            resume(folder, Listener(**stop_at(step)), device="cpu", threads=1)
        assert torch.load(folder / "state.pth", weights_only=True)["step"] == step
    told: list[str] = []
    resume(folder, Listener(say=told.append), device="cpu", threads=1)
    assert "going on at step 5 of 6" in "\n".join(told)
    assert same(results(folder), results(whole))
    assert results(whole)["state"]["optimiser"]["state"][0]["momentum_buffer"].abs().max() > 0


def test_a_training_that_dies_goes_on_from_the_last_step_that_was_saved(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SAVE_EVERY_S", -1.0)

    def die(moment: Moment) -> None:
        if moment.step == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(job(data), tmp_path, moment=die)
    assert torch.load(tmp_path / "state.pth", weights_only=True)["step"] == 1
    resume(tmp_path, threads=1, device="cpu")
    assert same(results(tmp_path), results(whole))


def test_a_training_that_saved_nothing_begins_anew(data: Path, whole: Path, tmp_path: Path) -> None:
    def die(moment: Moment) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(job(data), tmp_path, moment=die)
    told: list[str] = []
    resume(tmp_path, Listener(say=told.append), threads=1, device="cpu")
    assert "nothing was saved yet" in told[0] and same(results(tmp_path), results(whole))


def test_a_training_that_is_done_stays_as_it_is(whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.iterdir()}
    told: list[str] = []
    assert resume(whole, Listener(say=told.append), threads=1, device="cpu").step == 6
    assert told[0].endswith(f"finished after 2 epochs; to train on: --init {whole / 'model.pth'} -o another")
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Trainer]:
    """Some images learnt: where they are, what was written, and the trainer."""
    folder = tmp_path_factory.mktemp("learnt")
    data = save_shapes(folder / "data", {"train": 16, "val": 2}, (80, 120))
    options = TrainOptions(
        epochs=12, batch=4, lr=0.02, ema=0.5, scale=(1.0, 1.0), colour=0.0, validate_every=6, precision="fp32"
    )
    return data, folder / "run", go(job(data, options), folder / "run")


def test_colours_are_learnt(learnt: tuple[Path, Path, Trainer]) -> None:
    *_, trainer = learnt
    first, last = trainer.history[0], trainer.history[-1]
    assert last.scores["val"].miou > 45 and last.loss < 0.5 * first.loss
    assert [record.epoch for record in trainer.history if record.scores] == [6, 12]


def test_validation_says_what_the_exported_model_does(learnt: tuple[Path, Path, Trainer], tmp_path: Path) -> None:
    """Which also holds that training normalises as the graph does: the classes differ by red and blue alone."""
    data, folder, trainer = learnt
    assert export_checkpoint(folder / "model.pth", None, None, None, tmp_path / "shapes.onnx") == SPEC
    graph, _ = load_model(tmp_path / "shapes.onnx")
    segment = segmenter(lambda frames: np.asarray(run(graph, SPEC, frames, threads=1).class_map), SPEC)
    score, said = evaluate(segment, open_dataset(data, labels=SHAPES), SHAPES), trainer.history[-1].scores["val"]
    assert score.miou == pytest.approx(said.miou, abs=0.2)
    assert score.per_class_iou == pytest.approx(said.per_class_iou, abs=0.5)


def test_the_curve_is_a_picture(learnt: tuple[Path, Path, Trainer]) -> None:
    _, folder, _ = learnt
    picture = cv2.imread(str(folder / "curve.png"))
    assert picture is not None and picture.shape[0] >= 400
    assert len(np.unique(picture[::5, ::5].reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("once", [False, True])
def test_a_model_teaches_another_and_begins_a_third(
    learnt: tuple[Path, Path, Trainer], tmp_path: Path, once: bool
) -> None:
    data, folder, _ = learnt
    best = str(folder / "model.pth")
    told: list[str] = []
    options = replace(SHORT, epochs=1, batch=4, distil=1.0, teacher_flip=True, teacher_once=once)
    trainer = go(job(data, options, teachers=(best,), init=best), tmp_path / "taught", say=told.append)
    assert sum(best in text for text in told) == 2
    untaught = go(job(data, options, teachers=(best,)), tmp_path / "untaught")
    assert trainer.history[-1].loss < 0.5 * untaught.history[-1].loss, "it begins as its own teacher, dropout aside"
    assert (tmp_path / "taught" / "answers").is_dir() == once
    if once:  # as after a kill while teachers are asked: answers to one teacher are not another's
        for path in (tmp_path / "taught").iterdir():
            if path.suffix in (".pth", ".csv"):
                path.unlink()
        with pytest.raises(UsageError, match=r"holds answers already: go on with --resume"):
            go(job(data, options, teachers=(best,)), tmp_path / "taught")
    with pytest.raises(ModelError, match=r"teacher .*model\.pth has 3 classes, the student 11"):
        go(job(data, spec=spec(labels=CAMVID), teachers=(best,)), tmp_path / "other")


def test_what_is_mixed_in_is_learnt_too(data: Path, tmp_path: Path) -> None:
    """A class that only the further data has counts in the balance."""
    plain = save_shapes(tmp_path / "plain", {"train": 4})
    for path in (plain / "trainannot").iterdir():
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert label is not None
        label[label == 0] = 2
        cv2.imwrite(str(path), label)
    (tmp_path / "list.txt").write_text(f"{data / 'train' / '00.png'} {data / 'trainannot' / '00.png'}\n")
    told: list[str] = []
    options = replace(SHORT, epochs=1)
    for mix in ((), ((str(tmp_path / "list.txt"), 0.5),)):
        more = {"val_split": None, "mix": mix}
        trainer = go(job(plain, options, **more), tmp_path / f"run{len(mix)}", say=told.append)
        assert trainer.weights is not None and bool(trainer.weights[0] > 0) == bool(mix)
        assert trainer.steps_per_epoch == (4 if mix else 2) and trainer.history[-1].scores == {}
        assert ("no pixel to learn red from" in told[-1]) == (not mix)
    assert not (tmp_path / "run0" / "best.pth").exists()


def ids_out_of_range(data: Path) -> None:
    cv2.imwrite(str(data / "trainannot" / "00.png"), np.full(SIZE, 3, np.uint8))


def sizes_that_differ(data: Path) -> None:
    cv2.imwrite(str(data / "valannot" / "02.png"), np.zeros((9, 9), np.uint8))


def missing_labels(data: Path) -> None:
    (data / "trainannot" / "01.png").unlink()


def nothing_but_void(data: Path) -> None:
    for path in (data / "trainannot").iterdir():
        cv2.imwrite(str(path), np.full(SIZE, 255, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (nothing_but_void, r"all 2 labels of .* are void \(id 255\) throughout"),
        (ids_out_of_range, r"class ids 3 in 00\.png"),
        (sizes_that_differ, r"02\.png \(label 9x9, image 64x96\)"),
        (missing_labels, r"no label.*01\.png"),
    ],
)
def test_data_that_does_not_fit_is_named_before_anything_is_written(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    data = save_shapes(tmp_path / "data", {"train": 2, "val": 1})
    spoil(data)
    with pytest.raises(DataError, match=says) as caught:
        go(job(data), tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_what_was_learnt_is_not_validated_on(data: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    save_shapes(flat, {"images": 2})
    (flat / "imagesannot").rename(flat / "labels")
    (tmp_path / "list.txt").write_text(f"{flat / 'images' / '00.png'} {flat / 'labels' / '00.png'}\n")
    for source in (flat, tmp_path / "list.txt"):
        with pytest.raises(UsageError, match=r"has no parts.*--val-split none"):
            go(job(source), tmp_path / "run")


def test_results_of_another_training_are_not_overwritten(data: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds a state\.pth already: go on with --resume .*whole, or give another"):
        go(job(data), whole)
    (tmp_path / "best.pth").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holds a best\.pth already: give another folder"):
        go(job(data), tmp_path)
    assert (tmp_path / "best.pth").read_bytes() == b"mine"


def test_a_training_goes_on_from_another_folder_and_with_data_that_has_moved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    shutil.copytree(data, home / "data")
    other.mkdir()
    monkeypatch.chdir(home)
    told: list[str] = []
    options = replace(SHORT, epochs=1, validate_every=9)
    with pytest.raises(Stopped):
        go(job(Path("data"), options), Path("run"), say=told.append, **stop_at(1))
    assert told[0].startswith("weights: random; --init FILE begins with a ResNet's (e.g. torchvision's resnet18)")
    assert "1 epoch of 3 steps" in told[1]
    monkeypatch.chdir(other)
    run = home / "run"
    with pytest.raises(Stopped):
        resume(run, Listener(**stop_at(2)), device="cpu", threads=1)
    os.rename(home / "data", other / "images")
    with pytest.raises(DataError, match=rf"nothing is at {home}/data.*begun in {home}: bring it back, or .*--data"):
        resume(run, device="cpu", threads=1)
    kept = other / "images" / "train"
    os.rename(kept / "00.png", kept / "zz.png")
    os.rename(other / "images" / "trainannot" / "00.png", other / "images" / "trainannot" / "zz.png")
    with pytest.raises(DataError, match=r"images, part train, has images of other names than the 5 that"):
        resume(run, data="images", device="cpu", threads=1)
    os.rename(kept / "zz.png", kept / "00.png")
    os.rename(other / "images" / "trainannot" / "zz.png", other / "images" / "trainannot" / "00.png")
    saved: list[tuple[int, int]] = []
    with pytest.raises(Stopped):
        resume(
            run,
            Listener(saved=lambda *at: saved.append(at), stopped=lambda: True),
            data="images",
            device="cpu",
            threads=1,
        )
    assert saved == [(2, 3), (3, 3)]
    monkeypatch.chdir(tmp_path)
    assert resume(run, device="cpu", threads=1).step == 3, "where the data is now was kept"


def test_a_recipe_of_before_it_said_where_it_was_begun_is_read(data: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "old")
    recipe = json.loads((tmp_path / "old" / "recipe.json").read_text())
    del recipe["begun_in"], recipe["seen"]
    (tmp_path / "old" / "recipe.json").write_text(json.dumps(recipe))
    assert resume(tmp_path / "old", data=str(data), device="cpu", threads=1).step == 6


def test_one_training_at_a_time_writes_a_folder(data: Path, whole: Path) -> None:
    other = RunLock(whole)
    assert other.take() is None
    says = "is being written by another training: wait, stop it, or give another folder with -o"
    with pytest.raises(UsageError, match=says):
        go(job(data), whole)
    with pytest.raises(UsageError, match=says):
        resume(whole, device="cpu", threads=1)
    other.release()
    assert resume(whole, device="cpu", threads=1).step == 6


def test_a_folder_that_came_to_be_written_meanwhile_is_left_alone(data: Path, tmp_path: Path) -> None:
    """Another training begins in it while this one looks at its labels."""

    def other(step: str, done: int, total: int) -> None:
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "state.pth").write_bytes(b"other")

    with pytest.raises(UsageError, match=r"holds a state\.pth already"):
        go(job(data), tmp_path / "run", tell=other)
    assert not (tmp_path / "run" / "recipe.json").exists()
