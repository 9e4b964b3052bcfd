"""What a binding of CUDA's driver API gives to `rtpsp.engine.cuda`, and how a CUDA call fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rtpsp.errors import MissingError

Raw = Any
"""A stream, event, module and so on, as the binding itself has it."""

NO_DRIVER = "CUDA needs NVIDIA's driver, libcuda.so.1 was not found: install it, or use an engine for the CPU"
OUT_OF_MEMORY = "out of memory"
_CAPTURES = "nothing may wait for the whole GPU, in any thread, while a CUDA graph is captured"
# The driver's own texts: PyCUDA tells no codes, and these have stood unchanged since CUDA 11.
ADVICE = {
    "no CUDA-capable device is detected": "see what nvidia-smi lists, and whether CUDA_VISIBLE_DEVICES hides it",
    "system has unsupported display driver / cuda driver combination": (
        "the driver was updated while it ran: restart the machine"
    ),
    "CUDA driver version is insufficient for CUDA runtime version": "update the NVIDIA driver",
    "CUDA driver is a stub library": "install the NVIDIA driver, or take the toolkit's stubs out of LD_LIBRARY_PATH",
    "forward compatibility was attempted on non supported HW": (
        "update the NVIDIA driver, or take CUDA's compat folder out of LD_LIBRARY_PATH"
    ),
    "system not yet initialized": "start nvidia-fabricmanager, or the machine again",
    "CUDA-capable device(s) is/are busy or unavailable": "another process holds the GPU: see nvidia-smi",
    "operation not permitted when stream is capturing": _CAPTURES,
    "operation failed due to a previous error during capture": _CAPTURES,
    OUT_OF_MEMORY: "another process may hold the GPU's memory: see nvidia-smi",
    "no kernel image is available for execution on the device": "build it for this GPU's compute capability",
    "the provided PTX was compiled with an unsupported toolchain.": "update the NVIDIA driver",
    "device kernel image is invalid": "build it for this GPU, or update the NVIDIA driver",
}
_AFTER_THAT = "start again, CUDA cannot be used any more in this process; 'rtpsp doctor' tells more"


class CudaFailed(MissingError):
    """A call of CUDA's driver API did not succeed.

    Attributes:
        call: Function that failed, such as ``cuMemAlloc``.
        text: The driver's text for the error.
    """

    def __init__(self, call: str, text: str, name: str = "") -> None:
        told = f"{text} ({name})" if name else text
        advice = ADVICE.get(text.partition(" - ")[0], _AFTER_THAT)  # PyCUDA may add the log of a compilation
        super().__init__(f"CUDA's {call} failed: {told}: {advice}")
        self.call = call
        self.text = text


class CaptureFailed(MissingError):
    """Work on a stream could not be made a CUDA graph; it can still be launched piece by piece."""


@dataclass(frozen=True)
class Facts:
    """What a GPU is.

    Attributes:
        name: Such as ``NVIDIA H100 80GB HBM3``.
        compute_capability: Such as ``9.0``.
        cuda: Newest CUDA that the driver supports, such as ``13.0``.
        multiprocessors: Streaming multiprocessors.
    """

    name: str
    compute_capability: str
    cuda: str
    multiprocessors: int


class Context(Protocol):
    """One GPU's primary context, one object for every thread of the process; its calls act in the thread that pushed.

    What is raw belongs to the binding. Every method raises `CudaFailed` where the driver does.
    """

    facts: Facts

    def push(self) -> None: ...
    def pop(self) -> None: ...
    def memory(self) -> tuple[int, int]: ...

    def allocate(self, nbytes: int) -> Raw: ...
    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]: ...
    def unpin(self, array: NDArray[Any]) -> None: ...
    def stream(self) -> Raw: ...
    def event(self, *, timing: bool, spin: bool) -> Raw: ...
    def module(self, image: bytes) -> Raw: ...
    def function(self, module: Raw, name: str) -> Raw: ...
    def release(self, raw: Raw) -> None:
        """Free what one of the methods above gave, or `end_capture`."""

    def number(self, raw: Raw) -> int:
        """Device address of an allocation, handle of a stream."""

    def upload(self, to: int, frm: NDArray[Any], stream: Raw) -> None: ...
    def download(self, to: NDArray[Any], frm: int, stream: Raw) -> None: ...
    def launch(
        self,
        function: Raw,
        stream: Raw,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
    ) -> None: ...

    def wait_stream(self, stream: Raw) -> None: ...
    def stream_waits(self, stream: Raw, event: Raw) -> None: ...
    def record(self, event: Raw, stream: Raw) -> None: ...
    def wait_event(self, event: Raw) -> None: ...
    def done(self, event: Raw) -> bool: ...
    def milliseconds(self, start: Raw, end: Raw) -> float: ...

    def begin_capture(self, stream: Raw) -> None: ...
    def end_capture(self, stream: Raw) -> Raw:
        """A graph that can be launched, of what was put onto the stream since `begin_capture`."""

    def launch_graph(self, graph: Raw, stream: Raw) -> None: ...


class Binding(Protocol):
    """What the module of a binding has."""

    def count_devices(self) -> int:
        """GPUs that the driver shows, after it was initialised."""

    def retain(self, index: int) -> Context:
        """The primary context of a GPU, not pushed."""
