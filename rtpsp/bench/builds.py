"""Builds the engines of a benchmark: of a model file, of the shipped model, or of random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rtpsp import zoo
from rtpsp.bench.random_networks import RandomNetwork
from rtpsp.build import build_engine
from rtpsp.build_options import BuildOptions, default_precision, engine_name, to_header, usual_plan
from rtpsp.default import why_not
from rtpsp.errors import UsageError
from rtpsp.header import Precision
from rtpsp.int8 import Int8Options
from rtpsp.model.arch import ARCHS
from rtpsp.places import engines_folder

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.bench.subjects import SubjectOptions

DEFAULT_SIZE = (720, 960)
"""Of a random network: that of the published PSPNet on CamVid."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

Write: TypeAlias = Callable[[Path, str, Precision | None, Progress], Path]
"""Gives an engine file for a backend and a precision: a new one at this path, or one that is there already."""


def writer_of(options: SubjectOptions) -> tuple[Write, Path | ir.Model]:
    """What builds the engines that are asked for, and the model that they are built of.

    Raises:
        UsageError: No such architecture, or it cannot be had so.
    """
    if options.model in ARCHS:
        network = RandomNetwork(
            options.model, output_stride=options.output_stride, classes=options.classes, threads=options.threads
        )
        size = options.size or DEFAULT_SIZE
        return _of_random(network, size, options.batch), network.model(size)
    if options.model is None:
        model = zoo.model_path()
        return _of_file(model, options, shipped=True), model
    path = Path(os.path.expanduser(options.model))
    if path.suffix != ".onnx" and not path.exists():
        raise UsageError(
            f"no architecture {options.model!r}: use one of {', '.join(ARCHS)}, or give a model file (.onnx)"
        )
    return _of_file(path, options, shipped=False), path


def _of_random(network: RandomNetwork, size: tuple[int, int], batch: int) -> Write:
    def write(path: Path, backend: str, precision: Precision | None, tell: Progress) -> Path:
        network.write_engine(path, size, backend, precision, batch=batch, progress=tell)
        return path

    return write


def _of_file(model: Path, options: SubjectOptions, *, shipped: bool) -> Write:
    def write(path: Path, backend: str, precision: Precision | None, tell: Progress) -> Path:
        chosen = precision or (default_precision(backend) if shipped else None)
        int8 = Int8Options(calib=options.calib if chosen in (None, "int8") else None)
        build = BuildOptions(
            chosen, backend, threads=options.threads, batch=options.batch, int8=int8, plan=usual_plan(backend)
        )
        if shipped and options.calib is None:
            there = engines_folder() / engine_name(to_header(zoo.model_spec(), build))
            if why_not(there, zoo.model_digest(), build) is None:
                return there
        return build_engine(model, path, build, tell).path

    return write
