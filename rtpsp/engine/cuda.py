"""CUDA by its driver API, through PyCUDA or cuda-python: the one module by which the rest of rtpsp reaches a GPU.

`open_device` pushes the GPU's primary context, which TensorRT and PyTorch use too, in the thread that enters it; all
that the device makes belongs to that thread, and is freed in it, newest first, when the ``with`` block ends, also by an
exception. Nothing here allocates or waits behind the caller's back: only what says so does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rtpsp.engine.cuda_binding import OUT_OF_MEMORY, CaptureFailed, Context, CudaFailed, Raw
from rtpsp.engine.cuda_contexts import BINDINGS, primary_context
from rtpsp.engine.cuda_objects import Buffer, Event, Graph, Kernel, Module, Owned, Pinned, Stream
from rtpsp.errors import MissingError, UsageError

__all__ = [
    "BINDINGS",
    "Buffer",
    "CaptureFailed",
    "CudaDevice",
    "CudaFailed",
    "Event",
    "Graph",
    "Kernel",
    "Module",
    "Stream",
    "open_device",
]

_log = logging.getLogger(__name__)

_Made = TypeVar("_Made", bound=Owned)


class CudaDevice:
    """A GPU whose context is current in the thread that entered `open_device`, and all that was made on it.

    Its methods, and those of all that it makes, raise `UsageError` in another thread or after the ``with`` block, and
    `CudaFailed` where the driver fails.

    Attributes:
        binding: ``pycuda`` or ``cuda-python``.
        name: Such as ``NVIDIA H100 80GB HBM3``.
        compute_capability: Such as ``9.0``.
        cuda: Newest CUDA that the driver supports, such as ``13.0``.
        multiprocessors: Streaming multiprocessors.
    """

    def __init__(self, binding: str, context: Context) -> None:
        facts = context.facts
        self.binding, self.context = binding, context
        self.name, self.compute_capability = facts.name, facts.compute_capability
        self.cuda, self.multiprocessors = facts.cuda, facts.multiprocessors
        self._thread: int | None = threading.get_ident()
        self._owned: dict[int, Owned] = {}  # by id of what the caller has, oldest first

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU, all processes together."""
        self.check()
        return self.context.memory()

    def allocate(self, nbytes: int) -> Buffer:
        """Device memory, its contents undefined.

        Raises:
            MissingError: The GPU has not that much.
        """
        raw = self._make(nbytes, self.context.allocate, nbytes)
        return self.own(Buffer(self, raw, nbytes))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A page-locked C-contiguous array in host memory, its contents undefined.

        The device owns it: neither it nor a view of it may be touched after `free` or the device's end.

        Raises:
            MissingError: The machine cannot lock that much.
        """
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array: NDArray[Any] = self._make(nbytes, self.context.pinned, shape, dtype)
        self._owned[id(array)] = Pinned(self, array)
        return array

    def stream(self) -> Stream:
        """A new stream, non-blocking."""
        self.check()
        return self.own(Stream(self, self.context.stream()))

    def event(self, *, timing: bool = False, spin: bool = False) -> Event:
        """A new event.

        Args:
            timing: For `Event.milliseconds_since`.
            spin: `Event.synchronize` burns a core, and returns sooner.
        """
        self.check()
        return self.own(Event(self, self.context.event(timing=timing, spin=spin)))

    def upload(self, to: Buffer, frm: NDArray[Any], stream: Stream) -> None:
        """Put a copy of a whole array to the device onto a stream.

        From `pinned` memory it does not wait, and the array may be written again once the stream is past it. From
        other memory the driver copies it aside first.

        Raises:
            UsageError: The array is not C-contiguous, or larger than the buffer.
        """
        _check_copy(frm, to)
        self.context.upload(to.pointer, frm, stream.raw)

    def download(self, to: NDArray[Any], frm: Buffer, stream: Stream) -> None:
        """Put a copy from the device, of the array's size, onto a stream; to `pinned` memory it does not wait.

        Raises:
            UsageError: The array is not C-contiguous, or larger than the buffer.
        """
        _check_copy(to, frm)
        self.context.download(to, frm.pointer, stream.raw)

    def load_module(self, image: bytes) -> Module:
        """Load kernels.

        Args:
            image: A cubin for this GPU, or PTX, which the driver compiles now.
        """
        self.check()
        return self.own(Module(self, self.context.module(image)))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Make one graph of what `work` puts onto a stream, which does not run now.

        Other threads may open and close devices, allocate, and wait for their own streams meanwhile; who waits for the
        whole GPU, as ``torch.cuda.synchronize`` does, gets an error and ends the capture. `work` may neither allocate
        nor wait. The stream is usable afterwards, also where this raises.

        Raises:
            CaptureFailed: It could not be captured, with the reason; also where `work` raises it.
        """
        raw_stream, raw = stream.raw, None
        self.context.begin_capture(raw_stream)
        try:
            work()
        except BaseException as error:
            try:
                self.context.release(self.context.end_capture(raw_stream))
            except MissingError as second:
                _log.debug("capture ended by %s, then: %s", error, second)
            if isinstance(error, CudaFailed):
                raise CaptureFailed(f"work cannot be captured into a CUDA graph: {error}") from error
            raise
        try:
            raw = self.context.end_capture(raw_stream)
        except CudaFailed as error:
            raise CaptureFailed(f"work cannot be captured into a CUDA graph: {error}") from error
        return self.own(Graph(self, raw))

    def free(self, thing: Buffer | Event | Stream | Module | Kernel | Graph | NDArray[Any]) -> None:
        """Free something earlier than at the device's end. What still uses it must have been waited for.

        Raises:
            UsageError: It is not of this device, or was freed before.
        """
        self.check()
        owned = self._owned.pop(id(thing), None)
        if owned is None:
            raise UsageError(f"{type(thing).__name__} is not of this device or freed already: free what it made, once")
        owned.release()

    def synchronize(self) -> None:
        """Wait for all that was given to this device's streams; the GPU's other work goes on.

        CUDA's own wait for a whole context would fail while a stream in any thread captures, and end that capture.
        """
        self.check()
        for wait in self._waits():
            wait()

    def own(self, thing: _Made) -> _Made:
        """Free it with all the rest."""
        self._owned[id(thing)] = thing
        return thing

    def check(self) -> None:
        """Raise `UsageError` in another thread, and after the end."""
        if self._thread is None:
            raise UsageError("CUDA device is closed: use it inside 'with open_device() as device:'")
        if self._thread != threading.get_ident():
            raise UsageError("CUDA device is open in another thread: open it in the thread that uses it")

    def close(self) -> list[MissingError]:
        """Wait, free everything, newest first, and give what failed; for `open_device` alone."""
        self.check()
        steps = [*self._waits(), *(thing.release for thing in reversed(self._owned.values()))]
        self._owned.clear()
        self._thread = None
        failed: list[MissingError] = []
        for step in [*steps, self.context.pop]:
            try:
                step()
            except MissingError as error:
                failed.append(error)
        return failed

    def _waits(self) -> list[Callable[[], None]]:
        streams = [thing for thing in self._owned.values() if isinstance(thing, Stream)]
        return [partial(self.context.wait_stream, stream.raw) for stream in streams]

    def _make(self, nbytes: int, make: Callable[..., Raw], *arguments: Any) -> Raw:
        self.check()
        if nbytes < 1:
            raise UsageError(f"{nbytes} bytes of memory were asked for, expected at least 1")
        try:
            return make(*arguments)
        except CudaFailed as error:
            if error.text != OUT_OF_MEMORY:
                raise
            free, total = self.context.memory()
            kind = "host memory that stays in place" if make == self.context.pinned else f"memory of {self.name}"
            raise MissingError(
                f"{_mib(nbytes)} of {kind} were asked for and refused, the GPU has {_mib(free)} of {_mib(total)} free: "
                f"close what else uses it (see nvidia-smi), or use a smaller model, --batch 1 or less depth"
            ) from error


@contextmanager
def open_device(index: int = 0, binding: str | None = None) -> Iterator[CudaDevice]:
    """A GPU, for the thread that enters this.

    Args:
        index: Which, as CUDA counts them (``CUDA_VISIBLE_DEVICES`` decides).
        binding: One of `BINDINGS`; None takes the first that can be imported.

    Raises:
        UsageError: No such binding.
        MissingError: No binding is installed, there is no driver or an old one, or no such GPU.
    """
    found, context = primary_context(index, binding)
    context.push()
    device = CudaDevice(found, context)
    try:
        yield device
    except BaseException as error:
        for failed in device.close():
            _log.debug("after %r: %s", error, failed)
        raise
    if failures := device.close():
        raise failures[0]


def _check_copy(array: NDArray[Any], buffer: Buffer) -> None:
    buffer.check()
    if not array.flags.c_contiguous or array.nbytes > buffer.nbytes:
        order = "" if array.flags.c_contiguous else ", not C-contiguous"
        raise UsageError(
            f"array is {array.dtype} {list(array.shape)}{order}, expected a C-contiguous one of at most "
            f"{buffer.nbytes} bytes, as the buffer"
        )


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.1f} MiB"
