"""Which backend is taken where nobody asked for one, on machines of every kind."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from rtpsp.engine import BACKENDS, DEFAULT_BACKEND, choice, default_backend, onnxruntime_cuda, why_not_here
from rtpsp.errors import MissingError
from rtpsp.machine import Gpu
from rtpsp.runtimes import import_onnxruntime, installed_version

H200 = Gpu("NVIDIA H200", "9.0", "580.65.06", 139 << 30, "13.0")
ADA = replace(H200, name="NVIDIA L4", compute_capability="8.9")
CPU = {"openvino": "2026.4.1", "onnxruntime": "1.32.0"}
ALL = CPU | {
    "tensorrt": "11.4.0.106",
    "tensorrt-rtx": "1.7.1.116",
    "onnxruntime-gpu": "1.31.1",
    "cuda-bindings": "13.5",
}
CUDA_13 = {"tensorrt": 13, "tensorrt-rtx": 13}
OLD = replace(ADA, cuda="12.4", driver="550.54.14")


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Libraries that load, or the reasons why some do not."""

    def be(**reasons: str) -> None:
        def try_it(name: str) -> None:
            if name.replace("-", "_") in reasons:
                raise MissingError(reasons[name.replace("-", "_")])

        monkeypatch.setattr(choice, "_try_it", try_it)

    be()
    return be


def without(*packages: str) -> dict[str, str]:
    return {name: version for name, version in ALL.items() if name not in packages}


@pytest.mark.parametrize(
    ("versions", "gpus", "expected"),
    [
        (ALL, (H200,), "tensorrt"),
        (without("tensorrt"), (H200,), "onnxruntime-cuda"),  # TensorRT-RTX is not for Hopper
        (without("tensorrt"), (replace(H200, compute_capability="10.3"),), "onnxruntime-cuda"),
        (without("tensorrt"), (ADA,), "tensorrt-rtx"),
        (without("tensorrt"), (replace(ADA, compute_capability="12.0"),), "tensorrt-rtx"),
        (without("tensorrt"), (replace(ADA, compute_capability="12.1"),), "tensorrt-rtx"),
        (without("tensorrt"), (replace(ADA, compute_capability="7.5"),), "tensorrt-rtx"),
        (without("tensorrt", "tensorrt-rtx"), (ADA,), "onnxruntime-cuda"),
        (without("cuda-bindings"), (ADA,), "onnxruntime-cuda"),
        (without("cuda-bindings") | {"pycuda": "2026.1"}, (ADA,), "tensorrt"),
        (ALL, (replace(ADA, compute_capability="6.1"),), "openvino"),
        (ALL, (replace(ADA, compute_capability="0.0"),), "openvino"),
        (ALL | {"tensorrt": "unknown"}, (ADA,), "tensorrt"),
        (ALL, (), "openvino"),
        (without("openvino"), (), "onnxruntime"),
        (CPU, (H200,), "openvino"),
        ({}, (H200,), DEFAULT_BACKEND),
    ],
)
def test_the_best_that_runs(versions: dict[str, str], gpus: tuple[Gpu, ...], expected: str) -> None:
    assert default_backend(versions.get, lambda: gpus, CUDA_13.get) == expected


@pytest.mark.parametrize(
    ("built_for", "gpu", "expected"),
    [
        ({"tensorrt": 13, "tensorrt-rtx": 13}, OLD, "onnxruntime-cuda"),  # which is tried for real
        ({"tensorrt": 12, "tensorrt-rtx": 13}, OLD, "tensorrt"),
        ({"tensorrt": 13, "tensorrt-rtx": 12}, OLD, "tensorrt-rtx"),
        ({"tensorrt": 12, "tensorrt-rtx": 12}, ADA, "tensorrt"),  # a newer driver runs what is older
        ({"tensorrt": 13}, replace(ADA, cuda="13.3"), "tensorrt"),
        ({}, OLD, "tensorrt"),  # NVIDIA's archive, which does not tell
        ({"tensorrt": 13}, replace(ADA, cuda=""), "tensorrt"),
    ],
)
@pytest.mark.parametrize("release", ["10.13.3.9", "11.4.0.106"])
def test_what_decides_is_the_cuda_that_a_package_is_for(
    built_for: dict[str, int], gpu: Gpu, expected: str, release: str
) -> None:
    """Not its release: both are published for either CUDA."""
    versions = ALL | {"tensorrt": release}
    assert default_backend(versions.get, lambda: (gpu,), built_for.get) == expected


def test_no_gpu_is_asked_for_where_no_package_needs_one() -> None:
    def ask() -> tuple[Gpu, ...]:
        raise AssertionError("NVML was asked")

    assert default_backend(CPU.get, ask) == "openvino"


