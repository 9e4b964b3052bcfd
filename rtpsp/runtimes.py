"""The vendors' runtimes: which of their packages are here, and two of them imported with their telemetry off.

A tool that sees cameras calls nobody.

Importing OpenVINO reports to its maker through the package ``openvino_telemetry``; where that cannot be imported it
uses a stub of its own. ONNX Runtime takes an environment variable, which its users may set otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

_REPORTER = "openvino_telemetry"
UNTOLD = "unknown"
"""What stands for the version of a module that lies there without its package's metadata, as unpacked archives do."""

_CUDA = re.compile(r"-cu(\d+)\b")


class Package(NamedTuple):
    """One runtime under all the names that it is published by.

    Attributes:
        modules: What is imported; one of them has to be there.
        distributions: What is installed; the first that is there tells the version.
        shared: The module may be another package's: without one of the distributions it counts for nothing.
        code: The module that several of the distributions bring; what lies there tells whose it is.
    """

    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    shared: bool = False
    code: str = ""


def _flavour(name: str, *modules: str) -> Package:
    """TensorRT: the plain name brings the parts of one CUDA, each of which can also be installed by itself."""
    parts = tuple(f"{name}-cu{cuda}{part}" for part in ("-bindings", "-libs", "") for cuda in (13, 12))
    return Package(modules, (*parts, name), code=f"{name.replace('-', '_')}_bindings")


PACKAGES = {
    "cuda-bindings": Package(("cuda.bindings",), ("cuda-bindings",)),
    "nvrtc": Package(("nvidia.cu13", "nvidia.cuda_nvrtc"), ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")),
    "onnxruntime": Package(("onnxruntime",), ("onnxruntime", "onnxruntime-gpu")),
    "onnxruntime-gpu": Package(("onnxruntime",), ("onnxruntime-gpu",), shared=True),
    "pycuda": Package(("pycuda",), ("pycuda",)),
    "tensorrt": _flavour("tensorrt", "tensorrt"),
    "tensorrt-rtx": _flavour("tensorrt-rtx", "tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""The runtimes that one distribution of one module does not tell about."""


def installed_version(package: str) -> str | None:
    """The version of a package, None where it is not there; nothing is imported but the parents of modules.

    Args:
        package: As `PACKAGES` calls it, or else a distribution.
    """
    told = PACKAGES.get(package)
    if told is None:
        return _version(package)
    if not any(map(_is_there, told.modules)):
        return None
    owner = _owner(told)
    return _version(owner) if owner else (None if told.shared else UNTOLD)


def built_for_cuda(package: str) -> int | None:
    """Major version of the CUDA that an installed package is for, by its distribution's name; None where untold.

    Its release does not tell: TensorRT 10 and 11 are both published for CUDA 12 and for CUDA 13.

    Args:
        package: As `PACKAGES` calls it.
    """
    found = _CUDA.search(_owner(PACKAGES[package]) or "")
    return int(found[1]) if found else None


def instead(package: str, install: str) -> str:
    """The commands that put something else in a package's place, or the same anew.

    All of it goes first: pip leaves the parts of what it uninstalls, and parts for different CUDAs are the same files.

    Args:
        package: As `PACKAGES` calls it.
        install: What to give to ``pip install``.
    """
    there = _installed(PACKAGES[package])
    return f"pip uninstall -y {' '.join(there)} && pip install {install}" if there else f"pip install {install}"


def _installed(told: Package) -> list[str]:
    return [name for name in told.distributions if _version(name) is not None]


def _owner(told: Package) -> str | None:
    """The distribution that a runtime is from; of several that bring the same files the later one's lie there."""
    there = _installed(told)
    if len(there) > 1 and told.code:
        lies = _digest_of(told.code)
        there.sort(key=lambda name: lies is None or _digest_in(name, told.code) != lies)
    return there[0] if there else None


def _digest_of(module: str) -> str | None:
    origin = getattr(_spec(module), "origin", None)
    try:
        digest = hashlib.sha256(Path(origin).read_bytes()).digest() if origin else None
    except OSError:
        return None
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() if digest else None  # as wheels record it


def _digest_in(distribution: str, module: str) -> str | None:
    try:
        files = metadata.files(distribution) or ()
    except metadata.PackageNotFoundError:
        return None
    return next((file.hash.value for file in files if file.hash and file.as_posix() == f"{module}/__init__.py"), None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _is_there(module: str) -> bool:
    return _spec(module) is not None or sys.modules.get(module) is not None


def _spec(module: str) -> object:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent that is not there, or a module that is loaded without a spec
        return None


def import_openvino() -> ModuleType:
    """The module ``openvino``, which reports nothing if this is the first import of it in the process."""
    hidden = _REPORTER not in sys.modules
    if hidden:
        sys.modules[_REPORTER] = None  # type: ignore[assignment]  # what Python documents for "cannot be imported"
    try:
        return importlib.import_module("openvino")
    finally:
        if hidden:
            del sys.modules[_REPORTER]


def import_onnxruntime() -> ModuleType:
    """The module ``onnxruntime``, which reports nothing unless the environment says so."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")
