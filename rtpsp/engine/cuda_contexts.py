"""Which binding of CUDA is used, and the primary contexts, each retained once in a process."""

from __future__ import annotations

import importlib
import logging
import threading
from dataclasses import dataclass
from typing import cast

from rtpsp.engine.cuda_binding import NO_DRIVER, Binding, Context
from rtpsp.errors import MissingError, UsageError

_log = logging.getLogger(__name__)

MIN_CUDA = 12
"""Major version of the oldest CUDA whose driver will do: TensorRT 10 and later need it."""


@dataclass(frozen=True)
class BindingPackage:
    """Where a binding's code is, and what to install when its package is missing.

    Attributes:
        module: Module in this package.
        package: Python module that it needs.
        install: What to give to ``pip install``.
    """

    module: str
    package: str
    install: str


BINDINGS = {
    "pycuda": BindingPackage("cuda_pycuda", "pycuda.driver", "pycuda"),
    "cuda-python": BindingPackage("cuda_python", "cuda.bindings.driver", "cuda-bindings"),
}
"""First choice first."""

_contexts: dict[tuple[str, int], Context] = {}
_contexts_lock = threading.Lock()


def primary_context(index: int, wanted: str | None = None) -> tuple[str, Context]:
    """The binding's name and a GPU's primary context: one object for all threads, kept until the process ends.

    PyCUDA tells contexts apart by object: two of one GPU would not free each other's memory.

    Args:
        index: Which GPU.
        wanted: One of `BINDINGS`; None takes the first that can be imported.

    Raises:
        UsageError: No such binding.
        MissingError: As `rtpsp.engine.cuda.open_device`.
    """
    with _contexts_lock:
        name, binding = _binding(wanted)
        if (name, index) not in _contexts:
            _contexts[name, index] = _retain(binding, index)
        return name, _contexts[name, index]


def _binding(wanted: str | None) -> tuple[str, Binding]:
    if wanted is not None and wanted not in BINDINGS:
        raise UsageError(f"CUDA binding is {wanted!r}, expected one of {', '.join(BINDINGS)}")
    reasons, too_new = [], False
    for name in [wanted] if wanted else BINDINGS:
        try:
            module = importlib.import_module(f"rtpsp.engine.{BINDINGS[name].module}")
            return name, cast(Binding, module)
        except ImportError as error:
            if "libcuda.so" in str(error):  # PyCUDA is linked to it
                raise MissingError(NO_DRIVER) from error
            if "undefined symbol: cu" in str(error):
                too_new = True
                reasons.append(f"{name} was built for a newer CUDA than the driver's ({error})")
                _log.warning("%s: update the NVIDIA driver, or pip uninstall %s", reasons[-1], name)
            else:
                reasons.append(f"{name} ({error})")
                _log.debug("no CUDA through %s: %s", name, error)
    install = BINDINGS[wanted].install if wanted and not too_new else BINDINGS["cuda-python"].install
    advice = f"{'update the NVIDIA driver, or ' if too_new else ''}pip install {install}"
    raise MissingError(f"CUDA needs a Python binding, there is none: {', '.join(reasons)}: {advice}")


def _retain(binding: Binding, index: int) -> Context:
    count = binding.count_devices()
    if not 0 <= index < count:
        raise MissingError(f"GPU {index} was asked for, CUDA shows {count}, counted from 0: see what nvidia-smi lists")
    context = binding.retain(index)
    if int(context.facts.cuda.split(".")[0]) < MIN_CUDA:
        raise MissingError(
            f"NVIDIA driver is of CUDA {context.facts.cuda}, expected {MIN_CUDA}.0 or newer: update the driver"
        )
    return context
