"""What TensorRT's builder may be told, which flavour knows what of it, and which GPUs a plan is for by that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from packaging.version import Version

from rtpsp.engine.table import BACKENDS
from rtpsp.errors import UsageError
from rtpsp.header import Target
from rtpsp.machine import Gpu

if TYPE_CHECKING:
    from rtpsp.engine import tensorrt_types as types
    from rtpsp.engine.tensorrt_api import Flavour, TensorRT

Hardware = Literal["", "ampere+", "same"]

MAX_LEVEL = 5
MAX_WORKSPACE = 1 << 40
"""Bytes, more than any GPU has; near 2^63 TensorRT's own sums overflow."""
MAX_AUX_STREAMS = 128
"""As many kernels run at the same time on any GPU, by the CUDA programming guide's table of compute capabilities."""
FLAGS = {
    "workspace": "--workspace",
    "optimisation_level": "--optimisation-level",
    "aux_streams": "--aux-streams",
    "tf32": "--tf32",
    "timing_cache": "--timing-cache",
    "hardware": "--hardware-compatible",
    "version_compatible": "--version-compatible",
    "targets": "--target",
}
"""The options of ``rtpsp build-engine`` for what `PlanOptions` says of an engine, by which errors name it."""
RTX_DEFAULT = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities of a plan of TensorRT-RTX that was given none, by the bits of its header, "and later ones":
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html.
"""
_AMPERE = "8.0"
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


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
        if not 0 <= self.workspace <= MAX_WORKSPACE:
            raise UsageError(f"workspace is {self.workspace} bytes, expected 0, which is all, to {MAX_WORKSPACE}")
        if self.optimisation_level is not None and not 0 <= self.optimisation_level <= MAX_LEVEL:
            raise UsageError(f"optimisation level is {self.optimisation_level}, expected 0 to {MAX_LEVEL}")
        if self.aux_streams is not None and not 0 <= self.aux_streams <= MAX_AUX_STREAMS:
            raise UsageError(f"auxiliary streams are {self.aux_streams}, expected 0 to {MAX_AUX_STREAMS}")
        if self.hardware not in get_args(Hardware):
            raise UsageError(f"hardware compatibility is {self.hardware!r}, expected ampere+, same, or none")


def usual_targets(capability: str) -> tuple[str, ...]:
    """The targets of TensorRT-RTX where nobody names any, so that a GPU of this compute capability runs the plan.

    Returns:
        None of them, which is `RTX_DEFAULT`, but for Turing, which that does not cover.
    """
    runs = BACKENDS["tensorrt-rtx"].runs_on(capability)
    return (capability,) if runs and Version(capability) < Version(RTX_DEFAULT[0]) else ()


def with_target(targets: tuple[str, ...], capability: str) -> tuple[str, ...]:
    """Targets of TensorRT-RTX, with that one added which a GPU of this compute capability needs to run the plan."""
    if not targets:
        return usual_targets(capability)
    runs = BACKENDS["tensorrt-rtx"].runs_on(capability)
    return (*targets, capability) if runs and capability not in targets else targets


def is_ampere(capability: str) -> bool:
    """Whether it is Ampere's or later, for which plans with the hardware compatibility ``ampere+`` are."""
    return Version(capability) >= Version(_AMPERE)


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
        if not is_ampere(gpu.compute_capability):
            raise UsageError(
                f"hardware compatibility ampere+ builds on GPUs of compute capability {_AMPERE} or later, here is "
                f"{gpu.name} with {gpu.compute_capability}: leave it out"
            )
        capabilities = (_AMPERE,)
    return Target(
        gpu=gpu.name,
        compute_capabilities=capabilities,
        or_later=or_later,
        driver=gpu.driver if _VERSION.fullmatch(gpu.driver) else "",  # which is all that a header takes
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
