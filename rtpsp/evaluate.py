"""How right a segmenter is: mIoU, per-class IoU and pixel accuracy from one confusion matrix over a set of images.

A segmenter here is a callable from a frame to a class map of the frame's own size, so that accuracy is measured at the
label's own size and this module sees neither an engine nor torch; `segmenter` makes one of anything that infers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import length_hint
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.class_mapper import ClassMapper
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, InputError
from rtpsp.fit import FitPlan, MaskSize, plan_fit
from rtpsp.labels import LabelSet
from rtpsp.planes import to_planes
from rtpsp.spec import ModelSpec
from rtpsp.upsampling import Grid

Segment: TypeAlias = Callable[[Image], ClassMap]
"""A frame, uint8 [H, W, 3] BGR, grey or BGRX, to its class ids [H, W]."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told after every image how many are done, and of how many; 0 where that is not known."""

SIZES_KEPT = 64  # geometry plans; data sets of photographs have hundreds of sizes


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one segmenter got right and wrong over a set of images. All figures are in percent.

    For class c, TP counts its pixels that were found, FN those that got any other answer, and FP the pixels of other
    classes that were called c. Pixels whose ground truth is the ignored id count nowhere.

    Attributes:
        confusion: int64 [classes, classes + 1] pixel counts; row: ground truth, column: answer. The last column holds
            the answers that name no class: the ignored id, `rtpsp.fit.no_class`, anything unknown. Such a pixel is an
            FN of its true class and an FP of none: it lowers the IoU like any miss.
        labels: The classes.
        images: How many images.
        size: (height, width) in pixels of every label; None where they differ.
    """

    confusion: NDArray[np.int64]
    labels: LabelSet
    images: int
    size: tuple[int, int] | None

    @property
    def per_class_iou(self) -> tuple[float | None, ...]:
        """TP / (TP + FP + FN) in percent, in class order; None for a class in neither ground truth nor answers.

        Everingham, Van Gool, Williams, Winn, Zisserman, "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010:
        its segmentation accuracy.
        """
        found = np.diagonal(self.confusion)
        union = self.confusion.sum(axis=1) + self.confusion[:, :-1].sum(axis=0) - found
        return tuple(float(100 * hit / either) if either else None for hit, either in zip(found, union, strict=True))

    @property
    def miou(self) -> float:
        """Mean of `per_class_iou` in percent over the classes that have one.

        Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016: one IoU a class
        over the whole set, void left out, then their mean; not a mean over images.
        """
        known = [iou for iou in self.per_class_iou if iou is not None]
        return sum(known) / len(known)

    @property
    def pixel_accuracy(self) -> float:
        """Sum of all TP / pixels with a class in ground truth, in percent."""
        return float(100 * np.trace(self.confusion) / self.confusion.sum())

    @property
    def unanswered(self) -> float:
        """Pixels with a class in ground truth whose answer named none, in percent; with ``fit=crop`` those unseen."""
        return float(100 * self.confusion[:, -1].sum() / self.confusion.sum())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, percentages rounded to three decimals."""
        height, width = self.size or (None, None)
        return {
            "miou": round(self.miou, 3),
            "pixel_accuracy": round(self.pixel_accuracy, 3),
            "per_class_iou": {
                name: None if iou is None else round(iou, 3)
                for name, iou in zip(self.labels.names, self.per_class_iou, strict=True)
            },
            "unanswered": round(self.unanswered, 3),
            "images": self.images,
            "pixels": int(self.confusion.sum()),
            "width": width,
            "height": height,
            "labels": self.labels.name,
            "classes": len(self.labels),
            "ignored": self.labels.ignore,
            "confusion": {
                "answers": [*self.labels.names, "no class"],
                "pixels_of_truth": dict(zip(self.labels.names, self.confusion.tolist(), strict=True)),
            },
        }


class Scorer:
    """Counts answers against ground truth, image by image.

    Args:
        labels: Which ids are classes, and which one ground truth uses for void.
    """

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._confusion = np.zeros((len(labels), len(labels) + 1), np.int64)
        self._sizes: set[tuple[int, ...]] = set()
        self._images = 0

    def add(self, sample: Sample, answer: ClassMap) -> NDArray[np.int64]:
        """Count one image.

        Args:
            sample: The image and its ground truth.
            answer: Class ids [H, W], of the image's size.

        Returns:
            The image's own part of `Evaluation.confusion`.

        Raises:
            DataError: Ground truth of another size, with an id that the label set lacks, or of another label set where
                that is known.
        """
        if answer.shape != sample.truth.shape:
            raise DataError(f"{sample.name}: image is {answer.shape}, label {sample.truth.shape}: expected one size")
        confusion = _confusion(answer, _checked_truth(sample, self._labels), self._labels)
        self._confusion += confusion
        self._sizes.add(sample.truth.shape)
        self._images += 1
        return confusion

    def result(self) -> Evaluation:
        """What was counted so far.

        Raises:
            DataError: No image, or none with a pixel that counts.
        """
        labels = self._labels
        if not self._images:
            raise DataError("there is no image to evaluate on: check the data set and its split")
        if not self._confusion.any():
            raise DataError(
                f"all {self._images} labels are void (id {labels.ignore}) throughout: is {labels.name!r} the label set "
                f"they use?"
            )
        (height, width), *others = self._sizes
        return Evaluation(self._confusion.copy(), labels, self._images, None if others else (height, width))


