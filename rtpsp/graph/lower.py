"""Lowering: from the graph of a model file to the one that every backend builds, verified step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import onnx_ir as ir

from rtpsp.graph.classmap import to_class_map, to_scores
from rtpsp.graph.frames import to_frames
from rtpsp.graph.pyramid import split_head
from rtpsp.graph.pyramid_pools import PoolsNotFound, merge_pools
from rtpsp.graph.ranges import canonical
from rtpsp.graph.verify import Frames, Outputs, measure, require, run, sample_frames
from rtpsp.onnx_file import check_model, load_model, model_bytes, model_digest, save_model
from rtpsp.spec import ModelSpec

_log = logging.getLogger(__name__)

__all__ = ["Head", "Tail", "load_model", "lower", "model_bytes", "model_digest", "save_model"]

Head = Literal["plain", "split"]
"""How the pyramid meets the features: as the model has it, or pooled by two products and convolved apart
(`rtpsp.graph.pyramid`)."""

Tail = Literal["graph", "host"]
"""What gives the class map: the graph, or the host from the graph's scores (`rtpsp.upsampling`)."""


def lower(
    model: ir.Model,
    spec: ModelSpec,
    batch: int = 1,
    *,
    head: Head = "plain",
    tail: Tail = "graph",
    confidence: bool = False,
    verify: bool = True,
    frames: Frames | None = None,
    reference: Outputs | None = None,
    threads: int = 0,
) -> ir.Model:
    """Frames in, class maps out: fold, split, frames, class map, each compared with the graph it replaces.

    Args:
        model: The graph of a model file; not modified.
        spec: Of the same file.
        batch: N, the frames of one inference.
        head: Split the pyramid's share off the head's convolution, or leave it.
        tail: With ``host`` the graph ends with its scores.
        confidence: Give the probability of each pixel's class, too; see `rtpsp.graph.classmap`. With the tail ``host``
            nothing needs to be added for it.
        verify: Compare each step; a few inferences by ONNX Runtime.
        frames: uint8 [n, H, W, planes] of the model's size to compare with; default `sample_frames`.
        reference: The model's own answers to these frames, where they are known already.
        threads: For ONNX Runtime; 0 leaves it the choice.

    Returns:
        A graph with the input ``frames``, uint8 [N, H, W, planes], and the output ``class_map``, uint8 [N, H, W] (int32
        above 256 classes); with `confidence` a second output of that name, uint8 [N, H, W] in steps of 1/255. With the
        tail ``host`` the output is ``scores`` alone, float32 [N, classes, h, w].

    Raises:
        ModelError: The graph does not keep the contract of a model file, or is quantised already.
        HeadNotFound: There is no head to split.
        UsageError: `batch` is below 1.
        BoundNotMet: A step changed the answers.
        MissingError: onnxruntime is missing and `verify` is on.
    """
    check_model(model, spec)
    steps: list[tuple[str, Callable[[ir.Model], ir.Model]]] = [
        ("folding constants", canonical),
        ("taking frames", lambda graph: to_frames(graph, spec, batch)),
        ("giving class maps", lambda graph: to_class_map(graph, spec, confidence)),
    ]
    if head == "split":
        steps[1:1] = [("merging the pools", _merged), ("splitting the head", split_head)]
    if tail == "host":
        steps[-1] = ("giving scores", lambda graph: to_scores(graph, spec))
    if verify and frames is None:
        frames = sample_frames(spec, count=min(batch, 2))  # two tell whether a batch keeps its frames apart
    if reference is None and verify and frames is not None:
        reference = run(model, spec, frames, threads)
    for step, apply in steps:
        model = apply(model)
        if reference is not None and frames is not None:
            answers = run(model, spec, frames, threads)
            require(measure(reference, answers), step)
            reference = answers
    return model


def _merged(graph: ir.Model) -> ir.Model:
    """The pyramid's pooling as two products, whatever it was; where it is something else, the head is split without."""
    try:
        return merge_pools(graph)
    except PoolsNotFound as error:
        _log.info("%s", error)
        return graph
