from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from rtpsp import device_reference as reference
from rtpsp.arrays import Image
from rtpsp.errors import InputError
from rtpsp.fit import Box, nearest, no_class, padding_bgr, plan_fit
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.spec import Fit, ModelSpec, Resize

FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")
RESIZES: tuple[Resize, ...] = ("area", "bilinear")
SIZES = [(360, 480), (720, 960), (720, 1280), (1080, 1920), (1280, 720), (181, 241), (333, 1001), (97, 89), (50, 300)]
MODELS = [(360, 480), (96, 128), (128, 96), (89, 113)]


def spec_of(size: tuple[int, int], fit: Fit = "stretch", resize: Resize = "area", **more: Any) -> ModelSpec:
    return ModelSpec("m", "m", *size, more.pop("labels", CAMVID), fit=fit, resize=resize, **more)


def many_labels(count: int) -> LabelSet:
    return LabelSet("many", tuple(f"c{number}" for number in range(count)), distinct_palette(count))


def noise(size: tuple[int, int], seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "source", "source_box", "model_box"),
    [
        ("stretch", (720, 1280), Box(0, 0, 720, 1280), Box(0, 0, 360, 480)),
        ("letterbox", (720, 960), Box(0, 0, 720, 960), Box(0, 0, 360, 480)),
        ("letterbox", (720, 1280), Box(0, 0, 720, 1280), Box(45, 0, 270, 480)),
        ("letterbox", (1280, 720), Box(0, 0, 1280, 720), Box(0, 139, 360, 202)),
        ("letterbox", (36, 48), Box(0, 0, 36, 48), Box(0, 0, 360, 480)),
        ("letterbox", (1, 1000), Box(0, 0, 1, 1000), Box(179, 0, 1, 480)),
        ("crop", (720, 960), Box(0, 0, 720, 960), Box(0, 0, 360, 480)),
        ("crop", (720, 1280), Box(0, 160, 720, 960), Box(0, 0, 360, 480)),
        ("crop", (1280, 720), Box(370, 0, 540, 720), Box(0, 0, 360, 480)),
        ("crop", (1, 1000), Box(0, 499, 1, 1), Box(0, 0, 360, 480)),
    ],
)
def test_boxes_by_hand(fit: Fit, source: tuple[int, int], source_box: Box, model_box: Box) -> None:
    plan = plan_fit(source, spec_of((360, 480), fit))
    assert (plan.source_box, plan.model_box) == (source_box, model_box)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", SIZES)
def test_aspect_ratio_is_kept_to_half_a_pixel_and_boxes_are_centred(
    model: tuple[int, int], source: tuple[int, int]
) -> None:
    letterbox, crop = (plan_fit(source, spec_of(model, fit)) for fit in ("letterbox", "crop"))
    assert letterbox.source_box == Box(0, 0, *source) and crop.model_box == Box(0, 0, *model)
    for box, outer, inner in ((letterbox.model_box, model, source), (crop.source_box, source, model)):
        assert box.height == outer[0] or box.width == outer[1], "one pair of sides is filled"
        scale = min(outer[0] / inner[0], outer[1] / inner[1])
        assert abs(box.height - inner[0] * scale) <= 0.5 and abs(box.width - inner[1] * scale) <= 0.5
        for begin, side, whole in ((box.top, box.height, outer[0]), (box.left, box.width, outer[1])):
            assert begin >= 0 and 0 <= whole - (begin + side) - begin <= 1, "the odd pixel is at the far end"


# --- frames to the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
def test_a_frame_of_the_models_size_is_only_copied(fit: Fit) -> None:
    frame = noise((36, 48))
    brought = plan_fit((36, 48), spec_of((36, 48), fit)).to_model(frame)
    assert np.array_equal(brought, frame) and not np.shares_memory(brought, frame)


