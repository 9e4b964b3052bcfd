"""What a file is, what it was built for, and whether it serves here; told without running anything of it.

A TensorRT plan can hold code of its builder's, and a runtime that loads it may run that. So nothing is handed to a
runtime: an engine is judged by its header (`rtpsp.engine.compatibility`) and its digest, a model by its graph.
"""

from __future__ import annotations

import contextlib
import os.path
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rtpsp.engine import BACKENDS, judge_file, what_to_do
from rtpsp.engine.file import MAGIC, EngineFile, read_engine_file
from rtpsp.errors import EngineFileError, InputError, ModelError
from rtpsp.recognise import HEAD_BYTES, kind_of, near
from rtpsp.spec import SPEC_KEY, ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

Kind = Literal["engine", "model", "lowered model", "foreign model"]

_OPERATORS_SHOWN = 8


@dataclass(frozen=True)
class Inspection:
    """What was found in a file.

    Attributes:
        path: The file.
        kind: An engine, a model with a spec, a graph that is lowered already, or an ONNX file without a spec.
        facts: What it says of itself, by name, as plain JSON values; sizes in bytes.
        spec: The model's own spec, None for a foreign model.
        serves: Whether it does its work here: an engine runs, a model can be built.
        why_not: Why it does not, each a clause.
        warnings: What a person should know although it serves.
        advice: What to do next.
    """

    path: Path
    kind: Kind
    facts: dict[str, Any]
    spec: ModelSpec | None
    serves: bool
    why_not: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "file": self.path.name,
            "kind": self.kind,
            **self.facts,
            "spec": self.spec.to_dict() if self.spec else None,
            "serves": self.serves,
            "why_not": list(self.why_not),
            "warnings": list(self.warnings),
            "advice": self.advice,
        }


