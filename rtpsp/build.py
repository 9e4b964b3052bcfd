"""From a model file to an engine file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp.engine import BACKENDS, DEFAULT_BACKEND, engine_class
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.file import write_engine_file
from rtpsp.errors import BoundNotMet
from rtpsp.files import check_writable
from rtpsp.header import EngineHeader, Precision

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.graph.verify import Frames
    from rtpsp.spec import ModelSpec

Progress = Callable[[str, int, int], None]
"""Told the step that begins, how many are done, and how many there are."""

ENGINES_VARIABLE = "RTPSP_ENGINES"
"""Environment variable that names the folder for engines which are not given a place."""

STEPS = ("read the model", "lower the graph", "compile and compare", "write the engine")

MIN_AGREEMENT: dict[str, float] = {"fp32": 0.999, "fp16": 0.9}
"""Least class agreement with the FP32 graph, on sample frames, of an engine worth writing.

Half formats move pixels on class borders, of which noise-like sample frames have many: their bound is a smoke alarm,
and accuracy is told by ``rtpsp eval``.
"""


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    Attributes:
        precision: ``fp32`` or ``fp16``; on a CPU the latter is bf16 or f16, whichever the CPU has units for.
        backend: Name in `rtpsp.engine.BACKENDS`.
        confidence: Give the winning class's softmax probability too; it costs a softmax over every pixel.
        threads: CPU threads for the comparison; 0 leaves it to the backend.
    """

    precision: Precision = "fp32"
    backend: str = DEFAULT_BACKEND
    confidence: bool = False
    threads: int = 0


@dataclass(frozen=True)
class Built:
    """What came of it.

    Attributes:
        path: The engine file.
        header: As written.
        ran: Number format of the convolutions on this machine.
        agreement: Class agreement with the FP32 graph on sample frames, 0..1.
    """

    path: Path
    header: EngineHeader
    ran: str
    agreement: float


def build_engine(
    model: Path, path: Path | None = None, options: BuildOptions | None = None, progress: Progress | None = None
) -> Built:
    """Lower a model file for a backend, check the result against the FP32 graph, and write the engine file.

    Args:
        model: An ONNX file with a spec inside.
        path: Where to write; `engine_path` in `engines_folder` by default.
        options: What to build.
        progress: Called at each step.

    Raises:
        ModelError: Not a model that can be lowered.
        BoundNotMet: Lowering or the backend changed the answers.
        MissingError: The backend's package is missing.
        OutputError: The file cannot be written.
    """
    from rtpsp.graph.lower import load_model, lower, model_bytes, model_digest
    from rtpsp.graph.verify import sample_frames

    options = options or BuildOptions()
    tell = progress or (lambda step, done, total: None)
    if path:
        check_writable(path, hint="name another file with -o")
    tell(STEPS[0], 0, len(STEPS))
    factory = engine_class(options.backend)
    graph, spec = load_model(model)
    tell(STEPS[1], 1, len(STEPS))
    frames = sample_frames(spec, count=1)
    lowered = lower(graph, spec, confidence=options.confidence, frames=frames, threads=options.threads)
    header = to_header(spec, options, model_digest(model), model.name)
    tell(STEPS[2], 2, len(STEPS))
    payload = model_bytes(lowered)
    with factory(header, payload, EngineOptions(threads=options.threads)) as engine:
        agreement = _agreement(engine.infer(frames).class_map, lowered, spec, frames, options.threads)
        ran = engine.ran
    if agreement < MIN_AGREEMENT[options.precision]:
        raise BoundNotMet(
            f"{options.backend} in {ran} agrees with the FP32 graph on {agreement:.2%} of the sample pixels, expected "
            f"{MIN_AGREEMENT[options.precision]:.1%} or more: this backend is not to be trusted with this model"
        )
    tell(STEPS[3], 3, len(STEPS))
    path = path or engines_folder() / engine_name(header)
    write_engine_file(path, header, payload)
    tell("done", len(STEPS), len(STEPS))
    return Built(path, header, ran, agreement)


def _agreement(class_map: object, lowered: ir.Model, spec: ModelSpec, frames: Frames, threads: int) -> float:
    import numpy as np

    from rtpsp.graph.verify import run

    return float(np.mean(class_map == run(lowered, spec, frames, threads).class_map))


def to_header(spec: ModelSpec, options: BuildOptions, digest: str = "", model: str = "") -> EngineHeader:
    """The header of the engine that these options give on this machine.

    Args:
        spec: Of the model.
        options: What to build.
        digest: sha256 of the model file, in hex.
        model: The model file's name; letters that do not print become question marks.
    """
    model = "".join(letter if letter.isprintable() else "?" for letter in model)
    return EngineHeader(
        spec=spec,
        backend=options.backend,
        precision=options.precision,
        model_digest=digest,
        versions=package_versions(options.backend),
        options={"batch": 1, "confidence": options.confidence, "model": model},
    )


def package_versions(backend: str) -> dict[str, str]:
    """Versions of the packages that a built engine depends on, by name."""
    found = {}
    for package in ("rtpsp", BACKENDS[backend].package, "onnx-ir"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def engine_name(header: EngineHeader) -> str:
    """What an engine file is called: ``pspnet18-camvid-360x480-fp16-openvino2026.4.engine``."""
    spec = header.spec
    package = BACKENDS[header.backend].package
    release = ".".join(header.versions.get(package, "").split(".")[:2])
    confidence = "-confidence" if header.options.get("confidence") else ""
    return f"{spec.name}-{spec.height}x{spec.width}-{header.precision}{confidence}-{header.backend}{release}.engine"


def engines_folder() -> Path:
    """Where engines lie: the folder that `ENGINES_VARIABLE` names, ``./engines`` of a checkout, or the user's cache."""
    named = os.environ.get(ENGINES_VARIABLE)
    if named:
        return Path(os.path.expanduser(named))  # Path.expanduser raises for a user that there is not
    if os.path.isfile("engines/README.md") and os.path.isdir("rtpsp/zoo"):
        return Path.cwd() / "engines"
    from platformdirs import user_cache_path

    with contextlib.suppress(RuntimeError):  # a user without a home, for whom older releases return "~"
        cache = user_cache_path("rtpsp")
        if cache.is_absolute():
            return cache / "engines"
    return Path(os.sep, ".cache", "rtpsp", "engines")


def default_precision(backend: str = DEFAULT_BACKEND) -> Precision:
    """``fp16`` where this machine's CPU has half-precision units that the backend uses, else ``fp32``."""
    if backend != "openvino":
        return "fp32"
    from rtpsp.engine.openvino_backend import half_format

    return "fp16" if half_format() else "fp32"
