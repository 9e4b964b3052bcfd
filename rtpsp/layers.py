"""What an engine runs, layer by layer; and its bare payload, for tools that know nothing of rtpsp."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp.engine import BACKENDS, judge_file, refused
from rtpsp.engine.file import MAGIC, EngineFile, read_engine_file, rebuild
from rtpsp.engine.tensorrt_layers import Layer
from rtpsp.errors import EngineFileError, UsageError
from rtpsp.files import write_atomically

if TYPE_CHECKING:
    import onnx_ir as ir

_SHORT = {
    "FLOAT": "f32",
    "FLOAT16": "f16",
    "BFLOAT16": "bf16",
    "INT8": "i8",
    "UINT8": "u8",
    "INT32": "i32",
    "INT64": "i64",
}
"""Number formats as `rtpsp.engine.tensorrt_layers` calls TensorRT's."""


def extract(path: Path, out: Path) -> EngineFile:
    """Write the bare payload of an engine file: a plan for trtexec or Triton, or the lowered ONNX graph.

    Args:
        path: The engine file.
        out: Where; an existing file is replaced.

    Raises:
        EngineFileError: The file or its payload is damaged.
        UsageError: It is a model, which has no payload.
        OutputError: `out` cannot be written.
    """
    if not _is_engine(path):
        raise UsageError(f"{path} is not an engine, and only engines have a payload: give an engine to --extract from")
    file = read_engine_file(path)
    write_atomically(out, file.payload(), hint="name another file with --extract", make_folder=True)
    return file


def layers(path: Path) -> tuple[Layer, ...]:
    """The layers of an engine or of an ONNX model.

    Of a plan they are TensorRT's own, and asking for them loads the plan: that needs its GPU, and runs whatever code
    the plan's maker put into it. Of all else they are the nodes of the graph, of which nothing runs.

    Raises:
        EngineFileError: The engine is damaged, or a plan for another machine.
        MissingError: What loads the plan, or a GPU for it, is missing.
        ModelError: Not an ONNX model.
    """
    from rtpsp.onnx_file import read_graph

    if not _is_engine(path):
        return _nodes(read_graph(path))
    file = read_engine_file(path)
    backend = BACKENDS.get(file.header.backend)
    if not file.header.target.needs_gpu and not (backend and backend.plan):
        return _nodes(_graph_of(file))
    verdict = judge_file(file)
    if verdict.refusals:
        raise refused(file, verdict, "its layers are told by TensorRT alone, and ")
    from rtpsp.engine.tensorrt_backend import read_layers

    return tuple(read_layers(file.header, file.payload()))


def _is_engine(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC or path.suffix == ".engine"
    return path.suffix == ".engine"


def _graph_of(file: EngineFile) -> ir.Model:
    import onnx
    import onnx_ir as ir

    payload = file.payload()
    try:
        proto = onnx.ModelProto.FromString(payload)
        with contextlib.suppress(onnx.shape_inference.InferenceError):  # types and shapes then stay untold
            proto = onnx.shape_inference.infer_shapes(proto)
        graph: ir.Model = ir.from_proto(proto)
    except Exception as error:  # protobuf's and onnx_ir's kinds
        again = rebuild(file.header, file.path)
        raise EngineFileError(f"{file.path}: its payload is no ONNX graph: {again}") from error
    return graph


def _nodes(model: ir.Model) -> tuple[Layer, ...]:
    found = []
    for node in model.graph:
        given = [value for value in node.inputs if value is not None]
        weights = [value for value in given if value.const_value is not None and len(value.const_value.shape) > 1]
        found.append(
            Layer(
                name=node.name or "",
                kind=node.op_type,
                inputs=tuple(_format(value) for value in given if value.const_value is None),
                outputs=tuple(map(_format, node.outputs)),
                shapes=tuple(map(_shape, node.outputs)),
                weights=_format(weights[0]) if weights else "",
            )
        )
    return tuple(found)


def _format(value: ir.Value) -> str:
    return _SHORT.get(value.dtype.name, value.dtype.name.lower()) if value.dtype else "?"


def _shape(value: ir.Value) -> tuple[int, ...]:
    sides = () if value.shape is None else tuple(value.shape)
    return tuple(side if isinstance(side, int) else -1 for side in sides)
