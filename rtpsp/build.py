"""From a model file to an engine file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rtpsp import zoo
from rtpsp.build_options import BuildOptions as BuildOptions
from rtpsp.build_options import choose_tail as choose_tail
from rtpsp.build_options import default_precision as default_precision
from rtpsp.build_options import engine_name as engine_name
from rtpsp.build_options import package_versions as package_versions
from rtpsp.build_options import to_header as to_header
from rtpsp.build_options import told as told
from rtpsp.build_options import usual_plan as usual_plan
from rtpsp.engine import BACKENDS, DEFAULT_BACKEND, engine_class
from rtpsp.engine.file import write_engine_file
from rtpsp.engine.tensorrt_api import load
from rtpsp.errors import BoundNotMet, DataError, EngineFileError, MissingError, UsageError
from rtpsp.failed_builds import forget
from rtpsp.files import check_writable
from rtpsp.header import EngineHeader, Precision
from rtpsp.int8 import Quantised, quantise_model, refuse
from rtpsp.machine import why_no_gpu
from rtpsp.maker import Form, Maker, choose_head
from rtpsp.places import ENGINES_VARIABLE as ENGINES_VARIABLE
from rtpsp.places import engines_folder as engines_folder

if TYPE_CHECKING:
    from rtpsp.foreign import Adapted

Progress = Callable[[str, int, int], None]
"""Told the step that begins, how many are done, and how many there are."""

STEPS = ("read the model", "lower the graph", "compile and compare", "write the engine")

MAX_COMPARED = 2
"""Most frames that are compared: two tell whether a batch keeps its frames apart."""

MIN_AGREEMENT: dict[str, float] = {"fp32": 0.999, "fp16": 0.9, "int8": 0.75}
"""Least class agreement with the FP32 graph, on sample frames, of an engine worth writing.

