"""What INT8 costs each part of a network, and which parts have to stay in floating point for an asked-for accuracy.

Parts are those of `rtpsp.graph.groups`. A part's loss is the share of pixels whose class changes when it alone runs in
INT8; the parts that lose most are left in floating point, one after the other, until the bound holds on frames that no
range was measured on. Wu et al., arXiv 2004.09602, section 6.1 (partial quantization), order layers likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.data.sample import Sample
from rtpsp.engine.base import Engine
from rtpsp.evaluate import Evaluation, Scorer, segmenter

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

OpenWithout = Callable[[Collection[str]], Engine]
"""An INT8 engine, not yet open, in which these convolutions stay in floating point."""


class Frames(Protocol):
    """Frames of any size, or labelled samples, that can be gone through again and again."""

    def __iter__(self) -> Iterator[Image | Sample]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Part:
    """One group of convolutions.

    Attributes:
        group: Its name.
        convolutions: How many.
        loss: Share of pixels, 0..1, whose class changes when this group alone runs in INT8; None where it was not
            measured.
        int8: Whether it runs in INT8.
    """

    group: str
    convolutions: int
    loss: float | None = None
    int8: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "loss": None if self.loss is None else round(self.loss, 6)}

    @classmethod
    def from_dict(cls, values: Any) -> Part:
        """The inverse of `to_dict`, of values that anybody may have written.

        Raises:
            ValueError: They are no part's.
        """
        try:
            part = cls(values["group"], values["convolutions"], _number(values["loss"]), values["int8"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{values!r:.60} tells of no part") from error
        named = isinstance(part.group, str) and part.group.isprintable()
        if not (named and type(part.convolutions) is int and isinstance(part.int8, bool)):
            raise ValueError(f"{values!r:.60} tells of no part")
        return part


@dataclass(frozen=True)
class Bound:
    """What was asked for.

    Attributes:
        min_agreement: Least class agreement with FP32, 0..1; None asks for none.
        max_miou_drop: Most points of mIoU that may be lost against FP32; None asks for none.
    """

    min_agreement: float | None = None
    max_miou_drop: float | None = None

    def holds(self, cost: Cost) -> bool:
        """Whether a measured cost keeps it; a drop that was not measured keeps none."""
        if self.min_agreement is not None and not cost.agreement >= self.min_agreement:
            return False
        if self.max_miou_drop is None:
            return True
        return cost.miou_drop is not None and cost.miou_drop <= self.max_miou_drop

    def __str__(self) -> str:
        asked = []
        if self.min_agreement is not None:
            asked.append(f"a class agreement of {self.min_agreement:.2%} or more")
        if self.max_miou_drop is not None:
            asked.append(f"a drop of {self.max_miou_drop:.2f} mIoU or less")
        return " and ".join(asked) or "nothing"


@dataclass(frozen=True)
class Cost:
    """What an engine loses against FP32 on a set of frames.

    Attributes:
        frames: How many.
        agreement: Class agreement over all pixels of the frames, 0..1.
        worst: The least agreement of one frame.
        miou: Of the engine, in percent; None without labels.
        miou_drop: FP32's mIoU less the engine's, in points; None without labels.
    """

    frames: int
    agreement: float
    worst: float
    miou: float | None = None
    miou_drop: float | None = None

    def __str__(self) -> str:
        drop = ""
        if self.miou_drop is not None:
            drop = f", {abs(self.miou_drop):.2f} mIoU {'less' if self.miou_drop >= 0 else 'more'}"
        frames = f"{self.frames} frame{'s' if self.frames != 1 else ''}"
        return f"{self.agreement:.3%} class agreement (worst frame {self.worst:.2%}){drop} on {frames}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: round(value, 6) for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> Cost:
        """The inverse of `to_dict`, of values that anybody may have written.

        Raises:
            ValueError: They are no cost.
        """
        try:
            agreement, worst = _number(values["agreement"]), _number(values["worst"])
            miou, drop = _number(values.get("miou")), _number(values.get("miou_drop"))
            frames = values["frames"]
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{values!r:.60} tells of no accuracy") from error
        if type(frames) is not int or agreement is None or worst is None:
            raise ValueError(f"{values!r:.60} tells of no accuracy")
        return cls(frames, agreement, worst, miou, drop)


class Judge:
    """FP32's answers to a set of frames, by which other engines are judged.

    Args:
        reference: The FP32 engine, not open.
        frames: Gone through once for each engine; they may be read anew each time. FP32's answers are kept.
        progress: Called after each frame.
        step: What the progress calls it.
    """

    def __init__(self, reference: Engine, frames: Frames, progress: Progress, step: str = "FP32's answers") -> None:
        self._frames = frames
        self._labels = reference.spec.labels
        self._answers, self._evaluation = self._ask(reference, progress, step)

    def cost(self, engine: Engine, progress: Progress, step: str) -> Cost:
        """Opens an engine and asks it for all frames."""
        answers, found = self._ask(engine, progress, step)
        same = [float(np.mean(one == other)) for one, other in zip(answers, self._answers, strict=True)]
        sizes = [answer.size for answer in answers]
        cost = Cost(len(same), float(np.average(same, weights=sizes)), min(same))
        if found is None or self._evaluation is None:
            return cost
        return replace(cost, miou=found.miou, miou_drop=self._evaluation.miou - found.miou)

    def _ask(self, engine: Engine, progress: Progress, step: str) -> tuple[list[ClassMap], Evaluation | None]:
        """Its answers to all frames, and what they are worth where the frames have labels."""
        segment = segmenter(lambda batch: engine.infer(batch).class_map, engine.spec)
        answers: list[ClassMap] = []
        scorer = Scorer(self._labels)
        labelled = True
        with engine:
            for number, frame in enumerate(self._frames, 1):
                sample = frame if isinstance(frame, Sample) else None
                answers.append(segment(frame.image if isinstance(frame, Sample) else frame))
                if sample is None:
                    labelled = False
                else:
                    scorer.add(sample, answers[-1])
                progress(step, number, len(self._frames))
        return answers, scorer.result() if labelled else None


def measure_parts(
    groups: dict[str, tuple[str, ...]], build: OpenWithout, judge: Judge, progress: Progress
) -> tuple[Part, ...]:
    """The loss of each group, by an engine in which it alone runs in INT8.

    Args:
        groups: Names of convolutions by group (`rtpsp.graph.groups`).
        build: Makes engines.
        judge: Of a few frames; each group costs as many inferences.
        progress: Called after each group.
    """
    parts = []
    for number, (group, names) in enumerate(groups.items(), 1):
        others = {name for other, convs in groups.items() if other != group for name in convs}
        cost = judge.cost(build(others), _silent, "")
        parts.append(Part(group, len(names), 1 - cost.agreement))
        progress("sensitivity of each part", number, len(groups))
    return tuple(parts)


@dataclass(frozen=True)
class Choice:
    """Which parts run in INT8, and what that costs.

    Attributes:
        parts: In the graph's order.
        cost: On the frames that confirm the choice; on those that it was made on where there are no others, or where
            the bound does not hold there.
        held: Whether the bound holds, on the ones and on the others.
        tries: How many choices the others were asked about; the more, the kinder is what they say of the last.
    """

    parts: tuple[Part, ...]
    cost: Cost
    held: bool
    tries: int = 1


def choose_parts(
    groups: dict[str, tuple[str, ...]],
    parts: tuple[Part, ...],
    build: OpenWithout,
    judge: Judge,
    bound: Bound,
    progress: Progress,
    confirm: Judge | None = None,
) -> Choice:
    """Leaves parts in floating point, the one that loses most first, until a bound holds.

    Args:
        groups: Names of convolutions by group.
        parts: With their losses.
        build: Makes engines.
        judge: Of the frames to choose on.
        bound: What is asked for.
        progress: Told of each try.
        confirm: Of other frames, on which the bound has to hold too; they are asked about no choice that fails on the
            first ones.

    Returns:
        The first choice that keeps the bound, or the one of most agreement if none does.
    """
    order = sorted(parts, key=lambda part: -(part.loss or 0.0))
    best: tuple[float, Choice] | None = None
    tries = 0
    for count in range(len(order)):
        left = {part.group for part in order[:count]}
        now = tuple(replace(part, int8=part.group not in left) for part in parts)
        engine = build({name for group in left for name in groups[group]})
        what = f"INT8 with {count} of {len(order)} parts in float" if count else "INT8"
        cost = judge.cost(engine, progress, what)
        choice = Choice(now, cost, bound.holds(cost))
        if choice.held and confirm is not None:
            confirmed = confirm.cost(engine, progress, f"{what}, on other frames")
            tries += 1
            choice = replace(choice, cost=confirmed, held=bound.holds(confirmed), tries=tries)
        if choice.held:
            return choice
        if best is None or cost.agreement > best[0]:
            best = cost.agreement, choice
    assert best is not None
    return best[1]


def _number(value: Any) -> float | None:
    if value is None:
        return None
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # JSON has integers of any length
        pass
    raise ValueError(f"{value!r:.40} is no finite number")


def _silent(step: str, done: int, total: int) -> None:
    pass
