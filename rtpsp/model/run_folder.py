"""What a training keeps on disk: its state, its weights, its log.

    recipe.json     what was asked for; `rtpsp train --resume` reads it
    state.pth       everything that the next step needs, for --resume
    model.pth       the averaged weights of the last epoch with their spec: the result, for rtpsp export
    best.pth        the same of the epoch with the highest mIoU on validation
    log.csv         one line an epoch
    answers/        what teachers said, where they are asked once
    .lock           held while a training writes here (`rtpsp.model.run_lock`)

Files are written whole or not at all, the state last: after a kill, what is newer than the state is made again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rtpsp.errors import InputError
from rtpsp.files import check_writable, write_atomically
from rtpsp.model.train import Trainer
from rtpsp.model.train_records import EpochRecord, SetScore, is_best

RECIPE, STATE, MODEL, BEST, LOG = "recipe.json", "state.pth", "model.pth", "best.pth", "log.csv"
ANSWERS = "answers"
STATE_VERSION = 1
HINT = "free the disk, or give another folder with -o"
_AGAIN = "train again, without --resume, into another folder"


def save(folder: Path, trainer: Trainer) -> None:
    """Write state and, at the end of an epoch, weights and log.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    history = trainer.history
    if history and history[-1].step == trainer.step:
        model = _bytes(_model(trainer))
        write_atomically(folder / MODEL, model, hint=HINT)
        if is_best(history):
            write_atomically(folder / BEST, model, hint=HINT)
        write_atomically(folder / LOG, to_csv(history, trainer.spec.labels.names).encode(), hint=HINT)
    state = {"version": STATE_VERSION, **trainer.state(), "history": [asdict(record) for record in history]}
    write_atomically(folder / STATE, _bytes(state), hint=HINT)


def restore(folder: Path, trainer: Trainer) -> None:
    """Bring a new trainer to where the one that wrote the folder was.

    Raises:
        InputError: There is no state, or none of this model.
    """
    path = folder / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no {STATE}, nothing was saved there yet: {_AGAIN}") from error
    except Exception as error:  # torch raises a dozen kinds for damaged bytes
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path} is damaged ({reason:.120}): {_AGAIN}, with --init {folder / MODEL}") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise InputError(f"{path} is not the state of a training by this rtpsp: {_AGAIN}")
    try:
        trainer.restore(state, [_record(values) for values in state["history"]])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path} does not fit the {RECIPE} beside it ({reason:.120}): {_AGAIN}") from error


def check_place(folder: Path) -> None:
    """Make sure that the folder can be written, or made; it is not made.

    Raises:
        OutputError: It could not.
    """
    target = folder / STATE
    while not os.path.exists(target.parent):
        target = target.parent
    check_writable(target, hint=HINT)


def make(folder: Path) -> None:
    """Make the folder, with those above it, if it is not there.

    Raises:
        OutputError: It cannot be made or written.
    """
    check_writable(folder / STATE, hint=HINT)


def write_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Write what was asked for; makes the folder.

    Raises:
        OutputError: The folder cannot be written.
    """
    text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / RECIPE, text.encode(), hint=HINT, make_folder=True)


def read_recipe(folder: Path) -> dict[str, Any]:
    """What `write_recipe` wrote.

    Raises:
        InputError: There is none, or it is damaged.
    """
    path = folder / RECIPE
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give the folder that a training was written to"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): {_AGAIN}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path} is not the recipe of a training: {_AGAIN}")
    return recipe


def has_recipe(folder: Path) -> bool:
    """Whether a training was begun there."""
    return os.path.isfile(folder / RECIPE)


def has_state(folder: Path) -> bool:
    """Whether a training left something to go on from."""
    return os.path.isfile(folder / STATE)


def find_results(folder: Path) -> str | None:
    """What a training from its beginning would overwrite in the folder, or take for its own; its recipe apart."""
    return next((name for name in (STATE, MODEL, BEST, LOG, ANSWERS) if os.path.exists(folder / name)), None)


def to_csv(history: Sequence[EpochRecord], classes: Sequence[str]) -> str:
    """The log: a line an epoch, with empty columns where there was no validation."""
    sets = list(dict.fromkeys(name for record in history for name in record.scores))
    figures = ("miou", "pixel_accuracy", *(f"iou {name}" for name in classes))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [f"{name}: {figure}" for name in sets for figure in figures]
    writer.writerow(["epoch", "step", "lr", "loss", "label_loss", "seconds", *columns])
    for record in history:
        row = [str(record.epoch), str(record.step), f"{record.lr:.6g}", f"{record.loss:.6g}"]
        row += [f"{record.label_loss:.6g}", f"{record.seconds:.1f}"]
        for name in sets:
            score = record.scores.get(name)
            values: Sequence[float | None] = [None] * len(figures)
            if score is not None:
                values = [score.miou, score.pixel_accuracy, *score.per_class_iou]
            row += ["" if value is None else f"{value:.3f}" for value in values]
        writer.writerow(row)
    return out.getvalue()


def _record(values: dict[str, Any]) -> EpochRecord:
    scores = {
        name: SetScore(score["miou"], score["pixel_accuracy"], tuple(score["per_class_iou"]))
        for name, score in values["scores"].items()
    }
    return EpochRecord(**{**values, "scores": scores})


def _model(trainer: Trainer) -> dict[str, Any]:
    record = trainer.history[-1]
    return {
        "model": trainer.weights_now(),
        "rtpsp": {"spec": trainer.spec.to_json()},
        "training": {"epoch": record.epoch, "step": record.step, "scores": asdict(record)["scores"]},
    }


def _bytes(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
