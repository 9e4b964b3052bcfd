"""Fine-tuning: SGD with poly decay, an auxiliary loss and, if asked for, teachers; one code on CPU and CUDA.

Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 5.1, and its authors' code for what that leaves open. A
training that was stopped goes on where it was: which cuts of which images a step sees depends on the seed and on its
number alone, and the state on disk (`rtpsp.model.run_folder`) holds everything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtpsp.arrays import ClassMap, Image
from rtpsp.errors import InputError
from rtpsp.machine import usable_threads
from rtpsp.model.augment import Augmentation
from rtpsp.model.average import averaged
from rtpsp.model.batches import Batch, Recall, TrainingSet, batches, step_count
from rtpsp.model.hardware import autocast, pick_dtype, place
from rtpsp.model.losses import class_weights, label_loss, teacher_loss
from rtpsp.model.normalise import Normaliser
from rtpsp.model.pspnet import PSPNet
from rtpsp.model.teachers import Teachers
from rtpsp.model.train_options import TrainOptions
from rtpsp.model.train_records import EpochRecord, Moment, SetScore, Stopped, Validate
from rtpsp.spec import ModelSpec

LOADERS = max(2, min(8, usable_threads()))  # threads that make batches: a GPU learns faster than two of them cut
SAVE_EVERY_S = 600.0  # of an epoch that takes long: what a kill costs at most

Save = Callable[[], None]
Tell = Callable[[Moment], None]
AskedToStop = Callable[[], bool]


class Trainer:
    """One training, step by step.

    Args:
        model: Trained in place; moved to the device.
        spec: The model's.
        samples: What is learnt from.
        images: Images of an epoch.
        options: The recipe.
        pixels: [classes], how many an epoch has of each, for class balance; None where there is none.
        device: CPU or CUDA.
        teachers: What is learnt from beside the labels; asked at each step.
        recall: What teachers said when they were asked once, in place of `teachers`.

    Attributes:
        step: Steps done.
        history: Epochs done.
    """

    def __init__(
        self,
        model: PSPNet,
        spec: ModelSpec,
        samples: TrainingSet,
        images: int,
        options: TrainOptions,
        *,
        pixels: NDArray[np.int64] | NDArray[np.float64] | None = None,
        device: torch.device | str = "cpu",
        teachers: Teachers | None = None,
        recall: Recall | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.spec, self.samples, self.options = spec, samples, options
        self.model = place(model, self.device).train()
        self.teachers, self.recall = teachers, recall
        self.average = averaged(self.model, options.ema)
        self.optimiser = torch.optim.SGD(_groups(self.model, options), momentum=options.momentum)
        weights = None if pixels is None else class_weights(pixels, options.balance)
        self.weights = None if weights is None else weights.to(self.device)
        self.dtype = pick_dtype(options.precision, self.device)
        self.steps_per_epoch = step_count(images, options.batch)
        self.step = 0
        self.history: list[EpochRecord] = []
        self._sums = np.zeros(3)  # of the epoch under way: loss, label loss, seconds
        self._augment = Augmentation(spec, options)
        self._normalise = Normaliser(spec, self.device)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.options.epochs * self.steps_per_epoch

    def run(self, validate: Validate | None, save: Save, tell: Tell, stopped: AskedToStop) -> None:
        """Train to the end, or until told to stop.

        Args:
            validate: Called after each so many epochs with the averaged weights' segmenter.
            save: Called after each epoch, every `SAVE_EVERY_S` within one, and before a stop: `state` is to be written.
            tell: Called after each step, and before a validation.
            stopped: Asked after each step, and after each image of a validation, which is then made when it goes on.

        Raises:
            Stopped: It said so; what was done is saved.
            InputError: The loss is no number any more.
            DataError: An image cannot be read.
        """

        def check() -> None:
            if stopped():
                save()
                raise Stopped

        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # the loaders are threads themselves
        try:
            with ThreadPoolExecutor(LOADERS, "rtpsp-batches") as pool:
                while (epoch := len(self.history)) < self.options.epochs:
                    if self.step < (epoch + 1) * self.steps_per_epoch:
                        self._epoch(pool, save, tell, check)
                    self._close_epoch(validate, tell, check)
                    save()
                    if stopped() and self.step < self.steps:
                        raise Stopped
        finally:
            cv2.setNumThreads(threads)

    def _epoch(self, pool: ThreadPoolExecutor, save: Save, tell: Tell, check: Callable[[], None]) -> None:
        epoch, first = divmod(self.step, self.steps_per_epoch)
        if not first:
            self._sums[:] = 0
        began = saved = time.perf_counter()
        for done, batch in enumerate(
            batches(self.samples.epoch(epoch), self._augment, epoch, first, pool, self.recall), first + 1
        ):
            loss, label = self.learn(batch)
            now = time.perf_counter()
            self._sums += (loss, label, now - began)
            began = now
            tell(Moment(epoch + 1, self.step, self.steps, float(self._sums[0]) / done))
            check()
            if now - saved > SAVE_EVERY_S:
                save()
                began = saved = time.perf_counter()

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step.

        Returns:
            The loss, and the part of it that the main head has by the labels.

        Raises:
            InputError: The loss is no number.
        """
        options = self.options
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        images, truth = self._normalise(batch.images), batch.truth.to(self.device, non_blocking=True)
        self.model.train()
        with autocast(self.device, self.dtype):
            logits, auxiliary = cast(tuple[Tensor, Tensor], self.model(images))
            taught = None
            if batch.taught is not None:
                taught = batch.taught.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
            elif self.teachers is not None:
                taught = self.teachers.probabilities(batch.images, options.temperature)
        loss, label = self._losses(logits, truth, taught)
        if options.aux:
            loss = loss + options.aux * self._losses(auxiliary, truth, taught)[0]
        value = float(loss.detach())
        if not np.isfinite(value):
            raise InputError(
                f"the loss is {value} at step {self.step + 1}: training diverged; train again with a smaller --lr than "
                f"{options.lr:g}, or a longer --warmup than {options.warmup:g}"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation lacks it
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return value, float(label.detach())

    def _losses(self, logits: Tensor, truth: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
        """What a head is to be better at: all together, and the labels' part alone."""
        label = label_loss(logits, truth, self.weights)
        if taught is None:
            return label, label
        share = self.options.distil
        return (1 - share) * label + share * teacher_loss(logits, taught, self.options.temperature), label

    def rate(self) -> float:
        """The backbone's learning rate for the next step."""
        warm = round(self.options.warmup * self.steps)
        rate: float = self.options.lr * (1 - self.step / self.steps) ** self.options.power
        return rate * (self.step + 1) / warm if self.step < warm else rate

    @torch.no_grad()
    def infer(self, frames: Image) -> ClassMap:
        """Class ids [N, H, W] of frames of the model's size, uint8 [N, H, W, planes], by the averaged weights."""
        self.average.eval()
        with autocast(self.device, self.dtype):
            scores = self.average(self._normalise(torch.from_numpy(np.ascontiguousarray(frames))))
        answer: ClassMap = scores.float().argmax(1).cpu().numpy().astype(self.spec.class_dtype)
        return answer

    def weights_now(self) -> dict[str, Tensor]:
        """The averaged weights as a state dict of ours, on the CPU, the auxiliary head among them."""
        state = self.average.module.state_dict()
        return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "averaged": int(self.average.n_averaged),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "sums": self._sums.tolist(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, state: dict[str, Any], history: Sequence[EpochRecord]) -> None:
        """Go on from what `state` gave, and from the epochs that were logged.

        Raises:
            InputError: An epoch has more or fewer steps than it had: the training set is another one.
        """
        if history and history[-1].step != history[-1].epoch * self.steps_per_epoch:
            had = history[-1].step // history[-1].epoch
            raise InputError(
                f"an epoch had {had} steps and has {self.steps_per_epoch} now, so the training set is another one: "
                f"bring its images back, or train again into another folder"
            )
        under_way = int(state["step"]) - len(history) * self.steps_per_epoch
        if not 0 <= under_way <= self.steps_per_epoch:
            raise InputError(
                f"{under_way} steps of an epoch were done and it has {self.steps_per_epoch} now, so the training set "
                f"is another one: bring its images back, or train again into another folder"
            )
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.average.n_averaged.fill_(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self._sums = int(state["step"]), np.array(state["sums"], np.float64)
        torch.set_rng_state(state["random"].cpu())
        if self.device.type == "cuda" and state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"].cpu(), self.device)
        self.history = list(history)

    def _close_epoch(self, validate: Validate | None, tell: Tell, check: Callable[[], None]) -> None:
        def infer(frames: Image) -> ClassMap:
            check()
            return self.infer(frames)

        epoch = self.step // self.steps_per_epoch
        loss, label, seconds = self._sums / (self.steps_per_epoch, self.steps_per_epoch, 1)
        scores: dict[str, SetScore] = {}
        if validate and (epoch % self.options.validate_every == 0 or epoch == self.options.epochs):
            tell(Moment(epoch, self.step, self.steps, float(loss), "validating"))
            for name, score in validate(infer).items():
                scores[name] = SetScore(score.miou, score.pixel_accuracy, score.per_class_iou)
        rate = float(self.optimiser.param_groups[0]["lr"])
        self.history.append(EpochRecord(epoch, self.step, rate, float(loss), float(label), float(seconds), scores))


def _groups(model: PSPNet, options: TrainOptions) -> list[dict[str, Any]]:
    """Parameters by how fast they learn and whether they decay; the backbone's first."""
    norms = {id(value) for part in model.modules() if isinstance(part, nn.BatchNorm2d) for value in part.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        bare = id(value) in norms or value.ndim == 1
        groups.setdefault((not name.startswith("backbone."), bare), []).append(value)
    return [
        {
            "params": values,
            "lr": options.lr,
            "factor": options.head_lr if head else 1.0,
            "weight_decay": 0.0 if bare else options.weight_decay,
        }
        for (head, bare), values in sorted(groups.items(), key=lambda item: item[0])
    ]
