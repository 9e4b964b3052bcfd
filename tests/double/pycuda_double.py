"""What rtpsp uses of PyCUDA, made over the driver by ctypes, for machines to which PyCUDA's compilation is too much.

It behaves as PyCUDA 2026.1 does: one stack of contexts a thread, contexts told apart by object, everything tied to the
context it was made in, freed with its last reference and only where that context can be made current, errors by class
and text, no handle of an event.
"""

from __future__ import annotations

import ctypes
import gc
import struct
import sys
import threading
import types
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NOT_READY = 600
_local = threading.local()


class Error(Exception):
    """Any failure of CUDA."""


class MemoryError(Error):
    """Out of memory."""


class LogicError(Error):
    """Wrong use."""


class LaunchError(Error):
    """A kernel that failed."""


class RuntimeError(Error):
    """The machine's fault."""


_CLASSES = {2: MemoryError, 719: LaunchError, 701: LaunchError, 100: RuntimeError, 209: RuntimeError, 600: RuntimeError}


class device_attribute:
    MULTIPROCESSOR_COUNT = 16


class event_flags:
    DEFAULT, BLOCKING_SYNC, DISABLE_TIMING = 0, 1, 2


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _status(name: str, *arguments: Any) -> int:
    status: int = getattr(_driver(), name)(*arguments)
    return status


def _call(name: str, *arguments: Any) -> None:
    code = _status(name, *arguments)
    if code:
        text = ctypes.c_char_p()
        _status("cuGetErrorString", code, ctypes.byref(text))
        call = name.removesuffix("_v2")
        raise _CLASSES.get(code, LogicError)(f"{call} failed: {(text.value or b'unknown').decode()}")


def _out(kind: Any, name: str, *arguments: Any) -> Any:
    result = kind()
    _call(name, ctypes.byref(result), *arguments)
    return result.value


def init(flags: int = 0) -> None:
    _call("cuInit", flags)


def get_driver_version() -> int:
    return int(_out(ctypes.c_int, "cuDriverGetVersion"))


class Device:
    def __init__(self, number: int) -> None:
        self._device = _out(ctypes.c_int, "cuDeviceGet", number)

    @staticmethod
    def count() -> int:
        return int(_out(ctypes.c_int, "cuDeviceGetCount"))

    def name(self) -> str:
        text = ctypes.create_string_buffer(1024)
        _call("cuDeviceGetName", text, 1024, self._device)
        return text.value.decode()

    def compute_capability(self) -> tuple[int, int]:
        major, minor = ctypes.c_int(), ctypes.c_int()
        _call("cuDeviceComputeCapability", ctypes.byref(major), ctypes.byref(minor), self._device)
        return major.value, minor.value

    def get_attribute(self, attribute: int) -> int:
        return int(_out(ctypes.c_int, "cuDeviceGetAttribute", attribute, self._device))

    def retain_primary_context(self) -> Context:
        return Context(_out(ctypes.c_void_p, "cuDevicePrimaryCtxRetain", self._device), self._device)


class Context:
    def __init__(self, handle: int, device: int) -> None:
        self._handle, self._device = handle, device
        self.thread = threading.get_ident()

    def push(self) -> None:
        _leave()
        _enter(self)
        _stack().append(self)

    def detach(self) -> None:
        """Where it was retained; another thread leaves it to the process's end."""
        if self.thread == threading.get_ident():
            _call("cuDevicePrimaryCtxRelease_v2", self._device)

    @staticmethod
    def pop() -> None:
        _leave()
        if not _stack():
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        _stack().pop()
        if _stack():
            _enter(_stack()[-1])


def _stack() -> list[Context]:
    if not hasattr(_local, "stack"):
        _local.stack = []
    stack: list[Context] = _local.stack
    return stack


def _enter(context: Context) -> None:
    _call("cuCtxPushCurrent_v2", ctypes.c_void_p(context._handle))


def _leave() -> None:
    if _stack():
        _out(ctypes.c_void_p, "cuCtxPopCurrent_v2")


class _Dependent:
    """Of a context, and freed in it."""

    destroy: ClassVar[str]

    def __init__(self, handle: int) -> None:
        if not _stack():
            raise LogicError("explicit_context_dependent failed: invalid device context - no currently active context?")
        self._handle: int | None = handle
        self._owner = _stack()[-1]

    def free(self) -> None:
        if self._handle is None:
            raise LogicError(f"{type(self).__name__}::free failed: invalid resource handle")
        handle, self._handle = self._handle, None
        current = _stack()[-1] if _stack() else None
        if current is not self._owner and self._owner.thread != threading.get_ident():
            warnings.warn(f"{type(self).__name__} in out-of-thread context could not be cleaned up", stacklevel=2)
            return
        if current is not self._owner:
            self._owner.push()
        try:
            _call(self.destroy, ctypes.c_void_p(handle))
        finally:
            if current is not self._owner:
                Context.pop()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            try:
                self.free()
            except Error as error:  # as PyCUDA: told on stderr, not raised
                sys.stderr.write(f"PyCUDA WARNING: a clean-up operation failed (dead context maybe?)\n{error}\n")

    def _argument(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._handle)


