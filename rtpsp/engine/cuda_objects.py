"""What a `rtpsp.engine.cuda.CudaDevice` makes: each belongs to it and to its thread, and is freed by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rtpsp.engine.cuda_binding import Raw
from rtpsp.errors import UsageError

if TYPE_CHECKING:
    from rtpsp.engine.cuda import CudaDevice


class Owned:
    """Something that a `CudaDevice` made and will free. It belongs to the device's thread."""

    def __init__(self, device: CudaDevice, raw: Raw) -> None:
        self._device = device
        self._context = device.context
        self._raw: Raw | None = raw

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._device.name}{'' if self._raw is not None else ', freed'}>"

    @property
    def raw(self) -> Raw:
        """What the binding calls it by.

        Raises:
            UsageError: It was freed, or this is another thread than the device's.
        """
        self.check()
        return self._raw

    def check(self) -> None:
        """Raise `UsageError` if it was freed, and in another thread than the device's."""
        self._device.check()
        if self._raw is None:
            raise UsageError(f"{self!r} is used: make a new one of the device that is open")

    def release(self) -> None:
        """For the device alone."""
        raw, self._raw = self._raw, None
        self._context.release(raw)


class Buffer(Owned):
    """Device memory.

    Attributes:
        pointer: Its address on the device.
        nbytes: Bytes that were asked for.
    """

    def __init__(self, device: CudaDevice, raw: Raw, nbytes: int) -> None:
        super().__init__(device, raw)
        self.pointer = device.context.number(raw)
        self.nbytes = nbytes


class Event(Owned):
    """A point in a stream's work."""

    def record(self, stream: Stream) -> None:
        """Put it behind all that the stream was given so far. Does not wait."""
        self._context.record(self.raw, stream.raw)

    def synchronize(self) -> None:
        """Wait for it; at once if it was never recorded."""
        self._context.wait_event(self.raw)

    def done(self) -> bool:
        """Whether all before it has run. Does not wait."""
        return self._context.done(self.raw)

    def milliseconds_since(self, earlier: Event) -> float:
        """Device time between two events that were made with ``timing=True`` and are both done."""
        return self._context.milliseconds(earlier.raw, self.raw)


class Stream(Owned):
    """An order of work on the device; non-blocking: it does not wait for the default stream.

    Attributes:
        handle: ``CUstream`` as a number, for TensorRT's ``execute_async_v3``.
    """

    def __init__(self, device: CudaDevice, raw: Raw) -> None:
        super().__init__(device, raw)
        self.handle = device.context.number(raw)

    def synchronize(self) -> None:
        """Wait for all that it was given; spins on a core where the context was made so: an event waits better."""
        self._context.wait_stream(self.raw)

    def wait(self, event: Event) -> None:
        """What it is given from now on runs after the event, as last recorded. The caller does not wait."""
        self._context.stream_waits(self.raw, event.raw)


class Kernel(Owned):
    """A function of a `Module`."""

    def launch(
        self,
        stream: Stream,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *arguments: Buffer | np.generic,
    ) -> None:
        """Put it onto a stream. Does not wait.

        Args:
            stream: Where it runs.
            grid: Blocks in x, y, z.
            block: Threads of a block in x, y, z.
            arguments: The kernel's own, in order: a buffer for a pointer (or its address and more as `np.uint64`), a
                NumPy scalar of the parameter's exact type for a number.
        """
        values: list[np.generic] = []
        for argument in arguments:
            if isinstance(argument, Buffer):
                argument.check()
                values.append(np.uint64(argument.pointer))
            else:
                values.append(argument)
        self._context.launch(self.raw, stream.raw, grid, block, values)


class Module(Owned):
    """Kernels that were loaded together."""

    def kernel(self, name: str) -> Kernel:
        """A kernel by the name that it has in the image: ``extern "C"``, or mangled."""
        return self._device.own(Kernel(self._device, self._context.function(self.raw, name)))


class Graph(Owned):
    """Captured work, launched as one. It is tied to the addresses that were captured."""

    def launch(self, stream: Stream) -> None:
        """Put all of it onto a stream. Does not wait."""
        self._context.launch_graph(self.raw, stream.raw)


class Pinned(Owned):
    """A page-locked array, which callers have as such."""

    def release(self) -> None:
        raw, self._raw = self._raw, None
        self._context.unpin(cast(NDArray[Any], raw))
