from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rtpsp.evaluate
from rtpsp.arrays import ClassMap, Image
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, InputError
from rtpsp.evaluate import Scorer, agreement, evaluate, segmenter
from rtpsp.fit import FitPlan, no_class, plan_fit
from rtpsp.labels import CAMVID, CITYSCAPES, LabelSet, distinct_palette
from rtpsp.spec import ModelSpec

VOID = 9
THREE = LabelSet("three", ("road", "tree", "sky"), distinct_palette(3), ignore=VOID)


def sample(truth: list[list[int]] | ClassMap, name: str = "s") -> Sample:
    ids = np.asarray(truth, np.uint8) if isinstance(truth, list) else truth
    return Sample(name, np.zeros((*ids.shape, 3), np.uint8), ids)


def answers(*maps: Any) -> rtpsp.evaluate.Segment:
    """A segmenter that gives these maps, one a call."""
    given = iter([np.asarray(one) for one in maps])
    return lambda image: next(given)


# --- the metric ------------------------------------------------------------------------------------------------------


def test_a_perfect_answer_is_a_hundred_percent() -> None:
    truth = [[0, 1], [2, VOID]]
    result = evaluate(answers([[0, 1], [2, 0]]), [sample(truth)], THREE)
    assert result.miou == 100 and result.pixel_accuracy == 100 and result.unanswered == 0


def test_the_arithmetic_by_hand() -> None:
    truth = [[0, 0, 0, 0], [1, 1, VOID, VOID]]
    answer = [[0, 0, 1, 2], [1, 0, 0, 2]]
    result = evaluate(answers(answer), [sample(truth)], THREE)
    assert result.confusion.tolist() == [[2, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert result.confusion.dtype == np.int64
    # road 2 / (4 + 3 - 2), tree 1 / (2 + 2 - 1), sky 0 / (0 + 1 - 0): answered, so it counts
    assert result.per_class_iou == pytest.approx((40, 100 / 3, 0))
    assert result.miou == pytest.approx((40 + 100 / 3) / 3)
    assert result.pixel_accuracy == pytest.approx(50)


def test_a_class_absent_from_both_is_left_out_of_the_mean() -> None:
    result = evaluate(answers([[0, 1, 1, 2]]), [sample([[0, 0, 1, VOID]])], THREE)
    assert list(result.per_class_iou) == [50, 50, None]
    assert result.miou == 50


@pytest.mark.parametrize("wrong", [VOID, 3, 200, 255, -1, -200, 70000])
def test_an_answer_that_names_no_class_is_a_miss_and_lowers_the_iou(wrong: int) -> None:
    truth = sample([[0, 0, 1, 1]])
    result = evaluate(answers(np.array([[0, wrong, 1, 1]], np.int32)), [truth], THREE)
    assert result.confusion.tolist() == [[1, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0]]
    assert list(result.per_class_iou) == [50, 100, None]
    assert result.miou == 75 and result.pixel_accuracy == 75 and result.unanswered == 25


def test_an_answer_of_an_ignored_class_is_a_miss_also_where_the_ignored_id_is_a_class() -> None:
    labels = replace(THREE, ignore=0)
    result = evaluate(answers([[0, 2, 1, 1]]), [sample([[0, 0, 1, 2]])], labels)
    assert result.confusion.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert list(evaluate(answers([[0, 1]]), [sample([[1, 1]])], labels).per_class_iou) == [None, 50, None]


def test_without_an_ignored_id_every_pixel_counts() -> None:
    labels = replace(THREE, ignore=None)
    result = evaluate(answers([[0, 1, 2, 2]]), [sample([[0, 0, 2, 2]])], labels)
    assert result.confusion.sum() == 4 and result.pixel_accuracy == 75


def test_one_matrix_over_the_set_and_not_a_mean_over_images() -> None:
    first, second = sample([[0] * 8 + [1] * 8]), sample([[0, 1]])
    result = evaluate(answers([[0] * 8 + [1] * 8], [[1, 0]]), [first, second], THREE)
    assert result.images == 2 and result.size is None
    assert result.miou == pytest.approx(100 * 8 / 10)  # the mean over images would be 50


def test_it_equals_a_plain_loop_over_pixels() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(3):
        truth = rng.integers(0, 12, (20, 30)).astype(np.uint8)
        answer = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 14, truth.shape)).astype(np.uint8)
        pairs.append((truth, answer))
    result = evaluate(answers(*(answer for _, answer in pairs)), [sample(truth) for truth, _ in pairs], CAMVID)
    counted = [(t, a) for truth, answer in pairs for t, a in zip(truth.flat, answer.flat, strict=True) if t != 11]
    ious = []
    for label in range(11):
        hit = sum(t == label and a == label for t, a in counted)
        either = sum(t == label or a == label for t, a in counted)
        ious.append(100 * hit / either)
    assert result.per_class_iou == pytest.approx(ious)
    assert result.miou == pytest.approx(sum(ious) / 11)
    assert result.pixel_accuracy == pytest.approx(100 * sum(t == a for t, a in counted) / len(counted))


