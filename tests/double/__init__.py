"""A double of NVIDIA's driver: compiled here, then a process of its own runs the tests in this folder on it.

The tests are collected where the environment variable `LIBRARY` names the library, which is to be found as
``libcuda.so.1`` too; `environment` gives both. `tests/test_on_the_double.py` starts them in an ordinary run. By hand::

    python -m tests.double tests/double -k contract
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "rtpsp" / "engine" / "kernels"
CACHE = HERE.parents[1] / ".pytest_cache" / "double"
LIBRARY = "RTPSP_CUDA_DOUBLE"
# No fused multiply-add and no reordering: what the kernels' references are compared with is exact.
COMPILER = ("g++", "-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas", "-shared", "-fPIC")

LAZY, EAGER, OTHERS_FIRST, SHUFFLED = range(4)
OUT_OF_MEMORY, NO_DEVICE, ILLEGAL_ADDRESS, DRIVER_MISMATCH, UNKNOWN = 2, 100, 700, 803, 999


def compile_double(folder: Path | None = None) -> Path:
    """The library, compiled unless it is there already; named after all that it is made of.

    Raises:
        FileNotFoundError: There is no g++.
        subprocess.CalledProcessError: It does not compile; the compiler has said why on stderr.
    """
    sources, exports = sorted(HERE.glob("*.cpp")), HERE / "libcuda.map"
    read = [*sources, exports, *sorted(HERE.glob("*.h")), *sorted(KERNELS.glob("*.cu*"))]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in read:
        digest.update(path.name.encode() + path.read_bytes())
    library = (folder or CACHE) / digest.hexdigest()[:16] / "libcuda.so.1"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            made = Path(scratch) / "libcuda.so.1"
            linking = [f"-Wl,-soname,libcuda.so.1,--version-script={exports}", "-static-libstdc++", "-static-libgcc"]
            command = [*COMPILER, *map(str, sources), f"-I{HERE}", f"-I{KERNELS}", *linking, "-o", str(made)]
            subprocess.run(command, check=True)
            made.replace(library)
    return library


def environment(library: Path) -> dict[str, str]:
    """The environment for a process that is to find the double as its driver."""
    paths = [str(library.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, LIBRARY: str(library), "LD_LIBRARY_PATH": os.pathsep.join(paths)}


class Call(NamedTuple):
    """A call that the double was given: its name in CUDA, the thread, and the handle that it is mainly about."""

    name: str
    thread: int
    handle: int


class Double:
    """The double that this process runs on."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[LIBRARY])
        self._library.double_log_name.restype = ctypes.c_char_p
        self._library.double_log_thread.restype = ctypes.c_long
        self._library.double_log_handle.restype = ctypes.c_ulonglong

    def reset(self) -> None:
        """Nothing made, logged or failing, one GPU of 1 GiB, CUDA 13.0, `LAZY`."""
        self._library.double_reset()

    def mode(self, mode: int, seed: int = 1) -> None:
        """When what streams are given runs: `LAZY`, `EAGER`, `OTHERS_FIRST` or `SHUFFLED` (of a seed)."""
        self._library.double_mode(mode, seed)

    def fail(self, name: str, nth: int = 1, code: int = UNKNOWN) -> None:
        """Let the nth call from now fail; ``run:cuLaunchKernel`` is the nth time that a launched kernel really runs."""
        self._library.double_fail(name.encode(), nth, code)

    def set_device(self, devices: int = 1, version: int = 13000, total: int = 1 << 30) -> None:
        """How many GPUs there are, the driver's CUDA, and the memory in bytes."""
        self._library.double_set_device(devices, version, ctypes.c_ulonglong(total))

    def count(self, what: str) -> int:
        """How many ``buffers``, ``pinned``, ``streams``, ``events``, ``modules`` and ``graphs`` there are, how often a
        context is ``pushed`` or ``retained``, what is ``pending`` on streams, and ``overruns``: buffers that were freed
        with something written behind their end."""
        count: int = self._library.double_count(what.encode())
        assert count >= 0, what
        return count

    def log(self) -> list[Call]:
        """All calls since the reset."""
        library = self._library
        return [
            Call(library.double_log_name(i).decode(), library.double_log_thread(i), library.double_log_handle(i))
            for i in range(library.double_log_size())
        ]

    def calls(self) -> list[str]:
        """Their names."""
        return [call.name for call in self.log()]

    def left(self) -> dict[str, int]:
        """What was not given back, or was written where it should not; empty when all is well."""
        kinds = ("buffers", "pinned", "streams", "events", "modules", "graphs", "pushed", "overruns")
        return {kind: count for kind in kinds if (count := self.count(kind))}

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """Assert that all calls within came from one thread."""
        before = len(self.log())
        yield
        assert len({call.thread for call in self.log()[before:]}) <= 1
