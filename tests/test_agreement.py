from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.agreement import Agreement, Picture, check_same_classes, evaluate_pair
from rtpsp.arrays import ClassMap, Image
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError, InputError
from rtpsp.evaluate import Segment, agreement, evaluate
from rtpsp.labels import CAMVID, CITYSCAPES, LabelSet, distinct_palette

VOID = 9
THREE = LabelSet("three", ("road", "tree", "sky"), distinct_palette(3), ignore=VOID)


def picture(height: int, width: int, name: str = "p") -> Picture:
    return Picture(name, np.zeros((height, width, 3), np.uint8))


def sample(truth: Any, name: str = "s") -> Sample:
    ids = np.asarray(truth, np.uint8)
    return Sample(name, np.zeros((*ids.shape, 3), np.uint8), ids)


def answers(*maps: Any) -> Segment:
    given = iter([np.asarray(one) for one in maps])
    return lambda image: next(given)


def test_the_arithmetic_by_hand() -> None:
    images = [picture(1, 4), picture(2, 3)]
    first = answers([[0, 1, 2, 255]], [[0, 0, 0], [1, 1, 1]])
    second = answers(np.array([[0, 1, 1, -1]], np.int32), [[0, 0, 0], [1, 1, 0]])
    pair = evaluate_pair(first, second, images, THREE)
    assert pair.first is None and pair.second is None and pair.miou_difference is None
    assert list(pair.iou_differences) == [None] * 3
    told = pair.agreement
    assert told.counts.tolist() == [[4, 0, 0, 0], [1, 3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert told.images == 2 and told.overall == pytest.approx(80)
    assert told.per_class == pytest.approx((100 * 4 / 5, 100 * 3 / 5, 0))


def test_a_class_that_neither_answers_has_no_agreement() -> None:
    told = evaluate_pair(answers([[0, 0]]), answers([[0, 0]]), [picture(1, 2)], THREE).agreement
    assert list(told.per_class) == [100, None, None] and told.words == "every pixel"
    assert json.loads(json.dumps(told.to_dict())) == {
        "agreement": 100.0, "pixels": 2, "pixels_that_differ": 0,
        "per_class_agreement": {"road": 100.0, "tree": None, "sky": None},
    }  # fmt: skip


def test_words_never_round_up_to_all() -> None:
    counts = np.zeros((4, 4), np.int64)
    counts[0, 0], counts[0, 1] = 99_999_999, 1
    assert Agreement(counts, THREE, 1).words == "99.99 % of pixels"


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_it_equals_what_evaluate_and_agreement_say_one_by_one(seed: int, labelled: bool) -> None:
    rng = np.random.default_rng(seed)
    truths = [rng.choice([0, 1, 2, VOID], (3, 5)) for _ in range(3)]
    truths[0][0, 0] = 1
    one, other = ([rng.choice([0, 1, 2, 255], (3, 5)) for _ in truths] for _ in range(2))
    samples = [sample(truth) for truth in truths]
    images = samples if labelled else [Picture("p", known.image) for known in samples]
    pair = evaluate_pair(answers(*one), answers(*other), images, THREE)
    pixels = [known.image for known in samples]
    assert pair.agreement.overall == pytest.approx(100 * agreement(answers(*one), answers(*other), pixels))
    swapped = evaluate_pair(answers(*other), answers(*one), images, THREE).agreement
    assert swapped.per_class == pair.agreement.per_class and swapped.overall == pair.agreement.overall
    if labelled:
        for found, maps in ((pair.first, one), (pair.second, other)):
            assert found is not None
            assert found.to_dict() == evaluate(answers(*maps), samples, THREE).to_dict()
        assert pair.first is not None and pair.second is not None
        assert pair.miou_difference == pair.second.miou - pair.first.miou


def test_differences_are_the_seconds_minus_the_firsts() -> None:
    truth = [[0, 0, 1, 1]]
    pair = evaluate_pair(answers([[0, 1, 1, 1]]), answers(truth), [sample(truth)], THREE)
    assert pair.iou_differences == pytest.approx((50, 100 - 200 / 3, None), nan_ok=True)
    assert pair.miou_difference == pytest.approx(100 - (50 + 200 / 3) / 2)


def test_both_are_asked_in_turn_and_each_image_is_loaded_once() -> None:
    order: list[str] = []

    def asked(name: str) -> Segment:
        def segment(image: Image) -> ClassMap:
            order.append(name)
            return np.zeros(image.shape[:2], np.uint8)

        return segment

    def load() -> Any:
        for number in range(2):
            order.append(f"load {number}")
            yield picture(1, 1, str(number))

    told: list[tuple[int, int]] = []
    evaluate_pair(
        asked("A"), asked("B"), load(), THREE, lambda done, total: told.append((done, total)),
        lambda image, first, second: order.append(f"seen {image.name}"),
    )  # fmt: skip
    assert order == ["load 0", "A", "B", "seen 0", "load 1", "A", "B", "seen 1"]
    assert told == [(1, 0), (2, 0)]


def test_nothing_to_compare_on_and_a_map_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="no image to compare on"):
        evaluate_pair(answers(), answers(), [], THREE)
    with pytest.raises(InputError, match="the segmenter gave"):
        evaluate_pair(answers([[0]]), answers([[0, 0]]), [picture(1, 1)], THREE)
    with pytest.raises(DataError, match="all 1 labels are void"):
        evaluate_pair(answers([[0]]), answers([[0]]), [sample([[VOID]])], THREE)


def test_more_than_256_classes() -> None:
    labels = LabelSet("many", tuple(f"c{number}" for number in range(300)), distinct_palette(300))
    maps = np.array([[0, 255, 299, -1]], np.int32), np.array([[0, 255, 256, -1]], np.int32)
    told = evaluate_pair(answers(maps[0]), answers(maps[1]), [picture(1, 4)], labels).agreement
    assert told.overall == 75 and told.per_class[255] == 100 and told.per_class[299] == 0


def test_engines_of_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"a has the 11 classes of 'camvid', b the 19 of 'cityscapes', and class 0 is"):
        check_same_classes(CAMVID, CITYSCAPES, ("a", "b"))
    more = LabelSet("four", (*THREE.names, "car"), distinct_palette(4))
    with pytest.raises(InputError, match="a has the 3 classes of 'three', b the 4 of 'four': an id means"):
        check_same_classes(THREE, more, ("a", "b"))
    check_same_classes(THREE, LabelSet("loud", ("Road", "TREE", "sky"), distinct_palette(3)), ("a", "b"))


def test_agreement_needs_neither_torch_nor_an_engine() -> None:
    program = (
        "import sys, rtpsp.agreement; names = ('torch', 'onnx', 'openvino', 'matplotlib', 'rtpsp.engine',"
        "'rtpsp.stream', 'rtpsp.graph'); print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
