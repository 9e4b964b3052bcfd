"""Any ONNX segmenter in the form of a model file: ``image`` in, ``logits`` out, all sizes static, in FP32.

The other passes and every backend work on that form. What the graph's ends were, and what was taken off them, is told
beside it: the spec of the model says some of it, and the comparison with the original needs the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from rtpsp.errors import ModelError, UsageError
from rtpsp.graph.editing import drop_unused, infer_shapes, static_shape
from rtpsp.graph.foreign_fold import fix_size
from rtpsp.graph.foreign_input import Entry, Preprocessing, read_entry, take_image
from rtpsp.graph.foreign_logits import add_logits
from rtpsp.graph.foreign_output import Answer, read_answer
from rtpsp.graph.foreign_static import computes_in_half, reserve_names, standardise
from rtpsp.graph.pyramid import find_heads
from rtpsp.graph.pyramid_match import Head
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, SCORES
from rtpsp.onnx_file import INPUT, OUTPUT, describe_value

Size = tuple[int, int]

_RESERVED = (CLASS_MAP, CONFIDENCE, FRAMES, INPUT, OUTPUT, SCORES)


@dataclass(frozen=True)
class ForeignGraph:
    """A graph in the form of a model file, and what it was.

    Attributes:
        model: One input ``image``, float32 [1, planes, H, W], one output ``logits``, float32 [1, classes, h, w].
        entry: The input that it had.
        preprocessing: What was done to the image inside the graph and no longer is.
        size: Height and width of the input.
        answer: The output that it had; its tensors are no longer in the graph.
        channels: Scores a cell in that output's source: 1 where one score told two classes apart.
        classes: Of ``logits``.
        left_out: Names of the outputs that are gone.
        head: The fusion of the pyramid that computes most, if one can be split; None otherwise.
        features: Height and width of the features that the pyramid pools; None without a head.
        half: The original computes in FP16.
    """

    model: ir.Model
    entry: Entry
    preprocessing: Preprocessing
    size: Size
    answer: Answer
    channels: int
    classes: int
    left_out: tuple[str, ...]
    head: Head | None
    features: Size | None
    half: bool


def adapt_graph(
    model: ir.Model, size: Size | None = None, classes: int | None = None, output: str | None = None
) -> ForeignGraph:
    """Brings a graph into the form of a model file.

    Args:
        model: Any segmenter of single images; not modified.
        size: Height and width of the input, for a graph that leaves them open.
        classes: How many there should be, which may tell one output from another.
        output: Name of the output to take, where several are answers.

    Raises:
        ModelError: Not such a graph, or one that the passes cannot take; the text says why.
        UsageError: The graph leaves its size open and none is given, or another one is fixed in it; or several outputs
            are answers, or the one asked for is none.
        MissingError: onnxruntime is not installed.
    """
    original = model
    _, entry = read_entry(original)
    size = _settled(entry, size)
    model = standardise(original)
    image = next(value for value in model.graph.inputs if value.name == entry.name)
    reserve_names(model, _RESERVED)
    fix_size(model, image, entry.shape(size))
    answer, left_out = _choose(model, original, size, classes, output)
    channels, count = answer.channels, answer.classes
    preprocessing = take_image(model, image, entry)
    logits = add_logits(model, answer)
    model.graph.outputs.clear()
    model.graph.outputs.append(logits)
    model.graph.name = "foreign"
    drop_unused(model)
    infer_shapes(model)
    half = entry.dtype == "float16" or computes_in_half(original)
    return ForeignGraph(model, entry, preprocessing, size, answer, channels, count, left_out, *_pyramid(model), half)


def _settled(entry: Entry, asked: Size | None) -> Size:
    fixed = entry.size
    told = "x".join("?" if side is None else str(side) for side in fixed)
    if asked is None:
        if fixed[0] is None or fixed[1] is None:
            raise UsageError(
                f"input {entry.name!r} takes images of any size ({told}): say which one the engine is for, with --size "
                f"HxW, e.g. the one that it was trained at"
            )
        return fixed[0], fixed[1]
    if any(side is not None and side != want for side, want in zip(fixed, asked, strict=True)):
        raise UsageError(
            f"input {entry.name!r} is fixed to {told}, and --size says {asked[0]}x{asked[1]}: leave it out, or export "
            f"the model with that size"
        )
    return asked


def _choose(
    model: ir.Model, original: ir.Model, size: Size, classes: int | None, asked: str | None
) -> tuple[Answer, tuple[str, ...]]:
    """The output that the engine is made of, and the names of the others, as the original calls them."""
    declared = original.graph.outputs
    names = [str(value.name) for value in declared]
    if asked is not None and asked not in names:
        raise UsageError(f"there is no output {asked!r}: the model has {', '.join(map(repr, names))}")
    found: dict[str, Answer] = {}
    for said, value in zip(declared, model.graph.outputs, strict=True):
        name, shape = str(said.name), static_shape(value) or ()
        if asked not in (None, name) or len(said.shape or shape) != len(shape):
            continue
        answer = read_answer(value, size)
        if answer is not None and not any(answer.same(other) for other in found.values()):
            found[name] = replace(answer, output=name)
    if not found:
        inputs, outputs = (", ".join(map(describe_value, values)) for values in (original.graph.inputs, declared))
        raise ModelError(
            f"it is no segmenter of images (inputs {inputs}, outputs {outputs}), or something follows its scores that "
            f"is not known here: expected scores [1, classes, h, w] or class ids [1, h, w] of the whole image"
        )
    if len(found) > 1 and classes is not None:
        found = _if_any(found, lambda name: found[name].classes == classes)
    if len(found) > 1:
        found = _if_any(found, lambda name: "aux" not in name.lower())
    if len(found) > 1:
        heads = {head.conv for head in find_heads(model) if not head.reason}
        found = _if_any(found, lambda name: bool(heads & _before(found[name].scores)))
    if len(found) > 1:
        each = ", ".join(f"{name!r} ({one.kind}, {one.classes} classes)" for name, one in found.items())
        raise UsageError(f"any of the outputs {each} may be the answer: name one with --output-tensor")
    ((chosen, answer),) = found.items()
    return answer, tuple(name for name in names if name != chosen)


def _if_any(found: dict[str, Answer], wanted: Callable[[str], bool]) -> dict[str, Answer]:
    return {name: answer for name, answer in found.items() if wanted(name)} or found


def _before(value: ir.Value) -> set[str]:
    """Names of all nodes, and of the tensors that they give, that a tensor follows from."""
    names, seen, waiting = set[str](), set[ir.Node](), [value]
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.update(filter(None, (node.name, *(output.name for output in node.outputs))))
        waiting += [source for source in node.inputs if source is not None]
    return names


def _pyramid(model: ir.Model) -> tuple[Head | None, Size | None]:
    heads = [head for head in find_heads(model) if not head.reason]
    if not heads:
        return None, None
    head = max(heads, key=lambda one: one.multiply_adds)
    values = {value.name: value for node in model.graph for value in node.outputs}
    shape = static_shape(values.get(head.features[0]))
    return head, None if shape is None else (shape[2], shape[3])
