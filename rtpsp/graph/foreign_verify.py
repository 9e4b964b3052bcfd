"""Holds the form of a model file against the foreign file that it was made of, each fed as it wants to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.errors import BoundNotMet
from rtpsp.graph.foreign import ForeignGraph
from rtpsp.graph.foreign_input import MAX_BYTE
from rtpsp.graph.foreign_logits import LEAST_OF_TWO
from rtpsp.graph.verify import Comparison, Frames, Outputs, measure, open_session, require, to_image
from rtpsp.onnx_file import INPUT, OUTPUT
from rtpsp.spec import ModelSpec

FloatArray = npt.NDArray[np.float32]

MIN_HALF_AGREEMENT = 0.9
"""Least class agreement with an original that computes in FP16: its own rounding moves pixels, on borders above all."""


def verify(original: ir.Model, foreign: ForeignGraph, spec: ModelSpec, brightest: float, frames: Frames) -> Comparison:
    """Runs the same frames through the original and through what was made of it.

    Args:
        original: As it was read.
        foreign: What `rtpsp.graph.foreign.adapt_graph` made of it.
        spec: Of the latter.
        brightest: What the original takes for the byte 255 where it normalises by itself: 1 or 255.
        frames: uint8 [n, H, W, planes] as the engine takes them.

    Returns:
        Relative error of what the original answers, where that is scores or probabilities and it computes in FP32, and
        agreement of the classes, both in the original's cells.

    Raises:
        BoundNotMet: They differ by more than rounding.
        ModelError: ONNX Runtime refuses one of them.
        MissingError: onnxruntime is not installed.
    """
    original = original.clone()
    for value in original.graph.inputs:
        if value.name == foreign.entry.name:
            value.shape = ir.Shape(foreign.entry.shape(foreign.size))
    for value in original.graph.outputs:
        value.shape = None
    theirs, ours = open_session(original), open_session(foreign.model)
    references: list[Outputs] = []
    others: list[Outputs] = []
    for frame in frames:
        image = to_image(frame[None], spec)
        fed = {foreign.entry.name: _fed(frame, image, foreign, spec, brightest)}
        reference = _read(theirs.run([foreign.answer.output], fed)[0], foreign)
        logits = ours.run([OUTPUT], {INPUT: image})[0]
        found = Outputs(_as_told(logits, foreign), logits.argmax(axis=1))
        references.append(_settled(reference, found))
        others.append(found)
    comparison = measure(_joined(references), _joined(others))
    if not foreign.half:
        require(comparison, "taking the model over")
        return comparison
    if not comparison.class_agreement >= MIN_HALF_AGREEMENT:
        raise BoundNotMet(
            f"in FP32 the model agrees with its FP16 original on {comparison.class_agreement:.2%} of the pixels, "
            f"expected {MIN_HALF_AGREEMENT:.0%} or more: export it in FP32"
        )
    return replace(comparison, max_error_relative=None)


def _fed(frame: Frames, image: FloatArray, foreign: ForeignGraph, spec: ModelSpec, brightest: float) -> Any:
    """A frame as the original takes it."""
    entry, order = foreign.entry, foreign.preprocessing.order
    if entry.dtype == "uint8" or foreign.preprocessing.normalises:
        image = np.moveaxis(frame[..., list(spec.frame_order)], 2, 0)[None].astype(np.float32) * (brightest / MAX_BYTE)
    taken = image[:, list(np.argsort(order))]
    if entry.layout == "NHWC":
        taken = np.moveaxis(taken, 1, 3)
    return np.ascontiguousarray(taken, entry.dtype)


def _read(answer: npt.NDArray[Any], foreign: ForeignGraph) -> Outputs:
    """The original's answer: its classes, and its values as float32 [1, channels, h, w] unless it is class ids."""
    kind, cells, channels = foreign.answer.kind, foreign.answer.cells, foreign.channels
    if kind in ("class map", "threshold"):
        return Outputs(None, answer.reshape(1, *cells).astype(np.int64))
    values = np.asarray(answer, np.float32)
    values = values[None] if values.ndim == 3 else values
    values = values if values.shape[1:] == (channels, *cells) else np.moveaxis(values, 3, 1)
    if channels > 1:
        return Outputs(values, values.argmax(axis=1))
    classes = (values[:, 0] > (0.5 if kind == "sigmoid" else 0.0)).astype(np.int64)
    return Outputs(values.clip(LEAST_OF_TWO, 1 - LEAST_OF_TWO) if foreign.answer.activation else values, classes)


def _settled(reference: Outputs, found: Outputs) -> Outputs:
    """A tie of the original's for a class of ours is no disagreement: a sigmoid of float32 is 1 from 17 on."""
    values = reference.logits
    if values is None or values.shape[1] == 1:
        return reference
    at_ours = np.take_along_axis(values, found.class_map[:, None], axis=1)[:, 0]
    return Outputs(values, np.where(at_ours == values.max(axis=1), found.class_map, reference.class_map))


def _as_told(logits: FloatArray, foreign: ForeignGraph) -> FloatArray | None:
    """Logits as what the original gives: probabilities, or one score instead of two."""
    kind = foreign.answer.kind
    if kind in ("class map", "threshold"):
        return None
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    found: npt.NDArray[Any] = logits
    if foreign.channels == 1:
        found = shares[:, 1:] if kind == "sigmoid" else logits[:, 1:] - logits[:, :1]
    elif kind == "softmax":
        found = shares
    elif kind == "log-softmax":
        found = np.log(shares)
    elif kind == "sigmoid":
        found = logits if foreign.answer.activation else 1 / (1 + np.exp(-logits.astype(np.float64)))
    return found.astype(np.float32)


def _joined(outputs: list[Outputs]) -> Outputs:
    logits = [one.logits for one in outputs if one.logits is not None]
    return Outputs(np.concatenate(logits) if logits else None, np.concatenate([one.class_map for one in outputs]))