Coarse formats move pixels on class borders, of which noise-like sample frames have many: their bound is a smoke alarm,
and accuracy is told by ``rtpsp eval``, and for INT8 by frames given to the build.
"""


@dataclass(frozen=True)
class Built:
    """What came of it.

    Attributes:
        path: The engine file.
        header: As written.
        ran: Number format of the convolutions on this machine; empty where it could not be run here.
        agreement: Class agreement with the FP32 graph on sample frames, 0..1; of its graph by ONNX Runtime where the
            engine itself could not be run here.
        notes: What was chosen, and why, a line each.
        quantised: What INT8 came to; None for other precisions.
        why_not_run: Why it could not be run here; empty where it was.
    """

    path: Path
    header: EngineHeader
    ran: str
    agreement: float
    notes: tuple[str, ...] = ()
    quantised: Quantised | None = None
    why_not_run: str = ""


def build_engine(
    model: Path | Adapted,
    path: Path | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Built:
    """Lower a model file for a backend, check the result against the FP32 graph, and write the engine file.

    Args:
        model: An ONNX file with a spec inside, or one without, as `rtpsp.foreign.adapt` took it over.
        path: Where to write; `engine_path` in `engines_folder` by default.
        options: What to build.
        progress: Called at each step.

    Raises:
        ModelError: Not a model that can be lowered.
        BoundNotMet: Lowering or the backend changed the answers, or INT8 does not keep the asked-for accuracy. The best
            INT8 engine is then kept under another name.
        MissingError: The backend's package is missing, or the GPU that TensorRT builds on.
        OutputError: The file cannot be written.
        DataError: INT8's frames or its cache of ranges cannot be used.
        UsageError: INT8 has nothing to take ranges from, or nothing to measure an asked-for bound on.
    """
    from rtpsp.graph.lower import load_model, model_digest
    from rtpsp.graph.verify import sample_frames

    options = options or BuildOptions()
    tell = progress or (lambda step, done, total: None)
    check_writable(path or engines_folder() / "any.engine", hint="name another file with -o")  # before minutes of INT8
    tell(STEPS[0], 0, len(STEPS))
    _check_backend(options.backend)
    if isinstance(model, Path):
        file, (graph, spec) = model, load_model(model)
    else:
        file, graph, spec = model.path, model.graph, model.spec
    tell(STEPS[1], 1, len(STEPS))
    frames = sample_frames(spec, count=min(options.batch, MAX_COMPARED))
    header = to_header(spec, replace(options, precision=options.precision or "fp32"), model_digest(file), file.name)
    # at another size it is not what a build without a model gives
    if isinstance(model, Path) and header.model_digest == zoo.model_digest():
        header.options["shipped"] = True
    tail = choose_tail(options.tail, graph, spec)
    maker = Maker(graph, spec, header, frames, tail, options.threads, options.plan, tell)
    maker.lowered("split" if options.head == "split" else "plain")
    precision, why = _precision(maker, options)
    quantised = None
    if precision == "int8":
        quantised = quantise_model(maker, options.int8, options.head, tell)
        form, notes = quantised.form, quantised.notes
    else:
        head, which = choose_head(maker, options.head, precision)
        form, notes = Form(precision, head), (which,)
    tell(STEPS[2], 2, len(STEPS))
    header, payload = maker.make(form)
    if maker.backend.plan:  # whose builder has told of its own phases
        tell(STEPS[2], 2, len(STEPS))
    if quantised is not None:
        assert maker.ranges is not None
        header = replace(
            header,
            calibration_digest=maker.ranges.frames,
            options={**header.options, "int8": header.options["int8"] | quantised.told},
        )
    failed = quantised is not None and bool(quantised.failed)
    # an engine that does not keep its bound is kept without any further condition, and the build fails of the bound
    found = _Found() if failed else _compare(maker, form)
    tell(STEPS[3], 3, len(STEPS))
    path = path or engines_folder() / engine_name(header)
    if failed:
        path = path.with_name(f"{path.stem}-below-bound{path.suffix}")
    write_engine_file(path, header, payload)
    if failed:
        assert quantised is not None
        raise refuse(quantised, path)
    tell("done", len(STEPS), len(STEPS))
    if not found.why_not_run:
        forget(path)
    notes = (*([why] if why else []), *notes, *maker.notes(form))
    return Built(path, header, found.ran, found.agreement, notes, quantised, found.why_not_run)


def _check_backend(backend: str) -> None:
    """Before anything takes time: its package is there, and for TensorRT the GPU.

    Raises:
        MissingError: One of them is not.
    """
    engine_class(backend)
    if BACKENDS[backend].plan:
        load(backend)
    why = why_no_gpu() if backend == "tensorrt" else None
    if why is not None:
        raise MissingError(
            f"TensorRT builds on the GPU that is to run the engine, and there is none here ({why}): build on that "
            f"machine, or ahead of time for RTX cards with --backend tensorrt-rtx"
        )


def _precision(maker: Maker, options: BuildOptions) -> tuple[Precision, str]:
    """What was asked for, or what is fast without any data, and why in words."""
    if options.precision is not None:
        return options.precision, ""
    from rtpsp.calibrate import cached

    if options.int8.calib is not None or options.int8.cache is not None:
        return "int8", "INT8, since frames or ranges were given for it"
    if BACKENDS[options.backend].gpu:
        return "fp16", "FP16, the usual precision of a GPU (for INT8: --int8)"
    try:
        cached(maker.graph, maker.spec)
    except (UsageError, DataError):
        pass
    else:
        if options.backend == DEFAULT_BACKEND:
            return "int8", "INT8, for which the model brings its ranges"
    if _half(options.backend) is None:
        return "fp32", ""
    ratio = maker.race(Form("fp32"), Form("fp16")).median
    if ratio > 1:
        return "fp16", f"FP16: {ratio:.2f}x as fast as FP32 here"
    return "fp32", f"FP32: {1 / ratio:.2f}x as fast as FP16 here"


class _Found(NamedTuple):
    ran: str = ""
    agreement: float = 0.0
    why_not_run: str = ""


def _compare(maker: Maker, form: Form) -> _Found:
    """In which format an engine runs, and how often it names the class that the FP32 graph names on sample frames.

    Where an engine for a GPU cannot be run here, its graph is, down to the last cast, by ONNX Runtime.

    Raises:
        BoundNotMet: Too seldom.
    """
    from rtpsp.graph.verify import run

    backend, why_not = maker.header.backend, maker.why_not_here
    answer, ran = None, ""
    if why_not is None:
        try:
            with maker.engine(form) as engine:
                answer, ran = engine.infer(maker.batch_of_frames()).class_map[: len(maker.frames)], engine.ran
        except (EngineFileError, MissingError) as error:
            if backend != "tensorrt-rtx":
                raise
            why_not = str(error)  # what was built ahead of time may be for another machine than this one
    if answer is None:
        answer = run(maker.graph_of(form, len(maker.frames)), maker.spec, maker.frames, maker.threads).class_map
    agreement = float(np.mean(answer == maker.answers.class_map))
    if agreement < MIN_AGREEMENT[form.precision]:
        why = "this backend is not to be trusted with this model"
        if form.precision == "int8":
            why = "the ranges do not fit the model, or the backend is not to be trusted with it; calibrate with --calib"
        who = f"{backend} in {ran}" if ran else f"the graph for {backend}, by ONNX Runtime,"
        raise BoundNotMet(
            f"{who} agrees with the FP32 graph on {agreement:.2%} of the sample pixels, expected "
            f"{MIN_AGREEMENT[form.precision]:.1%} or more: {why}"
        )
    return _Found(ran, agreement, why_not or "")


def _half(backend: str) -> str | None:
    if backend != "openvino":
        return None
    from rtpsp.engine.openvino_backend import half_format

    return half_format()
