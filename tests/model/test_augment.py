"""Augmentation: image and label stay one, whatever is drawn; light changes, grey stays grey."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from rtpsp.fit import padding_bgr, plan_fit
from rtpsp.model.augment import IGNORED, Augmentation, tint
from rtpsp.model.train_options import TrainOptions
from tests.shapes import draw, spec

STILL: dict[str, Any] = {"scale": (1.0, 1.0), "colour": 0.0, "flip": 0.0}
MEAN = {1: (0.5,), 3: (0.2, 0.4, 0.7), 4: (0.2, 0.4, 0.7, 0.9)}
CHANNELS = {1: "grey", 3: "rgb", 4: "rgbx"}


def of_planes(planes: int, **changes: Any) -> Any:
    return spec(channels=CHANNELS[planes], mean=MEAN[planes], std=(0.2,) * planes, **changes)


def coded(truth: Any, planes: int) -> tuple[Any, Any]:
    """An image that shows each label by a colour of its own, and these colours; void has that of padding."""
    colours = np.array([[0] * planes, [255] * planes, [60] * planes, padding_bgr(of_planes(planes))], np.uint8)
    colours[0, 0], colours[1, -1] = 10, 240
    return colours[np.where(truth == 255, 3, truth)], colours


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize(
    ("planes", "size", "crop"), [(3, (64, 96), None), (1, (37, 51), (48, 40)), (4, (170, 130), (33, 129))]
)
def test_every_pixel_keeps_its_label(fit: str, planes: int, size: tuple[int, int], crop: Any) -> None:
    augment = Augmentation(of_planes(planes, fit=fit), TrainOptions(crop=crop, colour=0))
    counted, ignored, inner = 0, 0, 0
    for seed in range(25):
        truth: Any = draw(seed, size).truth.astype(np.int32 if seed % 2 else np.uint8)
        image, colours = coded(truth, planes)
        cut, labels, _ = augment(image, truth, np.random.default_rng(seed))
        assert cut.dtype == np.uint8 and labels.dtype == np.int64
        assert cut.shape == (*(crop or (64, 96)), planes) and labels.shape == cut.shape[:2]
        distances = ((cut[:, :, np.newaxis].astype(int) - colours) ** 2).sum(axis=3)
        shown = np.where(labels == IGNORED, 3, labels).astype(np.uint8)
        kernel = np.ones((7, 7), np.uint8)
        inside = cv2.erode(shown, kernel) == cv2.dilate(shown, kernel)  # away from borders, where colours are mixed
        inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False  # a border may lie just outside the cut
        assert np.array_equal(distances.argmin(axis=2)[inside], shown[inside]), seed
        counted, ignored, inner = counted + shown.size, ignored + (shown == 3).sum(), inner + inside.sum()
    assert inner > 0.4 * counted and 0 < ignored < 0.9 * counted


def test_ids_beyond_a_byte_stay_what_they_are() -> None:
    truth = draw(1).truth.astype(np.int32) + 300
    truth[truth == 555] = 255
    _, labels, _ = Augmentation(spec(), TrainOptions())(draw(1).image, truth, np.random.default_rng(1))
    assert {300, 302} < set(np.unique(labels)) <= {300, 301, 302, IGNORED}


def test_without_chance_a_cut_is_what_inference_sees() -> None:
    image, truth = draw(3, (80, 80)).image, draw(3, (80, 80)).truth
    for fit in ("stretch", "letterbox", "crop"):
        kind = spec(fit=fit)
        cut, labels, _ = Augmentation(kind, TrainOptions(**STILL))(image, truth, np.random.default_rng(0))
        plan = plan_fit((80, 80), kind)
        box = plan.model_box
        if fit != "letterbox":
            assert np.array_equal(cut, plan.to_model(image))
            assert ((labels == IGNORED) == (plan_labels(plan, truth) == 255)).mean() > 0.97
        else:  # the box lies anywhere in the cut
            rows, columns = np.flatnonzero((labels != IGNORED).any(1)), np.flatnonzero((labels != IGNORED).any(0))
            assert (len(rows), len(columns)) == (box.height, box.width)
            part = plan.to_model(image)[box.slices]
            assert np.array_equal(cut[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], part)


def plan_labels(plan: Any, truth: Any) -> Any:
    seen = truth[plan.source_box.slices]
    return cv2.resize(seen, plan.spec.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_scale_is_one_of_what_the_model_sees(factor: float) -> None:
    truth = np.ones((320, 480), np.uint8)
    image = np.full((320, 480, 3), 9, np.uint8)
    options = TrainOptions(**{**STILL, "scale": (factor, factor), "crop": (100, 200)})
    cut, labels, _ = Augmentation(spec(), options)(image, truth, np.random.default_rng(0))
    assert (labels == 1).sum() == min(100, 64 * factor) * min(200, 96 * factor)
    assert np.array_equal((cut == 9).all(axis=2), labels == 1), "padding counts nowhere"


def test_a_mirrored_cut_is_the_mirror_of_the_cut() -> None:
    shape = draw(4)
    cuts = [
        Augmentation(spec(), TrainOptions(flip=flip, colour=0))(shape.image, shape.truth, np.random.default_rng(7))
        for flip in (0.0, 1.0)
    ]
    for plain, mirrored in zip(*(cut[:2] for cut in cuts), strict=True):
        assert np.array_equal(plain[:, ::-1], mirrored) and not np.array_equal(plain, mirrored)


def test_void_without_an_id_is_no_void() -> None:
    from dataclasses import replace

    from tests.shapes import SHAPES

    shape = draw(2)
    augment = Augmentation(spec(labels=replace(SHAPES, ignore=None)), TrainOptions(**STILL))
    assert np.array_equal(augment(shape.image, shape.truth, np.random.default_rng(0))[1], shape.truth)


def test_the_same_state_gives_the_same_cut_and_another_one_another() -> None:
    shape, augment = draw(5), Augmentation(spec(), TrainOptions())
    first, again, other = (augment(shape.image, shape.truth, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_another_light_leaves_grey_grey_and_colours_in_bounds() -> None:
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8).reshape(1, -1, 1), 3, axis=2).repeat(8, axis=0)
    light = set()
    for seed in range(20):
        tinted = tint(ramp, 1.0, np.random.default_rng(seed)).astype(int)
        assert np.ptp(tinted, axis=2).max() <= 1
        assert (np.diff(tinted[4, :, 0]) >= 0).all(), "dark stays darker than bright: nothing wraps around"
        light.add(round(tinted.mean()))
    assert len(light) > 10


def test_hue_turns_what_has_one_and_the_fourth_plane_has_no_colour() -> None:
    red = np.zeros((8, 8, 4), np.uint8)
    red[..., 2], red[..., 3] = 180, 77
    turned = np.stack([tint(red, 1.0, np.random.default_rng(seed)) for seed in range(20)])
    assert (turned[..., 3] == 77).all()
    assert (turned[..., 0] > turned[..., 1]).any() and (turned[..., 1] > turned[..., 0]).any(), "to both sides"
    assert (turned[..., 2] > turned[..., :2].max(axis=-1)).all(), "never so far that red is another colour"
    grey = tint(red[..., 2:3], 0.5, np.random.default_rng(0))
    assert grey.shape == (8, 8, 1) and len(np.unique(grey)) == 1
