"""A wrong result cannot be fast: whoever is timed first has to answer as the model does in FP32.

The reference is the model's own graph, before any pass of ours, run by ONNX Runtime with its optimisations off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtpsp import zoo
from rtpsp.arrays import ClassMap, Image
from rtpsp.engine.file import EngineFile, read_engine_file
from rtpsp.engine.table import BACKENDS
from rtpsp.errors import BoundNotMet, ModelError
from rtpsp.files import sha256_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.spec import ModelSpec

LEAST = {"fp32": 99.5, "fp16": 97.0, "bf16": 97.0, "int8": 90.0}
"""Percent of pixels on which an engine of a trained model has to answer as FP32 does.

It tells a broken engine from a coarse one, not a good one from a better: what a precision costs in accuracy, labels
say. The pixels that coarse formats move lie on borders between classes.
"""
LEAST_UNTRAINED = {"fp32": 99.0, "fp16": 80.0, "bf16": 80.0, "int8": 50.0}
"""Of random weights, whose best two scores are close everywhere; by chance two maps of eleven classes agree on 9 %."""
MODEL = "the model in FP32, by ONNX Runtime"
OWN_GRAPH = "the engine's own graph, by ONNX Runtime"
FRAMES = 3
"""Frames that are compared: ONNX Runtime takes seconds for each of a large model, half a million pixels."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the right answers are.

    Attributes:
        words: Who gave them, `MODEL` or `OWN_GRAPH`.
        answers: Class ids [H, W] of the model's size, one a frame.
    """

    words: str
    answers: tuple[ClassMap, ...]


def check_truth(
    name: str, answers: Sequence[ClassMap], reference: Sequence[ClassMap], *, precision: str, trained: bool = True
) -> float:
    """Class agreement with the reference, over all frames, in percent.

    Args:
        name: What an error calls the one that answered.
        answers: Class ids [H, W], one a frame.
        reference: The FP32 reference's, of the same frames and sizes.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``: what can be expected.
        trained: False for random weights.

    Raises:
        BoundNotMet: Less than can be expected: whoever gives other answers is not to be timed.
    """
    same = pixels = 0
    for answer, right in zip(answers, reference, strict=True):
        if answer.shape != right.shape:
            raise BoundNotMet(
                f"{name} answers with a class map of {list(answer.shape)}, expected {list(right.shape)} as FP32 gives: "
                "it is not timed"
            )
        same += int(np.count_nonzero(answer == right))
        pixels += right.size
    agreement = 100 * same / pixels
    least = (LEAST if trained else LEAST_UNTRAINED)[precision]
    if agreement < least:
        raise BoundNotMet(
            f"{name} answers like FP32 on {agreement:.1f} % of pixels, expected at least {least:g} %: it is not timed; "
            "build it again, and see where they differ with rtpsp compare"
        )
    return agreement


def reference_answers(model: Path | ir.Model, batches: Sequence[Image], threads: int = 0) -> list[ClassMap]:
    """The FP32 reference of a model file.

    Args:
        model: With its spec inside.
        batches: uint8 [N, H, W, planes] of the model's size; the first frame of each is asked.
        threads: 0 leaves it to ONNX Runtime.

    Raises:
        ModelError: It is no model file.
        MissingError: onnxruntime is not installed.
    """
    from rtpsp.onnx_file import load_model
    from rtpsp.spec import SPEC_KEY, ModelSpec

    if isinstance(model, Path):
        graph, spec = load_model(model)
    else:
        graph, spec = model, ModelSpec.from_json(model.metadata_props[SPEC_KEY])
    return _answers(graph, spec, batches, threads)


def reference_of(path: Path, batches: Sequence[Image], threads: int = 0) -> Reference | None:
    """The FP32 reference of an engine file: its model where that is found, else the graph inside the engine.

    A model is found if it is the shipped one, or lies beside the engine, or in this folder, under the name and with the
    digest that the engine's header has. Of the graph inside, INT8's rounding is a part already: then it is told whether
    the runtime runs it rightly, and no more.

    Args:
        path: The engine file.
        batches: As `reference_answers`.
        threads: 0 leaves it to ONNX Runtime.

    Returns:
        None for a plan, whose graph nobody else can run, without its model.

    Raises:
        RtpspError: The engine file cannot be read, or the model not be run.
    """
    file = read_engine_file(path)
    model = model_of(file)
    if model is not None:
        return Reference(MODEL, tuple(reference_answers(model, batches, threads)))
    backend = BACKENDS.get(file.header.backend)
    if backend is None or backend.plan:
        return None
    answers = _answers(_graph_of(file), file.header.spec, batches, threads)
    return Reference(OWN_GRAPH, tuple(answers))


def model_of(file: EngineFile) -> Path | None:
    """The model file that an engine was built from; None where it is not found."""
    header = file.header
    if header.model_digest == zoo.model_digest():
        return zoo.model_path()
    name = Path(str(header.options.get("model", ""))).name
    candidates = [file.path.parent / name, Path(name)] if name else []
    return next((path for path in candidates if path.is_file() and sha256_of(path) == header.model_digest), None)


def _graph_of(file: EngineFile) -> ir.Model:
    import onnx
    import onnx_ir as ir

    try:
        graph: ir.Model = ir.from_proto(onnx.ModelProto.FromString(file.payload()))
    except Exception as error:  # protobuf's and onnx_ir's kinds
        raise ModelError(f"{file.path}: its payload is no ONNX graph ({error}): build the engine again") from error
    return graph


def _answers(graph: ir.Model, spec: ModelSpec, batches: Sequence[Image], threads: int) -> list[ClassMap]:
    """Frame by frame: the scores of several at once, of a hundred classes, would be gigabytes."""
    from rtpsp.graph.verify import run

    return [run(graph, spec, batch[:1], threads).class_map[0] for batch in batches]
