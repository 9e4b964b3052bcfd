"""The vendors' runtimes: which of their packages are here, and two of them imported with their telemetry off.

A tool that sees cameras calls nobody.

Importing OpenVINO reports to its maker through the package ``openvino_telemetry``; where that cannot be imported it
uses a stub of its own. ONNX Runtime takes an environment variable, which its users may set otherwise.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib import metadata
from types import ModuleType
from typing import NamedTuple

_REPORTER = "openvino_telemetry"
UNTOLD = "unknown"
"""What stands for the version of a module that lies there without its package's metadata, as unpacked archives do."""


class Package(NamedTuple):
    """One runtime under all the names that it is published by.

    Attributes:
        modules: What is imported; one of them has to be there.
        distributions: What is installed; the first that is there tells the version.
        shared: The module may be another package's: without one of the distributions it counts for nothing.
    """

    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    shared: bool = False


PACKAGES = {
    "cuda-bindings": Package(("cuda.bindings",), ("cuda-bindings",)),
    "nvrtc": Package(("nvidia.cu13", "nvidia.cuda_nvrtc"), ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")),
    "onnxruntime": Package(("onnxruntime",), ("onnxruntime", "onnxruntime-gpu")),
    "onnxruntime-gpu": Package(("onnxruntime",), ("onnxruntime-gpu",), shared=True),
    "pycuda": Package(("pycuda",), ("pycuda",)),
    "tensorrt": Package(
        ("tensorrt",),
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings"),
    ),
    "tensorrt-rtx": Package(
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings"),
    ),
}
"""The runtimes that one distribution of one module does not tell about."""


def installed_version(package: str) -> str | None:
    """The version of a package, None where it is not there; nothing is imported but the parents of modules.

    Args:
        package: As `PACKAGES` calls it, or else a distribution.
    """
    told = PACKAGES.get(package)
    if told and not any(map(_is_there, told.modules)):
        return None
    for name in told.distributions if told else (package,):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return UNTOLD if told and not told.shared else None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent that is not there, or a module that is loaded without a spec
        return module in sys.modules


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
