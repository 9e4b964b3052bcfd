"""The spec of a trained checkpoint: what its user says, else what its file says, else what its layout is known for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from rtpsp.errors import ModelError, UsageError
from rtpsp.foreign_values import said
from rtpsp.labels import LABEL_SETS, LabelSet, check_count
from rtpsp.model.checkpoint import Checkpoint
from rtpsp.model.loading import names_of
from rtpsp.model.train_options import GREY_MEAN, GREY_STD
from rtpsp.spec import Channels, Fit, ModelSpec, Resize

CHANNELS: dict[int, Channels] = {1: "grey", 3: "rgb", 4: "rgbx"}
"""What networks of so many planes were trained on unless somebody says otherwise."""


class Told(TypedDict, total=False):
    """Fields of a spec that a user may give; None is as good as not given.

    Attributes:
        name: Short name; default the file's.
        mean: Per channel, on a scale of 0..1 or 0..255.
        std: Per channel, on the same scale.
        channels: As in `ModelSpec`.
        fit: As in `ModelSpec`.
        resize: As in `ModelSpec`.
        licence: Of the weights, in one line.
    """

    name: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channels: Channels | None
    fit: Fit | None
    resize: Resize | None
    licence: str | None


def spec_of(
    checkpoint: Checkpoint,
    *,
    size: tuple[int, int] | None = None,
    labels: LabelSet | None = None,
    name: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    channels: Channels | None = None,
    fit: Fit | None = None,
    resize: Resize | None = None,
    licence: str | None = None,
) -> ModelSpec:
    """The spec of a checkpoint.

    Args:
        checkpoint: As it was opened.
        size: Height and width in pixels.
        labels: Its classes in id order.
        name: As in `Told`.
        mean: As in `Told`.
        std: As in `Told`.
        channels: As in `Told`.
        fit: As in `Told`.
        resize: As in `Told`.
        licence: As in `Told`.

    Raises:
        UsageError: Neither user nor file gives a size, names of the classes, or the normalisation of images that are
            not three planes; or the size does not suit the layout.
        ModelError: The label set has another number of classes than the network.
    """
    hints, own = checkpoint.hints, checkpoint.hints.spec
    size = size or (own.size if own else hints.size)
    labels = labels or (own.labels if own else hints.labels)
    if size is None or labels is None:
        raise UsageError(_asked(checkpoint, size is None, labels is None))
    check_count(labels, checkpoint.model.classes)
    checkpoint.check_size(size)
    given: dict[str, Any] = {"fit": fit, "resize": resize, "licence": licence, "channels": channels, "name": name}
    given = {field: value for field, value in given.items() if value is not None}
    return _spec(checkpoint, size, labels, mean, std, given)


def spec_of_teacher(checkpoint: Checkpoint, student: ModelSpec) -> ModelSpec:
    """How a teacher sees frames: as its file says, else as its code base does, at any size.

    A network of ours whose file says nothing, and one of planes that no code base has a usual normalisation for, sees
    what the student sees; and it has the student's classes unless it names its own.

    Raises:
        ModelError: It has other planes than the student, or more or fewer classes.
    """
    model, hints = checkpoint.model, checkpoint.hints
    labels = hints.spec.labels if hints.spec is not None else hints.labels or student.labels
    counts = (("planes", model.inputs, student.planes), ("classes", model.classes, len(student.labels)))
    for what, its, wanted in counts:
        if its != wanted:
            raise ModelError(
                f"teacher {checkpoint.path} has {its} {what}, the student {wanted}: give one that was trained on the "
                f"same label set and on images of the same planes"
            )
    if hints.spec is not None:
        return _spec(checkpoint, hints.spec.size, labels, None, None, {})
    if checkpoint.layout.name == "rtpsp" or (model.inputs != 3 and hints.mean is None):
        return _spec(checkpoint, student.size, labels, student.mean, student.std, {"channels": student.channels})
    return _spec(checkpoint, student.size, labels, None, None, {})


def _spec(
    checkpoint: Checkpoint,
    size: tuple[int, int],
    labels: LabelSet,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    given: dict[str, Any],
) -> ModelSpec:
    """With further fields as given, else as the file says, else as its layout is known for."""
    model, hints, own = checkpoint.model, checkpoint.hints, checkpoint.hints.spec
    mean, std = _normalisation(checkpoint, mean, std)
    whole: dict[str, Any] = {
        "height": size[0], "width": size[1], "labels": labels, "mean": mean, "std": std,
        "arch": model.arch.name, "output_stride": model.output_stride,
    }  # fmt: skip
    if own is not None:
        return replace(own, **whole, **given)
    usual = CHANNELS[model.inputs]
    whole["channels"] = usual if hints.rgb in (None, True) else usual.replace("rgb", "bgr")
    return ModelSpec(**{"name": Path(checkpoint.path).stem, **whole, **given})


def told_of_labels(checkpoint: Checkpoint, labels: LabelSet | None) -> str | None:
    """That a file names its classes otherwise than its user; None where it does not, or neither says anything."""
    hints = checkpoint.hints
    its = hints.spec.labels if hints.spec is not None else hints.labels
    if labels is None or its is None:
        return None
    if [name.casefold() for name in its.names] == [name.casefold() for name in labels.names]:
        return None
    return f"--labels names other classes: the file says {names_of(its)}"


def _asked(checkpoint: Checkpoint, size: bool, labels: bool) -> str:
    """What only the user can say, in one line."""
    classes = checkpoint.model.classes
    fitting = [name for name in sorted(LABEL_SETS) if len(LABEL_SETS[name]) == classes]
    sets = f"sets of as many are {', '.join(fitting)}" if fitting else "no published set that rtpsp has is as long"
    lacks = ["say which size of images it is for"] * size + [f"name its {classes} classes"] * labels
    give = ["--size HEIGHTxWIDTH"] * size
    give += [f"--labels, the set that it was trained on ({sets}) or a text file with a name a line"] * labels
    return f"{checkpoint.path} does not {' and does not '.join(lacks)}: give {', and '.join(give)}"


def _normalisation(
    checkpoint: Checkpoint, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation on a scale of 0..1."""
    hints, planes = checkpoint.hints, checkpoint.model.inputs
    if mean is None and std is None:
        if hints.spec is not None and hints.spec.planes == planes:
            return hints.spec.mean, hints.spec.std
        if hints.mean is not None and hints.std is not None and len(hints.mean) == len(hints.std) == planes:
            mean, std = hints.mean, hints.std
    try:
        found = said(mean, std, planes)
    except UsageError as error:
        usual = ""
        if planes == 1 and mean is None and std is None:
            usual = f" (rtpsp train takes --mean {GREY_MEAN[0]:g} --std {GREY_STD[0]:g} unless told otherwise)"
        raise UsageError(f"{checkpoint.path}: {error}{usual}") from error
    return found.mean, found.std