def evaluate(
    segment: Segment, samples: Iterable[Sample], labels: LabelSet, progress: Progress | None = None
) -> Evaluation:
    """Compare a segmenter's answers with ground truth, image by image.

    Args:
        segment: Called once an image, in order.
        samples: Labelled images; read once.
        labels: Which ids are classes, and which one ground truth uses for void.
        progress: Called after every image.

    Raises:
        DataError: No image, none with a pixel that counts, ground truth with an id that the label set lacks, or of
            another label set where that is known.
        InputError: The segmenter gave a map of another size, or one that holds no whole numbers.
    """
    scorer, expected = Scorer(labels), length_hint(samples, 0)
    for done, sample in enumerate(samples, 1):
        scorer.add(sample, answer_of(segment, sample.image))
        if progress:
            progress(done, expected)
    return scorer.result()


def agreement(first: Segment, second: Segment, images: Iterable[Image]) -> float:
    """Class agreement of two segmenters: the share of pixels, 0..1, to which both give the same class id, over a set.

    Args:
        first: One segmenter.
        second: The other; which is which does not matter.
        images: Frames, uint8 [H, W, 3] BGR, grey or BGRX, of any sizes.

    Raises:
        DataError: There is no image.
        InputError: A segmenter gave a map of another size, or one that holds no whole numbers.
    """
    same = pixels = 0
    for image in images:
        one, other = answer_of(first, image), answer_of(second, image)
        same += int(np.count_nonzero(one == other))
        pixels += one.size
    if not pixels:
        raise DataError("there is no image to compare on: check the data set and its split")
    return same / pixels


def segmenter(infer: Callable[[Image], NDArray[Any]], spec: ModelSpec, mask_size: MaskSize = "model") -> Segment:
    """A segmenter of frames of any size from something that infers at the model's size.

    Args:
        infer: uint8 [1, H, W, planes] of the spec's size to class ids [1, H, W], or with ``frame`` to scores, float32
            [1, classes, h, w]; it may reuse its result's memory.
        spec: Says how frames of another size meet the model, as everywhere in rtpsp.
        mask_size: Whether class maps are decided at the model's size or at each frame's own.

    Returns:
        A segmenter; each class map is a new array. It raises `InputError` for a picture without a fourth plane where
        the model takes one; a picture of other planes than the model's is brought to these (`rtpsp.planes`).
    """

    @lru_cache(maxsize=SIZES_KEPT)
    def plan(size: tuple[int, int]) -> FitPlan:
        return plan_fit(size, spec)

    @lru_cache(maxsize=SIZES_KEPT)
    def mapper(grid: Grid) -> ClassMapper:
        return ClassMapper(grid, spec.class_dtype)

    def segment(image: Image) -> ClassMap:
        geometry = plan((image.shape[0], image.shape[1]))
        answer = infer(geometry.to_model(to_planes(image, spec.planes))[np.newaxis])[0]
        if mask_size == "model":
            return geometry.to_source(answer)
        height, width = answer.shape[1:]
        return geometry.place(mapper(geometry.grid((height, width)))(answer))

    return segment


def answer_of(segment: Segment, image: Image) -> ClassMap:
    """What a segmenter says to a frame, once it is a class map of the frame's size.

    Raises:
        InputError: It is not, or holds no whole numbers.
    """
    answer = np.asarray(segment(image))
    if answer.shape != image.shape[:2] or not np.issubdtype(answer.dtype, np.integer):
        raise InputError(
            f"the segmenter gave {answer.dtype} {list(answer.shape)} for a frame of {list(image.shape)}, "
            f"expected whole numbers {list(image.shape[:2])}: a class map of the frame's own size"
        )
    return answer


def _checked_truth(sample: Sample, labels: LabelSet) -> ClassMap:
    """The sample's ground truth, once every id in it is a class or the ignored id."""
    truth = sample.truth
    if sample.labels is not None and _folded(sample.labels) != _folded(labels):
        raise DataError(
            f"{sample.name}: ground truth has the classes of {sample.labels.name!r}, the model those of "
            f"{labels.name!r}: an id means something else in each; evaluate on data of the model's own classes"
        )
    strange = (truth < 0) | (truth >= len(labels))
    if labels.ignore is not None:
        strange &= truth != labels.ignore
    if strange.any():
        found = np.unique(truth[strange])
        ids = ", ".join(str(value) for value in found[:5]) + (" …" if found.size > 5 else "")
        void = "no id for void" if labels.ignore is None else f"{labels.ignore} for void"
        raise DataError(
            f"{sample.name}: label has class ids {ids}; label set {labels.name!r} has 0 to {len(labels) - 1} "
            f"and {void}: use the label set that these labels were made with"
        )
    return truth


def _folded(labels: LabelSet) -> list[str]:
    return [name.casefold() for name in labels.names]


def _confusion(answer: ClassMap, truth: ClassMap, labels: LabelSet) -> NDArray[np.int64]:
    classes = len(labels)
    counts = np.ones(truth.shape, bool) if labels.ignore is None else truth != labels.ignore
    answer, truth = answer[counts].astype(np.int64), truth[counts].astype(np.int64)
    named = (answer >= 0) & (answer < classes)
    if labels.ignore is not None:
        named &= answer != labels.ignore
    cells = truth * (classes + 1) + np.where(named, answer, classes)
    return np.bincount(cells, minlength=classes * (classes + 1)).reshape(classes, classes + 1)
