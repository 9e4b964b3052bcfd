"""A device that is the host: rtpsp's own `CudaDevice` over kernels that g++ compiled, for what needs no driver.

Every call runs at once, so nothing about streams is shown by it; tests/double does that. It is quick, and fills what it
allocates with rubbish, between guards that it looks at.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from rtpsp.engine.cuda_binding import Facts, Raw

ROOT = Path(__file__).parents[2]
_GUARD = 64
_RUBBISH = 0xA5
_OPTIONS = ("-std=c++17", "-O2", "-Wall", "-Wno-unknown-pragmas", "-ffp-contract=off", "-fPIC", "-shared")
_CALL = ctypes.CFUNCTYPE(
    None, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint32)
)


class HostKernel(ctypes.Structure):
    """As in tests/double/libcuda.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", _CALL),
        ("count", ctypes.c_int),
        ("sizes", ctypes.POINTER(ctypes.c_uint32)),
    )


def compile_for_host(folder: Path) -> ctypes.CDLL:
    """The kernels as a library of the host, compiled where its sources have changed."""
    compiler = which("g++")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("g++ is missing on the build server")
        pytest.skip("needs g++")
    sources = [*sorted((ROOT / "rtpsp/engine/kernels").glob("*.cu")), *sorted((ROOT / "tests/double").glob("*.h"))]
    main = ROOT / "tests/double/kernels.cpp"
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in (*sources, main)) + repr(_OPTIONS).encode())
    library = folder / f"kernels-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        part = library.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *_OPTIONS, "-o", str(part), str(main)], check=True)
        part.replace(library)
    return ctypes.CDLL(str(library))


class HostContext:
    """What `rtpsp.engine.cuda.CudaDevice` asks of a binding, by the host."""

    facts = Facts("Host", "9.0", "13.0", 1)

    def __init__(self, library: ctypes.CDLL) -> None:
        count = ctypes.c_int.in_dll(library, "host_kernel_count").value
        self._kernels = {
            kernel.name.decode(): kernel for kernel in (HostKernel * count).in_dll(library, "host_kernels")
        }
        self.launches: list[str] = []
        self.held = 0

    def push(self) -> None: ...

    def pop(self) -> None: ...

    def memory(self) -> tuple[int, int]:
        return 0, 0

    def allocate(self, nbytes: int) -> Raw:
        self.held += 1
        return np.full(nbytes + 2 * _GUARD, _RUBBISH, np.uint8)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        self.held += 1
        array: NDArray[Any] = np.empty(shape, dtype)
        array.view(np.uint8)[...] = _RUBBISH
        return array

    def unpin(self, array: NDArray[Any]) -> None:
        self.held -= 1

    def stream(self) -> Raw:
        return "stream"

    def event(self, *, timing: bool, spin: bool) -> Raw:
        return "event"

    def module(self, image: bytes) -> Raw:
        return "module"

    def function(self, module: Raw, name: str) -> Raw:
        return self._kernels[name]

    def release(self, raw: Raw) -> None:
        if isinstance(raw, np.ndarray):
            self.held -= 1
            assert (raw[:_GUARD] == _RUBBISH).all() and (raw[-_GUARD:] == _RUBBISH).all(), "written beyond the end"

    def number(self, raw: Raw) -> int:
        return int(raw.ctypes.data) + _GUARD if isinstance(raw, np.ndarray) else 1

    def upload(self, to: int, frm: NDArray[Any], stream: Raw) -> None:
        ctypes.memmove(to, frm.ctypes.data, frm.nbytes)

    def download(self, to: NDArray[Any], frm: int, stream: Raw) -> None:
        ctypes.memmove(to.ctypes.data, frm, to.nbytes)

    def launch(
        self,
        function: Raw,
        stream: Raw,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
    ) -> None:
        assert [argument.nbytes for argument in arguments] == function.sizes[: function.count], function.name
        values = [np.asarray(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        self.launches.append(function.name.decode())
        function.call(pointers, (ctypes.c_uint32 * 3)(*grid), (ctypes.c_uint32 * 3)(*block))

    def wait_stream(self, stream: Raw) -> None: ...

    def stream_waits(self, stream: Raw, event: Raw) -> None: ...

    def record(self, event: Raw, stream: Raw) -> None: ...

    def wait_event(self, event: Raw) -> None: ...

    def done(self, event: Raw) -> bool:
        return True

    def milliseconds(self, start: Raw, end: Raw) -> float:
        return 0.0

    def begin_capture(self, stream: Raw) -> None: ...

    def end_capture(self, stream: Raw) -> Raw: ...

    def launch_graph(self, graph: Raw, stream: Raw) -> None: ...
