from __future__ import annotations

import numpy as np
import pytest

from rtpsp.errors import UsageError
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
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
    class_map[0, 0] = 255
    assert tuple(Renderer(CAMVID).draw("mask", image, class_map)[0, 0]) == (0, 0, 0)


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
    assert (renderer.to_colours(class_map) == 0).all()


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
