"""The INT8 part of a build: ranges, the integers that this machine multiplies rightly, the accuracy that is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtpsp.calibrate import DEFAULT_METHOD, cached, calibrate, fitted
from rtpsp.calibration_cache import write_cache
from rtpsp.data.sample import Sample
from rtpsp.errors import BoundNotMet, ModelError, UsageError
from rtpsp.maker import Form, Maker, choose_head
from rtpsp.measured import known_parts, parts_of, to_words
from rtpsp.sensitivity import Bound, Choice, Cost, Frames, Judge, Part, choose_parts, measure_parts

if TYPE_CHECKING:
    from rtpsp.calibration_set import CalibrationSet
    from rtpsp.engine.base import Engine
    from rtpsp.graph.lower import Head
    from rtpsp.graph.quantize import IntegerFormat
    from rtpsp.spec import Planes

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

MIN_AGREEMENT = 0.985
MAX_MIOU_DROP = 0.5
"""Bounds of a build with frames that asks for none; how they were chosen stands in ``bench/README.md``."""

SENSITIVITY_FRAMES = 8


@dataclass(frozen=True)
class Int8Options:
    """How to quantise.

    Attributes:
        calib: Frames to measure ranges on, as `rtpsp.calibration_set.open_calibration` takes them; None takes a cache.
        images: How many of them at most.
        split: Which part of a labelled folder.
        cache: A cache of ranges in place of frames; None takes the shipped model's own.
        method: How ranges are chosen from what was measured, one of `rtpsp.calibration_cache.METHODS`.
        min_agreement: Least class agreement with FP32, 0..1; None takes `MIN_AGREEMENT` where there are frames.
        max_miou_drop: Most points of mIoU lost; None takes `MAX_MIOU_DROP` where there are labels.
    """

    calib: str | None = None
    images: int = 300
    split: str | None = None
    cache: Path | None = None
    method: str = DEFAULT_METHOD
    min_agreement: float | None = None
    max_miou_drop: float | None = None

    def __post_init__(self) -> None:
        if self.calib is not None and self.cache is not None:
            raise UsageError(
                "got frames and a cache to take INT8's ranges from, expected one: leave --calib or --calib-cache out"
            )
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise UsageError(f"min_agreement is {self.min_agreement}, expected a share from 0 to 1")
        if self.max_miou_drop is not None and not self.max_miou_drop >= 0:
            raise UsageError(f"max_miou_drop is {self.max_miou_drop}, expected points of mIoU, 0 or more")


@dataclass(frozen=True)
class Quantised:
    """What INT8 came to.

    Attributes:
        form: What to build.
        parts: Each group of convolutions, what it costs, and whether it runs in INT8; empty where none was measured.
        cost: On frames that neither ranges nor parts were chosen on; None where there are no frames.
        failed: Why the bound does not hold; empty if it does, or if none was asked for.
        told: What an engine's header keeps of it.
        notes: What to tell the user, a line each.
    """

    form: Form
    parts: tuple[Part, ...] = ()
    cost: Cost | None = None
    failed: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def quantise_model(maker: Maker, options: Int8Options, head: str, progress: Progress) -> Quantised:
    """Finds ranges and integers, and the parts of a model that run in INT8 with the asked-for accuracy.

    Args:
        maker: Of the model; gets the ranges and the integers.
        options: From where, and how accurate.
        head: ``plain``, ``split`` or ``auto``.
        progress: Told of each step.

    Raises:
        RtpspError: As calibration; `UsageError` where a bound is asked for and there is nothing to measure it on,
            `ModelError` where the model has no convolution for INT8.
    """
    from rtpsp.graph.groups import groups

    if not groups(maker.lowered("split" if head == "split" else "plain")):
        raise ModelError(
            f"INT8 has nothing to do in {maker.spec.name}: its only convolutions are those that give the scores, which "
            f"stay in floating point; build it with --fp32 or --fp16"
        )
    if options.calib is None:
        return _from_cache(maker, options, head)
    return _from_frames(maker, options, head, progress)


def _from_frames(maker: Maker, options: Int8Options, head: str, progress: Progress) -> Quantised:
    from rtpsp.calibration_set import open_calibration

    assert options.calib is not None
    frames = open_calibration(options.calib, options.images, options.split, None, progress, maker.spec.labels)
    fit, held = frames.hold_out()
    bound = _bound(options, held)
    maker.ranges, path = calibrate(
        maker.graph, maker.spec, fit, options.method, threads=maker.threads, progress=progress
    )
    maker.integers, why = _integers(maker.header.backend)
    chosen_head, which = choose_head(maker, head, "int8")
    choice, keep = _choose(maker, chosen_head, fit, held, bound, progress)
    cost = choice.cost
    failed = "" if choice.held else f"expected {bound}, got {cost}"
    rows = [part.to_dict() for part in choice.parts]
    data = Path(frames.source).name + (f" ({frames.split})" if frames.split else "")
    measured = {
        "backend": maker.measures_with, "head": chosen_head, "data": data, "bound": cost.to_dict(),
        "tries": choice.tries, "sensitivity": rows,
    }  # fmt: skip
    maker.ranges = replace(maker.ranges, measured={**maker.ranges.measured, str(maker.integers): measured})
    write_cache(path, maker.ranges)
    again = f", the {choice.tries}th choice that was tried on them" if choice.tries > 1 else ""
    again += _measured_by(maker)
    notes = [
        f"ranges: {options.method} over {len(fit)} frames of {frames.source}, kept in {path}", *([why] if why else []),
        which, f"accuracy against FP32: {cost} of {data}, held out of the calibration{again}",
    ]  # fmt: skip
    told = {**_told(maker), "cache": path.name, "parts": rows, "cost": cost.to_dict(), "on": data, "asked": str(bound)}
    return Quantised(Form("int8", chosen_head, keep), choice.parts, cost, failed, told, tuple(notes))


def _bound(options: Int8Options, held: CalibrationSet) -> Bound:
    """What a build with frames has to keep, said before anything of it takes minutes."""
    labelled = held.labelled and len(held) >= 2  # one half to choose on, one to report on
    if options.max_miou_drop is not None and not labelled:
        lack = "no labels to measure it with"
        if held.labelled:
            lack = f"{len(held)} labelled frame(s) held out to measure it on, expected 2"
        raise UsageError(
            f"a drop of mIoU is bounded, and {held.source} has {lack}: give --calib a labelled folder of 10 or more "
            f"frames, or bound the agreement with --min-agreement"
        )
    least = MIN_AGREEMENT if options.min_agreement is None else options.min_agreement
    most = MAX_MIOU_DROP if options.max_miou_drop is None else options.max_miou_drop
    return Bound(least, most if labelled else None)


def _choose(
    maker: Maker, head: Head, fit: CalibrationSet, held: CalibrationSet, bound: Bound, progress: Progress
) -> tuple[Choice, frozenset[str]]:
    """The parts that run in INT8, and the convolutions that stay in float."""
    from rtpsp.graph.groups import groups

    assert maker.ranges is not None
    labelled = bound.max_miou_drop is not None
    parted = groups(maker.lowered(head))

    def judge(frames: CalibrationSet, labelled: bool) -> Judge:
        return Judge(maker.measured(Form("fp32", head)), _kept(frames, maker, labelled), progress)

    def build(keep: Collection[str]) -> Engine:
        return maker.int8_without(head, keep)

    # mIoU of a few frames is fitted to them by choosing: the other half is to confirm it
    choose_on, report_on = held.halves() if labelled else (held, None)
    chooser = judge(choose_on, labelled)  # before the parts are measured, for labels may be of other classes
    confirm = judge(report_on, labelled) if report_on is not None else None
    parts = known_parts(maker.ranges, parted, str(maker.integers))
    if parts is None:
        few = fit[:: max(1, len(fit) // SENSITIVITY_FRAMES)][:SENSITIVITY_FRAMES]
        parts = measure_parts(parted, build, judge(few, labelled=False), progress)
    choice = choose_parts(parted, parts, build, chooser, bound, progress, confirm)
    return choice, _left(choice.parts, parted)


@dataclass(frozen=True)
class _Labelled:
    """Samples, read anew each time: at their own size, a few dozen of a modern camera are gigabytes."""

    frames: CalibrationSet
    planes: Planes

    def __iter__(self) -> Iterator[Sample]:
        return self.frames.samples(self.planes)

    def __len__(self) -> int:
        return len(self.frames)


def _kept(frames: CalibrationSet, maker: Maker, labelled: bool) -> Frames:
    if labelled:
        return _Labelled(frames, maker.spec.planes)
    return [batch[0] for batch in fitted(frames, maker.spec)]  # at the model's size, which is all that is compared


def _left(parts: Iterable[Part], parted: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Names of the convolutions that stay in floating point."""
    return frozenset(name for part in parts if not part.int8 for name in parted.get(part.group, ()))


