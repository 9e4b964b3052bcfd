"""Where a training begins: the network with its first weights, and the teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from rtpsp.errors import ModelError
from rtpsp.model.checkpoint import Checkpoint, open_checkpoint
from rtpsp.model.initial import initialise
from rtpsp.model.pspnet import PSPNet, build
from rtpsp.model.teachers import Teachers, check_teacher
from rtpsp.model.train_options import TrainOptions
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD, ModelSpec


class Start(NamedTuple):
    """What a training begins with.

    Attributes:
        model: The network that learns.
        teachers: None without any.
        told: What was loaded from where, a paragraph a file.
    """

    model: PSPNet
    teachers: Teachers | None
    told: tuple[str, ...]


def start(
    spec: ModelSpec, options: TrainOptions, init: str | None, teachers: Sequence[str], device: torch.device
) -> Start:
    """The network of a spec with the weights it begins with; sets torch's random seed.

    Args:
        spec: The network's.
        options: Seed and what concerns teachers.
        init: A checkpoint, whole or of a backbone; None for random weights.
        teachers: Checkpoints.
        device: Where teachers compute.

    Raises:
        ModelError: A checkpoint cannot be read, or does not fit.
        UsageError: Unknown architecture or stride.
    """
    torch.manual_seed(options.seed)
    model = build(spec.arch, len(spec.labels), spec.output_stride, len(spec.mean))
    told = []
    if init is not None:
        told.append(initialise(model, init).told())
    members = []
    for path in teachers:
        checkpoint = open_checkpoint(path)
        own = spec_of_teacher(checkpoint, spec)
        check_teacher(path, own, spec)
        members.append((checkpoint.model, own))
        told.append(f"teacher {path}: {checkpoint.told()}")
    return Start(
        model,
        Teachers(members, device, options.teacher_scales, options.teacher_flip) if members else None,
        tuple(told),
    )


def spec_of_teacher(checkpoint: Checkpoint, student: ModelSpec) -> ModelSpec:
    """How a teacher sees frames: as its file says, else as its code base does; it has the student's classes unless it
    names its own.

    All code bases whose layouts rtpsp knows take RGB by ImageNet's statistics, unless a file says otherwise.

    Raises:
        ModelError: It has more or fewer classes than it names, or than the student has.
    """
    hints, model = checkpoint.hints, checkpoint.model
    if hints.spec is not None:
        return hints.spec
    labels = hints.labels or student.labels
    if model.classes != len(labels):
        raise ModelError(
            f"teacher {checkpoint.path} has {model.classes} classes, the student {len(labels)}: "
            f"give one that was trained on the same label set"
        )
    own = replace(student, arch=model.arch.name, output_stride=model.output_stride, labels=labels)
    if checkpoint.layout.name == "rtpsp" or model.inputs != 3:
        return own
    own = replace(own, channels="bgr" if hints.rgb is False else "rgb", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if hints.mean is None or hints.std is None:
        return own
    unit = 255 if max((*hints.mean, *hints.std)) > 1 else 1
    mean, std = (tuple(value / unit for value in values) for values in (hints.mean, hints.std))
    return replace(own, mean=mean, std=std)