class DeviceAllocation(_Dependent):
    destroy = "cuMemFree_v2"

    def __int__(self) -> int:
        assert self._handle is not None
        return self._handle


class PagelockedHostAllocation(_Dependent):
    destroy = "cuMemFreeHost"

    def __init__(self, handle: int, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        super().__init__(handle)
        kind = np.dtype(dtype).str
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": kind, "data": (handle, False)}


class Stream(_Dependent):
    destroy = "cuStreamDestroy_v2"

    def __init__(self, flags: int = 0) -> None:
        super().__init__(_out(ctypes.c_void_p, "cuStreamCreate", flags))

    @property
    def handle(self) -> int:
        assert self._handle is not None
        return self._handle

    def synchronize(self) -> None:
        _call("cuStreamSynchronize", self._argument())

    def wait_for_event(self, event: Event) -> None:
        _call("cuStreamWaitEvent", self._argument(), event._argument(), 0)


class Event(_Dependent):
    destroy = "cuEventDestroy_v2"

    def __init__(self, flags: int = 0) -> None:
        super().__init__(_out(ctypes.c_void_p, "cuEventCreate", flags))

    def record(self, stream: Stream) -> Event:
        _call("cuEventRecord", self._argument(), stream._argument())
        return self

    def synchronize(self) -> Event:
        _call("cuEventSynchronize", self._argument())
        return self

    def query(self) -> bool:
        code = _status("cuEventQuery", self._argument())
        if code not in (0, _NOT_READY):
            _call("cuEventQuery", self._argument())
        return code == 0

    def time_till(self, end: Event) -> float:
        return float(_out(ctypes.c_float, "cuEventElapsedTime_v2", self._argument(), end._argument()))


class Module(_Dependent):
    destroy = "cuModuleUnload"

    def get_function(self, name: str) -> Function:
        return Function(self, _out(ctypes.c_void_p, "cuModuleGetFunction", self._argument(), name.encode()))


class Function:
    def __init__(self, module: Module, handle: int) -> None:
        self._module, self._handle = module, handle
        self._format = ""

    def prepare(self, types: Sequence[np.dtype[Any]]) -> Function:
        self._format = "".join(kind.char for kind in types)
        return self

    def prepared_async_call(self, grid: tuple[int, ...], block: tuple[int, ...], stream: Stream, *values: Any) -> None:
        packed = struct.pack(self._format, *values)
        size = ctypes.c_size_t(len(packed))
        extra = (ctypes.c_void_p * 5)(
            1, ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p).value, 2, ctypes.addressof(size), None
        )  # CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE, _END
        shape = (*grid, *block)
        _call("cuLaunchKernel", ctypes.c_void_p(self._handle), *shape, 0, stream._argument(), None, extra)


def mem_alloc(nbytes: int) -> DeviceAllocation:
    try:
        return DeviceAllocation(_out(ctypes.c_ulonglong, "cuMemAlloc_v2", ctypes.c_size_t(nbytes)))
    except MemoryError:
        gc.collect()
    return DeviceAllocation(_out(ctypes.c_ulonglong, "cuMemAlloc_v2", ctypes.c_size_t(nbytes)))


def mem_get_info() -> tuple[int, int]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def pagelocked_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    handle = _out(ctypes.c_void_p, "cuMemHostAlloc", ctypes.c_size_t(nbytes), 0)
    return np.asarray(PagelockedHostAllocation(handle, shape, dtype))  # whose `base` is the allocation


def module_from_buffer(image: bytes) -> Module:
    return Module(_out(ctypes.c_void_p, "cuModuleLoadData", image))


def memcpy_htod_async(to: int, frm: NDArray[Any], stream: Stream) -> None:
    _copy("cuMemcpyHtoDAsync_v2", ctypes.c_ulonglong(int(to)), ctypes.c_void_p(frm.ctypes.data), frm, stream)


def memcpy_dtoh_async(to: NDArray[Any], frm: int, stream: Stream) -> None:
    _copy("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(to.ctypes.data), ctypes.c_ulonglong(int(frm)), to, stream)


def _copy(name: str, to: Any, frm: Any, array: NDArray[Any], stream: Stream) -> None:
    _call(name, to, frm, ctypes.c_size_t(array.nbytes), stream._argument())


def install() -> None:
    """Let ``import pycuda.driver`` give this module."""
    package = types.ModuleType("pycuda")
    package.driver = sys.modules[__name__]  # type: ignore[attr-defined]
    sys.modules["pycuda"] = package
    sys.modules["pycuda.driver"] = sys.modules[__name__]
