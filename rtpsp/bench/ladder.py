"""The ladder to an asked-for rate: the best answers first, and how far down it has to be gone on this machine.

At its top is the shipped model as it is, then in a faster precision, then for smaller frames (`rtpsp.graph.resized`).
The first rung that reaches the target, with a reserve, is taken, with as few threads as do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from rtpsp.errors import BoundNotMet, EngineFileError, MissingError, ModelError, UsageError
from rtpsp.header import EngineHeader, Precision

_log = logging.getLogger(__name__)

RESERVE = 1.25
"""By how much the probe has to exceed the target: a camera, an encoder and other programs will want the CPU, too."""

SCALES = (0.8, 2 / 3, 8 / 15)
"""Sides of the smaller frames, as shares of the model's own; of smaller ones still, little is recognised."""

_HOPELESS = 0.8
"""A smaller size is passed over if it would not come this near, were time in proportion to pixels: it does better."""

UNUSABLE = (BoundNotMet, EngineFileError, MissingError, ModelError, UsageError)
"""What of a rung below the first passes it over."""


@dataclass(frozen=True)
class Rung:
    """An engine that may be taken.

    Attributes:
        precision: Of its convolutions.
        backend: What runs it.
        size: Input (height, width) in pixels.
    """

    precision: Precision
    backend: str
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.size[0]}x{self.size[1]} {self.precision}"


@dataclass(frozen=True)
class Tried:
    """What the probe measured.

    Attributes:
        rung: Of which engine.
        threads: CPU threads for everything together.
        fps: Frames a second of the loop.
    """

    rung: Rung
    threads: int
    fps: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        height, width = self.rung.size
        told = {"precision": self.rung.precision, "backend": self.rung.backend, "height": height, "width": width}
        return {**told, "threads": self.threads, "fps": round(self.fps, 2)}

    @classmethod
    def from_dict(cls, told: Any) -> Tried:
        """The inverse of `to_dict`; KeyError, TypeError or ValueError for anything else."""
        rung = Rung(told["precision"], str(told["backend"]), (int(told["height"]), int(told["width"])))
        if rung.precision not in get_args(Precision):
            raise ValueError(rung.precision)
        return cls(rung, int(told["threads"]), float(told["fps"]))


def climb(
    target: float,
    ladder: Sequence[Rung],
    counts: Sequence[int],
    build: Callable[[Rung], Path],
    probe: Callable[[Path, int], float],
) -> tuple[Tried, tuple[Tried, ...], Path]:
    """Take the first rung that reaches a rate.

    Of a rung that does, the fewest threads are taken that do, so that other programs have the rest of the machine.

    Args:
        target: Frames a second.
        ladder: What may be taken, the best answers first; those of one size before smaller ones.
        counts: Numbers of threads that may be taken, the largest first.
        build: Makes the engine file of a rung. The first one has to succeed.
        probe: Frames a second of an engine file with so many threads.

    Returns:
        What was chosen, all that was measured, and the engine file.
    """
    need = RESERVE * target
    tried: list[Tried] = []
    paths: dict[Rung, Path] = {}
    for place, rung in enumerate(ladder):
        fastest = max(tried, key=lambda one: one.fps, default=None)
        if fastest is not None and rung.size != ladder[0].size:
            if rung.precision != fastest.rung.precision:
                continue
            likely = fastest.fps * _pixels(fastest.rung) / _pixels(rung)
            if likely < _HOPELESS * need and place + 1 < len(ladder):
                continue
        try:
            paths[rung] = build(rung)
        except UNUSABLE as error:
            if not tried:
                raise
            _log.info("%s is not tried: %s", rung, error)
            continue
        enough = []
        for count in counts:
            one = Tried(rung, count, probe(paths[rung], count))
            tried.append(one)
            if one.fps >= need:
                enough.append(one)
            elif enough or count != counts[0]:
                break  # one try beyond all threads even so: a small network may be faster without some of them
        if enough:
            return enough[-1], tuple(tried), paths[rung]
    chosen = max(tried, key=lambda one: one.fps)
    return chosen, tuple(tried), paths[chosen.rung]


def ladder_of(header: EngineHeader) -> tuple[Rung, ...]:
    """What may be taken in place of an engine of the shipped model, itself first."""
    first = rung_of(header)
    ladder = [first] if first.precision == "int8" else [first, replace(first, precision="int8")]
    stride = header.spec.output_stride
    for scale in SCALES:
        height, width = (stride * max(1, round(side * scale / stride)) for side in first.size)
        ladder += [replace(rung, size=(height, width)) for rung in ladder if rung.size == first.size]
    return tuple(ladder)


def rung_of(header: EngineHeader) -> Rung:
    """The rung that an engine is."""
    return Rung(header.precision, header.backend, header.spec.size)


def thread_counts(budget: int) -> tuple[int, ...]:
    """All threads, half of them, and so on to 1."""
    counts = [budget]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return tuple(counts)


def _pixels(rung: Rung) -> int:
    return rung.size[0] * rung.size[1]
