"""What our kernels compute, in NumPy and by definition: the frame to the model's size, the class map, the picture.

The first is a second definition of `FitPlan.to_model`, in whole numbers and so without rounding but the last one; the
kernels give exactly the same, OpenCV at most one level more or less. The class map is
`rtpsp.upsampling.reference_class_map`; the picture is that of `rtpsp.stream.render`, to one level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.drawing import Drawing, stripes
from rtpsp.fit import FitPlan, no_class, padding_bgr
from rtpsp.labels import LabelSet
from rtpsp.upsampling import Scores, reference_class_map


def resize(image: Image, plan: FitPlan) -> Image:
    """A frame at the model's size: the mean of the area that a pixel covers, or bilinear between half-pixel centres.

    Args:
        image: uint8 [height, width, planes] of the plan's `source_size`.
        plan: How the frame meets the model.

    Returns:
        uint8 [H, W, planes] of the model's size, a new array. Halves are rounded up.
    """
    source, model = plan.source_box, plan.model_box
    weights = _area if plan.averages else _linear
    rows, columns = weights(source.height, model.height), weights(source.width, model.width)
    total = int(rows[0].sum() * columns[0].sum())
    # Products of whole numbers, all below 2**53: as floats they are exact, and BLAS takes them.
    seen = image[source.slices].astype(np.float64)
    summed = np.einsum("yh,hwc->ywc", rows, seen, optimize=True)
    summed = np.einsum("xw,ywc->yxc", columns, summed, optimize=True).astype(np.int64)
    out = np.empty(plan.spec.frame_shape, np.uint8)
    out[:] = padding_bgr(plan.spec)
    out[model.slices] = (2 * summed + total) // (2 * total)
    return out


def class_map(scores: Scores, plan: FitPlan) -> ClassMap:
    """The class map of a frame, at its own size.

    Args:
        scores: float32 [classes, h, w] of the whole input of the model.
        plan: How the frame met the model.

    Returns:
        [height, width] of the plan's `source_size`, of the type that `map_dtype` tells; `no_class` where the model saw
        nothing.
    """
    ids = reference_class_map(scores, plan.grid((scores.shape[1], scores.shape[2])))
    return plan.place(ids.astype(plan.spec.class_dtype)).astype(map_dtype(plan), copy=False)


def map_dtype(plan: FitPlan) -> np.dtype[np.integer]:
    """uint8 or int32: the latter for more than 256 classes, or 256 and pixels that have none."""
    box = plan.source_box
    whole = (box.height, box.width) == plan.source_size
    return np.dtype(plan.spec.class_dtype if whole or no_class(len(plan.spec.labels)) >= 0 else "int32")


def colour_table(labels: LabelSet) -> Image:
    """uint8 [classes, 3] BGR by class id."""
    return np.array(labels.palette, np.uint8)[:, ::-1]


def draw(image: Image, ids: ClassMap, labels: LabelSet, drawing: Drawing) -> Image:
    """A picture of a frame and its class map.

    Args:
        image: uint8 [height, width, 3] BGR.
        ids: [height, width]; what is no class of `labels` is striped.
        labels: Colours of the classes.
        drawing: What to draw.

    Returns:
        uint8 [height, width, 3] BGR, a new array: the class colours, or
        ``image * (1 - alpha) + colours * alpha`` in float32, halves rounded to even.
    """
    known = (ids >= 0) & (ids < len(labels))
    colours: Image = np.where(
        known[..., np.newaxis], colour_table(labels)[np.where(known, ids, 0)], stripes(*ids.shape)
    )
    if drawing.view == "mask":
        return colours
    mixed = image * np.float32(1 - drawing.alpha) + colours * np.float32(drawing.alpha)
    blended: Image = np.rint(mixed).astype(np.uint8)
    return blended


def _area(old: int, new: int) -> NDArray[np.float64]:
    """How much of each old pixel a new one covers, in 1/new of an old pixel: [new, old], rows sum to `old`."""
    at, begin = old * np.arange(new)[:, np.newaxis], new * np.arange(old)
    covered = np.minimum(at + old, begin + new) - np.maximum(at, begin)
    weights: NDArray[np.float64] = np.maximum(covered, 0).astype(np.float64)
    return weights


def _linear(old: int, new: int) -> NDArray[np.float64]:
    """Weights of old pixels at the centres of new ones, in 1/(2 new): [new, old]; beyond an end its pixel repeats."""
    centres = (2 * np.arange(new) + 1) * old - new
    centres = np.clip(centres, 0, 2 * new * (old - 1))[:, np.newaxis]
    distances = np.abs(centres - 2 * new * np.arange(old))
    weights: NDArray[np.float64] = np.maximum(2 * new - distances, 0).astype(np.float64)
    return weights
