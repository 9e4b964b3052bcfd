"""What TensorRT's builder may be told, which flavour knows what of it, and which GPUs a plan is for by that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rtpsp.engine import tensorrt_types as types
from rtpsp.engine.tensorrt_api import Flavour, TensorRT
from rtpsp.errors import UsageError
from rtpsp.header import Target
from rtpsp.machine import Gpu

Hardware = Literal["", "ampere+", "same"]

MAX_LEVEL = 5
RTX_DEFAULT = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities of a plan of TensorRT-RTX that was given none, by the bits of its header, "and later ones":
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html.
"""
_AMPERE = "8.0"


@dataclass(frozen=True)
class PlanOptions:
    """What the builder is told.

    Attributes:
        workspace: Bytes of GPU memory that a layer may use for itself; 0 for all that there are.
        optimisation_level: 0 takes the first implementation that works, 5 tries the most; None is TensorRT's own, 3.
        aux_streams: Streams beside the main one, on which branches may run at the same time; None lets TensorRT choose.
        tf32: FP32 matrices may be multiplied with 10 bits of mantissa. Off, other than TensorRT has it: an engine that
            was asked for in FP32 is one.
        timing_cache: Folder of files with what earlier builds measured; None keeps nothing. TensorRT alone.
        hardware: ``ampere+`` for GPUs of compute capability 8.0 or later, ``same`` for all of this GPU's compute
            capability; empty for this GPU. Other GPUs cost speed on this one. TensorRT alone.
        version_compatible: Later releases of the same major version run the plan too, with a runtime that is put into
            it. TensorRT alone.
        targets: Compute capabilities to build for, such as ``8.9``; none for `RTX_DEFAULT`. TensorRT-RTX alone.
        detailed: The plan tells its layers' kernels and formats to whoever inspects it.
        verbose: Log what the builder says at its finest severity too.
    """

    workspace: int = 0
    optimisation_level: int | None = None
    aux_streams: int | None = None
    tf32: bool = False
    timing_cache: Path | None = None
    hardware: Hardware = ""
    version_compatible: bool = False
    targets: tuple[str, ...] = ()
    detailed: bool = True
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.workspace < 0:
            raise UsageError(f"workspace is {self.workspace} bytes, expected at least 0, which is all")
        if self.optimisation_level is not None and not 0 <= self.optimisation_level <= MAX_LEVEL:
            raise UsageError(f"optimisation level is {self.optimisation_level}, expected 0 to {MAX_LEVEL}")
        if self.aux_streams is not None and self.aux_streams < 0:
            raise UsageError(f"auxiliary streams are {self.aux_streams}, expected at least 0")
        if self.hardware not in get_args(Hardware):
            raise UsageError(f"hardware compatibility is {self.hardware!r}, expected ampere+, same, or none")


def check_options(flavour: Flavour, options: PlanOptions) -> None:
    """Refuse what a flavour's builder does not know; it would warn at most, or fail later.

    Raises:
        UsageError: It lacks an option that was given.
    """
    if flavour.rtx:
        lacking = {
            "a timing cache": options.timing_cache is not None,
            "hardware compatibility": bool(options.hardware),
            "version compatibility": options.version_compatible,
        }
        instead = "leave it out: its plans are compiled for the GPU when they are loaded"
    else:
        lacking = {"a target compute capability": bool(options.targets)}
        instead = "build on a GPU of that kind, or with hardware compatibility"
    if given := [name for name, asked in lacking.items() if asked]:
        raise UsageError(f"{flavour.title} has no option for {', '.join(given)}: {instead}")


def configure(flavour: Flavour, trt: TensorRT, builder: types.Builder, options: PlanOptions) -> types.IBuilderConfig:
    """A builder's configuration with everything in it but the timing cache and the progress monitor.

    Raises:
        UsageError: This release does not know a target.
    """
    config = builder.create_builder_config()
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.optimisation_level is not None:
        config.builder_optimization_level = options.optimisation_level
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware:
        levels = trt.HardwareCompatibilityLevel
        level = levels.AMPERE_PLUS if options.hardware == "ampere+" else levels.SAME_COMPUTE_CAPABILITY
        config.hardware_compatibility_level = level
    if options.targets:
        _set_targets(flavour, trt, config, options.targets)
    return config


def plan_target(flavour: Flavour, options: PlanOptions, gpu: Gpu | None) -> Target:
    """The GPUs that a plan is for.

    Args:
        flavour: What builds it.
        options: What that is told.
        gpu: The one that it is built on; None for TensorRT-RTX.

    Raises:
        UsageError: It is to run on GPUs of compute capability 8.0 or later, and this one is older.
    """
    if flavour.rtx:
        targets = tuple(dict.fromkeys(options.targets))
        return Target(compute_capabilities=targets or RTX_DEFAULT, or_later=not targets)
    assert gpu is not None
    capabilities, or_later = (gpu.compute_capability,), options.hardware == "ampere+"
    if or_later:
        if _number(gpu.compute_capability) < _number(_AMPERE):
            raise UsageError(
                f"hardware compatibility ampere+ builds on GPUs of compute capability {_AMPERE} or later, here is "
                f"{gpu.name} with {gpu.compute_capability}: leave it out"
            )
        capabilities = (_AMPERE,)
    return Target(
        gpu=gpu.name,
        compute_capabilities=capabilities,
        or_later=or_later,
        version_compatible=options.version_compatible,
    )


def _set_targets(flavour: Flavour, trt: TensorRT, config: types.IBuilderConfig, targets: tuple[str, ...]) -> None:
    wanted = dict.fromkeys(targets)
    known = {
        f"{name[2:-1]}.{name[-1]}": capability
        for name, capability in trt.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    if unknown := [target for target in wanted if target not in known]:
        raise UsageError(
            f"{flavour.title} {trt.__version__} does not build for compute capability {', '.join(unknown)}, expected "
            f"some of {', '.join(known)}"
        )
    config.num_compute_capabilities = len(wanted)
    for index, target in enumerate(wanted):
        if not config.set_compute_capability(known[target], index):
            raise UsageError(f"{flavour.title} {trt.__version__} refuses compute capability {target}: leave it out")


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
