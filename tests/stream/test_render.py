from __future__ import annotations

import numpy as np
import pytest

from rtpsp.errors import UsageError
from rtpsp.fit import no_class
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.stream.frame import VIEWS
from rtpsp.stream.render import Renderer, RenderOptions

CAR = CAMVID.names.index("Car")


def scene() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    class_map = np.zeros((120, 160), np.uint8)
    class_map[40:80, 50:110] = CAR
    return image, class_map


def test_mask_is_the_palette_in_bgr() -> None:
    image, class_map = scene()
    mask = Renderer(CAMVID).draw("mask", image, class_map)
    assert tuple(mask[60, 80]) == (128, 0, 64)  # Car is RGB 64 0 128
    assert tuple(mask[0, 0]) == (128, 128, 128)
    assert not greys(mask) - {128}, "nothing is unknown"


def greys(picture: np.ndarray) -> set[int]:
    """The grey levels in it."""
    pixels = picture.reshape(-1, 3)
    return set(np.unique(pixels[(pixels == pixels[:, :1]).all(axis=1), 0]).tolist())


@pytest.mark.parametrize("classes", [2, 11, 255, 256, 300])
def test_a_pixel_without_a_class_is_striped_in_two_greys(classes: int) -> None:
    labels = LabelSet("many", tuple(f"class {n}" for n in range(classes)), distinct_palette(classes))
    unknown, dtype = no_class(classes), np.uint8 if classes < 256 else np.int32
    class_map = np.full((120, 160), classes - 1, dtype)
    class_map[40:100, 50:110] = unknown
    renderer = Renderer(labels)
    mask = renderer.to_colours(class_map)
    inside = mask[40:100, 50:110]
    dark, light = sorted(greys(inside))
    assert light - dark > 80 and {dark, light}.isdisjoint({0, 128, 255})
    assert 0.4 < (inside == light).mean() < 0.6
    squares = inside[:56, :56].reshape(7, 8, 7, 8, 3)  # of eight pixels: each shows both
    assert (squares.min(axis=(1, 3, 4)) == dark).all() and (squares.max(axis=(1, 3, 4)) == light).all()
    outside = class_map != unknown
    assert (mask[outside] == labels.palette[-1][::-1]).all()
    image = np.full((120, 160, 3), 90, np.uint8)
    overlay = Renderer(labels, RenderOptions(alpha=0.3)).draw("overlay", image, class_map)
    assert np.abs(overlay - (0.7 * image + 0.3 * mask)).max() <= 1
    again = renderer.to_colours(class_map)
    again[:] = 7
    assert (renderer.to_colours(class_map) == mask).all(), "pictures are the caller's own"


def test_a_map_of_nothing_but_bytes_that_are_all_classes_has_no_stripes() -> None:
    labels = LabelSet("many", tuple(f"class {n}" for n in range(256)), distinct_palette(256))
    class_map = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = Renderer(labels).to_colours(class_map).reshape(-1, 3)
    assert (colours == np.array(labels.palette)[:, ::-1]).all()


def test_the_legend_has_stripes_where_pixels_can_be_unknown() -> None:
    image, class_map = np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8)
    without = Renderer(CAMVID, RenderOptions(legend=True, alpha=0)).draw("overlay", image, class_map)
    legend = Renderer(CAMVID, RenderOptions(legend=True, alpha=0, unknown=True)).draw("overlay", image, class_map)
    rows = [int((picture != 0).any(axis=(1, 2)).sum()) for picture in (without, legend)]
    assert rows[1] >= rows[0] + 8, "one line more"
    class_map[:] = 255
    stripes = greys(Renderer(CAMVID).draw("mask", image, class_map))
    assert len(stripes) == 2
    swatches = legend[-40:, :26]
    assert all((swatches == grey).all(axis=2).sum() >= 20 for grey in stripes)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_overlay_mixes_picture_and_palette(alpha: float) -> None:
    image, class_map = scene()
    before = image.copy()
    renderer = Renderer(CAMVID, RenderOptions(alpha=alpha))
    overlay = renderer.draw("overlay", image, class_map)
    expected = image * (1 - alpha) + renderer.draw("mask", image, class_map) * alpha
    assert np.abs(overlay - expected).max() <= 1
    assert (image == before).all()


def test_side_by_side_is_frame_and_overlay() -> None:
    image, class_map = scene()
    renderer = Renderer(CAMVID)
    picture = renderer.draw("side-by-side", image, class_map)
    assert (picture[:, :160] == image).all()
    assert (picture[:, 160:] == renderer.draw("overlay", image, class_map)).all()
    frame = renderer.draw("frame", image, class_map)
    assert (frame == image).all() and frame is not image


def test_legend_shows_each_palette_colour_unmixed() -> None:
    image, class_map = np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8)
    picture = Renderer(CAMVID, RenderOptions(legend=True)).draw("overlay", image, class_map)
    colours = {tuple(colour) for colour in picture[180:, :60].reshape(-1, 3).tolist()}
    missing = [name for name, (r, g, b) in zip(CAMVID.names, CAMVID.palette, strict=True) if (b, g, r) not in colours]
    assert missing == []


def test_legend_of_a_large_set_lists_what_is_in_the_picture() -> None:
    count = 300
    labels = LabelSet("many", tuple(f"class {n}" for n in range(count)), distinct_palette(count))
    image, class_map = np.zeros((360, 480, 3), np.uint8), np.full((360, 480), 280, np.int32)
    renderer = Renderer(labels, RenderOptions(legend=True, alpha=0.0))
    red, green, blue = labels.palette[280]
    picture = renderer.draw("overlay", image, class_map)
    assert (picture == (blue, green, red)).all(axis=2).any()
    class_map[:] = -1  # nothing that is a class
    assert renderer.draw("overlay", image, class_map).shape == image.shape


def test_head_up_display_is_drawn_at_every_size() -> None:
    for height, width in ((60, 80), (120, 160), (1080, 1920)):
        image, class_map = np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), np.uint8)
        plain = Renderer(CAMVID).draw("frame", image, class_map)
        hud = Renderer(CAMVID, RenderOptions(hud=True)).draw("frame", image, class_map, "12.3 fps")
        assert hud.shape == image.shape and (hud != plain).any()
        assert (hud[height // 2 :] == plain[height // 2 :]).all()


def test_alpha_out_of_range() -> None:
    with pytest.raises(UsageError, match=r"alpha is 1\.5"):
        RenderOptions(alpha=1.5)


@pytest.mark.parametrize("planes", [1, 4])
def test_frames_of_other_planes_are_drawn_over_as_they_look(planes: int) -> None:
    picture, class_map = scene()
    image = np.dstack([picture, picture[..., :1]]) if planes == 4 else picture[..., :1].copy()
    colours = picture if planes == 4 else np.repeat(image, 3, axis=2)
    before, renderer = image.copy(), Renderer(CAMVID, RenderOptions(legend=True))
    drawn, expected = (renderer.draw_all(VIEWS, frame, class_map) for frame in (image, colours))
    for view in VIEWS:
        np.testing.assert_array_equal(drawn[view], expected[view])
        np.testing.assert_array_equal(renderer.draw(view, image, class_map), expected[view])
        assert not np.shares_memory(drawn[view], image)
    np.testing.assert_array_equal(image, before)
