"""The table of backends: names and places alone, nothing of a runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.version import Version


@dataclass(frozen=True)
class Backend:
    """Where a backend's engine class is, and what to install when its package is missing.

    Attributes:
        module: Module in this package.
        engine: Class in that module.
        package: Python package that it needs, as `rtpsp.runtimes.installed_version` and a header's versions call it.
        install: What to give to ``pip install``.
        install_cu12: The same where the driver is for CUDA 12, of which the plain name's libraries are not.
        gpu: Whether it runs on NVIDIA GPUs, and on nothing else.
        plan: Whether its payload is a plan of the release that built it, and not ONNX.
        runs_on: Whether it is known to run on GPUs of a compute capability, such as ``9.0``.
        generations: The same in words.
    """

    module: str
    engine: str
    package: str
    install: str
    install_cu12: str = ""
    gpu: bool = False
    plan: bool = False
    runs_on: Callable[[str], bool] = lambda capability: False
    generations: str = ""

    def install_for(self, cuda: str) -> str:
        """What to give to ``pip install`` under a driver for this CUDA, such as ``12.4``; empty where it is unknown."""
        return self.install_cu12 if self.install_cu12 and cuda.split(".")[0] == "12" else self.install


def _turing_or_later(capability: str) -> bool:
    return Version(capability) >= Version("7.5")


def _rtx(capability: str) -> bool:
    """By NVIDIA's support matrices; of Hopper and data centres' Blackwell (9.0, 10.x) they say nothing."""
    return capability in ("7.5", "8.0", "8.6", "8.9") or Version(capability) >= Version("12.0")


_TURING = "compute capability 7.5 or later"

BACKENDS = {
    "openvino": Backend("openvino_backend", "OpenVINOEngine", "openvino", "openvino"),
    "onnxruntime": Backend("onnxruntime_backend", "ONNXRuntimeEngine", "onnxruntime", "onnxruntime"),
    "tensorrt": Backend(
        "tensorrt_backend", "TensorRTEngine", "tensorrt", "tensorrt", "tensorrt-cu12",
        gpu=True, plan=True, runs_on=_turing_or_later, generations=_TURING,
    ),
    "tensorrt-rtx": Backend(
        "tensorrt_backend", "TensorRTRTXEngine", "tensorrt-rtx", "tensorrt-rtx", "tensorrt-rtx-cu12",
        gpu=True, plan=True, runs_on=_rtx, generations="compute capability 7.5, 8.0, 8.6, 8.9, or 12.0 and later",
    ),
    "onnxruntime-cuda": Backend(
        "onnxruntime_cuda", "ONNXRuntimeCUDAEngine", "onnxruntime-gpu", "'onnxruntime-gpu[cuda,cudnn]'",
        "'onnxruntime-gpu[cuda,cudnn]<1.27'",  # the first release on PyPI that is for CUDA 13
        gpu=True, runs_on=_turing_or_later, generations=_TURING,
    ),
}  # fmt: skip
"""Those for CPUs and those for GPUs, the better first (`rtpsp.engine.choice`)."""

DEFAULT_BACKEND = "openvino"
"""That of a machine without a GPU."""
