"""The references of our kernels against OpenCV and the live loop's own drawing."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp.device_reference import class_map, draw, map_dtype, resize
from rtpsp.drawing import Drawing, stripes
from rtpsp.errors import UsageError
from rtpsp.fit import FitPlan, no_class, plan_fit
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.spec import Fit, ModelSpec, Resize
from rtpsp.stream.render import Renderer, RenderOptions
from tests.test_class_mapper import regions

FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")
RESIZES: tuple[Resize, ...] = ("area", "bilinear")


def make_plan(
    source: tuple[int, int], model: tuple[int, int], fit: Fit = "stretch", resize: Resize = "area", classes: int = 11
) -> FitPlan:
    labels = CAMVID if classes == 11 else LabelSet("many", tuple(map(str, range(classes))), distinct_palette(classes))
    return plan_fit(source, ModelSpec("test", "test", *model, labels, fit=fit, resize=resize))


@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.sampled_from(FITS),
    st.sampled_from(RESIZES),
    st.integers(0, 1000),
)
def test_frames_are_resized_as_by_opencv(
    source: tuple[int, int], model: tuple[int, int], fit: Fit, mode: Resize, seed: int
) -> None:
    plan = make_plan(source, model, fit, mode)
    image = np.random.default_rng(seed).integers(0, 256, (*source, 3), np.uint8)
    found = resize(image, plan)
    assert found.shape == (*model, 3) and found.dtype == np.uint8
    apart = np.abs(found.astype(int) - plan.to_model(image))
    assert apart.max() <= 1
    outside = np.ones(model, bool)
    outside[plan.model_box.slices] = False
    assert not apart[outside].any(), "padding"


@pytest.mark.parametrize("mode", RESIZES)
@pytest.mark.parametrize("source", [(720, 960), (1080, 1920), (480, 640), (240, 320), (360, 480)])
def test_sizes_of_cameras(source: tuple[int, int], mode: Resize) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*source, 3), np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    plan = make_plan(source, (360, 480), "letterbox", mode)
    apart = np.abs(resize(image, plan).astype(int) - plan.to_model(image))
    assert apart.max() <= 1
    assert apart.mean() < 0.15, "more than what OpenCV rounds on the way, and ties"


def test_an_average_is_one_and_a_tie_is_rounded_up() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, :2] = [[[10, 0, 1]], [[20, 0, 2]]]  # means 15, 0, 1.5
    image[0, 2] = 255
    plan = make_plan((2, 4), (1, 2))
    assert plan.averages and not make_plan((2, 4), (1, 5)).averages
    assert resize(image, plan).tolist() == [[[15, 0, 2], [64, 64, 64]]]


@pytest.mark.parametrize("classes", [11, 255, 256, 300])
@pytest.mark.parametrize("fit", FITS)
def test_a_class_map_has_the_frames_size_and_no_class_where_nothing_was_seen(classes: int, fit: Fit) -> None:
    plan = make_plan((50, 90), (48, 48), fit, classes=classes)
    scores = regions(classes, (6, 6))
    found = class_map(scores, plan)
    seen = found[plan.source_box.slices]
    assert found.shape == (50, 90) and found.dtype == map_dtype(plan)
    assert seen.min() >= 0 and seen.max() < classes
    unseen = found == no_class(classes)
    assert unseen.sum() == (0 if fit != "crop" else 50 * 90 - seen.size)
    assert found.dtype == ("uint8" if classes < 256 or (classes == 256 and fit != "crop") else "int32")


@pytest.mark.parametrize("view", ["overlay", "mask"])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("classes", [2, 255, 256, 300])
def test_the_picture_is_the_renderers(view: Literal["overlay", "mask"], alpha: float, classes: int) -> None:
    plan = make_plan((90, 131), (48, 48), "crop", classes=classes)
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    ids = class_map(regions(classes, (6, 6)), plan)
    found = draw(image, ids, plan.spec.labels, Drawing(view, alpha))
    rendered = Renderer(plan.spec.labels, RenderOptions(alpha=alpha)).draw(view, image, ids)
    apart = np.abs(found.astype(int) - rendered)
    assert apart.max() <= (0 if view == "mask" or alpha == 0.5 else 1)
    assert (found[:, 0] == stripes(90, 131)[:, 0]).all() or view == "overlay"


def test_a_blend_is_opencvs() -> None:
    image, colours = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    labels = LabelSet("greys", tuple(map(str, range(256))), tuple((level, level, level) for level in range(256)))
    frame = np.repeat(image[..., np.newaxis], 3, axis=2)
    for alpha in (0.5, 0.3, 0.65):
        found = draw(frame, colours, labels, Drawing("overlay", alpha))[..., 0]
        blended = cv2.addWeighted(image, 1 - alpha, colours, alpha, 0)
        assert np.abs(found.astype(int) - blended).max() <= (0 if alpha == 0.5 else 1)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_a_share_is_one(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha is"):
        Drawing("overlay", alpha)
