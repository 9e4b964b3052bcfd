"""Whether an engine runs on this machine, told from its header alone, before any runtime sees its payload.

A runtime that is given a plan of another version or device says so late and cryptically; and a plan from elsewhere can
run code. So every field is compared first:

    field                   refuses when                                             warns when
    backend                 rtpsp knows no backend of that name; there is no GPU, or a driver for an older CUDA
    versions, CPU backend   never: its payload is ONNX, which newer ones read        it was built with a newer one
    versions, TensorRT      another release; if version-compatible, an older one or of another major version; none is
                            told; the other flavour
    target.compute_…        this GPU's is not among them, and not later than all of them if that is allowed
    backend, GPU            the flavour does not run on GPUs of this compute capability
    target.driver                                                                    this one's branch is older
    target.gpu                                                                       the GPU has another name, and the
                                                                                     plan was built for its like alone
    options.int8, CPU                                                                its 8-bit weights saturate here
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from rtpsp.engine.table import BACKENDS
from rtpsp.header import EngineHeader
from rtpsp.machine import Gpu, adds_bytes_rightly, gpus, why_no_gpu
from rtpsp.runtimes import built_for_cuda, instead
from rtpsp.runtimes import installed_version as installed_version

NO_GPU = "there is no NVIDIA GPU with a working driver"

_FIX = re.compile(r"(?::|, or) (?=pip |install |upgrade |update |close |unset |see |restart )")


@dataclass(frozen=True)
class Verdict:
    """What stands against running an engine here.

    Attributes:
        refusals: Why it cannot run, each a clause; empty if it can.
        warnings: Why it may run worse than elsewhere.
        missing: What to do where this machine lacks something that every such engine needs, so that building this one
            again is of no use; empty where nothing is known to help, None where nothing is lacking.
    """

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: str | None = None


def judge(
    header: EngineHeader,
    package: str,
    installed: Callable[[str], str | None] | None = None,
    present: Callable[[], Sequence[Gpu]] | None = None,
    adds_rightly: Callable[[], bool] | None = None,
    built_for: Callable[[str], int | None] | None = None,
) -> Verdict:
    """Compare a header with this machine.

    Args:
        header: Of the engine.
        package: The Python package that its backend runs on.
        installed: Gives a package's version; None asks this installation.
        present: Gives the GPUs; asked only for an engine that needs one. None asks this machine.
        adds_rightly: Whether this processor adds products of bytes without saturating; asked only for CPU engines in
            INT8 with weights of 8 bits. None asks this machine.
        built_for: Gives the major version of CUDA that a package is for; None asks this installation.
    """
    installed, present = installed or installed_version, present or gpus
    refusals: list[str] = []
    warnings: list[str] = []
    missing = None
    built, here = _version(header.versions.get(package)), _version(installed(package))
    backend = BACKENDS.get(header.backend)
    if header.target.needs_gpu or (backend is not None and backend.gpu):
        found = present()
        if found:
            _judge_gpu(header, found[0], refusals, warnings)
            why = why_too_new(header.backend, found[0], installed, built_for)
        else:
            reason = why_no_gpu() or NO_GPU
            why = f"it was built for {header.target.gpu or 'an NVIDIA GPU'}{_generations(header)}, and {reason}"
        if why:
            refusal, missing = reason_and_fix(why)
            refusals.append(refusal)
    if header.target.needs_gpu or (backend is not None and backend.plan):
        _judge_release(header, package, built, here, refusals, installed)
        return Verdict(tuple(refusals), tuple(warnings), missing)
    if built and here and here < built:
        warnings.append(f"it was built with {package} {built}, here is the older {here}")
    integers = header.options.get("int8")
    full = header.precision == "int8" and isinstance(integers, dict) and integers.get("weight_bits") == 8
    if full and not (backend is not None and backend.gpu) and not (adds_rightly or adds_bytes_rightly)():
        warnings.append(
            "its weights have 8 bits, whose products saturate on this CPU without VNNI or AMX: one built here has 7"
        )
    return Verdict(tuple(refusals), tuple(warnings), missing)


def why_too_new(
    name: str,
    gpu: Gpu,
    installed: Callable[[str], str | None] | None = None,
    built_for: Callable[[str], int | None] | None = None,
) -> str | None:
    """Why this GPU's driver runs nothing of a backend's package, with what to do about it; None if it may.

    A driver runs what was built for its own major version of CUDA, or for an older one.

    Args:
        name: Of the backend.
        gpu: With its driver.
        installed: Gives a package's version; None asks this installation.
        built_for: Gives the major version of CUDA that a package is for; None asks this installation.
    """
    backend, driver = BACKENDS.get(name), _version(gpu.cuda)
    if backend is None or not backend.plan or driver is None:  # ONNX Runtime is tried for real, and says itself
        return None
    version, needs = (installed or installed_version)(backend.package), (built_for or built_for_cuda)(backend.package)
    if version is None or needs is None or needs <= driver.major:
        return None
    return (
        f"{backend.package} {version} is built for CUDA {needs}, driver {gpu.driver} is for CUDA {gpu.cuda}: upgrade "
        f"NVIDIA's driver, or {instead(backend.package, backend.install_for(gpu.cuda))}"
    )


def reason_and_fix(why: str) -> tuple[str, str]:
    """A reason, and what to do about it; the latter is empty where nothing is known to help."""
    at = _FIX.search(why)
    return (why[: at.start()], why[at.end() :]) if at else (why, "")


def _judge_release(
    header: EngineHeader,
    package: str,
    built: Version | None,
    here: Version | None,
    refusals: list[str],
    installed: Callable[[str], str | None],
) -> None:
    """A plan runs in the release that built it; if it was built so, in later ones of the same major version."""
    if here is None:
        others = [(name, other.package) for name, other in BACKENDS.items() if other.plan and other.package != package]
        there = [f"{name} {version}" for name, other in others if (version := installed(other))]
        if there and header.backend in BACKENDS and installed(package) is None:
            refusals.append(f"it is a plan of {header.backend} {built or ''}".rstrip() + f", here is {there[0]} alone")
    elif not built:
        refusals.append(f"its header does not tell which {package} built it")
    elif header.target.version_compatible:
        if here.major != built.major or here < built:
            refusals.append(f"it needs {package} {built} or a later {built.major}, here is {here}")
    elif not _same(built, here):
        refusals.append(f"it needs {package} exactly {built}, here is {here}")


def _judge_gpu(header: EngineHeader, gpu: Gpu, refusals: list[str], warnings: list[str]) -> None:
    target, backend = header.target, BACKENDS.get(header.backend)
    if target.needs_gpu and not _runs(gpu.compute_capability, target.compute_capabilities, target.or_later):
        built_for = f"{target.gpu or 'an NVIDIA GPU'}{_generations(header)}"
        refusals.append(
            f"it was built for {built_for}, here is {gpu.name} with compute capability {gpu.compute_capability}"
        )
    elif backend is not None and not backend.runs_on(gpu.compute_capability):
        refusals.append(
            f"{header.backend} runs on {backend.generations}, here is {gpu.name} with {gpu.compute_capability}"
        )
    elif target.gpu and target.gpu != gpu.name and not _for_its_like(header):
        warnings.append(
            f"it was built on {target.gpu}, here is {gpu.name}: TensorRT warns that this may cost speed, or even cause "
            f"errors or deadlock"
        )
    built, here = _version(target.driver), _version(gpu.driver)
    if built and here and here.major < built.major:
        warnings.append(f"it was built under the NVIDIA driver {built}, here is the older {here}")


def _for_its_like(header: EngineHeader) -> bool:
    """Whether the builder was told to build for other GPUs than its own."""
    plan = header.options.get("plan")
    return isinstance(plan, dict) and bool(plan.get("hardware"))


def _generations(header: EngineHeader) -> str:
    return f" ({header.target.generations})" if header.target.needs_gpu else ""


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
