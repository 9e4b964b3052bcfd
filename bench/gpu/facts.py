"""What this machine is: the GPU as found, its driver, and the packages beside it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from gpu.part import Job, rounded

MODULES = {"pycuda": "pycuda", "cuda-python": "cuda"}
PACKAGES = (
    "av", "cuda-bindings", "cuda-core", "numpy", "nvidia-cuda-nvrtc", "nvidia-ml-py", "onnx", "onnx-ir",
    "onnxruntime", "onnxruntime-gpu", "onnxscript", "opencv-python", "opencv-python-headless", "pycuda", "tensorrt",
    "tensorrt_cu13_bindings", "tensorrt_rtx", "tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs", "torch", "triton",
)  # fmt: skip


def facts(job: Job) -> dict[str, Any]:
    """Versions, processor, and what NVML and the driver say of the first GPU. Nothing is set, all is read."""
    job.keep(
        versions={"python": platform.python_version(), **_versions()},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        device=None,
    )
    _driver(job)  # before all that may fail: whatever needs a device asks for what this leaves
    if job.data["device"]:
        job.keep(nvml=nvml())
    return {"cpu": _cpu()}


def _cpu() -> dict[str, Any]:
    import psutil  # type: ignore[import-untyped]

    from rtpsp.machine import usable_threads

    return {"threads": usable_threads(), "memory_gib": rounded(psutil.virtual_memory().total / 2**30)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _driver(job: Job) -> None:
    """Keeps what the CUDA driver says as `device`; with none, `no_device` says why."""
    from rtpsp.engine.cuda import BINDINGS, open_device

    bindings: dict[str, str] = {}
    reasons: list[tuple[bool, str]] = []
    for binding in reversed(BINDINGS):  # NVIDIA's own first: what a wheel built elsewhere does comes after it
        try:
            with open_device(binding=binding) as device:
                free, total = device.memory()
                found = {
                    "name": device.name, "compute_capability": device.compute_capability, "cuda": device.cuda,
                    "multiprocessors": device.multiprocessors,
                    "memory_free_gib": rounded(free / 2**30), "memory_total_gib": rounded(total / 2**30),
                }  # fmt: skip
                bindings[binding] = "opens the device"
                job.keep(device=job.data["device"] or found, bindings=bindings)
        except Exception as error:  # a foreign one from a binding is no reason to forget the other
            bindings[binding] = str(error)
            reasons.append((find_spec(MODULES[binding]) is None, str(error)))
            job.keep(bindings=bindings)
    if not job.data["device"]:
        job.keep(no_device=min(reasons, key=lambda reason: reason[0])[1])  # not that of a binding which is not there


def busy_state(work: Callable[[], Any]) -> dict[str, Any]:
    """NVML's state while `work`, which waits for the device, runs over and over: an idle GPU has other clocks."""
    with ThreadPoolExecutor(1) as pool:
        state = pool.submit(nvml)
        while not state.done():
            work()
    return state.result()


def nvml() -> dict[str, Any]:
    """State of the first GPU by NVML: clocks, power, temperature, modes. What a driver does not tell is left out."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError as error:
        return {"error": str(error)}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"error": str(error)}
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        asked = {
            "name": lambda: pynvml.nvmlDeviceGetName(gpu),
            "driver": pynvml.nvmlSystemGetDriverVersion,
            "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            "sm_clock_max_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
            "memory_clock_max_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
            "performance_state": lambda: pynvml.nvmlDeviceGetPerformanceState(gpu),
            "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            "power_limit_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3,
            "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            "throttle_reasons": lambda: hex(pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)),
            "persistence_mode": lambda: pynvml.nvmlDeviceGetPersistenceMode(gpu),
            "mig_mode": lambda: pynvml.nvmlDeviceGetMigMode(gpu)[0],
            "pcie_generation": lambda: pynvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu),
            "pcie_width": lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(gpu),
            "memory_used_mib": lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 2**20,
        }
        found = {}
        for name, ask in asked.items():
            try:
                found[name] = ask()
            except (pynvml.NVMLError, AttributeError):  # not told by this card, or not known to these bindings
                continue
        return found
    finally:
        pynvml.nvmlShutdown()
