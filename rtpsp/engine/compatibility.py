"""Whether an engine runs on this machine, told from its header alone, before any runtime sees its payload.

A runtime that is given a plan of another version or device says so late and cryptically; and a plan from elsewhere can
run code. So every field is compared first:

    field                   refuses when                                             warns when
    backend                 rtpsp knows no backend of that name
    versions, CPU backend   never: its payload is ONNX, which newer ones read        it was built with a newer one
    versions, TensorRT      another release, or an older one if version-compatible; none is told
    target.compute_…        this GPU's is not among them, and not later if allowed
    target.driver           the driver is older
    target.gpu                                                                       the GPU has another name
    options.int8, CPU                                                                its 8-bit weights saturate here
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from rtpsp.header import EngineHeader
from rtpsp.machine import Gpu, adds_bytes_rightly, gpus


@dataclass(frozen=True)
class Verdict:
    """What stands against running an engine here.

    Attributes:
        refusals: Why it cannot run, each a clause; empty if it can.
        warnings: Why it may run worse than elsewhere.
    """

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def installed_version(package: str) -> str | None:
    """The version of an installed package, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def judge(
    header: EngineHeader,
    package: str,
    installed: Callable[[str], str | None] = installed_version,
    present: Callable[[], Sequence[Gpu]] = gpus,
    adds_rightly: Callable[[], bool] = adds_bytes_rightly,
) -> Verdict:
    """Compare a header with this machine.

    Args:
        header: Of the engine.
        package: The Python package that its backend runs on.
        installed: Gives a package's version.
        present: Gives the GPUs; asked only for an engine that needs one.
        adds_rightly: Whether this processor adds products of bytes without saturating; asked only for CPU engines in
            INT8 with weights of 8 bits.
    """
    refusals: list[str] = []
    warnings: list[str] = []
    built, here = _version(header.versions.get(package)), _version(installed(package))
    if header.target.needs_gpu:
        _judge_gpu(header, present(), refusals, warnings)
        if here and not built:
            refusals.append(f"its header does not tell which {package} built it")
        elif built and here and (here < built if header.target.version_compatible else here != built):
            expected = f"{built} or later" if header.target.version_compatible else f"exactly {built}"
            refusals.append(f"it needs {package} {expected}, here is {here}")
    else:
        if built and here and here < built:
            warnings.append(f"it was built with {package} {built}, here is the older {here}")
        integers = header.options.get("int8")
        full = header.precision == "int8" and isinstance(integers, dict) and integers.get("weight_bits") == 8
        if full and not adds_rightly():
            warnings.append(
                "its weights have 8 bits, whose products saturate on this CPU without VNNI or AMX: one built here has 7"
            )
    return Verdict(tuple(refusals), tuple(warnings))


def _judge_gpu(header: EngineHeader, found: Sequence[Gpu], refusals: list[str], warnings: list[str]) -> None:
    target = header.target
    built_for = f"{target.gpu or 'an NVIDIA GPU'} (compute capability {', '.join(target.compute_capabilities)})"
    if not found:
        refusals.append(f"it was built for {built_for}, and this machine has no NVIDIA GPU with a working driver")
        return
    gpu = found[0]  # the one that is used
    if not _runs(gpu.compute_capability, target.compute_capabilities, target.or_later):
        later = " or later" if target.or_later else ""
        refusals.append(
            f"it was built for {built_for}{later}, here is {gpu.name} with compute capability {gpu.compute_capability}"
        )
    elif target.gpu and target.gpu != gpu.name:
        warnings.append(f"it was built on {target.gpu}, here is {gpu.name}: one built here may be faster")
    needed, driver = _version(target.driver), _version(gpu.driver)
    if needed and driver and driver < needed:
        refusals.append(f"it needs the NVIDIA driver {needed} or later, here is {driver}")


def _runs(here: str, built: Sequence[str], or_later: bool) -> bool:
    return here in built or (or_later and Version(here) >= min(Version(value) for value in built))


def _version(text: str | None) -> Version | None:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None
