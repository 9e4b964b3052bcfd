"""What a training says of itself in words, and by what it knows its data again."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.data.dataset import Dataset
from rtpsp.data.mix import Mix
from rtpsp.errors import DataError
from rtpsp.model import run_folder
from rtpsp.model.train import Trainer
from rtpsp.train_job import TrainJob


def to_plan(trainer: Trainer, mix: Mix, watched: dict[str, Dataset], pixels: NDArray[np.float64]) -> str:
    """In words what is learnt from on what, and what will not be learnt."""
    epochs, labels, kind = trainer.options.epochs, trainer.spec.labels, str(trainer.dtype).removeprefix("torch.")
    images = " and ".join(f"{count} of {part.source}" for part, count in zip(mix.parts, mix.counts, strict=True))
    seen = " and ".join(f"{len(dataset)} of {name}" for name, dataset in watched.items()) or "none"
    text = (
        f"images to learn from: {images}; to validate on: {seen}\n"
        f"{_counted(epochs, 'epoch')} of {_counted(trainer.steps_per_epoch, 'step')}, {trainer.device} in {kind}"
    )
    absent = [name for name, count in zip(labels.names, pixels, strict=True) if not count]
    return text + (f"\nno pixel to learn {', '.join(absent)} from" if absent else "")


def to_place(folder: Path, trainer: Trainer) -> str:
    """In words where a training that is resumed goes on."""
    if trainer.step < trainer.steps or len(trainer.history) < trainer.options.epochs:
        return f"{folder}: going on at step {trainer.step} of {trainer.steps}"
    epochs = _counted(len(trainer.history), "epoch")
    return f"{folder}: it was finished after {epochs}; to train on: --init {folder / run_folder.MODEL} -o another"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """How many images a data set has, and a digest of their names, in order; of absolute ones the last part."""
    names = [Path(name).name if os.path.isabs(name) else name for name in dataset.names]
    return {"images": len(names), "names": sha256("\n".join(names).encode()).hexdigest()}


def check_same(dataset: Dataset, seen: Any) -> None:
    """Make sure that data which has moved is what it was; of a recipe that does not say so, only steps are checked.

    Raises:
        DataError: It has other images.
    """
    now = fingerprint(dataset)
    if not isinstance(seen, dict) or seen == now:
        return
    part = f", part {dataset.split}," if dataset.split else ""
    had = f"{now['images']} images, and the training began with {seen.get('images')}"
    if seen.get("images") == now["images"]:
        had = f"images of other names than the {now['images']} that the training began with"
    raise DataError(f"{dataset.source}{part} has {had}: give the data that has moved, or train again with -o")


def to_title(job: TrainJob) -> str:
    """What stands above its curve."""
    spec = job.spec
    return f"{spec.name}: {spec.arch}, output stride {spec.output_stride}, {spec.height}x{spec.width}, {job.data}"