def test_area_averages_whole_blocks_and_bilinear_does_not() -> None:
    frame = noise((40, 80))
    blocks = frame.reshape(10, 4, 20, 4, 3).astype(float)
    area = plan_fit((40, 80), spec_of((10, 20))).to_model(frame)
    assert np.abs(area - blocks.mean(axis=(1, 3))).max() <= 1
    bilinear = plan_fit((40, 80), spec_of((10, 20), resize="bilinear")).to_model(frame)
    assert np.abs(bilinear - blocks[:, 1:3, :, 1:3].mean(axis=(1, 3))).max() <= 1


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("model", [(4, 40), (40, 40), (2, 40)])
def test_where_a_side_grows_the_picture_stays_smooth(resize: Resize, model: tuple[int, int]) -> None:
    ramp = np.repeat(np.arange(0, 200, 20, dtype=np.uint8)[None, :, None], 4, axis=0).repeat(3, axis=2)
    grown = plan_fit((4, 10), spec_of(model, resize=resize)).to_model(ramp)
    steps = np.diff(grown[0, :, 0].astype(int))
    assert steps.min() >= 0 and steps.max() <= 6, "blocks would step by 20"


@pytest.mark.parametrize("source", [(720, 1280), (1280, 720), (97, 89), (36, 48)])
def test_letterbox_pads_with_the_mean_colour(source: tuple[int, int]) -> None:
    plan = plan_fit(source, spec_of((36, 60), "letterbox"))
    whole = plan.to_model(np.zeros((*source, 3), np.uint8), out=np.full((36, 60, 3), 77, np.uint8))
    box = plan.model_box
    shown = np.zeros((36, 60), bool)
    shown[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert not shown.all() and shown.any()
    assert (whole[shown] == 0).all()
    assert (whole[~shown] == (104, 116, 124)).all()  # 0.406, 0.456, 0.485 of 255: blue first


def test_padding_follows_the_channel_order_of_the_mean() -> None:
    mean = (0.1, 0.2, 0.3)
    assert padding_bgr(spec_of((8, 8), mean=mean, channels="rgb")).tolist() == [76, 51, 26]
    assert padding_bgr(spec_of((8, 8), mean=mean, channels="bgr")).tolist() == [26, 51, 76]
    assert padding_bgr(spec_of((8, 8), mean=(*mean, 0.6), std=(1, 1, 1, 1), channels="rgbx")).tolist() == [
        76, 51, 26, 153,
    ]  # fmt: skip
    assert padding_bgr(spec_of((8, 8), mean=(0.2,), std=(1,), channels="grey")).tolist() == [51]


@pytest.mark.parametrize("source", [(97, 89), (36, 48), (20, 30)])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("channels", ["grey", "bgrx"])
def test_frames_of_one_and_four_planes(
    source: tuple[int, int], fit: Fit, resize: Resize, channels: Literal["grey", "bgrx"]
) -> None:
    planes = 1 if channels == "grey" else 4
    spec = spec_of((36, 48), fit, resize, mean=(0.2,) * planes, std=(1.0,) * planes, channels=channels)
    frame = np.random.default_rng(5).integers(0, 256, (*source, planes), np.uint8)
    plan = plan_fit(source, spec)
    batch = np.full((2, 36, 48, planes), 9, np.uint8)
    assert plan.to_model(frame, out=batch[1]).shape == (36, 48, planes) and (batch[0] == 9).all()
    np.testing.assert_array_equal(batch[1], plan.to_model(frame))
    assert np.abs(batch[1].astype(int) - reference.resize(frame, plan)).max() <= 1
    with pytest.raises(InputError, match=rf"expected uint8 .*{planes}\] \({spec.frame_words}\)"):
        plan.to_model(np.zeros((*source, 3), np.uint8))


@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("resize", RESIZES)
def test_out_is_written_into_and_every_byte_of_it(source: tuple[int, int], fit: Fit, resize: Resize) -> None:
    plan = plan_fit(source, spec_of((96, 128), fit, resize))
    frame = noise(source)
    expected = plan.to_model(frame)
    assert expected.shape == (96, 128, 3) and expected.dtype == np.uint8
    for dirt in (0, 255):
        batch = np.full((2, 96, 128, 3), dirt, np.uint8)
        out = batch[1]
        assert plan.to_model(frame, out=out) is out
        np.testing.assert_array_equal(batch[1], expected)
        assert (batch[0] == dirt).all()


@pytest.mark.parametrize("fit", FITS)
def test_out_may_be_a_view_with_gaps(fit: Fit) -> None:
    plan = plan_fit((97, 89), spec_of((96, 128), fit))
    wide = np.zeros((96, 140, 3), np.uint8)
    plan.to_model(noise((97, 89)), out=wide[:, 5:133])
    np.testing.assert_array_equal(wide[:, 5:133], plan.to_model(noise((97, 89))))
    assert not wide[:, :5].any() and not wide[:, 133:].any()


# --- class maps to the source ----------------------------------------------------------------------------------------


def centres(count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """floor((x + 0.5) * size / count) in whole numbers, and where the centre lies on a border of two pixels."""
    doubled = (2 * np.arange(count) + 1) * size
    return doubled // (2 * count), doubled % (2 * count) == 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_every_pixel_takes_the_class_its_centre_falls_into(
    model: tuple[int, int], source: tuple[int, int], dtype: type[np.integer]
) -> None:
    ids = np.random.default_rng(1).integers(0, 200, model).astype(dtype)
    found = plan_fit(source, spec_of(model)).to_source(ids)
    assert found.shape == source and found.dtype == dtype
    (rows, row_ties), (columns, column_ties) = centres(source[0], model[0]), centres(source[1], model[1])
    sure = ~(row_ties[:, None] | column_ties[None, :])
    assert sure.any()
    np.testing.assert_array_equal(found[sure], ids[rows][:, columns][sure])


def test_a_centre_on_a_border_takes_one_of_the_two() -> None:
    ids = np.arange(6, dtype=np.uint8)[None, :].repeat(2, axis=0)
    found = plan_fit((2, 3), spec_of((2, 6))).to_source(ids)[0]
    assert all(value in (2 * x, 2 * x + 1) for x, value in enumerate(found))


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", SIZES)
def test_round_trip_is_right_but_for_half_a_model_pixel_at_borders(
    source: tuple[int, int], model: tuple[int, int], fit: Fit, resize: Resize
) -> None:
    """A black and white drawing goes to the model, is told apart there, and comes back where it was."""
    plan = plan_fit(source, spec_of(model, fit, resize))
    borders = [[round(side * share) for share in (0.22, 0.47, 0.61, 0.83)] for side in source]
    bands = [np.searchsorted(at, np.arange(side), side="right") for at, side in zip(borders, source, strict=True)]
    truth = (bands[0][:, None] + bands[1][None, :]) % 2
    frame = np.repeat((truth * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    answer = (plan.to_model(frame)[..., 0] > 127).astype(np.uint8)
    back = plan.to_source(answer)

    clear = []
    boxes = ((plan.source_box.height, plan.model_box.height), (plan.source_box.width, plan.model_box.width))
    for side, at, (seen, shown) in zip(source, borders, boxes, strict=True):
        # Bilinear sampling between two pixels of the source moves a border by half of one at most.
        reach = seen / shown / 2 + (0.5 if resize == "bilinear" or seen < shown else 0) + 1e-6
        distance = np.abs(np.arange(side)[:, None] + 0.5 - np.array(at)[None, :]).min(axis=1)
        clear.append(distance > reach)
    sure = clear[0][:, None] & clear[1][None, :]
    seen_part = np.zeros(source, bool)
    seen_part[plan.source_box.slices] = True
    assert sure[seen_part].mean() > 0.4, "the test looks at most of the picture"
    np.testing.assert_array_equal(back[sure & seen_part], truth[sure & seen_part])
    assert (back[~seen_part] == no_class(11)).all()


def test_to_source_leaves_the_padding_out() -> None:
    plan = plan_fit((720, 1280), spec_of((36, 48), "letterbox"))
    ids = np.full((36, 48), 9, np.uint8)
    ids[plan.model_box.slices] = 4
    assert (plan.to_source(ids) == 4).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("source", [(36, 48), (72, 96), (72, 128)])
def test_a_class_map_comes_back_as_a_new_array(fit: Fit, source: tuple[int, int]) -> None:
    ids = np.ones((36, 48), np.uint8)
    assert not np.shares_memory(plan_fit(source, spec_of((36, 48), fit)).to_source(ids), ids)


def test_nearest_copies_at_the_same_size() -> None:
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    same = nearest(ids, (3, 4))
    assert np.array_equal(same, ids) and not np.shares_memory(same, ids)


def test_nearest_takes_views() -> None:
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8)
    np.testing.assert_array_equal(nearest(ids[1:3, 2:4], (4, 4)), ids[1:3, 2:4].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(("classes", "expected"), [(1, 255), (11, 255), (255, 255), (256, -1), (300, -1)])
def test_no_class_is_never_a_class(classes: int, expected: int) -> None:
    assert no_class(classes) == expected


@pytest.mark.parametrize(
    ("classes", "given", "dtype"), [(255, np.uint8, np.uint8), (256, np.uint8, np.int32), (300, np.int32, np.int32)]
)
def test_unseen_pixels_fit_the_type(classes: int, given: type[np.integer], dtype: type[np.integer]) -> None:
    plan = plan_fit((4, 12), spec_of((4, 4), "crop", labels=many_labels(classes)))
    found = plan.to_source(np.full((4, 4), 254, given))
    assert found.dtype == dtype
    assert (found[:, 4:8] == 254).all() and (found[:, :4] == no_class(classes)).all()
    assert (found[:, 8:] == no_class(classes)).all()


# --- class maps of the frame's own size ------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", SIZES)
def test_a_grid_has_the_frames_pixels_where_they_are_in_the_model(
    source: tuple[int, int], model: tuple[int, int], fit: Fit
) -> None:
    """Cells that hold their own place, in the model's pixels, tell where each pixel is looked up."""
    plan = plan_fit(source, spec_of(model, fit))
    cells = -(-model[0] // 8), -(-model[1] // 8)
    grid = plan.grid(cells)
    boxes = ((plan.model_box.top, plan.model_box.height, plan.source_box.height),
             (plan.model_box.left, plan.model_box.width, plan.source_box.width))  # fmt: skip
    assert grid.size == (plan.source_box.height, plan.source_box.width) and grid.cells == cells
    for axis, (at, seen, pixels), side in zip((grid.rows, grid.columns), boxes, model, strict=True):
        pitch = side / axis.cells
        places = at + (np.arange(pixels) + 0.5) * seen / pixels
        expected = np.clip(places, pitch / 2, side - pitch / 2)
        np.testing.assert_allclose(axis.matrix() @ ((np.arange(axis.cells) + 0.5) * pitch), expected, atol=1e-6)


def test_what_was_seen_is_placed_in_the_frame() -> None:
    plan = plan_fit((4, 12), spec_of((4, 4), "crop"))
    seen = np.arange(16, dtype=np.uint8).reshape(4, 4)
    whole = plan.place(seen)
    assert (whole[:, 4:8] == seen).all() and (whole[:, :4] == 255).all() and (whole[:, 8:] == 255).all()
    plan = plan_fit((4, 12), spec_of((4, 4)))
    assert plan.place(ids := np.zeros((4, 12), np.uint8)) is ids
    with pytest.raises(InputError, match=r"class map is \[4, 4\], expected \[4, 12\]"):
        plan.place(seen)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 5)])
def test_a_frame_without_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]}"):
        plan_fit(size, spec_of((8, 8)))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((20, 11, 3), np.uint8),
        np.zeros((10, 20, 3), np.uint8),
        np.zeros((20, 10), np.uint8),
        np.zeros((20, 10, 4), np.uint8),
        np.zeros((20, 10, 3), np.float32),
    ],
)
@pytest.mark.parametrize("fit", FITS)
def test_a_frame_of_another_size_or_type(fit: Fit, frame: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"frame is .* expected uint8 \[20, 10, 3\]"):
        plan_fit((20, 10), spec_of((8, 8), fit)).to_model(frame)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((7, 8, 3), np.uint8),
        np.zeros((9, 9, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("fit", FITS)
def test_an_out_of_another_size_or_type(fit: Fit, out: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"out is .* expected uint8 \[8, 8, 3\]"):
        plan_fit((20, 10), spec_of((8, 8), fit)).to_model(np.zeros((20, 10, 3), np.uint8), out=out)


@pytest.mark.parametrize("shape", [(7, 8), (9, 9), (1, 8, 8), (20, 10)])
@pytest.mark.parametrize("fit", FITS)
def test_a_class_map_of_another_size(fit: Fit, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"class map is .* expected \[8, 8\]"):
        plan_fit((20, 10), spec_of((8, 8), fit)).to_source(np.zeros(shape, np.uint8))
