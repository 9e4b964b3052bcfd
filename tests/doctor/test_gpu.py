"""The GPU's checks: each thing that is there, absent or broken, with its fix."""

from __future__ import annotations

from typing import Any

import pytest

from rtpsp.doctor import gpu
from rtpsp.doctor.finding import Finding
from rtpsp.engine import BACKENDS
from tests.doctor.doubles import GPU, broken, look

ALL = {
    "tensorrt": "11.4.0",
    "tensorrt-rtx": "1.7.1.116",
    "onnxruntime-gpu": "1.31.1",
    "pycuda": "2026.1",
    "cuda-bindings": "13.5.0",
    "nvrtc": "13.5.37",
}
ADA = GPU | {"name": "NVIDIA L4", "compute_capability": "8.9"}


def found(monkeypatch: pytest.MonkeyPatch, *packages: str, card: dict[str, Any] = ADA, **answers: Any) -> Any:
    """The findings with these packages installed, by name."""
    versions = {name: version for name, version in ALL.items() if name in packages}
    monkeypatch.setattr(gpu, "installed_version", versions.get)
    answers = {"gpus": {"gpus": [card], "why_none": None}} | answers
    findings: dict[str, Finding] = look(gpu.look, **answers)
    return findings


def test_no_gpu_takes_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    none = {"gpus": [], "why_none": "2 NVIDIA cards on the bus, and no driver (NVML: no): install NVIDIA's driver"}
    told = found(monkeypatch, gpus=none)
    assert told["NVIDIA GPU"].state == "missing"
    assert told["NVIDIA GPU"].found == "2 NVIDIA cards on the bus, and no driver (NVML: no)"
    assert told["NVIDIA GPU"].fix == "install NVIDIA's driver"
    assert told["NVIDIA packages"].state == "missing" and len(told) == 2
    none = {"gpus": [], "why_none": "this machine has no NVIDIA GPU"}
    told = found(monkeypatch, "tensorrt-rtx", gpus=none, backend=RuntimeError("must not be tried"))
    assert (told["NVIDIA GPU"].found, told["NVIDIA GPU"].fix) == ("this machine has no NVIDIA GPU", "")
    assert "1.7.1.116; here TensorRT for RTX builds engines for GPUs elsewhere" in told["NVIDIA packages"].found
    told = found(monkeypatch, "tensorrt-rtx", gpus=none, load=broken("ImportError: libtensorrt_rtx.so.1"))
    assert told["NVIDIA packages"].state == "warning" and "libtensorrt_rtx" in told["NVIDIA packages"].found


def test_a_gpu_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, *ALL)
    assert {finding.state for finding in told.values()} == {"ok"}
    assert told["NVIDIA GPU"].found == (
        "NVIDIA L4, 141.0 GiB, compute capability 8.9; driver 580.65.06, CUDA up to 13.1"
    )
    assert told["TensorRT"].found == "11.4.0 loads" and told["ONNX Runtime CUDA"].found == "1.31.1 loads"
    assert told["CUDA bindings"].found == "pycuda 2026.1 and cuda-python 13.5.0 work"
    assert told["kernel compiler"].found == "NVRTC 13.5 compiles ours"
    assert told["GPU engines"].details == {"backend": "tensorrt"}


def test_a_gpu_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, kernels=broken("kernels need NVIDIA's compiler (none): pip install nvidia-cuda-nvrtc"))
    assert told["TensorRT"].fix == "pip install tensorrt"
    assert told["TensorRT for RTX"].fix == "pip install tensorrt-rtx"
    assert told["ONNX Runtime CUDA"].fix == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert told["CUDA bindings"].fix == "pip install cuda-bindings"
    assert told["kernel compiler"].fix == "pip install nvidia-cuda-nvrtc"
    assert {finding.state for name, finding in told.items() if name.startswith(("Tensor", "CUDA", "kernel"))} == {
        "missing"
    }
    assert told["GPU engines"].state == "warning" and told["GPU engines"].fix


def test_tensorrt_needs_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, "tensorrt", "onnxruntime-gpu")
    assert told["GPU engines"].details == {"backend": "onnxruntime-cuda"}
    told = found(monkeypatch, "tensorrt", "pycuda")
    assert told["GPU engines"].details == {"backend": "tensorrt"}
    assert told["CUDA bindings"].state == "warning" and told["CUDA bindings"].fix == "pip install cuda-bindings"
    assert "no CUDA graphs" in told["CUDA bindings"].found


def test_what_fails_tells_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(
        monkeypatch, *ALL,
        backend="TensorRT cannot be imported (libnvinfer.so.11: cannot open shared object file): pip install tensorrt",
        cuda=broken("GPU 0 was asked for, CUDA shows 0, counted from 0: see what nvidia-smi lists"),
    )  # fmt: skip
    assert told["TensorRT"].state == "warning" and told["TensorRT"].fix == "pip install tensorrt"
    assert told["TensorRT"].found.endswith("(libnvinfer.so.11: cannot open shared object file)")
    assert told["CUDA bindings"].state == "warning" and told["CUDA bindings"].fix == "see what nvidia-smi lists"
    assert "cuda-python 13.5.0 does not open the GPU: GPU 0 was asked for" in told["CUDA bindings"].found
    told = found(monkeypatch, *ALL, backend=broken("the process that tried it crashed with SIGSEGV"))
    assert "SIGSEGV" in told["TensorRT"].found
    assert told["TensorRT"].fix.endswith("pip install tensorrt") and "--force" not in told["TensorRT"].fix


def test_tensorrt_rtx_is_not_for_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, "tensorrt-rtx", "cuda-bindings", card=GPU)
    assert told["TensorRT for RTX"].state == "missing" and told["TensorRT for RTX"].fix == ""
    assert BACKENDS["tensorrt-rtx"].generations in told["TensorRT for RTX"].found
    assert told["GPU engines"].state == "warning"


def test_older_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, card=ADA | {"cuda": "12.4"})
    assert told["TensorRT"].fix == "pip install tensorrt-cu12" and told["NVIDIA GPU"].state == "ok"
    assert told["TensorRT for RTX"].fix == "pip install tensorrt-rtx-cu12"
    assert told["CUDA bindings"].fix == "pip install 'cuda-bindings<13'"
    assert told["ONNX Runtime CUDA"].fix == "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'"
    told = found(monkeypatch, card=ADA | {"cuda": "11.8"})
    assert told["NVIDIA GPU"].state == "warning" and "for CUDA 12 or later" in told["NVIDIA GPU"].fix
