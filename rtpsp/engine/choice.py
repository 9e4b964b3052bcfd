"""Which backend serves a machine best: the first of the table that really runs there."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence

from packaging.version import InvalidVersion, Version

from rtpsp.engine.table import BACKENDS, DEFAULT_BACKEND, Backend
from rtpsp.errors import MissingError
from rtpsp.machine import Gpu, gpus
from rtpsp.runtimes import installed_version

_log = logging.getLogger(__name__)

Installed = Callable[[str], str | None]
Present = Callable[[], Sequence[Gpu]]

_BINDINGS = ("pycuda", "cuda-bindings")


def default_backend(installed: Installed | None = None, present: Present | None = None) -> str:
    """The backend that is taken when nobody asks for one: TensorRT before ONNX Runtime before the CPU.

    What is not installed costs nothing, and a GPU is asked for only where a package for GPUs is; what is installed is
    imported, and what it lacks is a warning. The answer stays the same as long as the machine does.

    Args:
        installed: Gives a package's version; None asks this installation.
        present: Gives the GPUs; None asks this machine.
    """
    installed, present = installed or installed_version, present or gpus
    for name, backend in sorted(BACKENDS.items(), key=lambda entry: not entry[1].gpu):
        if installed(backend.package) is None:
            continue
        why = why_not_here(name, installed, present)
        if why is None:
            return name
        _log.log(
            logging.WARNING if present() else logging.INFO, "%s is installed and not used: %s", backend.package, why
        )
    return DEFAULT_BACKEND


def why_not_here(name: str, installed: Installed | None = None, present: Present | None = None) -> str | None:
    """Why a backend does not run on this machine, with what to do about it; None where it does.

    Quick for what is not there. A backend for GPUs is tried as far as that takes no engine: its libraries are loaded.

    Args:
        name: In the table.
        installed: Gives a package's version; None asks this installation.
        present: Gives the GPUs; None asks this machine.
    """
    installed, present = installed or installed_version, present or gpus
    backend = BACKENDS[name]
    version = installed(backend.package)
    if version is None:
        return f"the package {backend.package} is not installed: pip install {backend.install}"
    if not backend.gpu:
        return None
    found = present()
    if not found:
        return "there is no NVIDIA GPU with a working driver"
    gpu = found[0]  # the one that is used
    if not backend.runs_on(gpu.compute_capability):
        return f"{gpu.name} has compute capability {gpu.compute_capability}, expected {backend.generations}"
    why = _why_too_new(backend, version, gpu) or (_why_no_bindings(installed) if backend.plan else None)
    if why:
        return why
    try:
        _try_it(name)
    except MissingError as error:
        return str(error)
    return None


def _why_too_new(backend: Backend, version: str, gpu: Gpu) -> str | None:
    """TensorRT 11 is built for CUDA 13, of which a driver for CUDA 12 runs nothing."""
    try:
        too_new = backend.package == "tensorrt" and Version(version).major >= 11 and Version(gpu.cuda).major < 13
    except InvalidVersion:
        return None
    if not too_new:
        return None
    return (
        f"TensorRT {version} needs a driver for CUDA 13, driver {gpu.driver} is for CUDA {gpu.cuda}: upgrade NVIDIA's "
        f"driver, or pip uninstall tensorrt and pip install tensorrt-cu12"
    )


def _why_no_bindings(installed: Installed) -> str | None:
    if any(installed(package) for package in _BINDINGS):
        return None
    return f"there are no bindings of CUDA ({' or '.join(_BINDINGS)}): pip install cuda-bindings"


def _try_it(name: str) -> None:
    """Load a backend's libraries.

    Raises:
        MissingError: One cannot be loaded.
    """
    if BACKENDS[name].plan:
        from rtpsp.engine.tensorrt_api import load

        load(name)
    else:
        importlib.import_module(f"rtpsp.engine.{BACKENDS[name].module}").try_cuda()
