"""A training from end to end: the data is looked at, the network learns, and the folder of the run is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp import files
from rtpsp.data.dataset import Dataset, open_dataset
from rtpsp.data.mix import Mix
from rtpsp.data.survey import survey
from rtpsp.errors import DataError, UsageError
from rtpsp.evaluate import evaluate, segmenter
from rtpsp.model import run_folder
from rtpsp.model.answers import Answers
from rtpsp.model.hardware import limit_threads, pick_device
from rtpsp.model.run_lock import RunLock
from rtpsp.model.start import start
from rtpsp.model.train import Trainer
from rtpsp.model.train_records import Infer, Moment, Score, Stopped
from rtpsp.train_job import TrainJob
from rtpsp.training_plot import curve_png
from rtpsp.training_told import check_same, fingerprint, to_place, to_plan, to_title

CURVE = "curve.png"
SEEN = "seen"
"""Of a recipe: the images that there were, by part of the data."""


@dataclass(frozen=True)
class Listener:
    """Who is told of a training, and may stop it.

    Attributes:
        tell: Told the step, how much of it is done, and of how much: of the look at the labels.
        moment: Told where the training is, after each step.
        say: Told what was loaded, a paragraph each.
        epoch: Told of the trainer after each epoch, when its files are written.
        stopped: Asked after each step.
        saved: Told the step, and of how many, whenever the state is on disk.
    """

    tell: Callable[[str, int, int], None] = lambda step, done, total: None
    moment: Callable[[Moment], None] = lambda moment: None
    say: Callable[[str], None] = lambda text: None
    epoch: Callable[[Trainer], None] = lambda trainer: None
    stopped: Callable[[], bool] = lambda: False
    saved: Callable[[int, int], None] = lambda step, steps: None


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
        UsageError: The folder holds a training already, another one writes it now, or options contradict each other.
        DataError: Data is missing or does not fit.
        ModelError: A checkpoint cannot be read or does not fit.
        InputError: The loss is no number any more.
        OutputError: The folder cannot be written.
        Stopped: The listener said so; `resume` goes on.
    """
    job = replace(job, begun_in=os.getcwd())
    return _train(_Run(job, folder, listener or Listener()), device, threads)


def resume(
    folder: Path, listener: Listener | None = None, *, data: str | None = None, device: str | None = None,
    threads: int = 0,
) -> Trainer:  # fmt: skip
    """Goes on with a training where its state was saved last: at the end of an epoch, or where it was told to stop.

    The weights at the end are those that it would have had; to the bit on a CPU with one thread. Where nothing was
    saved yet, it begins anew.

    Args:
        folder: What `train` wrote.
        listener: Who is told.
        data: Where the labelled images are now; None for where they were.
        device: As in `train`; it may be another one than before.
        threads: As in `train`.

    Raises:
        InputError: There is no training in the folder, or it is damaged.
        DataError: Data or a teacher is not where it was, or `data` holds other images.
        RtpspError: As `train`.
    """
    recipe = run_folder.read_recipe(folder)
    seen = recipe.pop(SEEN, None)
    job = TrainJob.from_dict(recipe)
    if data is not None:
        job = replace(job, data=data if "://" in data else os.path.abspath(data))
    lost = next((source for source in job.sources() if not os.path.exists(job.locate(source))), None)
    if lost is not None:
        begun = f", and this training was begun in {job.begun_in}" if job.begun_in else ""
        moved = ", or say with --data where it is now" if lost == job.data and data is None else ""
        raise DataError(f"nothing is at {job.locate(lost)}{begun}: bring it back{moved}")
    run = _Run(job, folder, listener or Listener(), resumed=run_folder.has_state(folder), moved=data is not None)
    if not run.resumed:
        run.listener.say(f"{folder}: nothing was saved yet, training from the beginning")
    return _train(replace(run, seen=seen if isinstance(seen, dict) else {}), device, threads)


@dataclass(frozen=True)
class _Run:
    """A training on its way.

    Attributes:
        resumed: There is a state to go on from.
        moved: Its data is elsewhere than it was.
        seen: The images that its parts had (`_seen`); of resumed ones.
    """

    job: TrainJob
    folder: Path
    listener: Listener
    resumed: bool = False
    moved: bool = False
    seen: dict[str, Any] | None = None

    def check_unused(self) -> None:
        """Make sure that a new training overwrites nothing.

        Raises:
            UsageError: It would.
        """
        held = None if self.seen is not None else run_folder.find_results(self.folder)
        if held is not None:
            asked = held == run_folder.ANSWERS
            begun = run_folder.has_state(self.folder) or (asked and run_folder.has_recipe(self.folder))
            go_on = f"go on with --resume {self.folder}, or " if begun else ""
            raise UsageError(
                f"{self.folder} holds {'' if asked else 'a '}{held} already: {go_on}give another folder with -o"
            )


