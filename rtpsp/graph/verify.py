"""The same frames through two graphs: how far apart are their scores, how often do they name the same class?

ONNX Runtime runs both with its own optimisations off, so that what is compared is the graphs and not its fusions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.errors import BoundNotMet, InputError, MissingError, ModelError
from rtpsp.header import CLASS_MAP, CONFIDENCE, SCORES
from rtpsp.onnx_file import INPUT, OUTPUT, model_bytes
from rtpsp.pooling import bilinear_matrix
from rtpsp.runtimes import import_onnxruntime
from rtpsp.spec import ModelSpec

FloatArray = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]

MAX_ERROR = 1e-4  # FP32 rounding through a hundred layers stays below 1e-5
MIN_AGREEMENT = 0.9999  # a pixel whose two best scores differ by rounding alone may flip
MAX_CONFIDENCE_ERROR = 1  # of 255 steps: a probability between two of them may be rounded either way


@dataclass(frozen=True)
class Outputs:
    """What a graph answered.

    Attributes:
        logits: float32 [frames, classes, H, W], None where the graph gives class ids alone.
        class_map: Class ids, [frames, H, W].
        confidence: uint8 [frames, H, W], 255 times the winning class's probability; None where the graph gives none.
    """

    logits: FloatArray | None
    class_map: npt.NDArray[Any]
    confidence: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Comparison:
    """How far one graph's answers are from another's.

    Attributes:
        max_error_relative: max|a - b| / max|b| over the scores, b being the reference's; None where either graph gives
            class ids alone; infinite where a score is not a number.
        class_agreement: Share of pixels, 0..1, with the same class in both.
        max_confidence_error: Largest difference of a pixel's confidence, in steps of 1/255; None where the other gives
            none, or the reference neither gives one nor has scores.
    """

    max_error_relative: float | None
    class_agreement: float
    max_confidence_error: int | None = None


def sample_frames(spec: ModelSpec, count: int = 2, seed: int = 0) -> Frames:
    """Frames that are natural enough to move every layer: smooth structure, edges and noise; the same every time.

    Args:
        spec: Gives the size.
        count: How many.
        seed: Another seed, other frames.

    Returns:
        uint8 [count, H, W, planes].
    """
    generator = np.random.default_rng(seed)
    height, width, planes = spec.frame_shape
    frames = np.empty((count, *spec.frame_shape), np.uint8)
    for frame in frames:
        smooth = _interpolate(generator.uniform(20, 235, (planes, 7, 9)).astype(np.float32), spec.size)
        blocks = generator.uniform(-60, 60, (planes, 5, 6)).astype(np.float32)
        rows, columns = np.arange(height) * 5 // height, np.arange(width) * 6 // width
        noise = generator.normal(0, 12, (planes, height, width)).astype(np.float32)
        picture = smooth + blocks[:, rows][:, :, columns] + noise
        frame[...] = np.clip(np.rint(picture), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return frames


def to_image(frames: Frames, spec: ModelSpec) -> FloatArray:
    """The definition of the normalisation: ``(x / 255 - mean) / std`` in the spec's channel order.

    Args:
        frames: uint8 [N, H, W, planes].
        spec: Mean, standard deviation and channel order.

    Returns:
        float32 [N, planes, H, W].
    """
    ordered = frames[..., spec.frame_order]
    normal = (ordered / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)


def run(model: ir.Model, spec: ModelSpec, frames: Frames, threads: int = 0) -> Outputs:
    """Answers of a graph at any stage of lowering, by ONNX Runtime on the CPU.

    Args:
        model: Takes ``frames`` or ``image``, gives ``class_map``, with ``confidence`` or without, or ``logits``, or
            ``scores``. Scores smaller than the input are upsampled here as `rtpsp.graph.classmap` does it in the graph.
        spec: Size and normalisation.
        frames: uint8 [n, H, W, planes]; a graph of batch N gets them N at a time, the last one repeated to fill.
        threads: Threads inside an operator; 0 leaves it to ONNX Runtime.

    Raises:
        MissingError: onnxruntime is not installed.
        ModelError: ONNX Runtime refuses the graph.
        InputError: The frames are not of the model's size.
    """
    if frames.dtype != np.uint8 or frames.shape[1:] != spec.frame_shape or not len(frames):
        raise InputError(
            f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 "
            f"[n, {', '.join(map(str, spec.frame_shape))}], n at least 1: resize them to the model's size"
        )
    session = open_session(model, threads)
    entry, names = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    answers = []
    for chunk in _chunks(frames, batch=int(entry.shape[0])):
        value = to_image(chunk, spec) if entry.name == INPUT else chunk
        answers.append(session.run(names, {entry.name: value}))
    whole = (np.concatenate(parts)[: len(frames)] for parts in zip(*answers, strict=True))
    answer = dict(zip(names, whole, strict=True))
    logits = answer.get(OUTPUT, answer.get(SCORES))
    if logits is None:
        return Outputs(None, answer[CLASS_MAP], answer.get(CONFIDENCE))
    if logits.shape[2:] != spec.size:
        logits = _interpolate(logits, spec.size)
    return Outputs(logits, logits.argmax(axis=1))


def to_confidence(logits: FloatArray) -> npt.NDArray[np.uint8]:
    """The definition of the confidence, in float64: 255 times the softmax of the largest score, rounded.

    Args:
        logits: float32 [N, classes, H, W].

    Returns:
        uint8 [N, H, W].
    """
    best = logits.max(axis=1).astype(np.float64)
    total = np.zeros_like(best)
    for label in range(logits.shape[1]):  # one class at a time: in float64 all of them would be a gigabyte
        total += np.exp(logits[:, label] - best)
    confidence: npt.NDArray[np.uint8] = np.rint(255 / total).astype(np.uint8)
    return confidence


def compare(
    before: ir.Model, after: ir.Model, spec: ModelSpec, frames: Frames | None = None, threads: int = 0
) -> Comparison:
    """Runs the same frames through two graphs.

    Args:
        before: The reference.
        after: What is to replace it.
        spec: Of both.
        frames: uint8 [n, H, W, planes]; default `sample_frames`.
        threads: As in `run`.

    Raises:
        MissingError: onnxruntime is not installed.
        ModelError: ONNX Runtime refuses a graph.
        InputError: The frames are not of the model's size.
    """
    frames = sample_frames(spec) if frames is None else frames
    return measure(run(before, spec, frames, threads), run(after, spec, frames, threads))


def measure(reference: Outputs, other: Outputs) -> Comparison:
    """Compares answers to the same frames."""
    error = None
    if reference.logits is not None and other.logits is not None:
        peak = float(np.abs(reference.logits).max())
        gap = float(np.abs(other.logits - reference.logits).max())
        error = 0.0 if gap == 0.0 else gap / peak if peak > 0.0 else np.inf
        error = error if np.isfinite(error) else float("inf")
    agreement = float(np.mean(reference.class_map == other.class_map))
    return Comparison(error, agreement, _confidence_error(reference, other))


def _confidence_error(reference: Outputs, other: Outputs) -> int | None:
    if other.confidence is None:
        return None
    expected = reference.confidence
    if expected is None and reference.logits is not None:
        expected = to_confidence(reference.logits)
    return None if expected is None else int(np.abs(other.confidence.astype(np.int16) - expected).max())


def require(comparison: Comparison, step: str) -> None:
    """Refuses a graph that does not answer as the one it replaces.

    Args:
        comparison: Of the two graphs.
        step: What the error calls the pass.

    Raises:
        BoundNotMet: The relative error is above `MAX_ERROR`, the agreement below `MIN_AGREEMENT`, or a confidence off
            by more than `MAX_CONFIDENCE_ERROR`.
    """
    error, agreement = comparison.max_error_relative, comparison.class_agreement
    if (error is not None and not error <= MAX_ERROR) or not agreement >= MIN_AGREEMENT:
        scores = "" if error is None else f"scores differ by {error:.2g} of the largest (at most {MAX_ERROR:g}), "
        raise BoundNotMet(
            f"{step} changed the model: {scores}class agreement is {agreement:.4%} (at least {MIN_AGREEMENT:.2%}): "
            f"keep the model file and report it"
        )
    if comparison.max_confidence_error is not None and comparison.max_confidence_error > MAX_CONFIDENCE_ERROR:
        raise BoundNotMet(
            f"{step} gives a wrong confidence: off by up to {comparison.max_confidence_error} of 255 steps (at most "
            f"{MAX_CONFIDENCE_ERROR}): build without it and report it"
        )


def open_session(model: ir.Model, threads: int = 0) -> Any:
    """An ONNX Runtime session of a graph on the CPU, which runs it as it is, without its own fusions.

    Args:
        model: Any graph.
        threads: Threads inside an operator; 0 leaves it to ONNX Runtime.

    Raises:
        MissingError: onnxruntime is not installed.
        ModelError: ONNX Runtime refuses the graph.
    """
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise MissingError("running a graph needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors are raised; its warnings about unused constants are not a user's matter
    try:
        return onnxruntime.InferenceSession(model_bytes(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each status code
        raise ModelError(f"ONNX Runtime refuses the graph ({error}): export the model again") from error


def _chunks(frames: Frames, batch: int) -> Iterator[Frames]:
    for start in range(0, len(frames), batch):
        chunk = frames[start : start + batch]
        short = batch - len(chunk)
        yield np.ascontiguousarray(np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)]) if short else chunk)


def _interpolate(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    height, width = values.shape[-2:]
    rows, columns = bilinear_matrix(height, size[0]), bilinear_matrix(width, size[1])
    return np.asarray(rows @ values @ columns.T, np.float32)
