from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.data.dataset import Dataset
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, InputError
from rtpsp.evaluate import Segment, evaluate
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.temporal import VideoEvaluation, evaluate_video

VOID = 9
THREE = LabelSet("three", ("road", "tree", "sky"), distinct_palette(3), ignore=VOID)


@dataclass(frozen=True, eq=False)
class Drawn:
    name: str
    truth: ClassMap

    def load(self, planes: int = 3) -> Sample:
        return Sample(self.name, np.zeros((*self.truth.shape, planes), np.uint8), self.truth)


def film(truths: Sequence[Any], names: Sequence[str] | None = None) -> Dataset:
    names = names or [f"f{number:03d}" for number in range(len(truths))]
    drawn = [Drawn(name, np.asarray(truth, np.uint8)) for name, truth in zip(names, truths, strict=True)]
    return Dataset("film", "val", tuple(drawn))


def answers(maps: Sequence[Any]) -> Segment:
    given = iter([np.asarray(one) for one in maps])
    return lambda image: next(given)


def measured(truths: Sequence[Any], maps: Sequence[Any], **more: Any) -> VideoEvaluation:
    return evaluate_video(answers(maps), film(truths), THREE, **more)


def random_maps(frames: int) -> tuple[list[ClassMap], list[ClassMap]]:
    """Ground truth that changes and has void, and answers that are mostly right; 13 and -1 name no class."""
    rng = np.random.default_rng(0)
    truths: list[ClassMap] = []
    maps: list[ClassMap] = []
    truth = rng.choice([0, 1, 2, VOID], (6, 7))
    for _ in range(frames):
        truth = np.where(rng.random(truth.shape) < 0.3, rng.choice([0, 1, 2, VOID], truth.shape), truth)
        truths.append(truth.astype(np.uint8))
        wrong = rng.choice([-1, 0, 1, 2, VOID, 13], truth.shape)
        maps.append(np.where(rng.random(truth.shape) < 0.4, wrong, truth).astype(np.int32))
    return truths, maps


# --- flicker ---------------------------------------------------------------------------------------------------------


def test_the_arithmetic_by_hand() -> None:
    truths = [[[0, 0, 0, 1, 1, VOID, 2]], [[0, 0, 0, 1, 2, 1, VOID]]]
    maps = [[[0, 0, 1, 2, 1, 0, 2]], [[0, 1, 1, 1, 2, 1, 0]]]
    result = measured(truths, maps)
    # four pixels stay (three road, one tree), of which the second and the fourth change their answer
    assert result.flicker == 50
    assert result.per_class_flicker == pytest.approx((100 / 3, 100, None))
    # the fifth changes, and is followed; beside void nothing counts
    assert result.changes == 20 and result.changes_followed == 100
    assert list(result.frame_flicker) == [None, 50] and list(result.frame_changes) == [None, 20]


def test_it_equals_a_plain_loop_over_pixels() -> None:
    truths, maps = random_maps(5)
    result = measured(truths, maps)
    still, flickered, changed, followed = np.zeros(3), np.zeros(3), 0, 0
    for frame in range(1, 5):
        for at in np.ndindex(*truths[0].shape):
            before, now = truths[frame - 1][at], truths[frame][at]
            if VOID in (before, now):
                continue
            if before == now:
                still[now] += 1
                flickered[now] += maps[frame - 1][at] != maps[frame][at]
            else:
                changed += 1
                followed += maps[frame][at] == now
    assert still.min() > 0 and flickered.min() > 0 and 0 < followed < changed
    assert result.flicker == pytest.approx(100 * flickered.sum() / still.sum())
    assert result.per_class_flicker == pytest.approx(tuple(100 * flickered / still))
    assert result.changes == pytest.approx(100 * changed / (changed + still.sum()))
    assert result.changes_followed == pytest.approx(100 * followed / changed)


def test_a_perfect_answer_does_not_flicker_and_follows_every_change() -> None:
    truths, _ = random_maps(4)
    result = measured(truths, truths)
    assert result.flicker == 0 and result.changes_followed == 100 and result.evaluation.miou == 100
    assert result.frame_miou == result.window_miou == (100,) * 4


def test_an_answer_that_never_changes_does_not_flicker_however_wrong() -> None:
    truths, _ = random_maps(4)
    result = measured(truths, [np.zeros((6, 7), int)] * 4)
    assert result.flicker == 0 and result.evaluation.miou < 50


def test_without_an_ignored_id_every_pixel_counts() -> None:
    labels = replace(THREE, ignore=None)
    result = evaluate_video(answers([[[0, 1]], [[0, 0]]]), film([[[0, 1]], [[0, 1]]]), labels)
    assert result.flicker == 50 and result.changes == 0 and result.changes_followed is None


