"""What the machine is, read from doubles of the kernel's files and of NVIDIA's driver."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rtpsp import machine

PYTHON_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups; `write(groups.parent / "self", ...)` says which this process is in."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "PROC_CGROUP", tmp_path / "self")
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def test_the_processor_and_memory_are_this_machines() -> None:
    cpu, memory = machine.cpu(), machine.memory()
    assert cpu.model and cpu.features and cpu.threads == os.cpu_count()
    assert 1 <= cpu.usable <= cpu.allowed <= cpu.threads
    assert 0 < memory.available <= memory.total


def test_features_are_the_kernels_own() -> None:
    """Not those of the nearest microarchitecture in a table: that loses VNNI and bf16 on virtual machines."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("only Linux lists them")
    line = next(line for line in info.read_text().splitlines() if line.lower().startswith(("flags", "features")))
    assert set(line.partition(":")[2].split()) <= machine.cpu().features


@pytest.mark.skipif(not PYTHON_HAS_AFFINITY, reason="this system has no affinity")
def test_affinity_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert machine.cpu().allowed == 1


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}, 1.0),
        ("0::/only/the/host/knows/it", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../../other", {"cpu.max": "200000 100000"}, 2.0),
        ("4:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "400000", "cpu/x/cpu.cfs_period_us": "100000"}, 4.0),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:cpuset:/\n0::/", {"cpu.max": "0 0"}, None),
    ],
)
def test_a_containers_cpu_time(groups: Path, lines: str, files: dict[str, str], quota: float | None) -> None:
    write(groups.parent / "self", lines)
    for name, text in files.items():
        write(groups / name, text)
    assert machine.cpu().quota == quota


def test_usable_threads_follow_the_quota() -> None:
    def usable(quota: float | None) -> int:
        return machine.Cpu("m", "x86_64", frozenset(), 8, 16, 12, quota).usable

    assert [usable(quota) for quota in (None, 64.0, 2.6, 0.3)] == [12, 12, 3, 1]


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("0::/a", {"a/memory.max": str(1 << 29), "a/memory.current": str(1 << 28), "memory.max": "max"}),
        (
            "5:memory:/",
            {"memory/memory.limit_in_bytes": str(1 << 29), "memory/memory.usage_in_bytes": str(1 << 28)},
        ),
    ],
)
def test_a_containers_memory(groups: Path, lines: str, files: dict[str, str]) -> None:
    write(groups.parent / "self", lines)
    for name, text in files.items():
        write(groups / name, text)
    memory = machine.memory()
    assert memory.limit == 1 << 29 and memory.available == 1 << 28


def test_version_one_says_no_limit_by_a_large_number(groups: Path) -> None:
    write(groups.parent / "self", "5:memory:/")
    write(groups / "memory" / "memory.limit_in_bytes", "9223372036854771712")
    assert machine.memory().limit is None


class NVMLError(Exception):
    pass


def nvml(**functions: Any) -> ModuleType:
    """A double of NVIDIA's bindings with one H200; `functions` replaces some."""
    module = ModuleType("pynvml")
    there: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13010,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByPciBusId": lambda address: address,
        "nvmlDeviceGetName": lambda device: "NVIDIA H200",
        "nvmlDeviceGetCudaComputeCapability": lambda device: (9, 0),
        "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(total=141 << 30),
    }
    for name, function in {**there, **functions}.items():
        setattr(module, name, function)
    return module


def failing(message: str) -> Any:
    def fail(*_: object) -> None:
        raise NVMLError(message)

    return fail


@pytest.fixture(autouse=True)
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlShutdown=lambda: ended.append(True)))
    assert machine.gpus() == (machine.Gpu("NVIDIA H200", "9.0", "580.65.06", 141 << 30, "13.1"),)
    assert machine.why_no_gpu() is None
    assert ended == [True, True]


