"""What was found in a foreign model, what its owner said and what was assumed, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp.foreign_values import order_told_by
from rtpsp.spec import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.foreign import Given
    from rtpsp.foreign_values import Normalisation
    from rtpsp.graph.foreign import ForeignGraph
    from rtpsp.graph.verify import Comparison

_KINDS = {
    "scores": "scores",
    "softmax": "probabilities",
    "log-softmax": "logarithms of probabilities",
    "sigmoid": "sigmoids",
    "class map": "class ids",
    "threshold": "class ids by a threshold",
}


def tell(
    path: Path,
    original: ir.Model,
    foreign: ForeignGraph,
    given: Given,
    spec: ModelSpec,
    normalisation: Normalisation,
    comparison: Comparison,
) -> str:
    """The file, and below it a sentence a line, without full stops."""
    opset = original.opset_imports.get("", original.opset_imports.get("ai.onnx", 0))
    maker = " ".join(filter(None, (original.producer_name, original.producer_version)))
    maker = "".join(letter if letter.isprintable() else "?" for letter in maker)
    sentences = [
        f"{path.name} ({maker + ', ' if maker else ''}opset {opset})",
        f"{_takes(foreign, given)} and {_gives(foreign)}",
        *_normalises(foreign, spec, normalisation),
        *_pyramid(foreign),
        *_assumed(foreign, given, spec, normalisation),
        _agrees(foreign, comparison),
    ]
    return "\n  ".join(sentences)


def _takes(foreign: ForeignGraph, given: Given) -> str:
    entry = foreign.entry
    planes = "1 plane" if entry.planes == 1 else f"{entry.planes} planes"
    open_size = None in entry.size
    size = f"{foreign.size[0]}x{foreign.size[1]}" + (" (--size)" if open_size else "")
    return f"takes {entry.name!r}, {entry.dtype} {entry.layout} of {planes} at {size},"


def _gives(foreign: ForeignGraph) -> str:
    answer, cells = foreign.answer, foreign.answer.cells
    where = "at that size"
    if cells != foreign.size:
        where = f"of {cells[0]}x{cells[1]} cells, which are upsampled bilinearly"
    single = " (one score, above 0 for class 1)" if foreign.channels == 1 and answer.kind == "scores" else ""
    told = f"gives {answer.output!r}, {_KINDS[answer.kind]} of {foreign.classes} classes{single} {where}"
    if foreign.left_out:
        told += f"; {', '.join(map(repr, foreign.left_out))} {'is' if len(foreign.left_out) == 1 else 'are'} left out"
    return told


def _normalises(foreign: ForeignGraph, spec: ModelSpec, normalisation: Normalisation) -> list[str]:
    on = f"on 0..{normalisation.brightest:g}"
    values = _values(spec, normalisation)
    if normalisation.source == "graph":
        return [f"its graph normalises by itself: {values} {on}"]
    return [f"mean and std are {on}: {values}"] if normalisation.source == "said" else []


def _values(spec: ModelSpec, normalisation: Normalisation) -> str:
    mean, std = (
        " ".join(f"{value * normalisation.brightest:.6g}" for value in values) for values in (spec.mean, spec.std)
    )
    return f"{spec.channels.upper()} by mean {mean}, std {std}"


def _pyramid(foreign: ForeignGraph) -> list[str]:
    head, features = foreign.head, foreign.features
    if head is None or features is None:
        return []  # the build says why there is no head to split
    maps = ", ".join(f"{height}x{width}" for _, _, height, width in head.maps)
    return [f"its pyramid has maps of {maps} over features of {features[0]}x{features[1]}"]


def _assumed(foreign: ForeignGraph, given: Given, spec: ModelSpec, normalisation: Normalisation) -> list[str]:
    assumed: list[str] = []
    told = order_told_by(spec.mean) if normalisation.source != "assumed" else None
    if given.order is None and foreign.entry.planes > 1 and told is None:
        assumed.append("RGB order (else --bgr)")
    if normalisation.source == "assumed":
        assumed.append("ImageNet's mean and std (else --mean and --std)")
    elif normalisation.source == "graph" and foreign.entry.dtype != "uint8":
        assumed.append(f"pixels of 0..{normalisation.brightest:g}, by the size of its mean and std")
    return [f"assumed: {'; '.join(assumed)}"] if assumed else []


def _agrees(foreign: ForeignGraph, comparison: Comparison) -> str:
    agreement = f"class agreement with the original {comparison.class_agreement:.3%} on a synthetic frame"
    if foreign.half:
        return f"taken over in FP32, of an FP16 original: {agreement}"
    if comparison.max_error_relative is None:
        return agreement
    if comparison.max_error_relative == 0:
        return f"{agreement}, values the same to the bit"
    return f"{agreement}, values within {comparison.max_error_relative:.1e} of the largest"
