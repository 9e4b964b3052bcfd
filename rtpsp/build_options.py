"""What an engine is built to be, what is taken where nothing was asked for, and what its file is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rtpsp import machine
from rtpsp.calibration_cache import TABLE
from rtpsp.engine import BACKENDS, DEFAULT_BACKEND
from rtpsp.engine.tensorrt_api import flavour_of
from rtpsp.engine.tensorrt_options import FLAGS, PlanOptions, check_options, plan_target, usual_targets
from rtpsp.errors import UsageError
from rtpsp.header import MAX_BATCH, EngineHeader, Precision, Target
from rtpsp.int8 import Int8Options
from rtpsp.places import timing_folder
from rtpsp.runtimes import installed_version

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.graph.lower import Tail
    from rtpsp.spec import ModelSpec

_NOT_THE_ENGINE = ("timing_cache", "detailed", "verbose")
_NOT_ASKED = ("detailed", "verbose")
_TAGS = {"tensorrt": "trt", "tensorrt-rtx": "trtrtx"}
_PLAN_TAGS: dict[str, Callable[[Any], str]] = {
    "optimisation_level": "level{}".format,
    "workspace": lambda nbytes: f"workspace{nbytes >> 20}",
    "aux_streams": "aux{}".format,
    "hardware": lambda level: "" if level == "ampere+" else level,  # which sm80+ tells
    "version_compatible": lambda _: "vc",
}


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    Attributes:
        precision: ``fp32``, ``fp16`` or ``int8``. On a CPU FP16 is bf16 or f16, whichever the CPU has units for. None
            takes INT8 where frames or ranges are given for it; else on a GPU FP16, on a CPU INT8 for a model that
            brings its ranges, else the faster of FP32 and FP16 on this machine.
        backend: Name in `rtpsp.engine.BACKENDS`.
        confidence: Give the winning class's softmax probability too; it costs a softmax over every pixel.
        threads: CPU threads for the comparison; 0 leaves it to the backend.
        head: ``plain``, ``split`` (`rtpsp.graph.pyramid`), or ``auto``: the faster on this machine.
        tail: ``graph`` or ``host`` (`rtpsp.upsampling`) makes the class map; ``auto`` takes the faster for the model.
        int8: How INT8 is made, and how accurate it has to be.
        batch: Frames of one inference; the live loop, eval and compare take engines of one.
        plan: What TensorRT's builder is told.
    """

    precision: Precision | None = "fp32"
    backend: str = DEFAULT_BACKEND
    confidence: bool = False
    threads: int = 0
    head: str = "auto"
    tail: str = "auto"
    int8: Int8Options = field(default_factory=Int8Options)
    batch: int = 1
    plan: PlanOptions = field(default_factory=PlanOptions)

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= MAX_BATCH:
            raise UsageError(f"batch is {self.batch}, expected 1 to {MAX_BATCH}")
        if self.backend not in BACKENDS:
            return  # which is said when its engine class is asked for
        if BACKENDS[self.backend].plan:
            check_options(flavour_of(self.backend), self.plan)
        elif asked := _unusual(self.plan, _NOT_ASKED):
            builders = " or ".join(name for name, backend in BACKENDS.items() if backend.plan)
            raise UsageError(
                f"{', '.join(FLAGS[name] for name in asked)} is for TensorRT's builder, and the backend is "
                f"{self.backend}: leave it out, or build for {builders}"
            )
        if self.plan.tf32 and self.precision != "fp32":
            raise UsageError(
                f"--tf32 is for engines in FP32, got {self.precision or 'no precision'}: leave it out, or add --fp32"
            )


def usual_plan(backend: str) -> PlanOptions:
    """What TensorRT's builder is told where nobody says: for the GPU that is here, and to keep what it timed."""
    if backend == "tensorrt":
        return PlanOptions(timing_cache=timing_folder())
    gpu = next(iter(machine.gpus()), None) if backend == "tensorrt-rtx" else None
    return PlanOptions(targets=usual_targets(gpu.compute_capability) if gpu else ())