def _from_cache(maker: Maker, options: Int8Options, head: str) -> Quantised:
    """Without frames a bound is what was measured when the cache was made, or cannot be had."""
    from rtpsp.graph.groups import groups

    cache, path = cached(maker.graph, maker.spec, options.cache)
    maker.ranges = cache
    maker.integers, why = _integers(maker.header.backend)
    parts, cost = parts_of(cache, str(maker.integers)), None
    measured = cache.measured.get(str(maker.integers))
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if measured["backend"] == maker.measures_with and head in ("auto", measured["head"]):  # type: ignore[index]
            cost = Cost.from_dict(measured["bound"])  # type: ignore[index]
    bound = Bound(options.min_agreement, options.max_miou_drop)
    if bound != Bound() and (cost is None or not bound.holds(cost)):
        known = f"the ranges come with {cost}" if cost else "the ranges come with no measured accuracy"
        raise UsageError(f"{bound} is asked for, and {known}: give frames to measure and choose on with --calib")
    if bound != Bound() and isinstance(measured, Mapping):
        head = measured["head"]  # the one that the bound was measured with
    chosen_head, which = choose_head(maker, head, "int8")
    if isinstance(measured, Mapping) and measured.get("head") != chosen_head:
        cost = None
    measured_on = f"over {cache.images} frames" if cache.images else "of a TensorRT table"
    notes = [f"ranges: {cache.method} {measured_on}, from {path}", *([why] if why else []), which]
    told = _told(maker)
    if options.cache is not None:
        told["cache"] = path.name
    if parts:
        told["parts"] = [part.to_dict() for part in parts]
    if cost:
        on = to_words(measured.get("data")) if isinstance(measured, Mapping) else ""
        notes.append(
            f"accuracy against FP32: {cost}{f' of {on}' if on else ''}, when the ranges were measured"
            f"{_measured_by(maker)}"
        )
        told |= {"cost": cost.to_dict(), "on": on}
    if bound != Bound():
        told["asked"] = str(bound)
    keep = _left(parts, groups(maker.lowered(chosen_head)))
    return Quantised(Form("int8", chosen_head, keep), parts, cost, told=told, notes=tuple(notes))


