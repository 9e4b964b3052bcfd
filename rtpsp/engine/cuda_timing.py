"""How long the GPU takes for what is launched onto it, without what the host takes to launch it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from rtpsp.engine.cuda import CudaDevice, CudaFailed, Kernel, Stream

_log = logging.getLogger(__name__)

# extern "C" void rtpsp_delay(uint64 nanoseconds): one thread that looks at the GPU's clock until they have passed. PTX,
# which the driver compiles, so that timing needs no compiler.
_DELAY = b"""
.version 6.4
.target sm_75
.address_size 64
.visible .entry rtpsp_delay(.param .u64 nanoseconds)
{
    .reg .pred %early;
    .reg .u64 %length, %begin, %now;
    ld.param.u64 %length, [nanoseconds];
    mov.u64 %begin, %globaltimer;
WAIT:
    mov.u64 %now, %globaltimer;
    sub.u64 %now, %now, %begin;
    setp.lt.u64 %early, %now, %length;
    @%early bra WAIT;
    ret;
}
"""
SHORTEST, LONGEST = 100_000, 12_800_000
"""Delays in nanoseconds: the first is tried first, the second is the last."""
_ONE = (1, 1, 1)


class LaunchTimer:
    """Times launches on a stream by the device's events.

    On a stream that has nothing to do an event happens as soon as it is there, and the time from it would hold what
    the host takes to launch the rest. So a kernel keeps the stream busy until all is there; where that was too short,
    as the first event tells, it is doubled and the launch made again.

    Args:
        device: Open; it frees what this makes.
        stream: Onto which things are launched.
    """

    def __init__(self, device: CudaDevice, stream: Stream) -> None:
        self._stream = stream
        self._begin, self._end = device.event(timing=True), device.event(timing=True)
        self._nanoseconds = SHORTEST
        self._warned = False
        self._delay: Kernel | None = None
        try:
            self._delay = device.load_module(_DELAY).kernel("rtpsp_delay")
        except CudaFailed as error:  # a driver without its compiler for PTX
            self._nanoseconds = LONGEST  # nothing to try
            self._warn(str(error))

    def milliseconds(self, launch: Callable[[], None]) -> float:
        """Time on the device of what `launch` puts onto the stream, which may be made more than once; waits for it.

        Where it takes the host longer than `LONGEST`, that is in the time, and a warning in the log.
        """
        while not self._ran_behind_a_delay(launch):
            if self._nanoseconds >= LONGEST:
                self._warn(f"to launch took it more than {LONGEST / 1e6} ms")
                break
            self._nanoseconds *= 2
        return self._end.milliseconds_since(self._begin)

    def _ran_behind_a_delay(self, launch: Callable[[], None]) -> bool:
        if self._delay is not None:
            self._delay.launch(self._stream, _ONE, _ONE, np.uint64(self._nanoseconds))
        self._begin.record(self._stream)
        launch()
        self._end.record(self._stream)
        waiting = not self._begin.done()
        self._end.synchronize()
        return waiting

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        _log.warning("times on the GPU hold some of the host's for launching: %s", reason)
