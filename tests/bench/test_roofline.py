"""The roofline plot: what stands in it, and that nothing is drawn of nothing."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from rtpsp.bench.roofline import roofline_png, roofline_svg


def section(**more: Any) -> dict[str, Any]:
    dot = {"name": "a", "part": "layer4", "format": "i8", "gmac_s": 90.0, "intensity": 800.0, "ms": 30.0}
    other = {"name": "b", "part": "head", "format": "f32", "gmac_s": 2.0, "intensity": 3.0, "ms": 1.0}
    return {"peak": {"f32": 50.0, "bf16": None, "i8": 160.0}, "bandwidth_gb_s": 8.0, "dots": [dot, other], **more}


def test_roofs_and_layers_are_named() -> None:
    svg = roofline_svg(section())
    ElementTree.fromstring(svg)
    assert svg.startswith("<svg") and "layer4" in svg and "copy, 8 GB/s" in svg
    assert "peak of i8, 160 GMAC/s" in svg and "peak of f32, 50 GMAC/s" in svg and "bf16" not in svg
    assert "in i8" in svg and "in f32" in svg


def test_one_layer_is_enough() -> None:
    one = section(dots=section()["dots"][:1], peak={"i8": 160.0})
    assert "in i8" in roofline_svg(one) and "f32" not in roofline_svg(one)


def test_layers_of_a_format_without_a_roof_are_drawn() -> None:
    assert "in f8" not in roofline_svg(section())
    odd = [{**section()["dots"][0], "format": "f8"}]
    assert "in f8" in roofline_svg(section(dots=odd))


@pytest.mark.parametrize("nothing", [{"dots": []}, {"peak": {}}, {"peak": {"f32": None}}, {"bandwidth_gb_s": None}])
def test_nothing_is_drawn_of_nothing(nothing: dict[str, Any]) -> None:
    assert roofline_svg(section(**nothing)) == "" and roofline_png(section(**nothing)) == b""
    assert roofline_svg({}) == ""


def test_the_png_is_a_picture_with_something_on_it() -> None:
    picture = cv2.imdecode(np.frombuffer(roofline_png(section()), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[1] > 800
    assert (picture.max(axis=2) < 250).mean() > 0.005