def _integers(backend: str) -> tuple[IntegerFormat, str]:
    from rtpsp.engine import BACKENDS
    from rtpsp.engine.saturation import why_saturates
    from rtpsp.graph.quantize import IntegerFormat

    if BACKENDS[backend].gpu:  # TensorRT multiplies signed bytes alone, and adds them in 32 bits
        return IntegerFormat(), ""
    why = why_saturates(backend)
    note = f"7-bit weights: {why}" if why else ""
    return IntegerFormat(unsigned=True, weight_bits=7 if why else 8), note


def _measured_by(maker: Maker) -> str:
    """Told where it is not the engine itself that was measured."""
    same = maker.measures_with == maker.header.backend
    return "" if same else "; of its graph by ONNX Runtime, 'rtpsp eval' tells the engine's"


def _told(maker: Maker) -> dict[str, Any]:
    assert maker.ranges is not None
    return {"method": maker.ranges.method, "images": maker.ranges.images}


def refuse(found: Quantised, kept: Path) -> BoundNotMet:
    """The error of a build whose bound does not hold."""
    return BoundNotMet(
        f"INT8 does not keep the asked-for accuracy, whichever parts stay in floating point: {found.failed}; the best "
        f"engine is kept as {kept}: ask for less, or calibrate on more frames"
    )
