"""CUDA through PyCUDA; its graphs, which it lacks, through cuda-python on the same streams and context."""

from __future__ import annotations

import atexit
import ctypes
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pycuda  # first, so that where it is missing nothing else is looked for
from numpy.typing import DTypeLike, NDArray

from rtpsp.engine.cuda_binding import CaptureFailed, CudaFailed, Facts, Raw

if sys.platform == "linux":
    # A wheel that was linked without a driver at hand does not name the library that it needs, and does not find it.
    try:
        ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ImportError(str(error)) from error
driver: Any = importlib.import_module(f"{pycuda.__name__}.driver")

_ATTRIBUTES = driver.device_attribute
_FLAGS = driver.event_flags
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which PyCUDA has no name


def count_devices() -> int:
    """See `rtpsp.engine.cuda_binding.Binding`."""
    _call(driver.init)
    return int(_call(driver.Device.count))


def retain(index: int) -> Context:
    """See `rtpsp.engine.cuda_binding.Binding`."""
    return Context(index)


class Context:
    """A primary context; see `rtpsp.engine.cuda_binding.Context`."""

    def __init__(self, index: int) -> None:
        device = _call(driver.Device, index)
        version = _call(driver.get_driver_version)
        major, minor = _call(device.compute_capability)
        processors = _call(device.get_attribute, _ATTRIBUTES.MULTIPROCESSOR_COUNT)
        name = _call(device.name)
        self.facts = Facts(name, f"{major}.{minor}", f"{version // 1000}.{version % 1000 // 10}", processors)
        self._context = _call(device.retain_primary_context)
        # Its destructor would take it for one that is not primary, and complain on stderr while the process ends.
        atexit.register(self._context.detach)
        self._graphs: Any = None

    def push(self) -> None:
        _call(self._context.push)

    def pop(self) -> None:
        _call(driver.Context.pop)

    def memory(self) -> tuple[int, int]:
        free, total = _call(driver.mem_get_info)
        return int(free), int(total)

    def allocate(self, nbytes: int) -> Raw:
        return _Cell(_call(driver.mem_alloc, nbytes))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        array: NDArray[Any] = _call(driver.pagelocked_empty, shape, dtype)
        return array

    def unpin(self, array: NDArray[Any]) -> None:
        _call(array.base.free)  # type: ignore[union-attr]  # PyCUDA's own allocation

    def stream(self) -> Raw:
        return _Cell(_call(driver.Stream, _NON_BLOCKING))

    def event(self, *, timing: bool, spin: bool) -> Raw:
        flags = (0 if timing else _FLAGS.DISABLE_TIMING) | (0 if spin else _FLAGS.BLOCKING_SYNC)
        return _Cell(_call(driver.Event, flags))

    def module(self, image: bytes) -> Raw:
        return _Cell(_call(driver.module_from_buffer, image))

    def function(self, module: Raw, name: str) -> Raw:
        return _Cell(_call(module.content.get_function, name))

    def release(self, raw: Raw) -> None:
        if not isinstance(raw, _Cell):
            self._graphs.release(raw)
            return
        content, raw.content = raw.content, None
        if isinstance(content, driver.DeviceAllocation):
            _call(content.free)
        # streams, events and modules have no other way to go than with their last reference, which ends here

    def number(self, raw: Raw) -> int:
        content = raw.content
        return int(content) if isinstance(content, driver.DeviceAllocation) else int(content.handle)

    def upload(self, to: int, frm: NDArray[Any], stream: Raw) -> None:
        _call(driver.memcpy_htod_async, to, frm, stream.content)

    def download(self, to: NDArray[Any], frm: int, stream: Raw) -> None:
        _call(driver.memcpy_dtoh_async, to, frm, stream.content)

    def launch(
        self,
        function: Raw,
        stream: Raw,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
    ) -> None:
        function.content.prepare([value.dtype for value in arguments])
        _call(function.content.prepared_async_call, grid, block, stream.content, *arguments)

    def wait_stream(self, stream: Raw) -> None:
        _call(stream.content.synchronize)

    def stream_waits(self, stream: Raw, event: Raw) -> None:
        _call(stream.content.wait_for_event, event.content)

    def record(self, event: Raw, stream: Raw) -> None:
        _call(event.content.record, stream.content)

    def wait_event(self, event: Raw) -> None:
        _call(event.content.synchronize)

    def done(self, event: Raw) -> bool:
        return bool(_call(event.content.query))

    def milliseconds(self, start: Raw, end: Raw) -> float:
        return float(_call(start.content.time_till, end.content))

    def begin_capture(self, stream: Raw) -> None:
        self._graphs = self._graphs or _import_graphs()
        self._graphs.begin_capture(self.number(stream))

    def end_capture(self, stream: Raw) -> Raw:
        return self._graphs.end_capture(self.number(stream))

    def launch_graph(self, graph: Raw, stream: Raw) -> None:
        self._graphs.launch_graph(graph, self.number(stream))


class _Cell:
    """Holds the one reference to a thing of PyCUDA's: one in a traceback would put off its end past the context's."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content


def _import_graphs() -> Any:
    try:
        graphs: Any = importlib.import_module("rtpsp.engine.cuda_python")
        graphs.initialise()
    except ImportError as error:
        raise CaptureFailed(
            f"PyCUDA has no CUDA graphs, cuda-python has ({error}): pip install cuda-bindings"
        ) from error
    return graphs


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except driver.Error as error:
        call, _, text = str(error).partition(" failed: ")
        raise CudaFailed(call, text) from error.with_traceback(None)
    finally:
        del function, arguments  # see _Cell
