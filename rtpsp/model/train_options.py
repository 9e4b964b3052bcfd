"""What a training is asked for; `TrainOptions` checks itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, get_args

from rtpsp.errors import UsageError
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD

Balance = Literal["none", "sqrt", "median"]
Precision = Literal["auto", "bf16", "fp32"]

GREY_MEAN, GREY_STD = ((round(sum(values) / len(values), 4),) for values in (IMAGENET_MEAN, IMAGENET_STD))
"""How grey images are normalised unless somebody says otherwise."""

LEAST_BATCH = 2  # batch norm behind the one-bin pool has one value a channel and image


@dataclass(frozen=True)
class TrainOptions:
    """A recipe: with the same data, start and options the weights are the same, to the bit on one CPU thread.

    Attributes:
        epochs: Passes over the training set.
        batch: Images a step, at least 2.
        crop: Height and width in pixels of what a step sees of an image; None for the model's size.
        lr: Learning rate of the backbone at its height, after the warm-up.
        head_lr: How many times as much pyramid and heads learn: 10 in the authors' code, where they begin at random.
        power: Of the decay, ``lr * (1 - step / steps) ** power`` (the paper, section 5.1: 0.9).
        warmup: Share of all steps in which the rate rises from zero.
        momentum: Of SGD.
        weight_decay: Of convolutions' weights; norms and biases have none.
        aux: Weight of the auxiliary loss (the paper, section 4: 0.4).
        balance: Weights of classes in the loss: ``none``, ``sqrt`` is one over the root of a class's share of the
            pixels, ``median`` the median share over its own (Eigen, Fergus, ICCV 2015).
        scale: Least and greatest factor by which images are scaled, evenly drawn by their logarithm.
        colour: Strength of the changes of brightness, contrast, saturation, hue and sharpness, 0 to 1.
        flip: Probability of a mirrored image.
        ema: Decay a step of the average of weights that is validated and kept; 0 for the weights themselves.
        distil: Weight of the teachers' part of the loss of either head, 0 to 1; the labels have the rest.
        temperature: By which scores are divided before teachers and student are compared.
        teacher_scales: Factors by which an image is resized for the teachers, whose answers are averaged.
        teacher_flip: Teachers see it mirrored too.
        teacher_once: Teachers are asked once about each whole image, not at each step about what that sees of it.
        precision: Of products: ``bf16`` by autocast, ``auto`` takes it where the processor has units for it.
        validate_every: Epochs from one validation to the next; the last epoch is always validated.
        seed: Of weights that begin at random, of order, augmentation and dropout.
    """

    epochs: int = 60
    batch: int = 8
    crop: tuple[int, int] | None = None
    lr: float = 0.01
    head_lr: float = 10.0
    power: float = 0.9
    warmup: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    aux: float = 0.4
    balance: Balance = "sqrt"
    scale: tuple[float, float] = (0.5, 2.0)
    colour: float = 0.5
    flip: float = 0.5
    ema: float = 0.998
    distil: float = 0.5
    temperature: float = 1.0
    teacher_scales: tuple[float, ...] = (1.0,)
    teacher_flip: bool = False
    teacher_once: bool = False
    precision: Precision = "auto"
    validate_every: int = 5
    seed: int = 1

    def __post_init__(self) -> None:
        for name, fewest in (("epochs", 1), ("batch", LEAST_BATCH), ("validate_every", 1), ("seed", 0)):
            if getattr(self, name) < fewest:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {fewest}")
        if self.crop is not None and min(self.crop) < 1:
            raise UsageError(f"crop is {self.crop}, expected two sides of at least one pixel")
        for name, least, most in (
            ("lr", 0.0, 100.0), ("head_lr", 0.0, 1e6), ("power", 0.0, 10.0), ("warmup", 0.0, 0.5),
            ("momentum", 0.0, 0.9999), ("weight_decay", 0.0, 1.0), ("aux", 0.0, 10.0), ("colour", 0.0, 1.0),
            ("flip", 0.0, 1.0), ("ema", 0.0, 0.99999), ("distil", 0.0, 1.0), ("temperature", 0.01, 100.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (isfinite(value) and least <= value <= most):
                raise UsageError(f"{name} is {value}, expected {least:g} to {most:g}")
        least, most = self.scale
        if not (isfinite(most) and 0.1 <= least <= most <= 10):
            raise UsageError(f"scale is {least:g} to {most:g}, expected two factors in order, within 0.1 to 10")
        if not self.teacher_scales or not all(0.1 <= factor <= 10 for factor in self.teacher_scales):
            raise UsageError(f"teacher_scales are {self.teacher_scales}, expected factors of 0.1 to 10")
        for name, allowed in (("balance", Balance), ("precision", Precision)):
            if getattr(self, name) not in get_args(allowed):
                raise UsageError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(get_args(allowed))}")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainOptions:
        """The inverse of `to_dict`."""
        given: dict[str, Any] = {}
        for name, value in values.items():
            given[name] = tuple(value) if isinstance(value, list) else value
        return cls(**given)
