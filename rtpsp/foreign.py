"""Models that rtpsp did not export: an ONNX file, and what its owner says of it, become a model of ours.

What can be told from the graph is told from it. What cannot, is taken from the owner, or where nearly all models are
alike, assumed; `Adapted.told` says which is which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rtpsp.errors import BoundNotMet, ModelError, RtpspError, UsageError
from rtpsp.foreign_values import Normalisation, channels_of, in_graph, said
from rtpsp.labels import LABEL_SETS, LabelSet, check_count
from rtpsp.spec import SPEC_KEY, Fit, ModelSpec, Resize

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.graph.foreign import ForeignGraph
    from rtpsp.graph.verify import Comparison

FLAGS = {"order": "--rgb or --bgr", "output": "--output-tensor"}
"""Names of options that are not called as their fields are."""


@dataclass(frozen=True)
class Given:
    """What its owner says of a foreign model; None where nothing is said.

    Attributes:
        labels: Its classes in id order.
        mean: One value a plane, on 0..1 or on 0..255, in the order of the file's planes.
        std: As many, on the same scale.
        order: Order of the colours that the file takes, ``rgb`` or ``bgr``.
        size: Height and width of the input in pixels.
        fit: As in `ModelSpec`.
        resize: As in `ModelSpec`.
        name: Short name; default the file's stem.
        licence: Licence of the weights in one line.
        output: Name of the output to take.
    """

    labels: LabelSet | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    order: Literal["rgb", "bgr"] | None = None
    size: tuple[int, int] | None = None
    fit: Fit | None = None
    resize: Resize | None = None
    name: str | None = None
    licence: str | None = None
    output: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """What was said, by the options that say it."""
        return tuple(
            FLAGS.get(one.name, f"--{one.name}") for one in fields(self) if getattr(self, one.name) is not None
        )


@dataclass(frozen=True)
class Adapted:
    """A foreign model in the form of a model file.

    Attributes:
        path: The foreign file.
        graph: One input ``image``, one output ``logits``, all sizes static; compared with the original.
        spec: What it says of itself.
        told: What was found, what was said and what was assumed: the file, and below it a line each.
    """

    path: Path
    graph: ir.Model
    spec: ModelSpec
    told: str


def brings_spec(path: Path) -> bool:
    """Whether a file holds the spec's key, without a parse of its graph; True also of one that cannot be read."""
    try:
        return SPEC_KEY.encode() in path.read_bytes()
    except (OSError, ValueError):
        return True


def adapt(path: Path, given: Given, *also: str | None) -> Adapted:
    """Brings a foreign model into the form of a model file, and holds it against the original by ONNX Runtime.

    Args:
        path: An ONNX file of a segmenter: one image in, as NCHW or NHWC, float or bytes; scores, probabilities or class
            ids out, of the image's size or smaller.
        given: What is known of it.
        also: Further options that are for such models alone, for the error where this is none.

    Raises:
        UsageError: Something that has to be said was not, or contradicts the file; or the file brings its own spec.
        ModelError: Not such a model, or of other classes than the labels.
        BoundNotMet: What was made of it does not answer as the original does.
        MissingError: onnxruntime is not installed.
    """
    from rtpsp.foreign_told import tell
    from rtpsp.graph.foreign import adapt_graph
    from rtpsp.onnx_file import check_model, read_graph

    original = read_graph(path)
    if SPEC_KEY in original.metadata_props:
        asked = ", ".join(filter(None, (*given.flags, *also)))
        raise UsageError(
            f"{path} brings its own spec, which says all of that ('rtpsp inspect' shows it), and {asked or 'another'} "
            f"is for models without one: leave it out, or export the model again"
        )
    try:
        classes = None if given.labels is None else len(given.labels)
        foreign = adapt_graph(original, given.size, classes, given.output)
        if given.labels is None:
            raise ModelError(_ask_for_labels(foreign.classes))
        check_count(given.labels, foreign.classes)
        normalisation = _normalisation(foreign, given)
        spec = _spec(path, foreign, given, given.labels, normalisation)
        check_model(foreign.model, spec)
        comparison = _compare(original, foreign, spec, normalisation)
    except (ModelError, UsageError, BoundNotMet) as error:
        raise _of_file(path, error) from error
    return Adapted(path, foreign.model, spec, tell(path, original, foreign, given, spec, normalisation, comparison))


def _of_file(path: Path, error: RtpspError) -> RtpspError:
    return type(error)(f"{path}: {error}")


def _ask_for_labels(classes: int) -> str:
    sets = sorted(name for name in LABEL_SETS if len(LABEL_SETS[name]) == classes)
    meant = f" (as many have {', '.join(sets)})" if sets else ""
    return (
        f"an ONNX model without a spec (metadata {SPEC_KEY!r}) that tells {classes} classes apart, and nothing says "
        f"which: name them with --labels SET|FILE{meant}, or make the file with rtpsp export"
    )


def _normalisation(foreign: ForeignGraph, given: Given) -> Normalisation:
    preprocessing, entry = foreign.preprocessing, foreign.entry
    if entry.dtype == "uint8" or preprocessing.normalises:
        if given.mean or given.std:
            flag = "--mean" if given.mean else "--std"
            raise UsageError(f"it normalises inside its graph, and {flag} would do it again: leave it out")
        return in_graph(preprocessing.scale, preprocessing.shift, entry.dtype == "uint8")
    return said(given.mean, given.std, entry.planes, given.order).reordered(preprocessing.order)


def _spec(path: Path, foreign: ForeignGraph, given: Given, labels: LabelSet, normalisation: Normalisation) -> ModelSpec:
    height, width = foreign.size
    stride = 8 if foreign.features is None else max(1, round(height / foreign.features[0]))
    return ModelSpec(
        name=re.sub(r"[\\/\x00-\x1f\x7f-\x9f]", "-", path.stem) if given.name is None else given.name,
        arch="network" if foreign.head is None else "pspnet",
        height=height,
        width=width,
        labels=labels,
        output_stride=stride,
        mean=normalisation.mean,
        std=normalisation.std,
        channels=channels_of(foreign.entry.planes, given.order, normalisation, foreign.preprocessing.order),
        fit=given.fit or "stretch",
        resize=given.resize or "area",
        licence=given.licence or "",
    )


def _compare(original: ir.Model, foreign: ForeignGraph, spec: ModelSpec, normalisation: Normalisation) -> Comparison:
    from rtpsp.graph.foreign_verify import verify
    from rtpsp.graph.verify import sample_frames

    return verify(original, foreign, spec, normalisation.brightest, sample_frames(spec, count=1))