def test_a_segmenter_may_give_the_same_memory_each_time() -> None:
    memory = np.zeros((1, 2), np.uint8)

    def segment(image: Image) -> ClassMap:
        memory[...] = 1 - memory
        return memory

    assert evaluate_video(segment, film([[[0, 1]]] * 3), THREE).flicker == 100


# --- mIoU over time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 3, 5, 100])
def test_a_window_is_one_confusion_matrix(window: int) -> None:
    truths, maps = random_maps(7)
    result = measured(truths, maps, window=window)
    for frame in range(7):
        first, last = max(0, frame - window // 2), min(7, frame + (window + 1) // 2)
        assert last - first <= window
        part = evaluate(answers(maps[first:last]), film(truths[first:last]), THREE)
        assert result.window_miou[frame] == pytest.approx(part.miou)
        alone = evaluate(answers(maps[frame : frame + 1]), film(truths[frame : frame + 1]), THREE)
        assert result.frame_miou[frame] == pytest.approx(alone.miou)
    whole = evaluate(answers(maps), film(truths), THREE)
    assert result.evaluation.confusion.tolist() == whole.confusion.tolist()


def test_a_frame_that_is_void_throughout_has_no_figures() -> None:
    void = [[VOID, VOID]]
    result = measured([[[0, 1]], void, [[0, 1]]], [[[0, 1]]] * 3, window=1)
    assert list(result.frame_miou) == list(result.window_miou) == [100, None, 100]
    assert list(result.frame_flicker) == [None, None, None] and result.flicker is None and result.changes is None
    json.dumps(result.to_dict(), allow_nan=False)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_between_two_runs_nothing_flickers_and_no_window_spans_them() -> None:
    truths, maps = [[[0, 1]]] * 4, [[[0, 1]], [[0, 1]], [[2, 2]], [[2, 1]]]
    told: list[int] = []
    drives = film(truths, ["a1", "a2", "b1", "b2"])
    asked = 0

    def segment(image: Image) -> ClassMap:
        nonlocal asked
        asked += 1
        return np.asarray(maps[asked - 1])

    result = evaluate_video(segment, drives, THREE, window=15, on_run=lambda: told.append(asked))
    assert told == [0, 2], "before the first frame of each"
    assert list(result.frame_flicker) == [None, 0, None, 50] and result.flicker == 25
    assert result.window_miou[0] == result.window_miou[1] == 100 and result.window_miou[2] != 100
    assert [(run.start, run.stop) for run in result.runs] == [(0, 2), (2, 4)]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["f2", "f1"], "f1 comes after f2"),
        (["cat", "dog"], "no two of 2 frames"),
        (["f1"], "no two of 1 frames"),
    ],
)
def test_what_is_no_video_is_refused(names: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        evaluate_video(answers([]), film([[[0]]] * len(names), names), THREE)


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"f001 is 2x1 \(HxW\), f000 is 1x2: the frames of a video have one size"):
        measured([[[0, 1]], [[0], [1]]], [[[0, 1]], [[0], [1]]])


def test_what_evaluate_refuses_is_refused() -> None:
    with pytest.raises(DataError, match="f001: label has class ids 7"):
        measured([[[0]], [[7]]], [[[0]], [[0]]])
    with pytest.raises(InputError, match="the segmenter gave"):
        measured([[[0]], [[0]]], [[[0]], [[0, 0]]])


# --- what comes out --------------------------------------------------------------------------------------------------


def test_the_report_is_json_with_a_value_for_each_frame() -> None:
    truths, maps = random_maps(5)
    told: list[tuple[int, int]] = []
    result = measured(truths, maps, window=3, progress=lambda done, total: told.append((done, total)))
    report = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told == [(number, 5) for number in range(1, 6)]
    assert report["miou"] == round(result.evaluation.miou, 3) and report["images"] == 5
    video = report["video"]
    assert video["flicker"] == round(result.flicker or 0, 3) and set(video["per_class_flicker"]) == set(THREE.names)
    assert video["window"] == 3 and video["runs"] == [{"first": "f000", "frames": 5, "step": 1}]
    assert all(len(values) == 5 for values in video["frames"].values())
    assert video["frames"]["flicker"][0] is None and video["frames"]["name"][4] == "f004"


def test_it_needs_neither_torch_nor_an_engine_nor_matplotlib() -> None:
    program = (
        "import sys, rtpsp.temporal; names = ('torch', 'onnx', 'openvino', 'onnxruntime', 'matplotlib', 'cv2',"
        "'rtpsp.engine', 'rtpsp.model', 'rtpsp.stream'); print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
