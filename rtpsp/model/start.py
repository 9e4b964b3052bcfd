"""Where a training begins: the network with its first weights, and the teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from rtpsp.model.checkpoint import open_checkpoint
from rtpsp.model.initial import initialise
from rtpsp.model.pspnet import PSPNet, build
from rtpsp.model.teachers import Teachers, check_teacher
from rtpsp.model.train_options import TrainOptions
from rtpsp.model.trained import spec_of_teacher
from rtpsp.spec import ModelSpec


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
        told.append(initialise(model, init, spec.labels).told())
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