def test_what_is_there_and_does_not_load_is_passed_over_with_a_warning(
    loads: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    loads(tensorrt="libnvinfer.so.11 is missing: pip install tensorrt", onnxruntime_cuda="no cuDNN")
    with caplog.at_level(logging.INFO, "rtpsp.engine.choice"):
        assert default_backend(without("tensorrt-rtx").get, lambda: (ADA,), CUDA_13.get) == "openvino"
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "tensorrt is installed and not used: libnvinfer.so.11 is missing" in caplog.text


@pytest.mark.parametrize(("cards", "level"), [(0, "INFO"), (None, "INFO"), (1, "WARNING")])
def test_a_gpu_that_cannot_be_used_is_told_once(
    cards: int | None, level: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "CUDA_VISIBLE_DEVICES=-1 hides every GPU: unset CUDA_VISIBLE_DEVICES"
    monkeypatch.setattr(choice, "why_no_gpu", lambda: why)
    monkeypatch.setattr(choice, "nvidia_cards", lambda: cards)
    with caplog.at_level(logging.INFO, "rtpsp.engine.choice"):
        assert default_backend(ALL.get, lambda: ()) == "openvino"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (level, f"the CPU is used, although tensorrt is installed: {why}")
    ]
    assert why_not_here("tensorrt", ALL.get, lambda: ()) == why


def test_a_gpu_that_is_left_out_is_not_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "why_no_gpu", lambda: None)
    monkeypatch.setattr(choice, "nvidia_cards", lambda: 1)
    assert default_backend(ALL.get, tuple) == "openvino" and not caplog.records


@pytest.mark.parametrize(
    ("name", "versions", "gpu", "says"),
    [
        ("tensorrt", CPU, ADA, "tensorrt is not installed: pip install tensorrt"),
        ("tensorrt", without("cuda-bindings"), ADA, "no bindings of CUDA.*: pip install cuda-bindings"),
        ("tensorrt", CPU, OLD, "tensorrt is not installed: pip install tensorrt-cu12"),
        ("tensorrt", ALL, OLD, "tensorrt 11.4.* for CUDA 13, driver 550.* for CUDA 12.4: .*pip install tensorrt-cu12"),
        ("tensorrt-rtx", ALL, OLD, "is built for CUDA 13, driver .*pip install tensorrt-rtx-cu12"),
        ("tensorrt-rtx", ALL, H200, "H200 has compute capability 9.0, expected .* 8.9, or 12.0 and later"),
        ("onnxruntime-cuda", CPU, OLD, "pip install 'onnxruntime-gpu.*<1.27'"),
        ("onnxruntime-cuda", ALL, None, "GPU"),
        ("openvino", {}, ADA, "pip install openvino"),
    ],
)
def test_why_not(name: str, versions: dict[str, str], gpu: Gpu | None, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        assert why_not_here(name, versions.get, lambda: (gpu,) if gpu else (), CUDA_13.get) is None


def test_the_real_libraries_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of the fixture
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # absent, also where it is installed
    why = why_not_here("tensorrt", ALL.get, lambda: (ADA,), CUDA_13.get)
    assert why is not None and "TensorRT cannot be imported" in why
    if installed_version("tensorrt-rtx"):
        assert why_not_here("tensorrt-rtx", ALL.get, lambda: (ADA,), CUDA_13.get) is None
    onnxruntime_cuda._why_no_cuda.cache_clear()
    monkeypatch.setattr(import_onnxruntime(), "get_available_providers", lambda: ["CPUExecutionProvider"])
    why = why_not_here("onnxruntime-cuda", ALL.get, lambda: (ADA,))
    assert why is not None and "was built without it" in why
    onnxruntime_cuda._why_no_cuda.cache_clear()


def test_the_table_names_what_is_there() -> None:
    """Also of backends whose runtime is not installed: their modules import it when they are opened."""
    program = (
        "import importlib, sys\nfrom rtpsp.engine import BACKENDS\n"
        "heavy = ('tensorrt', 'tensorrt_rtx', 'onnxruntime', 'openvino', 'cuda', 'pynvml', 'onnx')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "for backend in BACKENDS.values():\n"
        "    if backend.gpu: getattr(importlib.import_module(f'rtpsp.engine.{backend.module}'), backend.engine)\n"
        "print([name for name in heavy if name in sys.modules and name != 'onnxruntime'])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[:2] == ["[]", "[]"]
    assert [name for name, backend in BACKENDS.items() if backend.plan] == ["tensorrt", "tensorrt-rtx"]