def told(plan: PlanOptions) -> dict[str, Any]:
    """What was asked of TensorRT's builder, by name, as plain JSON values; what decides about the engine alone."""
    found = _unusual(plan, _NOT_THE_ENGINE)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _unusual(plan: PlanOptions, leave_out: tuple[str, ...]) -> dict[str, Any]:
    usual = asdict(PlanOptions())
    return {name: value for name, value in asdict(plan).items() if name not in leave_out and value != usual[name]}


def default_precision(backend: str = DEFAULT_BACKEND) -> Precision:
    """That of the shipped model's engine when none is asked for.

    INT8, for which it brings its ranges, where that pays: ONNX Runtime's INT8 convolutions are little faster than its
    FP32 ones on a CPU (``bench/README.md``). FP16 on a GPU, where nobody has measured our INT8: NVIDIA tells of
    networks that it makes slower, by kernels that only convert between formats.
    """
    if BACKENDS[backend].gpu:
        return "fp16"
    return "int8" if backend == DEFAULT_BACKEND else "fp32"


def choose_tail(asked: str, graph: ir.Model, spec: ModelSpec) -> Tail:
    """What makes the class map: as asked for, or the faster.

    On CPUs that is the host, by ``bench/tail.py``, if the model's scores are coarser than its input; where they are
    not, there is nothing that it could leave out. On a GPU the same rule holds: our own kernels make the class map of
    the scores there (`rtpsp.engine.device_io`), at the frame's own size.
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
    values: dict[str, Any] = {"batch": options.batch, "confidence": options.confidence, "model": model}
    if BACKENDS[options.backend].plan:
        values["plan"] = told(options.plan)
    return EngineHeader(
        spec=spec,
        backend=options.backend,
        precision=options.precision or default_precision(options.backend),
        model_digest=digest,
        versions=package_versions(options.backend),
        options=values,
        target=_target(options),
    )


def _target(options: BuildOptions) -> Target:
    """The GPUs that TensorRT's plan will be for; nothing for other backends."""
    if not BACKENDS[options.backend].plan:
        return Target()
    flavour = flavour_of(options.backend)
    gpu = None if flavour.rtx else next(iter(machine.gpus()), None)
    return plan_target(flavour, options.plan, gpu) if flavour.rtx or gpu else Target()


def package_versions(backend: str) -> dict[str, str]:
    """Versions of the packages that a built engine depends on, by name."""
    return {
        package: installed_version(package) or "unknown" for package in ("rtpsp", BACKENDS[backend].package, "onnx-ir")
    }


def engine_name(header: EngineHeader) -> str:
    """What an engine file is called: ``pspnet18-camvid-360x480-fp16-openvino2026.4.engine``.

    Behind ``int8`` stands which frames its ranges are from, but for those that came with the model: a run that is given
    no engine builds that one, and is not to write over anybody's own. So stands there whatever else TensorRT's builder
    was told, ``-level0``. A TensorRT engine ends with the compute capabilities that it is for, ``-trt11.4-sm90``; a
    TensorRT-RTX one only where others than the usual were asked for.
    """
    spec, options = header.spec, header.options
    plan = options.get("plan", {})
    release = ".".join(header.versions.get(BACKENDS[header.backend].package, "").split(".")[:2])
    parts: list[str] = [spec.name, f"{spec.height}x{spec.width}", header.precision]
    if header.precision == "fp32" and plan.get("tf32"):
        parts[-1] = "tf32"
    if "cache" in options.get("int8", {}):
        parts.append((header.calibration_digest or "").removeprefix(TABLE)[:8])
    if options.get("confidence"):
        parts.append("confidence")
    if options.get("batch", 1) != 1:
        parts.append(f"b{options['batch']}")
    parts += [words for name, tag in _PLAN_TAGS.items() if name in plan and (words := tag(plan[name]))]
    parts.append(f"{_TAGS.get(header.backend, header.backend)}{release}")
    if header.backend == "tensorrt" or plan.get("targets"):
        later = "+" if header.target.or_later else ""
        parts += [f"sm{capability.replace('.', '')}{later}" for capability in header.target.compute_capabilities]
    return f"{'-'.join(parts)}.engine"
