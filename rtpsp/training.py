"""A training from end to end: the data is looked at, the network learns, and the folder of the run is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtpsp import files
from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.data.mix import Mix
from rtpsp.data.survey import survey
from rtpsp.errors import UsageError
from rtpsp.evaluate import evaluate, segmenter
from rtpsp.model import run_folder
from rtpsp.model.hardware import limit_threads, pick_device
from rtpsp.model.start import start
from rtpsp.model.train import Trainer
from rtpsp.model.train_records import Infer, Moment, Score
from rtpsp.train_job import TrainJob
from rtpsp.training_plot import curve_png

CURVE = "curve.png"


@dataclass(frozen=True)
class Listener:
    """Who is told of a training, and may stop it.

    Attributes:
        tell: Told the step, how much of it is done, and of how much: of the look at the labels.
        moment: Told where the training is, after each step.
        say: Told what was loaded, a paragraph each.
        epoch: Told of the trainer after each epoch, when its files are written.
        stopped: Asked after each step.
    """

    tell: Callable[[str, int, int], None] = lambda step, done, total: None
    moment: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda text: None
    epoch: Callable[[Trainer], None] = lambda trainer: None
    stopped: Callable[[], bool] = lambda: False


def train(
    job: TrainJob, folder: Path, listener: Listener | None = None, *, device: str | None = None, threads: int = 0
) -> Trainer:
    """Trains, and writes what `rtpsp.model.run_folder` lists, and the curve.

    Args:
        job: What learns from what.
        folder: Where to; made if it is not there.
        listener: Who is told.
        device: ``cpu``, ``cuda`` or ``cuda:1``; None for CUDA where there is one.
        threads: Of the CPU; 0 for all.

    Returns:
        The trainer at its end.

    Raises:
        UsageError: The folder holds a training already, or options contradict each other.
        DataError: Data is missing or does not fit.
        ModelError: A checkpoint cannot be read or does not fit.
        InputError: The loss is no number any more.
        OutputError: The folder cannot be written.
        Stopped: The listener said so; `resume` goes on.
    """
    held = run_folder.find_results(folder)
    if held is not None:
        go_on = f"go on with --resume {folder}, or " if run_folder.has_state(folder) else ""
        raise UsageError(f"{folder} holds a {held} already: {go_on}give another folder with -o")
    return _train(job, folder, listener or Listener(), device, threads, resumed=False)


def resume(folder: Path, listener: Listener | None = None, *, device: str | None = None, threads: int = 0) -> Trainer:
    """Goes on with a training where its state was saved last: at the end of an epoch, or where it was told to stop.

    The weights at the end are those that it would have had; to the bit on a CPU with one thread. Where nothing was
    saved yet, it begins anew.

    Args:
        folder: What `train` wrote.
        listener: Who is told.
        device: As in `train`; it may be another one than before.
        threads: As in `train`.

    Raises:
        InputError: There is no training in the folder, or it is damaged.
        RtpspError: As `train`.
    """
    job = TrainJob.from_dict(run_folder.read_recipe(folder))
    resumed = run_folder.has_state(folder)
    listener = listener or Listener()
    if not resumed:
        listener.say(f"{folder}: nothing was saved yet, training from the beginning")
    return _train(job, folder, listener, device, threads, resumed=resumed)


def _train(
    job: TrainJob, folder: Path, listener: Listener, device: str | None, threads: int, *, resumed: bool
) -> Trainer:
    limit_threads(threads)
    chosen = pick_device(device)
    files.check_writable(folder / run_folder.STATE, hint=run_folder.HINT)
    begin = start(job.spec, job.options, None if resumed else job.init, job.teachers, chosen)
    for text in begin.told:
        listener.say(text)
    mix, pixels, watched = _open(job, listener)
    trainer = Trainer(
        begin.model, job.spec, mix, sum(mix.counts), job.options, pixels=pixels, device=chosen,
        teachers=begin.teachers,
    )  # fmt: skip
    if resumed:
        run_folder.restore(folder, trainer)
        listener.say(f"{folder}: going on at step {trainer.step} of {trainer.steps}")
    else:
        run_folder.write_recipe(folder, job.to_dict())

    listener.say(_told(trainer, mix, watched, pixels))

    def validate(infer: Infer) -> dict[str, Score]:
        segment = segmenter(infer, job.spec)
        return {name: evaluate(segment, dataset, job.spec.labels) for name, dataset in watched.items()}

    def save() -> None:
        closed = bool(trainer.history) and trainer.history[-1].step == trainer.step
        if closed:  # before the state: what is older than that is made again
            picture = curve_png(trainer.history, _title(job))
            files.write_atomically(folder / CURVE, picture, hint=run_folder.HINT)
        run_folder.save(folder, trainer)
        if closed:
            listener.epoch(trainer)

    trainer.run(validate if watched else None, save, listener.moment, listener.stopped)
    return trainer


def _open(job: TrainJob, listener: Listener) -> tuple[Mix, NDArray[np.float64], dict[str, Dataset]]:
    """What is learnt from, with the pixels of each class in an epoch, and what is validated on by name, in order."""
    spec = job.spec
    first = open_dataset(job.data, job.split, labels=spec.labels, planes=spec.planes)
    others = [(open_dataset(source, labels=spec.labels, planes=spec.planes), share) for source, share in job.mix]
    watched: dict[str, Dataset] = {}
    if job.val_split is not None:
        kept = open_dataset(job.data, job.val_split, labels=spec.labels, planes=spec.planes)
        if kept.split is None or kept.entries == first.entries:
            raise UsageError(
                f"{job.data} has no parts, and validation on what was learnt says nothing: give a folder with splits, "
                f"or --val-split none and other data with --watch"
            )
        watched[job.val_split] = kept
    for source in job.watch:
        watched[source] = open_dataset(source, labels=spec.labels, planes=spec.planes)
    mix = Mix(first, tuple(others), job.options.seed)
    looks = [  # at all of it: rather now than after an hour
        survey(dataset, spec.labels, listener.tell) for dataset in (*mix.parts, *watched.values())
    ]
    parts = zip(looks[: len(mix.parts)], mix.counts, strict=True)
    pixels = np.sum([look.pixels * (count / look.images) for look, count in parts], axis=0)
    return mix, pixels, watched


def _told(trainer: Trainer, mix: Mix, watched: dict[str, Dataset], pixels: NDArray[np.float64]) -> str:
    """In words what is learnt from on what, and what will not be learnt."""
    epochs, labels, kind = trainer.options.epochs, trainer.spec.labels, str(trainer.dtype).removeprefix("torch.")
    images = " and ".join(f"{count} of {part.source}" for part, count in zip(mix.parts, mix.counts, strict=True))
    seen = " and ".join(f"{len(dataset)} of {name}" for name, dataset in watched.items()) or "none"
    text = (
        f"images to learn from: {images}; to validate on: {seen}\n"
        f"{epochs} epochs of {trainer.steps_per_epoch} steps, {trainer.device} in {kind}"
    )
    absent = [name for name, count in zip(labels.names, pixels, strict=True) if not count]
    return text + (f"\nno pixel to learn {', '.join(absent)} from" if absent else "")


def _title(job: TrainJob) -> str:
    spec = job.spec
    return f"{spec.name}: {spec.arch}, output stride {spec.output_stride}, {spec.height}x{spec.width}, {job.data}"
