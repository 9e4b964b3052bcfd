"""From a frame and its class map to a picture: overlay, mask, side by side; legend and head-up display on top.

What pictures are made of stands in `rtpsp.drawing`: a device can draw them as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.drawing import Drawing, check_alpha, row_height, stripes
from rtpsp.labels import LabelSet
from rtpsp.planes import to_planes
from rtpsp.stream.frame import Drawn, View

LEGEND_CLASSES = 24
"""Up to so many classes the legend lists them all; of larger sets it lists the ones that fill most of the picture."""
LEGEND_LARGEST = 12

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT = 22.0
"""Pixels that a capital of `_FONT` measures at scale 1."""
_PANEL_OPACITY = 0.65
_WHITE = (255, 255, 255)

_Colour: TypeAlias = tuple[int, int, int] | None
"""BGR; None stands for stripes."""


@dataclass(frozen=True)
class RenderOptions:
    """How pictures are drawn.

    Attributes:
        alpha: Share of the class colour in an overlay, 0..1.
        legend: Names and colours of the classes in a corner.
        hud: Rate, age and drops in another corner.
        unknown: The legend has an entry for pixels without a class, which are drawn alike with it and without. A run
            sets it where there can be any: with a least confidence, or where the model sees a part of the frame.
    """

    alpha: float = 0.5
    legend: bool = False
    hud: bool = False
    unknown: bool = False

    def __post_init__(self) -> None:
        check_alpha(self.alpha)


class Renderer:
    """Draws pictures for one label set. It keeps what does not change between frames, and no frame.

    Args:
        labels: Names and colours.
        options: How to draw.
    """

    def __init__(self, labels: LabelSet, options: RenderOptions | None = None) -> None:
        self.labels = labels
        self.options = options or RenderOptions()
        self._colours = _colour_table(labels)

    def to_drawing(self, views: Collection[View]) -> Drawing | None:
        """What a device had best draw for these views: the overlay, which is the most work, else the mask.

        Returns:
            None where no view is made of it.
        """
        if "overlay" in views or "side-by-side" in views:
            return Drawing("overlay", self.options.alpha)
        return Drawing("mask", self.options.alpha) if "mask" in views else None

    def draw_all(
        self, views: Collection[View], image: Image, class_map: ClassMap, status: str = "", drawn: Drawn | None = None
    ) -> dict[View, Image]:
        """A picture for each view; see `draw`. The caller owns them all, and none shares memory with another."""
        image = to_planes(image, 3)  # once for all of them
        # Side by side first: it copies what the device drew, which then becomes the other picture, panels and all.
        first = sorted(views, key=lambda view: view != "side-by-side")
        return {view: self.draw(view, image, class_map, status, drawn) for view in first}

    def draw(
        self, view: View, image: Image, class_map: ClassMap, status: str = "", drawn: Drawn | None = None
    ) -> Image:
        """One picture.

        Args:
            view: What to show.
            image: uint8 [H, W, 3] BGR, or grey or BGRX, whose colours are drawn over; not changed.
            class_map: Class ids [H, W]; an id that is no class of the set is unknown.
            status: Text of the head-up display.
            drawn: What the device drew of the same frame: it is used where it shows what is asked for.

        Returns:
            uint8 [H, W, 3] BGR, twice as wide for ``side-by-side``; the caller owns it. It may be the picture of
            `drawn`, with legend and display written into it.
        """
        picture = self._plain(view, to_planes(image, 3), class_map, drawn)
        if self.options.legend and view != "frame":
            _blend_panel(picture, self._legend(class_map, image.shape[0]), bottom=True)
        if self.options.hud and status:
            _blend_panel(picture, _text_panel((status,), (), row_height(image.shape[0])), bottom=False)
        return picture

    def _plain(self, view: View, image: Image, class_map: ClassMap, drawn: Drawn | None) -> Image:
        if view == "frame":
            return image.copy()
        if drawn is not None and drawn.drawing == self.to_drawing((view,)):
            picture = drawn.picture
        else:
            picture = self.to_colours(class_map)
            if view != "mask":
                alpha = self.options.alpha
                picture = np.asarray(cv2.addWeighted(image, 1 - alpha, picture, alpha, 0, dst=picture), np.uint8)
        return np.concatenate([image, picture], axis=1) if view == "side-by-side" else picture

    def to_colours(self, class_map: ClassMap) -> Image:
        """Class ids [H, W] as the palette's colours, uint8 [H, W, 3] BGR; stripes where the id is no class."""
        count = len(self.labels)
        if class_map.dtype == np.uint8:
            colours = np.asarray(cv2.applyColorMap(class_map, self._colours[:256]), np.uint8)
            unknown = class_map > count - 1
        else:
            known = np.where((class_map >= 0) & (class_map < count), class_map, count)
            colours = self._colours[known, 0]
            unknown = known == count
        if unknown.any():
            cv2.copyTo(stripes(*class_map.shape), unknown.view(np.uint8), dst=colours)
        return colours

    def _legend(self, class_map: ClassMap, height: int) -> _Panel:
        ids = range(len(self.labels))
        if len(self.labels) > LEGEND_CLASSES:
            areas = np.bincount(class_map[class_map >= 0].ravel(), minlength=len(self.labels))[: len(self.labels)]
            ids = np.argsort(-areas, kind="stable")[:LEGEND_LARGEST].tolist()
        names = tuple(self.labels.names[label] for label in ids)
        colours: tuple[_Colour, ...] = tuple(self.labels.palette[label][::-1] for label in ids)
        if self.options.unknown:
            names, colours = (*names, "unknown"), (*colours, None)
        return _text_panel(names, colours, row_height(height))


