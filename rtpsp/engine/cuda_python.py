"""CUDA through NVIDIA's own binding, the package ``cuda-bindings`` of the project cuda-python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cuda.bindings import driver
from numpy.typing import DTypeLike, NDArray

from rtpsp.engine.cuda_binding import NO_DRIVER, CudaFailed, Facts, Raw
from rtpsp.errors import MissingError

_NON_BLOCKING = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
_NO_TIMING = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
_SLEEP = driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC
_ATTRIBUTES = driver.CUdevice_attribute


def count_devices() -> int:
    """See `rtpsp.engine.cuda_binding.Binding`."""
    initialise()
    return int(_call(driver.cuDeviceGetCount))


def retain(index: int) -> Context:
    """See `rtpsp.engine.cuda_binding.Binding`."""
    return Context(index)


def initialise() -> None:
    """Load the driver, and initialise it if that was not done yet.

    Raises:
        MissingError: There is none, or it has no GPU.
    """
    try:
        _call(driver.cuInit, 0)
    except RuntimeError as error:  # the library, or a function in it, was not found
        if "libcuda" in str(error) or type(error).__name__ == "DynamicLibNotFoundError":
            raise MissingError(NO_DRIVER) from error
        raise MissingError(f"NVIDIA driver is too old for cuda-bindings ({error}): update the driver") from error


class Context:
    """A primary context; see `rtpsp.engine.cuda_binding.Context`."""

    def __init__(self, index: int) -> None:
        device = _call(driver.cuDeviceGet, index)
        version = _call(driver.cuDriverGetVersion)
        major, minor, processors = (
            _call(driver.cuDeviceGetAttribute, attribute, device)
            for attribute in (
                _ATTRIBUTES.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                _ATTRIBUTES.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                _ATTRIBUTES.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )
        )
        name = _call(driver.cuDeviceGetName, 256, device).split(b"\0")[0].decode()
        self.facts = Facts(name, f"{major}.{minor}", f"{version // 1000}.{version % 1000 // 10}", processors)
        self._context = _call(driver.cuDevicePrimaryCtxRetain, device)

    def push(self) -> None:
        _call(driver.cuCtxPushCurrent, self._context)

    def pop(self) -> None:
        _call(driver.cuCtxPopCurrent)

    def memory(self) -> tuple[int, int]:
        free, total = _call(driver.cuMemGetInfo)
        return int(free), int(total)

    def allocate(self, nbytes: int) -> Raw:
        return _call(driver.cuMemAlloc, nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_byte * nbytes).from_address(_call(driver.cuMemHostAlloc, nbytes, 0))
        return np.ndarray(shape, dtype, memoryview(memory))

    def unpin(self, array: NDArray[Any]) -> None:
        _call(driver.cuMemFreeHost, address_of(array))

    def stream(self) -> Raw:
        return _call(driver.cuStreamCreate, _NON_BLOCKING)

    def event(self, *, timing: bool, spin: bool) -> Raw:
        return _call(driver.cuEventCreate, (0 if timing else _NO_TIMING) | (0 if spin else _SLEEP))

    def module(self, image: bytes) -> Raw:
        return _call(driver.cuModuleLoadData, image)

    def function(self, module: Raw, name: str) -> Raw:
        return _call(driver.cuModuleGetFunction, module, name.encode())

    def release(self, raw: Raw) -> None:
        release(raw)

    def number(self, raw: Raw) -> int:
        return int(raw)

    def upload(self, to: int, frm: NDArray[Any], stream: Raw) -> None:
        _call(driver.cuMemcpyHtoDAsync, to, address_of(frm), frm.nbytes, stream)

    def download(self, to: NDArray[Any], frm: int, stream: Raw) -> None:
        _call(driver.cuMemcpyDtoHAsync, address_of(to), frm, to.nbytes, stream)

    def launch(
        self,
        function: Raw,
        stream: Raw,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
    ) -> None:
        values = tuple(value.item() for value in arguments)
        types = tuple(_C_TYPES[value.dtype.char] for value in arguments)
        _call(driver.cuLaunchKernel, function, *grid, *block, 0, stream, (values, types), 0)

    def wait_stream(self, stream: Raw) -> None:
        _call(driver.cuStreamSynchronize, stream)

    def stream_waits(self, stream: Raw, event: Raw) -> None:
        _call(driver.cuStreamWaitEvent, stream, event, 0)

    def record(self, event: Raw, stream: Raw) -> None:
        _call(driver.cuEventRecord, event, stream)

    def wait_event(self, event: Raw) -> None:
        _call(driver.cuEventSynchronize, event)

    def done(self, event: Raw) -> bool:
        (error,) = driver.cuEventQuery(event)
        if error == driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        _check(error, "cuEventQuery")
        return True

    def milliseconds(self, start: Raw, end: Raw) -> float:
        return float(_call(driver.cuEventElapsedTime, start, end))

    def begin_capture(self, stream: Raw) -> None:
        begin_capture(int(stream))

    def end_capture(self, stream: Raw) -> Raw:
        return end_capture(int(stream))

    def launch_graph(self, graph: Raw, stream: Raw) -> None:
        launch_graph(graph, int(stream))


def release(raw: Raw) -> None:
    """Free what this module made."""
    free = _FREE.get(type(raw))
    if free is not None:
        _call(free, raw)


def begin_capture(stream: int) -> None:
    """Record what a stream is given instead of running it; calls of other threads are not restricted meanwhile."""
    _call(driver.cuStreamBeginCapture, stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)


def end_capture(stream: int) -> Raw:
    """A graph, ready to be launched, of what was recorded."""
    graph = _call(driver.cuStreamEndCapture, stream)
    try:
        return _call(driver.cuGraphInstantiate, graph, 0)
    finally:
        _call(driver.cuGraphDestroy, graph)


def launch_graph(graph: Raw, stream: int) -> None:
    """Put a graph onto a stream."""
    _call(driver.cuGraphLaunch, graph, stream)


def address_of(array: NDArray[Any]) -> int:
    """Where an array's first byte is; `ndarray.ctypes` takes ten times as long."""
    return int(array.__array_interface__["data"][0])


def _call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    error, *results = function(*arguments)
    if error != driver.CUresult.CUDA_SUCCESS:
        _check(error, function.__name__)
    return results[0] if len(results) == 1 else results


def _check(error: Any, call: str) -> None:
    if error == driver.CUresult.CUDA_SUCCESS:
        return
    told, text = driver.cuGetErrorString(error)
    known = told == driver.CUresult.CUDA_SUCCESS and text is not None
    raise CudaFailed(call, text.decode() if known else "unknown error", error.name)


_C_TYPES = {kind: np.ctypeslib.as_ctypes_type(kind) for kind in np.typecodes["AllInteger"] + "fd?"}

_FREE: dict[type, Callable[..., tuple[Any, ...]]] = {
    driver.CUdeviceptr: driver.cuMemFree,
    driver.CUstream: driver.cuStreamDestroy,
    driver.CUevent: driver.cuEventDestroy,
    driver.CUmodule: driver.cuModuleUnload,
    driver.CUgraphExec: driver.cuGraphExecDestroy,
}
"""A function of a module goes with it."""
