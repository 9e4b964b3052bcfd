"""Calibration: what values the tensors of a plain FP32 graph take over a set of frames, and the range that each keeps.

Every tensor that INT8 may want to store gets a histogram of its magnitudes, one frame at a time: memory is bounded by
one inference, whatever the number of frames. All four methods choose from the same histograms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from rtpsp.calibration_cache import TensorRange
from rtpsp.errors import DataError, ModelError
from rtpsp.graph.editing import constant
from rtpsp.graph.fold import fold
from rtpsp.graph.histogram import Histogram
from rtpsp.graph.verify import Frames, open_session, to_image
from rtpsp.onnx_file import INPUT
from rtpsp.spec import ModelSpec

Progress = Callable[[int], None]
"""Told after each frame how many are done."""

_STORED = {"Conv": (0,), "Add": (0, 1), "Concat": None}
"""Operators whose inputs INT8 may store, and which of their inputs; None stands for all."""


def canonical(model: ir.Model) -> ir.Model:
    """The plain FP32 graph that ranges belong to, from any model file's graph: constants and batch norms folded.

    Raises:
        ModelError: The graph holds Q/DQ nodes: it is quantised already.
    """
    quantised = [node.name for node in model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if quantised:
        raise ModelError(
            f"the model is quantised already ({len(quantised)} Q/DQ nodes, {quantised[0]} first): give the FP32 model "
            f"that it was made from"
        )
    return fold(model)


def graph_digest(model: ir.Model) -> str:
    """sha256 in hex over what decides a graph's values: operators, attributes, tensor names, constants.

    Metadata, documentation and node names do not count, nor in which format a file stored the weights: the digest is
    that of the `canonical` graph.
    """
    graph = canonical(model)
    digest = hashlib.sha256(repr(sorted(graph.opset_imports.items())).encode())
    for node in graph.graph:
        attributes = sorted((name, _told(attribute)) for name, attribute in node.attributes.items())
        ends = [[value.name if value else "" for value in values] for values in (node.inputs, node.outputs)]
        digest.update(repr((node.domain, node.op_type, attributes, ends)).encode())
    for name, value in sorted(graph.graph.initializers.items()):
        array = constant(value)
        assert array is not None
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    whole = [f"{value.name} {value.shape}" for value in (*graph.graph.inputs, *graph.graph.outputs)]
    digest.update(repr(whole).encode())
    return digest.hexdigest()


def _told(attribute: Any) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        return hashlib.sha256(attribute.as_tensor().numpy().tobytes()).hexdigest()
    return repr(attribute.value)


def tensors_of(model: ir.Model) -> tuple[str, ...]:
    """Names of the tensors that INT8 may store: inputs of convolutions, sums and concatenations, constants left out.

    Args:
        model: A `canonical` graph.
    """
    found: dict[str, None] = {}
    for node in model.graph:
        places = _STORED.get(node.op_type, ())
        for place in range(len(node.inputs)) if places is None else places:
            value = node.inputs[place]
            if value is not None and value.name and not value.is_initializer():
                found[value.name] = None
    return tuple(found)


def collect(
    model: ir.Model, spec: ModelSpec, images: Iterable[Frames], threads: int = 0, progress: Progress | None = None
) -> dict[str, Histogram]:
    """Histograms of a graph's tensors over a set of frames.

    Args:
        model: A `canonical` graph with the input ``image``; not modified.
        spec: Its size and normalisation.
        images: Frames of the model's own size, uint8 [1, H, W, planes]; read one at a time, once.
        threads: For ONNX Runtime; 0 leaves it the choice.
        progress: Called after each frame.

    Raises:
        DataError: There is no frame, or a tensor took a value that is not a number.
        MissingError: onnxruntime is not installed.
    """
    names = [name for name in tensors_of(model) if name != INPUT]
    session = open_session(_exposed(model, names), threads)
    binding, answers = _bound(session, names)
    histograms = {name: Histogram() for name in (INPUT, *names)}
    count = 0
    for image in images:
        value = to_image(image, spec)
        binding.bind_cpu_input(INPUT, value)
        session.run_with_iobinding(binding)
        for name, answer in zip((INPUT, *names), (value, *answers), strict=True):
            if not histograms[name].add(answer):
                raise DataError(
                    f"frame {count + 1} gives values that are not numbers in {name!r}: the model's weights are damaged"
                )
        count += 1
        if progress:
            progress(count)
    if not count:
        raise DataError("there is no frame to calibrate with: give images, a video or a camera")
    return histograms


def _bound(session: Any, names: list[str]) -> tuple[Any, list[npt.NDArray[np.float32]]]:
    """Outputs that are written into the same memory each time: new arrays for each frame leave holes between them."""
    binding = session.io_binding()
    shapes = {output.name: output.shape for output in session.get_outputs()}
    answers = [np.empty(shapes[name], np.float32) for name in names]
    for name, answer in zip(names, answers, strict=True):
        binding.bind_output(name, "cpu", 0, np.float32, answer.shape, answer.ctypes.data)
    return binding, answers


def to_ranges(histograms: dict[str, Histogram], method: str) -> dict[str, TensorRange]:
    """The range of each tensor by a method of `rtpsp.calibration_cache.METHODS`."""
    return {name: TensorRange(h.low, h.high, h.amax(method)) for name, h in histograms.items()}


def _exposed(model: ir.Model, names: list[str]) -> ir.Model:
    """The graph with these tensors as its only outputs."""
    model = model.clone()
    values = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs.clear()
    model.graph.outputs.extend(values[name] for name in names)
    for name in names:
        values[name].dtype = ir.DataType.FLOAT
    return model