def inspect(path: Path) -> Inspection:
    """Look into an engine or an ONNX file.

    Raises:
        EngineFileError: An engine that is damaged, cut short or of another format.
        ModelError: Not an ONNX model, or one whose weights are missing.
        InputError: Neither, e.g. a folder.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path} is not a file: give an engine or an ONNX model")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        meant = near(path) if isinstance(error, FileNotFoundError) else None
        hint = f"did you mean {meant}?" if meant else "give an engine or an ONNX model"
        raise InputError(f"{path}: cannot be read ({reason}): {hint}") from error
    if head.startswith(MAGIC):
        return _inspect_engine(read_engine_file(path))
    kind = kind_of(head)
    if kind:
        raise InputError(f"{path} is {kind.name}, neither an engine nor an ONNX model: {kind.use.format(path)}")
    if path.suffix == ".engine":
        return _inspect_engine(read_engine_file(path))  # which it is not, and that says why
    try:
        return _inspect_model(path)
    except ModelError as error:
        if path.suffix == ".onnx":
            raise
        raise InputError(f"{path} is neither an engine nor an ONNX model: give one of the two") from error


def _inspect_engine(file: EngineFile) -> Inspection:
    header = file.header
    verdict = judge_file(file)
    why_not = verdict.refusals
    try:
        file.payload()
        damage: tuple[str, ...] = ()
    except EngineFileError:
        damage = ("its payload is damaged: the sha256 is not the header's",)
    target = header.target
    backend = BACKENDS.get(header.backend)
    plan = target.needs_gpu or (backend is not None and backend.plan)
    warnings = list(verdict.warnings)
    if plan:
        warnings.append(
            "its payload is a plan, which can run code when it is loaded: use it only if you trust its maker"
        )
    serves = not (why_not or damage)
    facts = {
        "bytes": file.path.stat().st_size,
        "backend": header.backend,
        "precision": header.precision,
        "batch": header.options.get("batch", 1),
        "confidence": bool(header.options.get("confidence", False)),
        "head": _line(header.options.get("head", "plain")),
        "tail": header.options.get("tail", "graph"),
        "int8": _int8(header.options.get("int8")),
        "model": header.options.get("model", ""),
        "model_digest": header.model_digest,
        "calibration_digest": header.calibration_digest,
        "versions": header.versions,
        "built_for": {
            "machine": target.machine,
            "gpu": target.gpu,
            "compute_capabilities": list(target.compute_capabilities),
            "or_later": target.or_later,
            "generations": target.generations,
            "driver": target.driver,
            "version_compatible": target.version_compatible,
        },
        "payload": {"kind": "plan" if plan else "ONNX", "bytes": file.length, "sha256": file.sha256},
    }
    if not serves:
        advice = what_to_do(file, verdict)
    elif facts["batch"] == 1:
        advice = f"rtpsp run --camera --engine {shlex.quote(str(file.path))}"
    else:  # which rtpsp run does not take
        advice = f"in Python, give Engine.infer {facts['batch']} frames at a time; rtpsp run takes engines of one"
    return Inspection(file.path, "engine", facts, header.spec, serves, (*why_not, *damage), tuple(warnings), advice)


def _line(value: Any) -> str:
    """A text of a header that nobody checked, as it may be printed."""
    return value if isinstance(value, str) and value.isprintable() else "unknown"


def _int8(told: Any) -> dict[str, Any] | None:
    """What an engine says of its INT8: ``integers``, ``method``, ``images``, ``asked``, ``cost`` and ``parts``.

    Cost and parts are as `rtpsp.sensitivity` writes them; None and an empty list where they cannot be read.
    """
    from rtpsp.sensitivity import Cost, Part

    if not isinstance(told, dict):
        return None
    images = told.get("images")
    found: dict[str, Any] = {name: _line(told.get(name, "")) for name in ("integers", "method", "asked")}
    found |= {"images": images if type(images) is int else 0, "cost": None, "parts": []}
    with contextlib.suppress(ValueError):
        found["cost"] = Cost.from_dict(told.get("cost")).to_dict()
    with contextlib.suppress(TypeError, ValueError):
        found["parts"] = [Part.from_dict(row).to_dict() for row in told.get("parts", ())]
    return found


def _inspect_model(path: Path) -> Inspection:
    import numpy as np

    from rtpsp.onnx_file import check_model, describe_value, model_digest, read_graph

    graph = read_graph(path)
    weights = [value.const_value for value in graph.graph.initializers.values() if value.const_value is not None]
    formats = Counter[str]()
    for tensor in weights:
        formats[tensor.dtype.name] += int(np.prod(tensor.shape.numpy(), dtype=np.int64))
    operators = Counter(node.op_type for node in graph.graph)
    shown = dict(operators.most_common(_OPERATORS_SHOWN))
    facts = {
        "bytes": path.stat().st_size,
        "opset": graph.opset_imports.get("", 0),
        "ir_version": graph.ir_version,
        "producer": " ".join(filter(None, (graph.producer_name, graph.producer_version))),
        "inputs": [describe_value(value) for value in graph.graph.inputs],
        "outputs": [describe_value(value) for value in graph.graph.outputs],
        "nodes": sum(operators.values()),
        "operators": shown
        | ({"others": sum(operators.values()) - sum(shown.values())} if len(operators) > len(shown) else {}),
        "weights": dict(formats.most_common()),
        "sha256": model_digest(path),
    }
    text = graph.metadata_props.get(SPEC_KEY)
    lowered = [value.name for value in graph.graph.inputs] == ["frames"]
    if text is None:
        kind: Kind = "lowered model" if lowered else "foreign model"
        why = f"it has no spec (metadata {SPEC_KEY!r}), so that classes and normalisation are unknown"
        not_taken, advice = ("", "make the file with 'rtpsp export'") if lowered else _take_over(path, graph)
        return Inspection(path, kind, facts, None, False, tuple(filter(None, (why, not_taken))), (), advice)
    try:
        spec = ModelSpec.from_json(text)
    except ModelError as error:
        return Inspection(path, "foreign model", facts, None, False, (str(error),), (), "export the model again")
    try:
        check_model(graph, spec)
    except ModelError as error:
        kind = "lowered model" if lowered else "model"
        return Inspection(path, kind, facts, spec, False, (str(error),), (), "export the model again")
    return Inspection(path, "model", facts, spec, True, (), (), f"rtpsp build-engine {shlex.quote(str(path))}")


def _take_over(path: Path, graph: ir.Model) -> tuple[str, str]:
    """Why a model from elsewhere cannot be built, as far as input and operators tell; and what to do, or how to."""
    from rtpsp.graph.foreign_input import read_entry
    from rtpsp.graph.foreign_static import check_operators

    try:
        _, entry = read_entry(graph)
        check_operators(graph)
    except ModelError as error:
        return str(error), "make the file with 'rtpsp export'"
    words = ["rtpsp build-engine", shlex.quote(str(path)), "--labels SET|FILE"]
    words += ["--size HxW"] if None in entry.size else []
    words += (
        ["--mean A --std A"] if entry.planes == 1 else ["--mean A,B,C,D --std A,B,C,D"] if entry.planes == 4 else []
    )
    return "", " ".join(words)