def test_more_than_256_classes() -> None:
    names = tuple(f"c{number}" for number in range(300))
    labels = LabelSet("many", names, distinct_palette(300), ignore=None)
    truth = np.array([[0, 255, 256, 299]], np.int32)
    result = evaluate(answers(np.array([[0, 255, 0, 299]], np.int32)), [sample(truth)], labels)
    assert result.confusion.shape == (300, 301)
    assert result.per_class_iou[299] == 100 and result.per_class_iou[256] == 0 and result.per_class_iou[0] == 50


def test_report_is_json_and_says_what_a_figure_needs() -> None:
    result = evaluate(answers([[0, 0, 1]]), [sample([[0, 0, 0]])], THREE)
    report = json.loads(json.dumps(result.to_dict()))
    assert report["miou"] == 33.333 and report["pixel_accuracy"] == 66.667
    assert report["per_class_iou"] == {"road": 66.667, "tree": 0.0, "sky": None}
    assert report["images"] == 1 and report["pixels"] == 3 and (report["height"], report["width"]) == (1, 3)
    assert report["labels"] == "three" and report["classes"] == 3 and report["ignored"] == VOID
    assert report["confusion"] == {
        "answers": ["road", "tree", "sky", "no class"],
        "pixels_of_truth": {"road": [2, 1, 0, 0], "tree": [0, 0, 0, 0], "sky": [0, 0, 0, 0]},
    }


def test_a_result_does_not_change_when_more_is_counted() -> None:
    scorer = Scorer(THREE)
    scorer.add(sample([[0, 1]]), np.array([[0, 0]]))
    before = scorer.result()
    scorer.add(sample([[0, 1], [1, 1]]), np.array([[0, 1], [1, 1]]))
    assert before.confusion.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert scorer.result().confusion.tolist() == [[2, 0, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]]
    assert (before.images, before.size) == (1, (1, 2)) and (scorer.result().images, scorer.result().size) == (2, None)


# --- what goes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[[0, 3]], [[0, 255]], [[VOID, 10]]])
def test_ground_truth_outside_the_label_set_is_refused(ids: list[list[int]]) -> None:
    expected = rf"street-7: label has class ids {ids[0][1]}; label set 'three' has 0 to 2 and 9 for void"
    with pytest.raises(DataError, match=expected):
        evaluate(answers([[0, 0]]), [sample(ids, "street-7")], THREE)


def test_ground_truth_that_is_known_to_be_of_other_classes_is_refused() -> None:
    known = Sample("street-1-000000", np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8), CAMVID)
    with pytest.raises(DataError, match=r"street-1-000000: .*classes of 'camvid', the model those of 'cityscapes'"):
        evaluate(answers([[0, 1]]), [known], CITYSCAPES)
    lower = replace(CAMVID, name="mine", names=tuple(name.lower() for name in CAMVID.names))
    assert evaluate(answers([[0, 1]]), [known], lower).miou == 100


def test_many_strange_ids_are_cut_short() -> None:
    truth = np.array([[-4, 20, 21, 22, 23, 24, 25]], np.int32)
    with pytest.raises(DataError, match=r"class ids -4, 20, 21, 22, 23 …; .* and no id for void"):
        evaluate(answers(np.zeros((1, 7), int)), [sample(truth)], replace(THREE, ignore=None))


@pytest.mark.parametrize("answer", [np.zeros((2, 3), np.uint8), np.zeros((1, 3, 2), int), np.zeros((3, 2))])
def test_an_answer_of_another_size_or_kind_is_refused(answer: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"the segmenter gave .* for a frame of \[3, 2, 3\]"):
        evaluate(answers(answer), [sample(np.zeros((3, 2), np.uint8))], THREE)
    with pytest.raises(InputError, match="the segmenter gave"):
        agreement(answers(np.zeros((3, 2), int)), answers(answer), [np.zeros((3, 2, 3), np.uint8)])


