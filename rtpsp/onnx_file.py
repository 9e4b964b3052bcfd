"""A model file: one ONNX file with its weights inside and its spec under the metadata key `SPEC_KEY`.

Both sides of the file use this module: `rtpsp.model.export` writes it, `rtpsp.graph` reads it. The contract: one input
``image``, float32 [1, planes, H, W], normalised, in the spec's channel order; one output ``logits``, float32
[1, classes, h, w]; every size static.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from rtpsp.errors import ModelError
from rtpsp.files import write_atomically
from rtpsp.recognise import HEAD_BYTES, kind_of, near
from rtpsp.spec import SPEC_KEY, ModelSpec

INPUT = "image"
OUTPUT = "logits"
MIN_OPSET = 13  # Resize with sizes, Cast and ArgMax as the passes write them


def load_model(path: str | os.PathLike[str]) -> tuple[ir.Model, ModelSpec]:
    """Reads a model file and checks it against its own spec.

    Args:
        path: An ONNX file from ``rtpsp export``.

    Raises:
        ModelError: No such file, not ONNX, no spec, weights in a file that is missing, or an input or output other
            than the contract's.
    """
    model = read_graph(path)
    text = model.metadata_props.get(SPEC_KEY)
    if text is None:
        raise ModelError(
            f"{path}: {_looks_like(model)}, without a spec (metadata {SPEC_KEY!r}): make it with rtpsp export, or say "
            f"what it is with rtpsp build-engine --labels"
        )
    try:
        spec = ModelSpec.from_json(text)
        check_model(model, spec)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return model, spec


def read_graph(path: str | os.PathLike[str]) -> ir.Model:
    """Reads any ONNX file; weights that lie in files beside it are taken in.

    Raises:
        ModelError: No such file, not ONNX, or a file with weights is missing or cut short.
    """
    data = _read_bytes(path)
    try:
        proto = onnx.ModelProto.FromString(data)
        outside = _external_files(proto)
        graph = None if outside else ir.from_proto(proto)
    except Exception as error:  # protobuf, onnx and onnx_ir each raise their own kinds for damaged bytes
        kind = kind_of(data[:HEAD_BYTES])
        if kind:
            message = f"{path} is {kind.name}, an ONNX model was expected: {kind.use.format(path)}"
        else:
            message = f"{path}: {len(data)} bytes that are not an ONNX model: give an ONNX file from rtpsp export"
        raise ModelError(message) from error
    if graph is None:
        graph = ir.from_proto(_with_weights(Path(path), proto, outside))
    if not graph.graph.outputs:  # an empty or foreign file can parse as a model of nothing
        raise ModelError(f"{path}: not an ONNX model with outputs: give an ONNX file from rtpsp export")
    return graph


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        meant = near(Path(path)) if isinstance(error, FileNotFoundError) else None
        hint = f"did you mean {meant}?" if meant else "give an ONNX file from rtpsp export"
        raise ModelError(f"{path}: cannot be read ({reason}): {hint}") from error


def _external_files(proto: onnx.ModelProto) -> list[str]:
    """Names of the files that hold weights, as the model gives them."""
    attributes = (attribute for node in proto.graph.node for attribute in node.attribute)
    constants = (attribute.t for attribute in attributes if attribute.HasField("t"))
    return sorted(
        {
            entry.value
            for tensor in (*proto.graph.initializer, *constants)
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )


def _with_weights(path: Path, proto: onnx.ModelProto, outside: Sequence[str]) -> onnx.ModelProto:
    missing = [name for name in outside if not (path.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{path}: its weights lie in {', '.join(missing)}, which is not there: put it beside the model, or save "
            f"the model as one file"
        )
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))  # refuses names that lead out of the folder
    except Exception as error:  # onnx raises a dozen kinds, ValidationError and OSError among them
        raise ModelError(
            f"{path}: its weights in {', '.join(outside)} cannot be read ({error}): save the model as one file"
        ) from error
    return proto


def _looks_like(model: ir.Model) -> str:
    """What an ONNX file without a spec is, in words, as far as its inputs and outputs tell."""
    inputs, outputs = model.graph.inputs, model.graph.outputs
    told = (
        f"inputs {', '.join(map(describe_value, inputs)) or 'none'}, outputs {', '.join(map(describe_value, outputs))}"
    )
    images = len(inputs) == 1 and inputs[0].shape is not None and len(inputs[0].shape) == 4
    maps = outputs[0].shape is not None and len(outputs[0].shape) in (3, 4)
    if images and maps:
        return f"an ONNX model ({told})"
    return f"an ONNX model that is no segmenter of images ({told})"


def describe_value(value: ir.Value) -> str:
    """An input or output as ``name FLOAT [1, 3, H, W]``; a question mark where nothing is said."""
    sides = "?" if value.shape is None else ", ".join(map(str, value.shape))
    return f"{value.name} {value.dtype.name if value.dtype else '?'} [{sides}]"


def check_model(model: ir.Model, spec: ModelSpec) -> None:
    """Checks a graph against the contract of a model file.

    Raises:
        ModelError: What differs, what the contract asks for, and what to do.
    """
    external = [
        name for name, value in model.graph.initializers.items() if isinstance(value.const_value, ir.ExternalTensor)
    ]
    if external:
        raise ModelError(
            f"{len(external)} weights lie outside the file ({external[0]}, ...): save the model as one file"
        )
    opset = model.opset_imports.get("", 0)
    if opset < MIN_OPSET:
        raise ModelError(f"opset is {opset}, expected {MIN_OPSET} or later: export the model again")
    if [value.name for value in model.graph.inputs] == ["frames"]:
        raise ModelError("this graph is lowered already (its input is 'frames'): give the file that rtpsp export wrote")
    want_in = (1, spec.planes, spec.height, spec.width)
    _check_value("input", model.graph.inputs, INPUT, want_in)
    shape = _check_value("output", model.graph.outputs, OUTPUT, (1, len(spec.labels), None, None))
    if shape[2] > spec.height or shape[3] > spec.width:
        raise ModelError(
            f"output {OUTPUT!r} is {shape[2]}x{shape[3]}, larger than the input's {spec.height}x{spec.width}: "
            f"export the model again"
        )


def save_model(model: ir.Model, spec: ModelSpec, path: str | os.PathLike[str]) -> None:
    """Writes a graph and its spec as one file, by rename: the path never holds half a file.

    Args:
        model: Any graph; not modified. The spec replaces one that it carries.
        spec: What stands under `SPEC_KEY`.
        path: Where; an existing file is replaced.

    Raises:
        OutputError: The file cannot be written.
    """
    stamped = model.clone()
    stamped.metadata_props[SPEC_KEY] = spec.to_json()
    write_atomically(Path(path), model_bytes(stamped), hint="name another file with --output", make_folder=True)


def model_bytes(model: ir.Model) -> bytes:
    """The graph as the bytes of an ONNX file; the same graph gives the same bytes."""
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def model_digest(path: str | os.PathLike[str]) -> str:
    """sha256 of a model file's bytes, in hex, with those of the files that hold its weights, if there are any.

    Raises:
        ModelError: The file cannot be read.
    """
    data = _read_bytes(path)
    digest = hashlib.sha256(data)
    # The common case is told without a parse: a file that names no other file holds all its weights.
    if b"location" in data:
        try:
            outside = _external_files(onnx.ModelProto.FromString(data))
        except Exception as error:  # protobuf's kinds
            raise ModelError(f"{path}: not an ONNX model: give an ONNX file from rtpsp export") from error
        for name in outside:
            digest.update(_read_bytes(Path(path).parent / name))
    return digest.hexdigest()


def _check_value(kind: str, values: Sequence[ir.Value], name: str, want: tuple[int | None, ...]) -> tuple[int, ...]:
    """The shape of a graph's only input or output; None in `want` stands for any static size."""
    wanted = f"one {kind} {name!r}, float32 [{', '.join('any' if side is None else str(side) for side in want)}]"
    if [value.name for value in values] != [name]:
        found = ", ".join(repr(value.name) for value in values) or "none"
        raise ModelError(f"{kind}s are {found}, expected {wanted}: make the file with rtpsp export")
    value = values[0]
    shape = [] if value.shape is None else [side if isinstance(side, int) else str(side) for side in value.shape]
    fits = len(shape) == len(want) and all(
        isinstance(side, int) and expected in (None, side) for side, expected in zip(shape, want, strict=True)
    )
    if value.dtype != ir.DataType.FLOAT or not fits:
        found = f"{value.dtype} [{', '.join(map(str, shape))}]"
        raise ModelError(f"{kind} {name!r} is {found}, expected {wanted}: make the file with rtpsp export")
    return tuple(int(side) for side in shape)
