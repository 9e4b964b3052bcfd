"""Networks that another one learns from, each in its own normalisation, at several scales and mirrored if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rtpsp.errors import ModelError
from rtpsp.model.hardware import place
from rtpsp.model.normalise import Normaliser
from rtpsp.model.pspnet import PSPNet
from rtpsp.spec import ModelSpec


class Teachers:
    """The mean of what several networks say, as probabilities.

    Args:
        members: Each network with its spec; changed to eval mode and moved.
        device: Where they compute.
        scales: Factors by which a cut is resized for them.
        flip: Ask for the mirrored cut too.
    """

    def __init__(
        self,
        members: Sequence[tuple[PSPNet, ModelSpec]],
        device: torch.device,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        self.device = device
        self._scales, self._flip = tuple(scales), flip
        self._members = [
            (place(model, device).eval().requires_grad_(False), Normaliser(spec, device)) for model, spec in members
        ]

    def __len__(self) -> int:
        return len(self._members)

    @torch.no_grad()
    def probabilities(self, frames: Tensor, temperature: float) -> Tensor:
        """What they say together.

        Args:
            frames: uint8 [N, H, W, planes].
            temperature: By which scores are divided before the softmax, above 0.

        Returns:
            float32 [N, classes, H, W], the mean over networks, scales and sides; sums to 1 over classes.
        """
        total, votes = None, 0
        for model, normalise in self._members:
            image = normalise(frames)
            for scale in self._scales:
                size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
                seen = image
                if scale != 1:
                    seen = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=scale < 1)
                for mirrored in (False, True) if self._flip else (False,):
                    scores = cast(Tensor, model(seen.flip(3) if mirrored else seen)).float()
                    scores = scores.flip(3) if mirrored else scores
                    if scale != 1:
                        scores = F.interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)
                    answer = F.softmax(scores / temperature, dim=1)
                    total = answer if total is None else total + answer
                    votes += 1
        assert total is not None
        return total / votes


def check_teacher(name: str, teacher: ModelSpec, student: ModelSpec) -> None:
    """Make sure that a teacher can teach.

    Args:
        name: What an error calls it.
        teacher: Its spec.
        student: The spec of what learns.

    Raises:
        ModelError: It has other classes, or sees other planes.
    """
    if len(teacher.labels) != len(student.labels):
        raise ModelError(
            f"teacher {name} names {len(teacher.labels)} classes, the student {len(student.labels)}: "
            f"give one that was trained on the same label set"
        )
    folded = [[label.casefold() for label in spec.labels.names] for spec in (teacher, student)]
    if folded[0] != folded[1]:
        place = next(at for at, (one, other) in enumerate(zip(*folded, strict=True)) if one != other)
        raise ModelError(
            f"teacher {name} has class {place} {teacher.labels.names[place]!r}, the student "
            f"{student.labels.names[place]!r}: give one that was trained on the same label set"
        )
    if len(teacher.mean) != len(student.mean):
        raise ModelError(
            f"teacher {name} sees {len(teacher.mean)} planes, the student {len(student.mean)}: give one of the same"
        )
