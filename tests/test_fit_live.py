"""Masks lie over the scene, to the pixel, whatever the two shapes: through the real engine and the real loop."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import rtpsp
from rtpsp.build import BuildOptions, build_engine
from rtpsp.labels import CAMVID
from rtpsp.spec import Fit
from tests.conftest import save_colour_model
from tests.stream.doubles import Collector

MODEL = (240, 320)
PALETTE_BGR = np.array(CAMVID.palette, np.uint8)[:, ::-1]


def scene(height: int, width: int) -> np.ndarray:
    """Class ids: two half planes, and a rectangle and a disc of odd place and size on them."""
    truth = np.zeros((height, width), np.uint8)
    truth[height // 2 :] = 3
    truth[height // 5 : height // 2 + 7, width // 7 : width // 3 + 5] = 1
    cv2.circle(truth, (width * 2 // 3, height * 3 // 5), height // 6, 8, -1)
    return truth


def edges(class_map: np.ndarray, label: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(class_map == label)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [(480, 640), (360, 640), (541, 963)], ids=["4:3", "16:9", "odd"])
def test_masks_lie_over_the_scene(fit: Fit, size: tuple[int, int], tmp_path: Path) -> None:
    model = tmp_path / "colours.onnx"
    save_colour_model(model, fit, MODEL)
    engine = build_engine(model, tmp_path / "x.engine", BuildOptions("fp32")).path
    truth = scene(*size)
    cv2.imwrite(str(tmp_path / "scene.png"), PALETTE_BGR[truth])
    sink = Collector()
    rtpsp.run(str(tmp_path / "scene.png"), engine, [sink])
    mask = sink.items[0].class_map
    assert mask.shape == size
    pixel = max(size[0] / MODEL[0], size[1] / MODEL[1], 1)  # one pixel of the model, in pixels of the source
    if fit == "letterbox":
        pixel = max(1, 1 / min(MODEL[0] / size[0], MODEL[1] / size[1]))
    for label in (1, 8):
        for got, expected in zip(edges(mask, label), edges(truth, label), strict=True):
            assert abs(got - expected) <= np.ceil(pixel), CAMVID.names[label]
    off_centre = np.argwhere(mask == 8).mean(axis=0) - np.argwhere(truth == 8).mean(axis=0)
    assert np.abs(off_centre).max() < 0.5, "the disc's centre is off by half a source pixel or more"
    offsets = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    agreement = {offset: (np.roll(mask, offset, (0, 1)) == truth).mean() for offset in offsets}
    assert max(agreement, key=lambda offset: agreement[offset]) == (0, 0), "it fits better where it is moved"
    assert agreement[0, 0] > 0.98


def test_crop_says_what_it_did_not_see(tmp_path: Path) -> None:
    model = tmp_path / "colours.onnx"
    save_colour_model(model, "crop", MODEL)
    engine = build_engine(model, tmp_path / "x.engine", BuildOptions("fp32")).path
    truth = scene(360, 640)
    cv2.imwrite(str(tmp_path / "scene.png"), PALETTE_BGR[truth])
    sink = Collector("mask")
    rtpsp.run(str(tmp_path / "scene.png"), engine, [sink, rtpsp.MaskFolder(tmp_path / "masks")])
    mask = cv2.imread(str(tmp_path / "masks" / "scene.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None and (mask[:, :80] == 255).all() and (mask[:, -80:] == 255).all()
    assert (mask[:, 80:-80] == truth[:, 80:-80]).mean() > 0.98
    rim = sink.items[0].pictures["mask"][:, :80]
    assert (rim[..., 0] == rim[..., 1]).all() and set(np.unique(rim)) == {64, 176}, "stripes of two greys"
