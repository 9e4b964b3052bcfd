"""Means, standard deviations and the order of colours: on which scale they are, and what they tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rtpsp.errors import UsageError
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD, Channels

Order = Literal["rgb", "bgr"]
Source = Literal["graph", "said", "assumed"]

_BYTE = 255.0
_UNIT = 2.0
"""On a scale of 0..1 no mean and no standard deviation reaches it; on one of 0..255 nobody's mean lies below but 0."""
_NEAR = 0.02
"""By how much published means of ImageNet differ, those of Caffe's models among them, on a scale of 0..1."""


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / std`` of x in 0..1.

    Attributes:
        mean: One value a plane, in the network's order.
        std: As many.
        source: The graph does it, its owner said it, or it is assumed.
        brightest: What the file takes for the byte 255 where its graph normalises: 1 or 255; else the scale on which
            mean and standard deviation were said.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: Source
    brightest: float

    def reordered(self, order: Sequence[int]) -> Normalisation:
        """For a network whose plane c is the file's plane ``order[c]``."""
        mean, std = (tuple(values[place] for place in order) for values in (self.mean, self.std))
        return Normalisation(mean, std, self.source, self.brightest)


def in_graph(scale: Sequence[float], shift: Sequence[float], of_bytes: bool) -> Normalisation:
    """What a graph does itself: ``scale * x + shift``.

    Args:
        scale: One factor a plane of the network, above 0.
        shift: One offset a plane.
        of_bytes: x is a byte; a float may be that or on 0..1, which mean and standard deviation tell.
    """
    mean = [-offset / factor for factor, offset in zip(scale, shift, strict=True)]
    std = [1 / factor for factor in scale]
    brightest = _BYTE if of_bytes or max(*mean, *std) > _UNIT else 1.0
    return Normalisation(
        _to_unit(map(_rounded, mean), brightest), _to_unit(map(_rounded, std), brightest), "graph", brightest
    )


def said(
    mean: Sequence[float] | None, std: Sequence[float] | None, planes: int, order: Order | None = None
) -> Normalisation:
    """What an owner says, in the order of the file's planes; ImageNet's for three planes where nothing is said.

    Args:
        mean: On 0..1 or on 0..255.
        std: On the same scale.
        planes: Of the file.
        order: Of its colours; RGB where it is not said.

    Raises:
        UsageError: One is missing, the counts differ from the planes, or mean and standard deviation are on two scales.
    """
    if mean is None and std is None:
        if planes != 3:
            raise UsageError(
                f"it takes images of {'1 plane' if planes == 1 else f'{planes} planes'}, for which there is no usual "
                f"normalisation: give --mean and --std with {planes} value{'s' * (planes > 1)} each, on 0..1 or 0..255"
            )
        assumed = Normalisation(IMAGENET_MEAN, IMAGENET_STD, "assumed", 1.0)
        return assumed.reordered((2, 1, 0)) if order == "bgr" else assumed
    if mean is None or std is None:
        flag, other = ("--mean", "--std") if std is None else ("--std", "--mean")
        usual = "1" if std is None else "0"
        raise UsageError(
            f"got {flag} without {other}: give both ({other} {','.join([usual] * planes)} where there is none)"
        )
    if len(mean) != planes or len(std) != planes:
        raise UsageError(
            f"--mean has {len(mean)} values and --std {len(std)}, and the model takes {planes} "
            f"plane{'s' * (planes > 1)}: give one each"
        )
    if not min(std) > 0 or max(map(abs, (*mean, *std))) > _BYTE:
        raise UsageError(
            f"--mean {_shown(mean)} and --std {_shown(std)}, expected values on 0..1 or on 0..255, --std above 0"
        )
    brightest = _BYTE if max(*mean, *std) > _UNIT else 1.0
    small_std = max(std) < 1 and max(mean) > _UNIT
    small_mean = 0 < max(map(abs, mean)) < 1 and max(std) > _UNIT
    if small_std or small_mean:
        raise UsageError(
            f"--mean {_shown(mean)} and --std {_shown(std)} are on two scales: give both on 0..1 or both on 0..255 "
            f"(some tools write 1/std, e.g. 0.0171 for 58.4)"
        )
    return Normalisation(_to_unit(mean, brightest), _to_unit(std, brightest), "said", brightest)


def order_told_by(mean: Sequence[float]) -> Order | None:
    """The order of colours in which a mean is ImageNet's; None for any other mean."""
    for order, usual in (("rgb", IMAGENET_MEAN), ("bgr", IMAGENET_MEAN[::-1])):
        if all(abs(value - other) <= _NEAR for value, other in zip(mean, usual, strict=False)):
            return "rgb" if order == "rgb" else "bgr"
    return None


def channels_of(planes: int, order: Order | None, normalisation: Normalisation, swap: Sequence[int]) -> Channels:
    """The network's order of colours.

    Args:
        planes: That it takes.
        order: Of the file's planes, as its owner says.
        normalisation: Its mean tells the network's order where the owner does not.
        swap: Which of the file's planes each of the network's is.

    Raises:
        UsageError: An order was given of one plane.
    """
    if planes == 1:
        if order:
            raise UsageError(f"it takes images of one plane, and --{order} is of three: leave it out")
        return "grey"
    network: Order | None = order
    if order and swap[0] != 0:
        network = "bgr" if order == "rgb" else "rgb"
    if network is None:
        network = order_told_by(normalisation.mean) if normalisation.source != "assumed" else None
    if network is None:
        network = "bgr" if swap[0] != 0 else "rgb"
    if planes == 3:
        return network
    return "rgbx" if network == "rgb" else "bgrx"


def _rounded(value: float) -> float:
    """In the six digits that survive float32: what was 0.485 is that again."""
    return float(f"{value:.6g}")


def _to_unit(values: Iterable[float], brightest: float) -> tuple[float, ...]:
    return tuple(value / brightest for value in values)


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
