"""Facts about this machine: its processor and memory, what of them this process may use, and its NVIDIA GPUs.

psutil counts cores and memory, archspec names the processor's features, NVIDIA's own bindings of NVML ask the driver.
NVML numbers GPUs by their place on the bus, CUDA by speed or as CUDA_VISIBLE_DEVICES says: CUDA's order is the one.
None of them reads a control group's limits, which is how containers are given less than the machine has.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")
PCI = Path("/sys/bus/pci/devices")

_NO_LIMIT = 1 << 60
"""Bytes from which on a limit is none: cgroup v1 says "no limit" by the largest multiple of a page."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_HIDDEN = f"{_VISIBLE}={{}} hides every GPU: unset {_VISIBLE}"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # the PCI class of VGA and 3D controllers; a card's sound device has another


DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""Features of processors that add products of bytes in 32 bits; others saturate (`rtpsp.engine.saturation`)."""


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        model: As the maker calls it, or the microarchitecture where that is not told.
        architecture: ``x86_64``, ``aarch64``, ...
        features: Instruction sets by the names of Linux, e.g. ``avx512_vnni``; none where they cannot be read.
        cores: Physical cores; None where unknown.
        threads: What the operating system schedules on.
        allowed: Threads of those that this process may run on.
        quota: CPUs' worth of time that a control group grants; None where it grants all.
    """

    model: str
    architecture: str
    features: frozenset[str]
    cores: int | None
    threads: int
    allowed: int
    quota: float | None

    @property
    def usable(self) -> int:
        """How many threads are worth starting: more than that wait for each other."""
        return _usable(self.allowed, self.quota)


@dataclass(frozen=True)
class Memory:
    """Memory in bytes.

    Attributes:
        total: Of the machine.
        available: Without swapping, to this process.
        limit: What a control group allows this process and its neighbours; None where it allows all.
    """

    total: int
    available: int
    limit: int | None


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        name: As NVIDIA calls it.
        compute_capability: ``9.0``; ``0.0`` where the driver does not tell.
        driver: The driver's version.
        memory: Bytes in all.
        cuda: Newest CUDA that the driver can run, ``13.1``.
    """

    name: str
    compute_capability: str
    driver: str
    memory: int
    cuda: str


def cpu() -> Cpu:
    """This machine's processor."""
    import psutil  # type: ignore[import-untyped]

    threads = psutil.cpu_count() or 1
    model, features = _processor()
    return Cpu(
        model=model,
        architecture=platform.machine(),
        features=features,
        cores=psutil.cpu_count(logical=False),
        threads=threads,
        allowed=_affinity() or threads,
        quota=_quota(),
    )


def adds_bytes_rightly() -> bool:
    """Whether this processor adds products of bytes in 32 bits; True where its features cannot be read."""
    features = _processor()[1]
    return not features or bool(DOT_PRODUCTS & features)


def usable_threads() -> int:
    """`Cpu.usable` of this machine, without asking for anything else; quick."""
    return _usable(_affinity() or os.cpu_count() or 1, _quota())


