"""A data set that colour alone tells apart, drawn, and what trains on it in a test: red and blue boxes on grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.labels import LabelSet, to_label_list
from rtpsp.spec import ModelSpec

SHAPES = LabelSet("shapes", ("red", "blue", "grey"), ((220, 20, 20), (20, 20, 220), (110, 110, 110)), 255)
SIZE = (64, 96)
SPEC = ModelSpec("shapes", "pspnet18", *SIZE, SHAPES)


class Shape(NamedTuple):
    """A labelled image in memory; what `rtpsp.model.batches.Labelled` asks for."""

    name: str
    image: Image
    truth: ClassMap


class Drawn:
    """A training set in memory, in another order each epoch."""

    def __init__(self, count: int) -> None:
        self.samples = [draw(seed) for seed in range(count)]

    def epoch(self, number: int) -> Sequence[Shape]:
        order = np.random.default_rng(number).permutation(len(self.samples))
        return [self.samples[place] for place in order]


def draw(seed: int, size: tuple[int, int] = SIZE) -> Shape:
    """One image of the palette's colours, with a strip of void."""
    random = np.random.default_rng(seed)
    height, width = size
    truth = np.full(size, 2, np.uint8)
    for value in (0, 1):
        top, left = random.integers(0, height // 2), random.integers(0, width // 2)
        truth[top : top + height // 3, left : left + width // 3] = value
    truth[-height // 8 :, : width // 4] = 255
    colours = np.zeros((256, 3), np.uint8)
    colours[:3] = np.array(SHAPES.palette)[:, ::-1]
    return Shape(f"{seed:02d}.png", colours[truth], truth)


def save_shapes(folder: Path, parts: Mapping[str, int], size: tuple[int, int] = SIZE) -> Path:
    """Files of such images in CamVid's layout, and ``shapes.txt``, which lists the classes."""
    seed = 0
    for part, count in parts.items():
        for inner in (part, f"{part}annot"):
            (folder / inner).mkdir(parents=True)
        for _ in range(count):
            shape = draw(seed, size)
            cv2.imwrite(str(folder / part / shape.name), shape.image)
            cv2.imwrite(str(folder / f"{part}annot" / shape.name), shape.truth)
            seed += 1
    (folder / "shapes.txt").write_text(to_label_list(SHAPES, header=True))
    return folder


def narrowed() -> Any:
    """PSPNet-18 at an eighth of its width: a 64th of the work."""
    from rtpsp.model.pspnet import ARCHS

    return ARCHS["pspnet18"] if ARCHS["pspnet18"].width == 8 else ARCHS["pspnet18"].narrowed(8)


def spec(**changes: Any) -> ModelSpec:
    """The spec of a model of these classes."""
    return replace(SPEC, **changes)
