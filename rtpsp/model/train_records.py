"""What a training says of itself: where it is, and what each epoch gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from rtpsp.arrays import ClassMap, Image


class Score(Protocol):
    """What a validation says, in percent; `rtpsp.evaluate.Evaluation` is one."""

    @property
    def miou(self) -> float:
        """Mean IoU of the classes that have one."""

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels that count."""

    @property
    def per_class_iou(self) -> tuple[float | None, ...]:
        """In class order; None for a class that is nowhere."""


Infer = Callable[[Image], ClassMap]
"""uint8 [1, H, W, planes] of the model's size to class ids [1, H, W]."""

Validate = Callable[[Infer], dict[str, Score]]
"""How right a segmenter is, by the names of the sets it is measured on; the first one decides which epoch is best."""


@dataclass(frozen=True)
class Moment:
    """Where a training is, for a progress bar.

    Attributes:
        epoch: From 1, as people count.
        step: Steps done, of the whole training.
        steps: Of the whole training.
        loss: Mean over the epoch so far.
        what: What goes on.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    what: Literal["training", "validating"] = "training"


@dataclass(frozen=True)
class SetScore:
    """Accuracy on one set, in percent, as in `Score`."""

    miou: float
    pixel_accuracy: float
    per_class_iou: tuple[float | None, ...]


@dataclass(frozen=True)
class EpochRecord:
    """One line of a training's log.

    Attributes:
        epoch: From 1, as people count.
        step: Steps done at its end.
        lr: Learning rate of the backbone at its last step.
        loss: Mean over its steps, all parts together.
        label_loss: Mean of the part that the main head has by the labels.
        seconds: Of its steps, without validation.
        scores: By the names of validation sets; empty where none was made.
    """

    epoch: int
    step: int
    lr: float
    loss: float
    label_loss: float
    seconds: float
    scores: dict[str, SetScore] = field(default_factory=dict)


class Stopped(Exception):
    """A training was told to stop; its state is as after a whole step, and saved."""


def is_best(history: list[EpochRecord]) -> bool:
    """Whether the last epoch was validated, and no earlier one was better; the first set's mIoU counts."""
    scores = [next(iter(record.scores.values())).miou for record in history if record.scores]
    return bool(history and history[-1].scores) and scores[-1] == max(scores)
