"""How alike two segmenters answer, over all and class by class; where there is ground truth, also how right each is.

Like `rtpsp.evaluate` it sees callables, no engine: both answer at the frame's own size, so that models of different
input sizes and fits can be held against each other. Every image is loaded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import length_hint
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, InputError
from rtpsp.evaluate import Evaluation, Progress, Scorer, Segment, answer_of
from rtpsp.labels import LabelSet


@dataclass(frozen=True, eq=False)
class Picture:
    """An image without ground truth.

    Attributes:
        name: What a report calls it.
        image: uint8 [H, W, 3] BGR, grey or BGRX.
    """

    name: str
    image: Image


Watch: TypeAlias = Callable[[Sample | Picture, ClassMap, ClassMap], None]
"""Shown every image with both answers, [H, W] class ids that are the callee's own."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Where two segmenters gave the same class over a set of images. All figures are in percent.

    Every pixel counts, also one whose ground truth is void. Two answers that name no class (`rtpsp.fit.no_class`, or
    any id beyond the classes) are the same answer.

    Attributes:
        counts: int64 [classes + 1, classes + 1] pixels; row: the first's answer, column: the second's. The last of each
            is for answers that name no class.
        labels: The classes.
        images: How many images.
    """

    counts: NDArray[np.int64]
    labels: LabelSet
    images: int

    @property
    def overall(self) -> float:
        """Class agreement: pixels with the same answer / all pixels, in percent."""
        return float(100 * np.trace(self.counts) / self.counts.sum())

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """Intersection over union of both masks of each class in percent; None for a class that neither answered.

        It is `Evaluation.per_class_iou` with the one's answer for ground truth of the other's, void included.
        """
        both = np.diagonal(self.counts)
        either = self.counts.sum(axis=0) + self.counts.sum(axis=1) - both
        return tuple(float(100 * hit / any_) if any_ else None for hit, any_ in zip(both, either, strict=True))[:-1]

    @property
    def words(self) -> str:
        """`overall` as a sentence ends: ``every pixel``, or ``99.98 % of pixels``, rounded down: never 100.00."""
        return "every pixel" if self.overall == 100 else f"{math.floor(100 * self.overall) / 100:.2f} % of pixels"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, percentages rounded to three decimals."""
        return {
            "agreement": round(self.overall, 3),
            "pixels": int(self.counts.sum()),
            "pixels_that_differ": int(self.counts.sum() - np.trace(self.counts)),
            "per_class_agreement": {
                name: None if iou is None else round(iou, 3)
                for name, iou in zip(self.labels.names, self.per_class, strict=True)
            },
        }


@dataclass(frozen=True, eq=False)
class Pair:
    """Two segmenters over the same images.

    Attributes:
        agreement: How alike they answered.
        first: How right the first was; None without ground truth.
        second: How right the second was; None without ground truth.
    """

    agreement: Agreement
    first: Evaluation | None
    second: Evaluation | None

    @property
    def miou_difference(self) -> float | None:
        """mIoU of the second minus that of the first, in points; None without ground truth."""
        return self.second.miou - self.first.miou if self.first and self.second else None

    @property
    def iou_differences(self) -> tuple[float | None, ...]:
        """IoU of the second minus that of the first by class, in points; None where one of them has none."""
        if self.first is None or self.second is None:
            return (None,) * len(self.agreement.labels)
        pairs = zip(self.first.per_class_iou, self.second.per_class_iou, strict=True)
        return tuple(None if one is None or other is None else other - one for one, other in pairs)


def evaluate_pair(
    first: Segment,
    second: Segment,
    images: Iterable[Sample | Picture],
    labels: LabelSet,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Pair:
    """Ask two segmenters in turn, image by image, and count where they agree and, by ground truth, who is right.

    Args:
        first: Called once an image, before the second.
        second: Called once an image.
        images: Read once; all with ground truth, or none.
        labels: The classes of both.
        progress: Called after every image.
        watch: Called after every image, before `progress`.

    Raises:
        DataError: There is no image; or ground truth is refused, as `rtpsp.evaluate.evaluate` says.
        InputError: A segmenter gave a map of another size, or one that holds no whole numbers.
    """
    classes = len(labels)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    scorers: tuple[Scorer, Scorer] | None = None
    done, expected = 0, length_hint(images, 0)
    for image in images:
        one, other = answer_of(first, image.image), answer_of(second, image.image)
        cells = _classes_of(one, classes) * (classes + 1) + _classes_of(other, classes)
        counts += np.bincount(cells.ravel(), minlength=counts.size).reshape(counts.shape)
        if isinstance(image, Sample):
            scorers = scorers or (Scorer(labels), Scorer(labels))
            for scorer, answer in zip(scorers, (one, other), strict=True):
                scorer.add(image, answer)
        done += 1
        if watch:
            watch(image, one, other)
        if progress:
            progress(done, expected)
    if not done:
        raise DataError("there is no image to compare on: check the data set and its split, or the source")
    evaluations = [scorer.result() for scorer in scorers] if scorers else [None, None]
    return Pair(Agreement(counts, labels, done), *evaluations)


def check_same_classes(first: LabelSet, second: LabelSet, names: tuple[str, str]) -> None:
    """Make sure that a class id means the same to two models; a name may be spelt with other capitals.

    Args:
        first: Classes of the first model.
        second: Classes of the second.
        names: What to call the two in an error.

    Raises:
        InputError: It does not.
    """
    pairs = list(zip(first.names, second.names, strict=False))
    other = next((place for place, (one, two) in enumerate(pairs) if one.casefold() != two.casefold()), None)
    if other is None and len(first) == len(second):
        return
    where = ""
    if other is not None:
        where = f", and class {other} is {pairs[other][0]!r} in one, {pairs[other][1]!r} in the other"
    raise InputError(
        f"{names[0]} has the {len(first)} classes of {first.name!r}, {names[1]} the {len(second)} of {second.name!r}"
        f"{where}: an id means something else in each; compare engines of one class list"
    )


def _classes_of(answer: ClassMap, classes: int) -> NDArray[np.int64]:
    ids = answer.astype(np.int64)
    return np.where((ids >= 0) & (ids < classes), ids, classes)