def test_a_gpu_without_a_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetCudaComputeCapability=failing("Not Supported")))
    assert machine.gpus()[0].compute_capability == "0.0"


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ({"nvmlDeviceGetCount": lambda: 0}, "the driver is there and finds no GPU"),
        ({"nvmlDeviceGetHandleByIndex": failing("GPU is lost")}, "does not answer (GPU is lost)"),
        ({"nvmlSystemGetDriverVersion": failing("Unknown Error")}, "does not answer (Unknown Error)"),
    ],
)
def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch, functions: dict[str, Any], reason: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**functions))
    assert machine.gpus() == ()
    assert reason in (machine.why_no_gpu() or "").replace("NVIDIA's", "the")


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ([("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")], "1 NVIDIA card on the bus"),
        ([("0x8086", "0x030000")], "this machine has no NVIDIA GPU"),
        (None, "no NVIDIA GPU that can be seen"),
    ],
)
def test_no_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cards: list[tuple[str, str]] | None, reason: str
) -> None:
    for number, (vendor, kind) in enumerate(cards or []):
        write(tmp_path / "pci" / str(number) / "vendor", vendor)
        write(tmp_path / "pci" / str(number) / "class", kind)
    monkeypatch.setattr(machine, "PCI", tmp_path / "pci")
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=failing("NVML Shared Library Not Found")))
    assert machine.gpus() == ()
    told = machine.why_no_gpu() or ""
    assert told.startswith(reason)
    assert told.endswith(": install NVIDIA's driver") == (cards is not None and len(cards) > 1)


def test_without_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.gpus() == ()
    assert (machine.why_no_gpu() or "").endswith("pip install nvidia-ml-py")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine.gpus() == ()
    assert "hides every GPU" in (machine.why_no_gpu() or "")


@pytest.mark.parametrize(
    ("count", "visible", "order", "names"),
    [
        (1, None, AssertionError, ["GPU 0"]),  # CUDA is not asked where there is nothing to order
        (2, None, [b"0000:65:00.0", b"0000:01:00.0"], ["GPU 0000:65:00.0", "GPU 0000:01:00.0"]),
        (2, "1", [b"0000:65:00.0"], ["GPU 0000:65:00.0"]),
        (1, "0", [b"0000:01:00.0"], ["GPU 0000:01:00.0"]),
        (2, None, None, ["GPU 0", "GPU 1"]),  # no libcuda: that is told elsewhere
        (2, "7", [], []),
    ],
)
def test_gpus_are_in_cudas_order(
    monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None, order: Any, names: list[str]
) -> None:
    def ask() -> Any:
        if order is AssertionError:
            raise AssertionError("CUDA was asked")
        return order

    def name(device: Any) -> str:
        return f"GPU {device.decode() if isinstance(device, bytes) else device}"

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetCount=lambda: count, nvmlDeviceGetName=name))
    monkeypatch.setattr(machine, "_cuda_order", ask)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in machine.gpus()] == names
    assert names or machine.why_no_gpu() == "CUDA_VISIBLE_DEVICES=7 hides every GPU: unset CUDA_VISIBLE_DEVICES"


class LibCuda:
    """CUDA's driver as ctypes shows it, with some GPUs; a function that is None is not in it."""

    def __init__(self, *addresses: bytes, init: int = 0, missing: str = "") -> None:
        self.addresses, self.init, self.missing = addresses, init, missing

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "missing"):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.addresses)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = 10 + index
        return 0

    def cuDeviceGetPCIBusId(self, address: Any, length: int, device: Any) -> int:
        if len(self.addresses[device.value - 10]) >= length:
            return 1
        address.value = self.addresses[device.value - 10]
        return 0


@pytest.mark.parametrize(
    ("driver", "order"),
    [
        (LibCuda(b"0000:65:00.0", b"0000:01:00.0"), [b"0000:65:00.0", b"0000:01:00.0"]),
        (LibCuda(init=100), []),
        (LibCuda(init=999), None),
        (LibCuda(b"0000:65:00.0", missing="cuDeviceGetPCIBusId"), None),
        (LibCuda(b"0" * 40), None),
    ],
)
def test_cuda_is_asked_for_its_order(monkeypatch: pytest.MonkeyPatch, driver: LibCuda, order: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert machine._cuda_order() == order


def test_the_real_bindings_have_what_is_called() -> None:
    import pynvml  # type: ignore[import-untyped]

    assert all(hasattr(pynvml, name) for name in vars(nvml()) if name.lower().startswith("nvml"))
