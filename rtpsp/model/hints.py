"""What a checkpoint says of its training beside the weights: classes, normalisation, size.

Trainings of rtpsp leave a whole spec. mmsegmentation leaves class names and colours under ``meta`` (``CLASSES`` and
``PALETTE`` up to release 0.30, ``dataset_meta`` from 1.0 on) and its configuration as text (``config``, ``cfg``), from
which single settings are read here; a setting that stands there twice with different values is not taken.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rtpsp.errors import InputError
from rtpsp.labels import LABEL_SETS, LabelSet, distinct_palette
from rtpsp.model.state_file import as_mapping
from rtpsp.spec import ModelSpec

DATASETS = {
    "ADE20KDataset": "ade20k",
    "CityscapesDataset": "cityscapes",
    "PascalVOCDataset": "voc",
}
"""mmsegmentation's data sets whose classes are a published set of ours, in the same order."""


@dataclass(frozen=True)
class Hints:
    """What was found; None for what was not.

    Attributes:
        spec: A whole spec; everything else is None then.
        labels: Class names and colours.
        mean: On the scale that `std` has, 0..1 or 0..255.
        std: See `mean`.
        rgb: Images are turned from BGR to RGB.
        align_corners: Of the decode head.
        strides: Of layer1 to layer4.
        dilations: Of the same.
        size: Height and width of the training's crops.
        threshold: Probability from which a single logit means the second class.
    """

    spec: ModelSpec | None = None
    labels: LabelSet | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rgb: bool | None = None
    align_corners: bool | None = None
    strides: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None
    size: tuple[int, int] | None = None
    threshold: float | None = None


def read_hints(beside: Mapping[str, Any], classes: int) -> Hints:
    """Reads what lies beside a state dict.

    Args:
        beside: By key.
        classes: How many the network has; names of another number are passed over.

    Raises:
        ModelError: There is a spec of rtpsp's that cannot be read.
    """
    own = as_mapping(beside.get("rtpsp")) or {}
    if isinstance(own.get("spec"), str):
        return Hints(spec=ModelSpec.from_json(own["spec"]))
    meta = as_mapping(beside.get("meta")) or {}
    text = next((meta[key] for key in ("cfg", "config") if isinstance(meta.get(key), str)), "")
    rgb = _setting(text, "bgr_to_rgb")
    size = _setting(text, "crop_size")
    threshold = _setting(text, "threshold")
    return Hints(
        labels=_labels(meta, text, classes),
        mean=_numbers(_setting(text, "mean")),
        std=_numbers(_setting(text, "std")),
        rgb=_truth(rgb if rgb is not None else _setting(text, "to_rgb")),
        align_corners=_truth(_setting(text, "align_corners")),
        strides=_whole(_setting(text, "strides"), 4),
        dilations=_whole(_setting(text, "dilations"), 4),
        size=(found[0], found[1]) if (found := _whole(size, 2)) else None,
        threshold=threshold if isinstance(threshold, float) and 0 < threshold < 1 else None,
    )


def _labels(meta: Mapping[Any, Any], text: str, classes: int) -> LabelSet | None:
    told = as_mapping(meta.get("dataset_meta")) or {}
    names = told.get("classes", told.get("CLASSES", meta.get("CLASSES")))
    colours = told.get("palette", told.get("PALETTE", meta.get("PALETTE")))
    known = DATASETS.get(str(_setting(text, "dataset_type")))
    if names is None and known is not None and len(LABEL_SETS[known]) == classes:
        return LABEL_SETS[known]
    if not isinstance(names, list | tuple) or len(names) != classes or not all(isinstance(name, str) for name in names):
        return None
    palette = _palette(colours, classes)
    try:
        return LabelSet("checkpoint", tuple(names), palette or distinct_palette(classes), 255, "the checkpoint's meta")
    except InputError:  # names that no list may have
        return None


def _palette(colours: Any, classes: int) -> tuple[tuple[int, int, int], ...] | None:
    if not isinstance(colours, list | tuple) or len(colours) != classes:
        return None
    rows = [tuple(row) for row in colours if isinstance(row, list | tuple)]
    if len(rows) != classes or not all(len(row) == 3 and all(type(value) is int for value in row) for row in rows):
        return None
    return tuple((row[0], row[1], row[2]) for row in rows) if all(0 <= v <= 255 for r in rows for v in r) else None


def _setting(text: str, name: str) -> Any:
    """The one literal value that a configuration gives a name wherever it does; None where there is none."""
    values = {found.strip() for found in re.findall(rf"\b{name}\s*=\s*(\[[^\]]*\]|\([^)]*\)|'[^']*'|[\w.]+)", text)}
    if len(values) != 1:
        return None
    try:
        return ast.literal_eval(values.pop())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    if isinstance(value, list | tuple) and value and all(type(number) in (int, float) for number in value):
        return tuple(float(number) for number in value)
    return None


def _whole(value: Any, count: int) -> tuple[int, ...] | None:
    if isinstance(value, list | tuple) and len(value) == count and all(type(number) is int for number in value):
        return tuple(value)
    return None
