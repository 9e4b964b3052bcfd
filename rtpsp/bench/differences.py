"""What differs between a published speed and one that was measured here, in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp import machine
from rtpsp.bench.published import NOT_TOLD, Published
from rtpsp.bench.subjects import Subject
from rtpsp.engine import BACKENDS
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import ModelError
from rtpsp.runtimes import installed_version

if TYPE_CHECKING:
    import onnx_ir as ir


def what_differs(
    published: Published, subject: Subject, ran: str, threads: int = 0, model: Path | ir.Model | None = None
) -> tuple[str, ...]:
    """All that is known to differ, and what is not known.

    Args:
        published: The published row.
        subject: The engine that was measured.
        ran: Number format of its convolutions.
        threads: CPU threads that it was given; 0 is all.
        model: What the engine was built of, where that is known.
    """
    header = subject.header
    package = BACKENDS[header.backend].package if header.backend in BACKENDS else header.backend
    runtime = f"{header.backend} {installed_version(package) or ''}".strip()
    told = [
        f"device: {device_of(subject, threads)} here, {published.device} there",
        f"runtime: {runtime} here, {published.runtime} there",
        f"precision: {header.precision} here, convolutions in {ran}; {published.precision} there",
        "inside the time: here a frame of the network's size becomes its class map, with normalisation, upsampling and "
        "argmax, without decoding and resizing; not told there",
        *_network(published, subject, model),
        *(f"unchecked: {words}" for words in published.unchecked),
    ]
    return tuple(told)


def device_of(subject: Subject, threads: int = 0) -> str:
    """What an engine runs on, in words."""
    backend = BACKENDS.get(subject.header.backend)
    gpus = machine.gpus() if backend is not None and backend.gpu else ()
    if gpus:
        return gpus[0].name
    count = threads or machine.usable_threads()
    return f"{count} thread{'s' if count != 1 else ''} of {machine.cpu().model}"


def _network(published: Published, subject: Subject, model: Path | ir.Model | None) -> list[str]:
    spec, told = subject.header.spec, []
    if (spec.arch, spec.size) != (published.arch, published.size):
        height, width = published.size
        told.append(
            f"network: {spec.arch} with output stride {spec.output_stride} at {spec.height}x{spec.width} here, "
            f"{published.arch} at {height}x{width} there"
        )
    head = subject.header.options.get("head")
    if head == "split":
        told.append(
            "head: the pyramid's share is convolved on its own cells here, exact up to rounding; as a whole there"
        )
    work = _multiply_adds(subject, model)
    if work is not None:
        told.append(f"arithmetic: {work} here, {NOT_TOLD} there")
    if len(spec.labels) != published.classes:
        told.append(f"classes: {len(spec.labels)} here, {published.classes} there")
    if not subject.trained:
        told.append("weights: random here, trained there")
    return told


def _multiply_adds(subject: Subject, model: Path | ir.Model | None) -> str | None:
    """Of one inference, in words, counted in the engine's own graph; None for a plan, which tells no graph."""
    backend = BACKENDS.get(subject.header.backend)
    if backend is None or backend.plan:
        return None
    import onnx
    import onnx_ir as ir

    from rtpsp.graph.work import multiply_adds
    from rtpsp.onnx_file import load_model

    try:
        ours = multiply_adds(ir.from_proto(onnx.ModelProto.FromString(read_engine_file(subject.path).payload())))
        if model is None:
            return f"{ours / 1e9:.1f} GMAC a frame"
        plain = multiply_adds(load_model(model)[0] if isinstance(model, Path) else model)
    except ModelError:  # shapes that are not told
        return None
    return f"{ours / 1e9:.1f} GMAC a frame ({plain / 1e9:.1f} as the model has it)"
