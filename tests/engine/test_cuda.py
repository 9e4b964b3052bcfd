"""CUDA where there is none: which binding is taken, and the one line that each lack gets."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from rtpsp.engine import cuda_contexts
from rtpsp.engine.cuda import BINDINGS, open_device
from rtpsp.engine.cuda_binding import ADVICE, CudaFailed
from rtpsp.errors import MissingError, UsageError


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType | ImportError]:
    """What importing a binding's module gives, by the module's name."""
    found: dict[str, ModuleType | ImportError] = {}

    def import_module(name: str) -> ModuleType:
        result = found[name.rpartition(".")[2]]
        if isinstance(result, ImportError):
            raise result
        return result

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(cuda_contexts, "_contexts", {})
    return found


def refuse(binding: str | None = None) -> str:
    with pytest.raises(MissingError) as caught, open_device(0, binding):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Counting(ModuleType):
    """A binding that finds no GPU."""

    def count_devices(self) -> int:
        return 0


def test_without_a_binding_the_pip_line_is_told(found: dict[str, ModuleType | ImportError]) -> None:
    found["cuda_pycuda"] = ModuleNotFoundError("No module named 'pycuda'")
    found["cuda_python"] = ModuleNotFoundError("No module named 'cuda'")
    assert refuse() == (
        "CUDA needs a Python binding, there is none: pycuda (No module named 'pycuda'), "
        "cuda-python (No module named 'cuda'): pip install cuda-bindings"
    )
    assert refuse("pycuda").endswith("pip install pycuda")


def test_pycuda_comes_first_and_cuda_python_takes_over(found: dict[str, ModuleType | ImportError]) -> None:
    assert list(BINDINGS) == ["pycuda", "cuda-python"]
    found["cuda_pycuda"] = found["cuda_python"] = Counting("either")
    assert refuse() == "GPU 0 was asked for, CUDA shows 0, counted from 0: see what nvidia-smi lists"
    found["cuda_pycuda"] = ImportError("libcurand.so.10: cannot open shared object file")
    assert refuse().startswith("GPU 0 was asked for")
    assert refuse("pycuda").startswith("CUDA needs a Python binding, there is none: pycuda (libcurand")


def test_pycuda_without_a_driver_or_with_an_old_one(found: dict[str, ModuleType | ImportError]) -> None:
    found["cuda_pycuda"] = ImportError("libcuda.so.1: cannot open shared object file: No such file or directory")
    assert refuse() == (
        "CUDA needs NVIDIA's driver, libcuda.so.1 was not found: install it, or use an engine for the CPU"
    )
    found["cuda_pycuda"] = ImportError("_driver.so: undefined symbol: cuCtxCreate_v4")
    found["cuda_python"] = ImportError("No module named 'cuda'")
    told = refuse()
    assert "pycuda was built for a newer CUDA than the driver's (_driver.so: undefined symbol: cuCtxCreate_v4)" in told
    assert told.endswith(": update the NVIDIA driver, or pip install cuda-bindings")
    found["cuda_python"] = Counting("another")
    assert refuse().startswith("GPU 0 was asked for")


def test_cuda_python_without_a_driver() -> None:
    """In a process of its own, which keeps a driver that this machine may have out of sight."""
    program = (
        "import sys\n"
        "from cuda.bindings import driver\n"
        "from cuda.pathfinder import DynamicLibNotFoundError\n"
        "def init(flags): raise {raised}\n"
        "driver.cuInit = init\n"
        "from rtpsp.engine.cuda import open_device\n"
        "from rtpsp.errors import MissingError\n"
        "try:\n"
        "    with open_device(0, 'cuda-python'): pass\n"
        "except MissingError as error: print(error)\n"
    )
    answers = {
        "DynamicLibNotFoundError('\"cuda\" is an NVIDIA driver library')": "CUDA needs NVIDIA's driver, libcuda.so.1",
        "RuntimeError('Function \"cuInit\" not found')": "NVIDIA driver is too old for cuda-bindings (Function",
    }
    for raised, answer in answers.items():
        command = [sys.executable, "-c", program.format(raised=raised)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert told.startswith(answer)
        assert told.count("\n") == 1


def test_an_unknown_binding() -> None:
    with pytest.raises(UsageError, match="CUDA binding is 'cupy', expected one of pycuda, cuda-python"):
        open_device(0, "cupy").__enter__()


def test_failures_name_the_call_the_text_and_what_to_do() -> None:
    plain = CudaFailed("cuMemAlloc", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY")
    assert str(plain).startswith("CUDA's cuMemAlloc failed: out of memory (CUDA_ERROR_OUT_OF_MEMORY): another process")
    assert str(CudaFailed("cuEventSynchronize", "unspecified launch failure")).endswith("'rtpsp doctor' tells more")
    logged = CudaFailed("cuModuleLoadDataEx", "device kernel image is invalid - log of a compiler")
    assert str(logged).endswith(ADVICE["device kernel image is invalid"])


def test_importing_it_loads_no_binding() -> None:
    program = "import sys, rtpsp.engine.cuda; print([m for m in sys.modules if m.startswith(('cuda', 'pycuda'))])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