@dataclass(frozen=True)
class _Panel:
    """What is laid over a picture: uint8 [h, w, 3] BGR, and bool [h, w] where it hides the picture altogether."""

    image: Image
    solid: NDArray[np.bool_]


def _colour_table(labels: LabelSet) -> Image:
    """uint8 [n, 1, 3] BGR by class id, as OpenCV's colour maps are shaped."""
    table = np.zeros((max(256, len(labels) + 1), 1, 3), np.uint8)
    table[: len(labels), 0] = np.array(labels.palette, np.uint8)[:, ::-1]
    return table


@lru_cache(maxsize=16)
def _text_panel(lines: tuple[str, ...], colours: tuple[_Colour, ...], row: int) -> _Panel:
    """Lines of text on black, a swatch before each where colours are given."""
    scale = 0.55 * row / _CAP_HEIGHT
    margin = row // 3
    indent = margin + (round(1.6 * row) if colours else 0)
    width = indent + margin + max(cv2.getTextSize(line, _FONT, scale, 1)[0][0] for line in lines)
    panel: Image = np.zeros((row * len(lines) + 2 * margin, width, 3), np.uint8)
    solid = np.zeros(panel.shape[:2], np.bool_)
    for position, line in enumerate(lines):
        top = margin + position * row
        if colours:
            swatch = (slice(top + row // 8, top + row - row // 8), slice(margin, margin + round(1.2 * row)))
            colour = colours[position]
            panel[swatch] = stripes(*panel.shape[:2])[swatch] if colour is None else colour
            solid[swatch] = True
        baseline = top + round((row + scale * _CAP_HEIGHT) / 2)
        cv2.putText(panel, line, (indent, baseline), _FONT, scale, _WHITE, 1, cv2.LINE_AA)
    return _Panel(panel, solid)


def _blend_panel(picture: Image, panel: _Panel, bottom: bool) -> None:
    """Lay a panel over the left edge of a picture, in place; what does not fit is cut off."""
    margin = row_height(picture.shape[0]) // 2
    height = min(panel.image.shape[0], picture.shape[0] - 2 * margin)
    width = min(panel.image.shape[1], picture.shape[1] - 2 * margin)
    if height < 1 or width < 1:
        return
    top = picture.shape[0] - margin - height if bottom else margin
    place = picture[top : top + height, margin : margin + width]
    image, solid = panel.image[:height, :width], panel.solid[:height, :width]
    cv2.addWeighted(place, 1 - _PANEL_OPACITY, image, _PANEL_OPACITY, 0, dst=place)
    place[solid] = image[solid]
