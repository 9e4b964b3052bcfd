"""Checks of rtpsp itself, of the packages that it needs, and of the runtimes that engines run in."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from rtpsp.doctor.check import Context
from rtpsp.doctor.finding import Finding
from rtpsp.errors import MissingError
from rtpsp.runtimes import UNTOLD, installed_version

REINSTALL = "pip install --force-reinstall --no-deps"
OPENVINO = "OpenVINO"
"""The name under which the verdict finds the default backend."""
_LIBRARIES = "install the system's library; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"


def fix_package(package: str, reason: str) -> str:
    """What to do where a package of the base install does not load: it is absent, damaged, or lacks a library."""
    if ".so" in reason and "No such file" in reason:
        return _LIBRARIES
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"pip install {package}"
    return f"{REINSTALL} {package}"


def rtpsp(context: Context) -> Iterator[Finding]:
    """Versions of rtpsp, of Python and of the system."""
    del context
    version = metadata.version("rtpsp")
    system = f"{platform.system()} {platform.machine()}"
    details = {
        "rtpsp": version,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
    }
    yield Finding("rtpsp", "rtpsp", "ok", f"{version}, Python {platform.python_version()}, {system}", details=details)


def requirements(context: Context) -> Iterator[Finding]:
    """Whether the packages that rtpsp names are there, in versions that it was written for."""
    from packaging.requirements import Requirement

    del context
    wrong, versions = [], {}
    for requirement in map(Requirement, metadata.requires("rtpsp") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = installed_version(requirement.name) or ""  # onnxruntime-gpu is an onnxruntime too
        versions[requirement.name] = found or None
        if found != UNTOLD and not (found and requirement.specifier.contains(found, prereleases=True)):
            wrong.append((requirement, found))
    told = ", ".join(f"{requirement.name} {found or 'missing'}" for requirement, found in wrong)
    fix = " ".join(["pip install", *(f"'{requirement}'" for requirement, _ in wrong)]) if wrong else ""
    told = f"not as rtpsp needs them: {told}" if wrong else f"all {len(versions)} that rtpsp needs"
    yield Finding("rtpsp", "packages", "warning" if wrong else "ok", told, fix, versions)


def model(context: Context) -> Iterator[Finding]:
    """The shipped model, and whether its engine is built."""
    answer: dict[str, Any] = context.ask("default_engine")
    if answer["model"] is None:
        fix = f"{REINSTALL} rtpsp"
        yield Finding("rtpsp", "shipped model", "error", "it is not in this installation", fix, answer)
        return
    usable = [name for name, why_not in answer["engines"].items() if why_not is None]
    if usable:
        told = f"{answer['model']}, {len(usable)} engine{'s' if len(usable) > 1 else ''} of it built"
    elif answer["engines"]:
        why_not = next(iter(answer["engines"].values()))
        told = f"{answer['model']}; its engine does not fit any more, the next run builds it anew ({why_not})"
    else:
        long = "minutes" if answer["backend"] == "tensorrt" else "seconds"  # it times kernels
        told = f"{answer['model']}; the first run builds its engine, in {long}"
    yield Finding("rtpsp", "shipped model", "ok", told, details=answer)


def openvino(context: Context) -> Iterator[Finding]:
    """Whether the CPU's first backend runs a model, its half-precision format and its INT8 on this processor."""
    if installed_version("openvino") is None:
        told = "not installed: the CPU's engines run in ONNX Runtime instead, in FP32"
        yield Finding("rtpsp", OPENVINO, "warning", told, "pip install openvino")
        return
    try:
        answer: dict[str, Any] = context.ask("openvino")
    except MissingError as error:
        told = f"does not run: {error}"
        yield Finding("rtpsp", OPENVINO, "error", told, fix_package("openvino", str(error)))
        return
    half = f"FP16 engines run in {answer['half']}" if answer["half"] else "no half precision on this processor"
    yield Finding("rtpsp", OPENVINO, "ok", f"{answer['version']} runs; {half}", details=answer)
    yield _int8(answer["int8"])


def _int8(answer: dict[str, Any]) -> Finding:
    if answer["saturates"] is None:
        fix = "use --fp16 or --fp32, and report it"
        return Finding("rtpsp", "INT8", "warning", f"cannot be tried: {answer['why']}", fix, answer)
    told = f"weights of 7 bits: {answer['why']}" if answer["saturates"] else "weights of 8 bits: products are exact"
    return Finding("rtpsp", "INT8", "ok", told, details=answer)


def onnxruntime(context: Context) -> Iterator[Finding]:
    """Whether the second backend runs a model; building an engine needs it too."""
    try:
        answer: dict[str, Any] = context.ask("onnxruntime")
    except MissingError as error:
        told = f"does not run, and building engines needs it: {error}"
        yield Finding("rtpsp", "ONNX Runtime", "error", told, fix_package("onnxruntime", str(error)))
        return
    int8 = "; INT8 with weights of 7 bits" if answer["int8"]["saturates"] else ""
    yield Finding("rtpsp", "ONNX Runtime", "ok", f"{answer['version']} runs{int8}", details=answer)


def torch(context: Context) -> Iterator[Finding]:
    """Whether checkpoints can be exported. PyTorch is not imported: that takes seconds."""
    del context
    versions: dict[str, str | None] = {}
    for package in ("torch", "onnxscript"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    absent = [package for package, version in versions.items() if version is None]
    if absent:
        told = f"{' and '.join(absent)} not installed: 'rtpsp export' reads checkpoints with PyTorch, nothing else does"
        yield Finding("rtpsp", "PyTorch", "missing", told, f"pip install {' '.join(absent)}", versions)
        return
    yield Finding("rtpsp", "PyTorch", "ok", f"{versions['torch']}, for 'rtpsp export'", details=versions)