def _train(run: _Run, device: str | None, threads: int) -> Trainer:
    lock = RunLock(run.folder)
    try:
        if run_folder.has_recipe(run.folder):  # rather now than after a look at all labels
            lock.take()
        run.check_unused()
        return _learn(run, lock, device, threads)
    finally:
        lock.release()


def _learn(run: _Run, lock: RunLock, device: str | None, threads: int) -> Trainer:
    job, folder, listener = run.job, run.folder, run.listener
    limit_threads(threads)
    chosen = pick_device(device)
    run_folder.check_place(folder)
    init = None if run.resumed or job.init is None else job.locate(job.init)
    begin = start(job.spec, job.options, init, [job.locate(teacher) for teacher in job.teachers], chosen)
    for text in begin.told:
        listener.say(text)
    mix, pixels, watched = _open(run)
    trainer = Trainer(
        begin.model, job.spec, mix, sum(mix.counts), job.options, pixels=pixels, device=chosen,
        teachers=begin.teachers,
    )  # fmt: skip
    if run.resumed:
        run_folder.restore(folder, trainer)
    run_folder.make(folder)
    why_not = lock.take()
    if why_not is not None:
        listener.say(f"{folder} cannot be locked ({why_not}): take care that no other training writes it")
    run.check_unused()  # again: it may have been made since
    if not run.resumed or run.moved:
        kept = [mix.first, *([watched[job.val_split]] if job.val_split is not None else [])]
        seen = {dataset.split or "": fingerprint(dataset) for dataset in kept}
        run_folder.write_recipe(folder, {**job.to_dict(), SEEN: seen})
    if run.resumed:
        listener.say(to_place(folder, trainer))
        listener.saved(trainer.step, trainer.steps)
    if not run.resumed and job.init is None:
        listener.say(
            f"weights: random; --init FILE begins with a ResNet's (e.g. torchvision's "
            f"{job.spec.arch.replace('pspnet', 'resnet')}), which needs far less data"
        )
    listener.say(to_plan(trainer, mix, watched, pixels))
    if begin.teachers is not None and job.options.teacher_once:
        answers = Answers(folder / run_folder.ANSWERS, job.spec, job.options.temperature)
        if not answers.ask(begin.teachers, trainer.dtype, mix.first, listener.tell, listener.stopped):
            raise Stopped
        trainer.teachers, trainer.recall = None, answers.get

    def validate(infer: Infer) -> dict[str, Score]:
        segment = segmenter(infer, job.spec)
        return {name: evaluate(segment, dataset, job.spec.labels) for name, dataset in watched.items()}

    def save() -> None:
        closed = bool(trainer.history) and trainer.history[-1].step == trainer.step
        if closed:  # before the state: what is older than that is made again
            picture = curve_png(trainer.history, to_title(job))
            files.write_atomically(folder / CURVE, picture, hint=run_folder.HINT)
        run_folder.save(folder, trainer)
        listener.saved(trainer.step, trainer.steps)
        if closed:
            listener.epoch(trainer)

    trainer.run(validate if watched else None, save, listener.moment, listener.stopped)
    return trainer


def _open(run: _Run) -> tuple[Mix, NDArray[np.float64], dict[str, Dataset]]:
    """What is learnt from, with the pixels of each class in an epoch, and what is validated on by name, in order."""
    job, listener = run.job, run.listener
    spec = job.spec

    def opened(source: str, *split: str) -> Dataset:
        return open_dataset(job.locate(source), *split, labels=spec.labels, planes=spec.planes)

    first = opened(job.data, job.split)
    others = [(opened(source), share) for source, share in job.mix]
    watched: dict[str, Dataset] = {}
    if job.val_split is not None:
        try:
            kept = opened(job.data, job.val_split)
        except DataError as error:
            raise DataError(f"{error}; --val-split none trains without validation") from error
        if kept.split is None or kept.entries == first.entries:
            raise UsageError(
                f"{job.data} has no parts, and validation on what was learnt says nothing: give a folder with splits, "
                f"or --val-split none and other data with --watch"
            )
        watched[job.val_split] = kept
    if run.moved:
        for dataset in (first, *watched.values()):
            check_same(dataset, (run.seen or {}).get(dataset.split or ""))
    for source in job.watch:
        watched[source] = opened(source)
    mix = Mix(first, tuple(others), job.options.seed)
    looks = [  # at all of it: rather now than after an hour
        survey(dataset, spec.labels, listener.tell) for dataset in (*mix.parts, *watched.values())
    ]
    parts = zip(looks[: len(mix.parts)], mix.counts, strict=True)
    pixels = np.sum([look.pixels * (count / look.images) for look, count in parts], axis=0)
    return mix, pixels, watched
