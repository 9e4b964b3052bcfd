"""What a comparison of two engines found, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rtpsp.agreement import Agreement, Pair
from rtpsp.arrays import ClassMap, Image
from rtpsp.evaluate import Evaluation
from rtpsp.labels import LabelSet
from rtpsp.timing import BEYOND, Summary, quantile

AS_FAST = 0.03
"""Ratios this close to 1 are called *as fast as*: two measurements of one engine differ by as much."""


@dataclass(frozen=True, eq=False)
class Difference:
    """A frame to which the engines gave different answers.

    Attributes:
        name: The frame's, as its data set or source calls it.
        image: uint8 [H, W, 3] BGR, grey or BGRX.
        first: A's class ids [H, W].
        second: B's class ids [H, W].
        truth: Ground truth [H, W], where there is any.
        agreement: Class agreement on this frame, in percent.
    """

    name: str
    image: Image
    first: ClassMap
    second: ClassMap
    truth: ClassMap | None
    agreement: float


@dataclass(frozen=True)
class Ratio:
    """Latency of A / latency of B over pairs of inferences on the same frame; above 1 where B is faster.

    Attributes:
        count: How many pairs.
        p10: A tenth of the ratios is below it; None with too few pairs (`rtpsp.timing.BEYOND`), as are the others.
    """

    count: int
    min: float
    p10: float | None
    p25: float | None
    median: float
    p75: float | None
    p90: float | None
    max: float

    @classmethod
    def of(cls, first: Iterable[float], second: Iterable[float]) -> Ratio:
        """The ratio of latencies in the same unit, pair by pair; at least one pair."""
        ordered = sorted(one / other for one, other in zip(first, second, strict=True))

        def percentile(share: float) -> float | None:
            beyond = len(ordered) * min(share, 1 - share)
            return quantile(ordered, share) if beyond > BEYOND - 1e-9 else None

        return cls(
            len(ordered), ordered[0], percentile(0.1), percentile(0.25), quantile(ordered, 0.5), percentile(0.75),
            percentile(0.9), ordered[-1],
        )  # fmt: skip

    def to_dict(self) -> dict[str, float | int | None]:
        """As plain JSON values, rounded to four decimals."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two engines.

    Attributes:
        engine: File, model, size, fit, backend, precision asked for, number format that ran, versions, model digest.
        latency: Of one frame, from submitting it to having its class map.
    """

    engine: dict[str, Any]
    latency: Summary

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**self.engine, "latency_ms": self.latency.to_dict()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of it.

    Attributes:
        a: The first engine.
        b: The second engine.
        pair: Their agreement and, with labelled data, how right each is.
        ratio: Of their latencies.
        worst: The frames that differ most, the worst first; none where the engines never differ.
        frames: What the frames were: the data set or the source, without credentials.
        split: Which part of a data set, where it has parts.
        threads: CPU threads of each engine.
    """

    a: Side
    b: Side
    pair: Pair
    ratio: Ratio
    worst: tuple[Difference, ...]
    frames: str
    split: str | None
    threads: int

    @property
    def agreement(self) -> Agreement:
        """How alike they answered."""
        return self.pair.agreement

    @property
    def labels(self) -> LabelSet:
        """The classes of both."""
        return self.agreement.labels

    @property
    def verdict(self) -> str:
        """All of it in one line, such as "B is 3.9x as fast as A; they agree on 99.2 % of pixels; …"."""
        said = [_speed(self.ratio), f"they agree on {self.agreement.words}", _right(self.pair.miou_difference)]
        return "; ".join(filter(None, said))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; differences are B's figure minus A's."""
        values: dict[str, Any] = {
            "verdict": self.verdict,
            "frames": self.frames,
            "split": self.split,
            "images": self.agreement.images,
            "threads": self.threads,
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "latency_ratio": self.ratio.to_dict(),
            "labels": self.labels.name,
            **self.agreement.to_dict(),
        }
        if self.pair.first and self.pair.second:
            values["a"]["accuracy"] = _accuracy(self.pair.first)
            values["b"]["accuracy"] = _accuracy(self.pair.second)
            values["miou_difference"] = _rounded(self.pair.miou_difference)
            differences = zip(self.labels.names, self.pair.iou_differences, strict=True)
            values["per_class_iou_difference"] = {name: _rounded(value) for name, value in differences}
        values["worst"] = [{"name": one.name, "agreement": round(one.agreement, 3)} for one in self.worst]
        return values


def _speed(ratio: Ratio) -> str:
    if abs(ratio.median - 1) <= AS_FAST:
        return f"B is as fast as A ({ratio.median:.2f}x)"
    if ratio.median > 1:
        return f"B is {ratio.median:.2f}x as fast as A"
    return f"B takes {1 / ratio.median:.2f}x as long as A"


def _right(points: float | None) -> str:
    if points is None:
        return ""
    if abs(points) < 0.005:
        return "B has the same mIoU"
    return f"B {'gains' if points > 0 else 'loses'} {abs(points):.2f} points of mIoU"


def _accuracy(evaluation: Evaluation) -> dict[str, Any]:
    told = evaluation.to_dict()
    return {key: told[key] for key in ("miou", "pixel_accuracy", "per_class_iou", "unanswered")}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
