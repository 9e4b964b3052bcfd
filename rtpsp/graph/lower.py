"""Lowering: from the graph of a model file to the one that every backend builds, verified step by step."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from rtpsp.graph.classmap import to_class_map
from rtpsp.graph.fold import fold
from rtpsp.graph.frames import to_frames
from rtpsp.graph.verify import Frames, measure, require, run, sample_frames
from rtpsp.onnx_file import check_model, load_model, model_bytes, model_digest, save_model
from rtpsp.spec import ModelSpec

__all__ = ["load_model", "lower", "model_bytes", "model_digest", "save_model"]


def lower(
    model: ir.Model,
    spec: ModelSpec,
    batch: int = 1,
    *,
    confidence: bool = False,
    verify: bool = True,
    frames: Frames | None = None,
    threads: int = 0,
) -> ir.Model:
    """Frames in, class maps out: fold, then frames, then class map, each compared with the graph it replaces.

    Args:
        model: The graph of a model file; not modified.
        spec: Of the same file.
        batch: N, the frames of one inference.
        confidence: Give the probability of each pixel's class, too; see `rtpsp.graph.classmap`.
        verify: Compare each step; a few inferences by ONNX Runtime.
        frames: uint8 [n, H, W, 3] BGR of the model's size to compare with; default `sample_frames`.
        threads: For ONNX Runtime; 0 leaves it the choice.

    Returns:
        A graph with the input ``frames``, uint8 [N, H, W, 3] BGR, and the output ``class_map``, uint8 [N, H, W] (int32
        above 256 classes); with `confidence` a second output of that name, uint8 [N, H, W] in steps of 1/255.

    Raises:
        ModelError: The graph does not keep the contract of a model file.
        UsageError: `batch` is below 1.
        BoundNotMet: A step changed the answers.
        MissingError: onnxruntime is missing and `verify` is on.
    """
    check_model(model, spec)
    steps: tuple[tuple[str, Callable[[ir.Model], ir.Model]], ...] = (
        ("folding constants", fold),
        ("taking frames", lambda graph: to_frames(graph, spec, batch)),
        ("giving class maps", lambda graph: to_class_map(graph, spec, confidence)),
    )
    if verify and frames is None:
        frames = sample_frames(spec, count=min(batch, 2))  # two tell whether a batch keeps its frames apart
    reference = run(model, spec, frames, threads) if verify and frames is not None else None
    for step, apply in steps:
        model = apply(model)
        if reference is not None and frames is not None:
            answers = run(model, spec, frames, threads)
            require(measure(reference, answers), step)
            reference = answers
    return model
