"""Whether an engine runs on this machine, told from its header alone, before any runtime sees its payload.

A runtime that is given a plan of another version or device says so late and cryptically; and a plan from elsewhere can
run code. So every field is compared first:

    field                   refuses when                                             warns when
    backend                 rtpsp knows no backend of that name
    versions, CPU backend   never: its payload is ONNX, which newer ones read        it was built with a newer one
    versions, TensorRT      another release, or an older one if version-compatible; none is told; the other flavour
    target.compute_…        this GPU's is not among them, and not later than all of them if that is allowed
    backend, GPU            the flavour does not run on GPUs of this compute capability
    target.driver           the driver is older
    target.gpu                                                                       the GPU has another name
    options.int8, CPU                                                                its 8-bit weights saturate here
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from rtpsp.engine.table import BACKENDS
from rtpsp.header import EngineHeader
from rtpsp.machine import Gpu, adds_bytes_rightly, gpus
from rtpsp.runtimes import installed_version as installed_version


@dataclass(frozen=True)
class Verdict:
    """What stands against running an engine here.

    Attributes:
        refusals: Why it cannot run, each a clause; empty if it can.
        warnings: Why it may run worse than elsewhere.
    """

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(
    header: EngineHeader,
    package: str,
    installed: Callable[[str], str | None] | None = None,
    present: Callable[[], Sequence[Gpu]] | None = None,
    adds_rightly: Callable[[], bool] | None = None,
) -> Verdict:
    """Compare a header with this machine.

    Args:
        header: Of the engine.
        package: The Python package that its backend runs on.
        installed: Gives a package's version; None asks this installation.
        present: Gives the GPUs; asked only for an engine that needs one. None asks this machine.
        adds_rightly: Whether this processor adds products of bytes without saturating; asked only for CPU engines in
            INT8 with weights of 8 bits. None asks this machine.
    """
    installed, present = installed or installed_version, present or gpus
    refusals: list[str] = []
    warnings: list[str] = []
    built, here = _version(header.versions.get(package)), _version(installed(package))
    backend = BACKENDS.get(header.backend)
    if header.target.needs_gpu or (backend is not None and backend.gpu):
        _judge_gpu(header, present(), refusals, warnings)
    if header.target.needs_gpu or (backend is not None and backend.plan):
        _judge_release(header, package, built, here, refusals, installed)
        return Verdict(tuple(refusals), tuple(warnings))
    if built and here and here < built:
        warnings.append(f"it was built with {package} {built}, here is the older {here}")
    integers = header.options.get("int8")
    full = header.precision == "int8" and isinstance(integers, dict) and integers.get("weight_bits") == 8
    if full and not (backend is not None and backend.gpu) and not (adds_rightly or adds_bytes_rightly)():
        warnings.append(
            "its weights have 8 bits, whose products saturate on this CPU without VNNI or AMX: one built here has 7"
        )
    return Verdict(tuple(refusals), tuple(warnings))


def _judge_release(
    header: EngineHeader,
    package: str,
    built: Version | None,
    here: Version | None,
    refusals: list[str],
    installed: Callable[[str], str | None],
) -> None:
    """A plan runs in the release that built it, or in later ones if it was built so."""
    if here is None:
        others = [(name, other.package) for name, other in BACKENDS.items() if other.plan and other.package != package]
        there = [f"{name} {version}" for name, other in others if (version := installed(other))]
        if there and header.backend in BACKENDS and installed(package) is None:
            refusals.append(f"it is a plan of {header.backend} {built or ''}".rstrip() + f", here is {there[0]} alone")
    elif not built:
        refusals.append(f"its header does not tell which {package} built it")
    elif header.target.version_compatible:
        if here < built:
            refusals.append(f"it needs {package} {built} or later, here is {here}")
    elif not _same(built, here):
        refusals.append(f"it needs {package} exactly {built}, here is {here}")


def _judge_gpu(header: EngineHeader, found: Sequence[Gpu], refusals: list[str], warnings: list[str]) -> None:
    target, backend = header.target, BACKENDS.get(header.backend)
    built_for = f"{target.gpu or 'an NVIDIA GPU'}"
    if target.compute_capabilities:
        built_for += f" (compute capability {', '.join(target.compute_capabilities)})"
    if not found:
        refusals.append(f"it was built for {built_for}, and this machine has no NVIDIA GPU with a working driver")
        return
    gpu = found[0]  # the one that is used
    if target.needs_gpu and not _runs(gpu.compute_capability, target.compute_capabilities, target.or_later):
        later = " or later" if target.or_later else ""
        refusals.append(
            f"it was built for {built_for}{later}, here is {gpu.name} with compute capability {gpu.compute_capability}"
        )
    elif backend is not None and not backend.runs_on(gpu.compute_capability):
        refusals.append(
            f"{header.backend} runs on {backend.generations}, here is {gpu.name} with {gpu.compute_capability}"
        )
    elif target.gpu and target.gpu != gpu.name:
        warnings.append(f"it was built on {target.gpu}, here is {gpu.name}: one built here may be faster")
    needed, driver = _version(target.driver), _version(gpu.driver)
    if needed and driver and driver < needed:
        refusals.append(f"it needs the NVIDIA driver {needed} or later, here is {driver}")


def _runs(here: str, built: Sequence[str], or_later: bool) -> bool:
    # Later than all: code for 8.0, 8.6, 8.9, 12.0 and later says nothing of 9.0.
    return here in built or (or_later and Version(here) >= max(Version(value) for value in built))


def _same(one: Version, other: Version) -> bool:
    """Whether two tell the same release, as far as both tell it: TensorRT names itself by three numbers or four."""
    numbers = min(len(one.release), len(other.release))
    return one.release[:numbers] == other.release[:numbers]


def _version(text: str | None) -> Version | None:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None
