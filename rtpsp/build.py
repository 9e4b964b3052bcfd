"""From a model file to an engine file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp import zoo
from rtpsp.calibration_cache import TABLE
from rtpsp.engine import BACKENDS, DEFAULT_BACKEND, engine_class
from rtpsp.engine.file import write_engine_file
from rtpsp.errors import BoundNotMet
from rtpsp.files import check_writable
from rtpsp.header import EngineHeader, Precision
from rtpsp.int8 import Int8Options, Quantised, quantise_model, refuse
from rtpsp.maker import Form, Maker, choose_head
from rtpsp.places import ENGINES_VARIABLE as ENGINES_VARIABLE
from rtpsp.places import engines_folder as engines_folder

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.graph.lower import Tail
    from rtpsp.spec import ModelSpec

Progress = Callable[[str, int, int], None]
"""Told the step that begins, how many are done, and how many there are."""

STEPS = ("read the model", "lower the graph", "compile and compare", "write the engine")

MIN_AGREEMENT: dict[str, float] = {"fp32": 0.999, "fp16": 0.9, "int8": 0.75}
"""Least class agreement with the FP32 graph, on sample frames, of an engine worth writing.

Coarse formats move pixels on class borders, of which noise-like sample frames have many: their bound is a smoke alarm,
and accuracy is told by ``rtpsp eval``, and for INT8 by frames given to the build.
"""


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    Attributes:
        precision: ``fp32``, ``fp16`` or ``int8``. On a CPU FP16 is bf16 or f16, whichever the CPU has units for. None
            takes INT8 for a model that brings its ranges, else the faster of FP32 and FP16 on this machine.
        backend: Name in `rtpsp.engine.BACKENDS`.
        confidence: Give the winning class's softmax probability too; it costs a softmax over every pixel.
        threads: CPU threads for the comparison; 0 leaves it to the backend.
        head: ``plain``, ``split`` (`rtpsp.graph.pyramid`), or ``auto``: the faster on this machine.
        tail: ``graph`` or ``host`` (`rtpsp.upsampling`) makes the class map; ``auto`` takes the faster for the model.
        int8: How INT8 is made, and how accurate it has to be.
    """

    precision: Precision | None = "fp32"
    backend: str = DEFAULT_BACKEND
    confidence: bool = False
    threads: int = 0
    head: str = "auto"
    tail: str = "auto"
    int8: Int8Options = field(default_factory=Int8Options)


@dataclass(frozen=True)
class Built:
    """What came of it.

    Attributes:
        path: The engine file.
        header: As written.
        ran: Number format of the convolutions on this machine.
        agreement: Class agreement with the FP32 graph on sample frames, 0..1.
        notes: What was chosen, and why, a line each.
        quantised: What INT8 came to; None for other precisions.
    """

    path: Path
    header: EngineHeader
    ran: str
    agreement: float
    notes: tuple[str, ...] = ()
    quantised: Quantised | None = None


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
        BoundNotMet: Lowering or the backend changed the answers, or INT8 does not keep the asked-for accuracy. The best
            INT8 engine is then kept under another name.
        MissingError: The backend's package is missing.
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
    engine_class(options.backend)
    graph, spec = load_model(model)
    tell(STEPS[1], 1, len(STEPS))
    frames = sample_frames(spec, count=1)
    header = to_header(spec, replace(options, precision=options.precision or "fp32"), model_digest(model), model.name)
    if model == zoo.model_path():
        header.options["shipped"] = True
    maker = Maker(graph, spec, header, frames, choose_tail(options.tail, graph, spec), options.threads)
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
    if quantised is not None:
        assert maker.ranges is not None
        header = replace(
            header,
            calibration_digest=maker.ranges.frames,
            options={**header.options, "int8": header.options["int8"] | quantised.told},
        )
    failed = quantised is not None and bool(quantised.failed)
    # an engine that does not keep its bound is kept without any further condition, and the build fails of the bound
    ran, agreement = ("", 0.0) if failed else _compare(maker, form, options.backend)
    tell(STEPS[3], 3, len(STEPS))
    path = path or engines_folder() / engine_name(header)
    if failed:
        path = path.with_name(f"{path.stem}-below-bound{path.suffix}")
    write_engine_file(path, header, payload)
    if failed:
        assert quantised is not None
        raise refuse(quantised, path)
    tell("done", len(STEPS), len(STEPS))
    return Built(path, header, ran, agreement, (*([why] if why else []), *notes), quantised)


