"""How steady a segmenter is over a video with ground truth on every frame: mIoU over time, and flicker.

Flicker is the share of pixels whose class changes from one frame to the next where that of the ground truth does not.
Both frames' ground truth has a class there; whether an answer is right plays no part, so that a class map that never
changes does not flicker, however wrong it is: read it beside the mIoU.

This is the ground-truth form of temporal consistency. Where frames have no labels, it is measured by warping one answer
onto the next along optical flow, whose own errors count then: Liu, Shen, Yu, Wang, "Efficient Semantic Video
Segmentation with Per-frame Inference", ECCV 2020 (TC). With labels on every frame, Miao et al., "VSPW: A Large-scale
Dataset for Video Scene Parsing in the Wild", CVPR 2021, ask it of pixels whose ground truth stays over 8 or 16 frames
(VC8, VC16); here it is two, the shortest that a viewer sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap
from rtpsp.data.dataset import Dataset
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError
from rtpsp.evaluate import Evaluation, Progress, Scorer, Segment, answer_of
from rtpsp.labels import LabelSet
from rtpsp.runs import Run, find_runs

WINDOW = 15
"""Frames of the sliding window: a second at CamVid's 15 Hz."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VideoEvaluation:
    """What one segmenter did over a video. All figures are in percent; a share of no pixels is None.

    The first frame of a run has none before it: its pixels count neither as still nor as changed.

    Attributes:
        evaluation: Of all frames together, by one confusion matrix.
        names: Of the frames.
        runs: Which of them follow each other.
        window: Frames of the sliding window.
        found: int64 [frames, classes]: pixels of each class that were found.
        union: int64 [frames, classes]: pixels that are of a class, in ground truth or by answer.
        still: int64 [frames, classes]: pixels whose ground truth is of this class, as in the frame before.
        flickered: int64 [frames, classes]: those of them whose answer is another one than in the frame before.
        changed: int64 [frames]: pixels whose ground truth is of another class than in the frame before.
        followed: int64 [frames]: those of them that are answered right at once.
    """

    evaluation: Evaluation
    names: tuple[str, ...]
    runs: tuple[Run, ...]
    window: int
    found: Counts
    union: Counts
    still: Counts
    flickered: Counts
    changed: Counts
    followed: Counts

    @cached_property
    def frame_miou(self) -> tuple[float | None, ...]:
        """Each frame's own mIoU: the mean over the classes that it has in ground truth or answer.

        A class of a few pixels weighs as much as the road, so that it jumps where one comes into view; the mean of
        these is not the set's mIoU.
        """
        return tuple(_miou(*frame) for frame in zip(self.found, self.union, strict=True))

    @cached_property
    def window_miou(self) -> tuple[float | None, ...]:
        """mIoU by one confusion matrix over the `window` frames around each one, or as many of them as its run has."""
        before, after = self.window // 2, (self.window + 1) // 2
        means = []
        for run in self.runs:
            for frame in range(run.start, run.stop):
                around = slice(max(run.start, frame - before), min(run.stop, frame + after))
                means.append(_miou(self.found[around].sum(axis=0), self.union[around].sum(axis=0)))
        return tuple(means)

    @property
    def longest_run(self) -> int:
        """Frames of the longest run."""
        return max(run.stop - run.start for run in self.runs)

    @property
    def fills_window(self) -> bool:
        """Whether a run has as many frames as the window; if none has, there is no figure of a window."""
        return self.longest_run >= self.window

    @cached_property
    def frame_flicker(self) -> tuple[float | None, ...]:
        """Flicker from the frame before to each one; None for the first of a run."""
        return _shares(self.flickered.sum(axis=1), self.still.sum(axis=1))

    @cached_property
    def frame_changes(self) -> tuple[float | None, ...]:
        """Share of pixels whose ground truth changes from the frame before to each one."""
        return _shares(self.changed, self.changed + self.still.sum(axis=1))

    @property
    def flicker(self) -> float | None:
        """Over all pairs of frames: pixels whose answer changes / pixels whose ground truth does not."""
        return _share(self.flickered.sum(), self.still.sum())

    @property
    def per_class_flicker(self) -> tuple[float | None, ...]:
        """The same over the pixels whose ground truth stays of each class, in class order."""
        return _shares(self.flickered.sum(axis=0), self.still.sum(axis=0))

    @property
    def changes(self) -> float | None:
        """Share of pixels whose ground truth changes, over all pairs of frames: what a perfect answer changes."""
        return _share(self.changed.sum(), self.changed.sum() + self.still.sum())

    @property
    def changes_followed(self) -> float | None:
        """Of the pixels whose ground truth changes, those that are answered right in that very frame.

        They lie at edges that move, where answers are at their worst; a filter that lags lowers this figure.
        """
        return _share(self.followed.sum(), self.changed.sum())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, percentages rounded to three decimals."""
        rounded = {
            "miou": self.frame_miou, "window_miou": self.window_miou, "flicker": self.frame_flicker,
            "truth_changes": self.frame_changes,
        }  # fmt: skip
        return {
            **self.evaluation.to_dict(),
            "video": {
                "flicker": _rounded(self.flicker),
                "per_class_flicker": dict(
                    zip(self.evaluation.labels.names, map(_rounded, self.per_class_flicker), strict=True)
                ),
                "truth_changes": _rounded(self.changes),
                "truth_changes_followed": _rounded(self.changes_followed),
                "window": self.window,
                "runs": [
                    {"first": self.names[run.start], "frames": run.stop - run.start, "step": run.step}
                    for run in self.runs
                ],
                "frames": {"name": list(self.names), **{name: [*map(_rounded, of)] for name, of in rounded.items()}},
            },
        }


def evaluate_video(
    segment: Segment,
    samples: Dataset,
    labels: LabelSet,
    window: int = WINDOW,
    progress: Progress | None = None,
    on_run: Callable[[], None] | None = None,
) -> VideoEvaluation:
    """Compare a segmenter's answers with ground truth, and with its own of the frame before.

    Args:
        segment: Called once a frame, in order.
        samples: Frames in the order of time, all of one size; their names say which follow each other
            (`rtpsp.runs`).
        labels: Which ids are classes, and which one ground truth uses for void.
        window: Frames of the sliding window, at least 1.
        progress: Called after every frame.
        on_run: Called before the first frame of every run: a segmenter that remembers has to forget.

    Raises:
        DataError: Frames that do not follow each other, are in another order or of several sizes, and what
            `rtpsp.evaluate.evaluate` refuses.
        InputError: The segmenter gave a map of another size, or one that holds no whole numbers.
    """
    names = samples.names
    runs = find_runs(names)
    first = {run.start for run in runs}
    scorer = Scorer(labels)
    rows: list[tuple[Any, ...]] = []
    before: tuple[ClassMap, ClassMap] | None = None
    size: tuple[int, ...] = ()
    for number, sample in enumerate(samples):
        if number in first:
            before = None
            if on_run:
                on_run()
        size = size or sample.truth.shape
        if sample.truth.shape != size:
            raise DataError(
                f"{sample.name} is {_by(sample.truth.shape)} (HxW), {names[0]} is {_by(size)}: the frames of a video "
                "have one size"
            )
        answer = answer_of(segment, sample.image)
        confusion = scorer.add(sample, answer)
        hits = np.diagonal(confusion)
        rows.append(
            (
                hits,
                confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - hits,
                *_steps(sample, answer, before, labels),
            )
        )
        before = sample.truth, answer.copy()  # a segmenter may give the same memory each time
        if progress:
            progress(number + 1, len(names))
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    return VideoEvaluation(scorer.result(), names, runs, window, *columns)


def _steps(
    sample: Sample, answer: ClassMap, before: tuple[ClassMap, ClassMap] | None, labels: LabelSet
) -> tuple[Any, ...]:
    """`still`, `flickered`, `changed` and `followed` of one frame."""
    classes = len(labels)
    if before is None:
        return np.zeros(classes, np.int64), np.zeros(classes, np.int64), 0, 0
    truth, (truth_before, answer_before) = sample.truth, before
    same = truth == truth_before
    changed = ~same
    if labels.ignore is not None:
        known = truth != labels.ignore
        same &= known
        changed &= known & (truth_before != labels.ignore)
    still = np.bincount(truth[same], minlength=classes)
    flickered = np.bincount(truth[same & (answer != answer_before)], minlength=classes)
    return still, flickered, np.count_nonzero(changed), np.count_nonzero(changed & (answer == truth))


def _miou(found: Counts, union: Counts) -> float | None:
    known = union > 0
    return float(100 * (found[known] / union[known]).mean()) if known.any() else None


def _share(part: Any, whole: Any) -> float | None:
    return float(100 * part / whole) if whole else None


def _shares(parts: Counts, wholes: Counts) -> tuple[float | None, ...]:
    return tuple(_share(part, whole) for part, whole in zip(parts, wholes, strict=True))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
