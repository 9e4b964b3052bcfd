"""What a training step sees of a labelled image: scaled, cut, mirrored and tinted at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.fit import Box, padding_bgr, plan_fit
from rtpsp.model.train_options import TrainOptions
from rtpsp.spec import ModelSpec

IGNORED = -100  # PyTorch's own id for pixels that no loss counts

# Strengths at colour = 1, as factors or shifts around none. Brightness, contrast and saturation as in the recipes of
# torchvision's references; hue in degrees.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.5, 0.5, 0.5, 18.0
_BLURRED = 0.4  # share of images at colour = 1
_BLUR_SIGMA = 1.2  # pixels, at most
_WEIGHTS_OF_GREY = np.array([0.114, 0.587, 0.299], np.float32)  # BT.601, B G R


@dataclass(frozen=True)
class View:
    """What a cut shows.

    Attributes:
        box: The part of the model's input that shows the image.
        size: Height and width in pixels to which that part was scaled.
        offset: Row and column of it at which the cut begins; negative where the cut reaches beyond.
        mirrored: Whether left and right changed places, after the cut.
    """

    box: Box
    size: tuple[int, int]
    offset: tuple[int, int]
    mirrored: bool


class Cut(NamedTuple):
    """What a training step sees of one image.

    Attributes:
        image: uint8 [h, w, planes].
        truth: int64 [h, w] class ids, with `IGNORED` where nothing counts.
        view: Where it is from.
    """

    image: Image
    truth: NDArray[np.int64]
    view: View


@dataclass(frozen=True)
class Augmentation:
    """Cuts of one size from images of any, at the scale at which the model will see them, times a random factor.

    The model's `fit` decides which part of an image counts and how large it is (`rtpsp.fit`), so that training and
    inference see things at one scale. A cut that reaches beyond is padded with the mean colour, which counts nowhere.

    Attributes:
        spec: The model.
        options: Ranges and strengths.
    """

    spec: ModelSpec
    options: TrainOptions

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of a cut."""
        return self.options.crop or self.spec.size

    def __call__(self, image: Image, truth: ClassMap, rng: np.random.Generator) -> Cut:
        """One cut.

        Args:
            image: uint8 [H, W, planes].
            truth: [H, W] class ids; may hold the label set's ignored id.
            rng: What it draws from: the same state gives the same cut.
        """
        plan = plan_fit((image.shape[0], image.shape[1]), self.spec)
        least, most = np.log(self.options.scale)
        factor = float(np.exp(rng.uniform(least, most)))
        height = max(1, round(plan.model_box.height * factor))
        width = max(1, round(plan.model_box.width * factor))
        top, left = (_offset(rng, seen, cut) for seen, cut in zip((height, width), self.crop, strict=True))
        view = View(plan.model_box, (height, width), (top, left), bool(rng.random() < self.options.flip))
        seen_image, seen_truth = image[plan.source_box.slices], truth[plan.source_box.slices]
        shrinks = height <= seen_truth.shape[0] and width <= seen_truth.shape[1]
        kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        scaled = cv2.resize(seen_image, (width, height), interpolation=kind).reshape(height, width, image.shape[2])
        ids = cv2.resize(seen_truth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        cut = np.empty((*self.crop, image.shape[2]), np.uint8)
        cut[:] = padding_bgr(self.spec)
        labels = np.full(self.crop, IGNORED, np.int64)
        target, seen = _overlap((top, left), self.crop, (height, width))
        cut[target] = scaled[seen]
        part = ids[seen].astype(np.int64)
        if self.spec.labels.ignore is not None:
            part[part == self.spec.labels.ignore] = IGNORED
        labels[target] = part
        if view.mirrored:
            cut, labels = cut[:, ::-1], labels[:, ::-1]
        if self.options.colour:
            cut = tint(np.ascontiguousarray(cut), self.options.colour, rng)
        return Cut(np.ascontiguousarray(cut), np.ascontiguousarray(labels), view)

    def no_answer(self, cell: int) -> NDArray[np.uint8]:
        """What `follow` gives where nobody was asked: 0 throughout."""
        rows, columns = (-(-side // cell) for side in self.crop)
        return np.zeros((rows, columns, len(self.spec.labels)), np.uint8)

    def follow(self, view: View, answer: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
        """An answer about the model's whole input, as a cut shows it.

        Args:
            view: The cut's.
            answer: uint8 [h, w, classes] of `cell` pixels of the input a side.
            cell: Of the result too, in pixels of the cut.

        Returns:
            uint8 [rows, columns, classes], linearly interpolated; 0 throughout where the cut shows no image.
        """
        rows, columns = (-(-side // cell) for side in self.crop)
        box = view.box
        # from the centre of a cell of the cut to that place in cells of the answer, per axis: a * x + b
        (ay, by), (ax, bx) = (
            (side / seen, ((0.5 * cell + offset) * side / seen + start) / cell - 0.5)
            for side, seen, offset, start in zip(
                (box.height, box.width), view.size, view.offset, (box.top, box.left), strict=True
            )
        )
        if view.mirrored:
            ax, bx = -ax, bx + ax * (self.crop[1] / cell - 1)
        back = np.array([[ax, 0, bx], [0, ay, by]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        parts = [  # OpenCV warps up to four planes at once
            cv2.warpAffine(
                np.ascontiguousarray(answer[..., first : first + 4]), back, (columns, rows), flags=how,
                borderMode=cv2.BORDER_REPLICATE,
            ).reshape(rows, columns, -1)
            for first in range(0, answer.shape[2], 4)
        ]  # fmt: skip
        seen = np.concatenate(parts, axis=2)
        for axis, (a, b, start, side) in enumerate(((ay, by, box.top, box.height), (ax, bx, box.left, box.width))):
            places = (a * np.arange(seen.shape[axis]) + b + 0.5) * cell
            outside = (places < start) | (places > start + side)
            seen[(outside, slice(None)) if axis == 0 else (slice(None), outside)] = 0
        return np.asarray(seen, np.uint8)


def tint(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Another light on the same scene: brightness, contrast, saturation, hue, and now and then a blur.

    Args:
        image: uint8 [H, W, planes]; a fourth plane keeps its values, but is blurred with the others.
        strength: 0 for none, 1 for the most.
        rng: What it draws from.
    """
    brightness, contrast, saturation = (
        1 + strength * rng.uniform(-most, most) for most in (_BRIGHTNESS, _CONTRAST, _SATURATION)
    )
    turn = strength * rng.uniform(-_HUE, _HUE)
    blurred, sigma = rng.random() < strength * _BLURRED, rng.uniform(0.3, _BLUR_SIGMA)
    planes = image.shape[2]
    colour: NDArray[np.float32] = image[..., : min(planes, 3)].astype(np.float32)
    colour *= brightness
    mean = float(colour.mean())
    colour = (colour - mean) * contrast + mean
    if planes >= 3:
        grey = colour @ _WEIGHTS_OF_GREY
        chroma = (colour - grey[..., np.newaxis]) * saturation
        colour = (grey[..., np.newaxis] + chroma @ _hue_turn(turn).T).astype(np.float32)
    tinted = np.concatenate([np.clip(np.rint(colour), 0, 255).astype(np.uint8), image[..., 3:]], axis=2)
    if blurred:
        tinted = cv2.GaussianBlur(tinted, (0, 0), sigma).reshape(image.shape)
    return tinted


def _hue_turn(degrees: float) -> NDArray[np.float32]:
    """A rotation of B, G, R around the grey axis (Rodrigues' formula)."""
    angle = np.deg2rad(degrees)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
    turned: NDArray[np.float32] = turn.astype(np.float32)
    return turned


def _offset(rng: np.random.Generator, seen: int, cut: int) -> int:
    """Where a cut begins, in pixels of what is seen; negative where the cut is the larger one."""
    least, most = sorted((0, seen - cut))
    return int(rng.integers(least, most + 1))


def _overlap(
    offset: tuple[int, int], cut: tuple[int, int], seen: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the cut and what is seen share pixels: as slices of the cut, and of what is seen."""
    inside, outside = [], []
    for at, side, size in zip(offset, cut, seen, strict=True):
        first, last = max(at, 0), min(at + side, size)
        inside.append(slice(first - at, last - at))
        outside.append(slice(first, last))
    return (inside[0], inside[1]), (outside[0], outside[1])