def test_a_label_of_another_size_than_its_image_is_refused() -> None:
    odd = Sample("odd", np.zeros((3, 2, 3), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="odd: image is"):
        evaluate(answers(np.zeros((3, 2), int)), [odd], THREE)


def test_no_image_and_nothing_but_void_are_refused() -> None:
    with pytest.raises(DataError, match="no image to evaluate on"):
        evaluate(answers(), [], THREE)
    with pytest.raises(DataError, match=r"all 1 labels are void \(id 9\)"):
        evaluate(answers([[0, 0]]), [sample([[VOID, VOID]])], THREE)
    with pytest.raises(DataError, match="no image to compare on"):
        agreement(answers(), answers(), [])


def test_progress_counts_images_and_samples_are_read_one_by_one() -> None:
    told: list[tuple[int, int]] = []
    truth = sample([[0]])

    def stream() -> Iterator[Sample]:
        for number in range(3):
            assert len(told) == number, "the next sample is asked for only when the last is done"
            yield truth

    evaluate(answers([[0]], [[0]], [[0]]), stream(), THREE, lambda done, total: told.append((done, total)))
    assert told == [(1, 0), (2, 0), (3, 0)]
    told.clear()
    evaluate(answers([[0]], [[0]]), [truth, truth], THREE, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_nothing_prints(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(answers([[0]]), [sample([[0]])], THREE).to_dict()
    assert capfd.readouterr() == ("", "")


# --- agreement -------------------------------------------------------------------------------------------------------


def test_agreement_is_the_share_of_pixels_over_the_set() -> None:
    images = [np.zeros((1, 4, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)]
    first = answers([[0, 1, 2, 255]], [[0, 0, 0], [1, 1, 1]])
    second = answers(np.array([[0, 1, 1, 255]], np.int32), [[0, 0, 0], [1, 1, 2]])
    assert agreement(first, second, images) == pytest.approx(8 / 10)  # the mean over images would be 0.7917


def test_agreement_with_itself_is_one() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 11, (5, 7)) for _ in range(2)]
    images = [np.zeros((5, 7, 3), np.uint8)] * 2
    assert agreement(answers(*maps), answers(*maps), images) == 1.0


# --- segmenter -------------------------------------------------------------------------------------------------------


def by_blue(seen: list[Image]) -> rtpsp.evaluate.Segment:
    """A model whose class id is the blue channel; it reuses its result, as an engine may."""
    result = np.zeros((1, 8, 12), np.uint8)

    def infer(frames: Image) -> ClassMap:
        seen.append(frames)
        result[:] = frames[..., 0]
        return result

    return infer


def two_halves(height: int, width: int, left: int = 1, right: int = 2) -> Image:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = left
    image[:, width // 2 :, 0] = right
    return image


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (24, 24), (40, 20)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_segmenter_infers_at_the_models_size_and_answers_at_the_frames(size: tuple[int, int], fit: Any) -> None:
    seen: list[Image] = []
    spec = ModelSpec("m", "m", 8, 12, THREE, fit=fit)
    image = two_halves(*size)
    class_map = segmenter(by_blue(seen), spec)(image)
    assert [(frames.shape, frames.dtype) for frames in seen] == [((1, 8, 12, 3), np.dtype(np.uint8))]
    np.testing.assert_array_equal(seen[0][0], plan_fit(size, spec).to_model(image))
    np.testing.assert_array_equal(class_map, image[..., 0])


def test_what_a_crop_does_not_see_costs_accuracy() -> None:
    spec = ModelSpec("m", "m", 8, 12, THREE, fit="crop")
    image = two_halves(8, 24)
    class_map = segmenter(by_blue([]), spec)(image)
    assert (class_map[:, :6] == no_class(3)).all() and (class_map[:, 6:12] == 1).all()
    result = evaluate(segmenter(by_blue([]), spec), [Sample("wide", image, image[..., 0].copy())], THREE)
    assert result.unanswered == 50 and list(result.per_class_iou) == [None, 50, 50] and result.pixel_accuracy == 50


def test_class_maps_of_a_segmenter_are_the_callers_own() -> None:
    segment = segmenter(by_blue([]), ModelSpec("m", "m", 8, 12, THREE))
    first = segment(two_halves(8, 12))
    before = first.copy()
    segment(two_halves(8, 12, left=2, right=1))
    np.testing.assert_array_equal(first, before)


def test_geometry_is_planned_once_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[tuple[int, int]] = []

    def plan(size: tuple[int, int], spec: ModelSpec) -> FitPlan:
        planned.append(size)
        return plan_fit(size, spec)

    monkeypatch.setattr(rtpsp.evaluate, "plan_fit", plan)
    segment = segmenter(by_blue([]), ModelSpec("m", "m", 8, 12, THREE))
    for size in ((16, 24), (8, 12), (16, 24), (8, 12)):
        segment(two_halves(*size))
    assert planned == [(16, 24), (8, 12)]


def test_evaluation_needs_neither_torch_nor_an_engine() -> None:
    program = (
        "import sys, rtpsp.evaluate; names = ('torch', 'onnx', 'openvino', 'onnxruntime', 'rtpsp.engine',"
        "'rtpsp.model', 'rtpsp.stream', 'rtpsp.graph'); print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