def _precision(maker: Maker, options: BuildOptions) -> tuple[Precision, str]:
    """What was asked for, or what is fast without any data, and why in words."""
    if options.precision is not None:
        return options.precision, ""
    from rtpsp.calibrate import cached
    from rtpsp.errors import DataError, UsageError

    if options.int8.calib is not None or options.int8.cache is not None:
        return "int8", "INT8, since frames or ranges were given for it"
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


def _compare(maker: Maker, form: Form, backend: str) -> tuple[str, float]:
    """In which format an engine runs, and how often it names the class that the FP32 graph names on sample frames.

    Raises:
        BoundNotMet: Too seldom.
    """
    import numpy as np

    with maker.engine(form) as engine:
        answer = engine.infer(maker.frames).class_map
        ran = engine.ran
    agreement = float(np.mean(answer == maker.answers.class_map))
    if agreement < MIN_AGREEMENT[form.precision]:
        why = "this backend is not to be trusted with this model"
        if form.precision == "int8":
            why = "the ranges do not fit the model, or the backend is not to be trusted with it; calibrate with --calib"
        raise BoundNotMet(
            f"{backend} in {ran} agrees with the FP32 graph on {agreement:.2%} of the sample pixels, expected "
            f"{MIN_AGREEMENT[form.precision]:.1%} or more: {why}"
        )
    return ran, agreement


def choose_tail(asked: str, graph: ir.Model, spec: ModelSpec) -> Tail:
    """What makes the class map: as asked for, or the faster.

    On CPUs that is the host, by ``bench/tail.py``, if the model's scores are coarser than its input; where they are
    not, there is nothing that it could leave out.
    """
    if asked in ("graph", "host"):
        return "host" if asked == "host" else "graph"
    from rtpsp.graph.classmap import to_scores

    cells = to_scores(graph, spec).graph.outputs[0].shape
    assert cells is not None
    return "graph" if cells.numpy()[2:] == spec.size else "host"


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
        precision=options.precision or default_precision(options.backend),
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
    """What an engine file is called: ``pspnet18-camvid-360x480-fp16-openvino2026.4.engine``.

    Behind ``int8`` stands which frames its ranges are from, but for those that came with the model: a run that is given
    no engine builds that one, and is not to write over anybody's own.
    """
    spec = header.spec
    package = BACKENDS[header.backend].package
    release = ".".join(header.versions.get(package, "").split(".")[:2])
    confidence = "-confidence" if header.options.get("confidence") else ""
    precision: str = header.precision
    if "cache" in header.options.get("int8", {}):
        precision += f"-{(header.calibration_digest or '').removeprefix(TABLE)[:8]}"
    return f"{spec.name}-{spec.height}x{spec.width}-{precision}{confidence}-{header.backend}{release}.engine"


def default_precision(backend: str = DEFAULT_BACKEND) -> Precision:
    """That of the shipped model's engine when none is asked for: INT8, for which it brings its ranges, where that pays.

    ONNX Runtime's INT8 convolutions are little faster than its FP32 ones on a CPU (``bench/README.md``).
    """
    return "int8" if backend == DEFAULT_BACKEND else "fp32"


def _half(backend: str) -> str | None:
    if backend != "openvino":
        return None
    from rtpsp.engine.openvino_backend import half_format

    return half_format()
