"""Which backend serves a machine best: the first of the table that really runs there."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence

from rtpsp.engine.compatibility import NO_GPU, why_too_new
from rtpsp.engine.table import BACKENDS, DEFAULT_BACKEND
from rtpsp.errors import MissingError
from rtpsp.machine import Gpu, gpus, nvidia_cards, why_no_gpu
from rtpsp.runtimes import installed_version

_log = logging.getLogger(__name__)

Installed = Callable[[str], str | None]
Present = Callable[[], Sequence[Gpu]]
BuiltFor = Callable[[str], int | None]

_BINDINGS = ("pycuda", "cuda-bindings")


def default_backend(
    installed: Installed | None = None, present: Present | None = None, built_for: BuiltFor | None = None
) -> str:
    """The backend that is taken when nobody asks for one: TensorRT before ONNX Runtime before the CPU.

    What is not installed costs nothing, and a GPU is asked for only where a package for GPUs is; what is installed is
    imported, and what it lacks is a warning. The answer stays the same as long as the machine does.

    Args:
        installed: Gives a package's version; None asks this installation.
        present: Gives the GPUs; None asks this machine.
        built_for: Gives the major version of CUDA that a package is for; None asks this installation.
    """
    installed, present = installed or installed_version, present or gpus
    there = [name for name, backend in BACKENDS.items() if installed(backend.package) is not None]
    for_gpus = [name for name in there if BACKENDS[name].gpu]
    if for_gpus and not present():
        why = why_no_gpu()
        if why:  # None where the caller leaves out a GPU that is there
            level = logging.WARNING if nvidia_cards() else logging.INFO
            _log.log(level, "the CPU is used, although %s is installed: %s", BACKENDS[for_gpus[0]].package, why)
        for_gpus = []
    for name in for_gpus:
        why = why_not_here(name, installed, present, built_for)
        if why is None:
            return name
        _log.warning("%s is installed and not used: %s", BACKENDS[name].package, why)
    return next((name for name in there if not BACKENDS[name].gpu), DEFAULT_BACKEND)


def why_not_here(
    name: str,
    installed: Installed | None = None,
    present: Present | None = None,
    built_for: BuiltFor | None = None,
) -> str | None:
    """Why a backend does not run on this machine, with what to do about it; None where it does.

    Quick for what is not there. A backend for GPUs is tried as far as that takes no engine: its libraries are loaded.

    Args:
        name: In the table.
        installed: Gives a package's version; None asks this installation.
        present: Gives the GPUs; None asks this machine.
        built_for: Gives the major version of CUDA that a package is for; None asks this installation.
    """
    installed, present = installed or installed_version, present or gpus
    backend = BACKENDS[name]
    found = present() if backend.gpu else ()
    if installed(backend.package) is None:
        cuda = found[0].cuda if found else ""
        return f"the package {backend.package} is not installed: pip install {backend.install_for(cuda)}"
    if not backend.gpu:
        return None
    if not found:
        return why_no_gpu() or NO_GPU
    gpu = found[0]  # the one that is used
    if not backend.runs_on(gpu.compute_capability):
        return f"{gpu.name} has compute capability {gpu.compute_capability}, expected {backend.generations}"
    why = why_too_new(name, gpu, installed, built_for)
    why = why or (_why_no_bindings(installed, gpu) if backend.plan else None)
    if why:
        return why
    try:
        _try_it(name)
    except MissingError as error:
        return str(error)
    return None


def _why_no_bindings(installed: Installed, gpu: Gpu) -> str | None:
    if any(installed(package) for package in _BINDINGS):
        return None
    return f"there are no bindings of CUDA ({' or '.join(_BINDINGS)}): pip install {bindings_for(gpu.cuda)}"


def bindings_for(cuda: str) -> str:
    """What to give to ``pip install`` for bindings that work under a driver for this CUDA, such as ``12.4``."""
    return "'cuda-bindings<13'" if cuda.split(".")[0] == "12" else "cuda-bindings"


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