def memory() -> Memory:
    """This machine's memory."""
    import psutil

    found = psutil.virtual_memory()
    limit, used = _memory_limit()
    available = found.available if limit is None else min(found.available, max(0, limit - used))
    return Memory(found.total, available, limit)


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs in CUDA's order, so that the first is the one that is used.

    None where there is no driver, or where CUDA_VISIBLE_DEVICES hides all.
    """
    return _ask_nvml()[0]


def why_no_gpu() -> str | None:
    """None where `gpus` finds one, else the reason in words."""
    return _ask_nvml()[1]


def nvidia_cards() -> int | None:
    """How many NVIDIA cards are on the PCI bus, with or without a driver; None where the bus cannot be read."""
    if not PCI.is_dir():
        return None
    return sum(
        _text(device / "vendor") == _NVIDIA and (_text(device / "class") or "").startswith(_DISPLAY)
        for device in PCI.iterdir()
    )


def _usable(allowed: int, quota: float | None) -> int:
    return allowed if quota is None else max(1, min(allowed, round(quota)))


def _processor() -> tuple[str, frozenset[str]]:
    import archspec.cpu  # type: ignore[import-untyped]
    import archspec.cpu.detect  # type: ignore[import-untyped]

    # Not host().features: those are of the nearest microarchitecture in its tables, which a virtual machine or a new
    # processor may be years ahead of. Apple's are known by their name alone.
    features = frozenset(archspec.cpu.detect.detected_info().features or archspec.cpu.host().features)
    named = archspec.cpu.brand_string() or archspec.cpu.host().name
    return " ".join(named.split()) or platform.processor() or platform.machine(), features


def _affinity() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows; a process may be pinned there too, which few do
        return None


def _quota() -> float | None:
    """The least CPU time per time that a group above this process grants."""
    granted = []
    for folder in _groups("cpu"):
        words = (_text(folder / "cpu.max") or "").split()  # v2: "200000 100000" or "max 100000", in microseconds
        words = words or [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):  # v1's -1 means no quota
            granted.append(int(words[0]) / int(words[1]))
    return min(granted, default=None)


def _memory_limit() -> tuple[int | None, int]:
    """The least limit of a group above this process, and what is used of it; both in bytes."""
    limits = []
    for folder in _groups("memory"):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            found, used = _text(folder / limit) or "", _text(folder / usage) or ""
            if found.isdigit() and int(found) < _NO_LIMIT:
                limits.append((int(found), int(used) if used.isdigit() else 0))
    return min(limits, default=(None, 0))


def _groups(controller: str) -> list[Path]:
    """Folders of the control groups that this process is in, for a controller, up to the root; v2 and v1.

    In a container the path may be one that only the host knows: its own group is then the root that it sees.
    """
    folders = []
    for line in (_text(PROC_CGROUP) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root = CGROUPS
        elif controller in controllers.split(","):
            root = CGROUPS / controller
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders += [reduce(Path.joinpath, parts[:depth], root) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if folder.is_dir()]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _ask_nvml() -> tuple[tuple[Gpu, ...], str | None]:
    visible = os.environ.get(_VISIBLE)
    if visible is not None and visible.strip() in ("", "-1"):
        return (), _HIDDEN.format(visible)
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError as error:
        return (), f"NVIDIA's driver cannot be asked ({error}): pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), _without_driver(str(error))
    try:
        driver, number = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion_v2()
        cuda = f"{number // 1000}.{number % 1000 // 10}"
        count = pynvml.nvmlDeviceGetCount()
        # Not for one alone: the first question to CUDA takes a fraction of a second.
        order = _cuda_order() if count > 1 or (count and visible) else None
        if order == []:
            return (), _HIDDEN.format(visible)
        if order is None:
            devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        else:
            devices = [pynvml.nvmlDeviceGetHandleByPciBusId(address) for address in order]
        found = tuple(_gpu(device, driver, cuda) for device in devices)
    except pynvml.NVMLError as error:
        return (), f"NVIDIA's driver does not answer ({error}): restart the machine, or look at what nvidia-smi says"
    finally:
        pynvml.nvmlShutdown()
    return found, None if found else "NVIDIA's driver is there and finds no GPU"


def _without_driver(reason: str) -> str:
    cards = nvidia_cards()
    if cards == 0:
        return "this machine has no NVIDIA GPU"
    seen = f"{cards} NVIDIA card{'s' if cards != 1 else ''} on the bus" if cards else "no NVIDIA GPU that can be seen"
    return f"{seen}, and no driver ({reason})" + (": install NVIDIA's driver" if cards else "")


def _cuda_order() -> list[bytes] | None:
    """Addresses on the PCI bus of the GPUs that CUDA shows, in its order; None where it cannot be asked."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        code = cuda.cuInit(0)
        if code:
            return [] if code == _NO_DEVICE else None
        count, device, address = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(32)
        found = []
        failed = cuda.cuDeviceGetCount(ctypes.byref(count))
        for index in range(count.value):
            failed = failed or cuda.cuDeviceGet(ctypes.byref(device), index)
            failed = failed or cuda.cuDeviceGetPCIBusId(address, len(address), device)
            found.append(address.value)
    except (OSError, AttributeError):  # no such library, or no such function in it
        return None
    return None if failed else found


def _gpu(device: object, driver: str, cuda: str) -> Gpu:
    import pynvml

    try:
        capability = "{}.{}".format(*pynvml.nvmlDeviceGetCudaComputeCapability(device))
    except pynvml.NVMLError:  # a GPU from before CUDA, or a virtual one that hides it
        capability = "0.0"
    return Gpu(
        pynvml.nvmlDeviceGetName(device), capability, driver, int(pynvml.nvmlDeviceGetMemoryInfo(device).total), cuda
    )
