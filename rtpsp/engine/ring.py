"""Batches in flight on a GPU: memory that is made once, three streams, and events between them.

    upload    frame k + 1 ──▶│ frame k + 2 ──▶│
    compute         frame k ─┴──▶ frame k + 1 ─┴──▶
    download                     answer k ──▶   answer k + 1 ──▶

Each slot has page-locked host memory and device memory of its own, so that one frame goes up while the one before it
is being computed and the answer to the one before that comes down. Nothing is allocated for a frame, and the host waits
once: for its answer.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import Image
from rtpsp.engine.cuda_timing import LaunchTimer
from rtpsp.engine.exchange import Answer
from rtpsp.errors import MissingError
from rtpsp.header import CLASS_MAP, CONFIDENCE, SCORES

if TYPE_CHECKING:
    from rtpsp.drawing import Drawing
    from rtpsp.engine.cuda import Buffer, CudaDevice, Graph
    from rtpsp.engine.device_io import DeviceIO, Lane
    from rtpsp.fit import FitPlan

_log = logging.getLogger(__name__)

MIN_SLOTS = 2


class Output(NamedTuple):
    """Shape and type of what an inference gives."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Slot:
    """Memory and events of one batch in flight.

    Attributes:
        input: Device memory of the frames, uint8 [N, H, W, planes].
        outputs: Device memory of the answers, by name.
        launch: Enqueues one inference from `input` to `outputs` on the ring's compute stream; set by the backend.
    """

    def __init__(self, device: CudaDevice, shape: tuple[int, ...], outputs: Mapping[str, Output], spin: bool) -> None:
        self.frames: Image = device.pinned(shape, np.dtype(np.uint8))
        self.frames[...] = 0
        self.answers: dict[str, NDArray[Any]] = {name: device.pinned(*output) for name, output in outputs.items()}
        self.input: Buffer = device.allocate(self.frames.nbytes)
        self.outputs: dict[str, Buffer] = {name: device.allocate(host.nbytes) for name, host in self.answers.items()}
        self.launch: Callable[[], None] = _nothing_bound
        self.uploaded, self.computed = device.event(), device.event()
        self.finished = device.event(spin=spin)
        self.lane: Lane | None = None


class Work(NamedTuple):
    """A batch on its way: its slot, and whether it is a whole frame."""

    slot: Slot
    frame: bool = False


class Ring:
    """Runs inferences through slots, in the thread that opened the device.

    Args:
        device: Open; it frees what the ring makes.
        shape: Of a batch of frames, uint8 [N, H, W, planes].
        outputs: What an inference gives, by name.
        depth: Batches in flight; there are at least `MIN_SLOTS` slots.
        device_io: Brings whole frames to the model's size and draws; None does without.
        spin: Wait for answers by asking without a pause.
    """

    def __init__(
        self,
        device: CudaDevice,
        shape: tuple[int, ...],
        outputs: Mapping[str, Output],
        depth: int = 1,
        device_io: DeviceIO | None = None,
        spin: bool = False,
    ) -> None:
        self._device = device
        self._device_io = device_io
        self._upload, self.compute, self._download = (device.stream() for _ in range(3))
        self.slots = [Slot(device, shape, outputs, spin) for _ in range(max(MIN_SLOTS, depth))]
        self._free = deque(self.slots)
        self._page_locked: set[int] = set()
        self._timer: LaunchTimer | None = None

    def frame_buffer(self, shape: tuple[int, ...]) -> Image:
        """Page-locked zeros, uint8 [N, H, W, planes], which `start` need not copy; valid until the device closes."""
        frames: Image = self._device.pinned(shape, np.dtype(np.uint8))
        frames[...] = 0
        self._page_locked.add(_address(frames))
        return frames

    def warm_up(self) -> None:
        """One inference in each slot, and wait: what a backend sets up on first use is done, and can be captured."""
        for slot in self.slots:
            slot.launch()
        self.compute.synchronize()

    def capture(self) -> str:
        """Make each slot's inference one CUDA graph.

        Returns:
            Why that cannot be done, and every slot launches as before; empty where it was.

        Raises:
            MissingError: It cannot be done, and after that no inference runs as before either.
        """
        launches = [slot.launch for slot in self.slots]
        graphs: list[Graph] = []
        try:
            for slot in self.slots:
                graphs.append(self._device.capture(self.compute, slot.launch))
            for slot, graph in zip(self.slots, graphs, strict=True):
                slot.launch = partial(graph.launch, self.compute)
            self.warm_up()  # the first launch brings a graph to the device, and is the first to fail
        except MissingError as error:  # TensorRT refused, or CUDA did
            for slot, launch in zip(self.slots, launches, strict=True):
                slot.launch = launch
            self.warm_up()  # what failed may have left TensorRT or the device unable to run at all
            for graph in graphs:
                self._device.free(graph)
            return str(error)
        return ""

    def start(self, frames: Image) -> Work:
        """Send a batch up, compute, send the answers down; returns at once.

        Args:
            frames: As `shape`; read until the work is finished where it is a `frame_buffer`, else copied now.
        """
        with self._taken() as slot:
            if _address(frames) not in self._page_locked:
                slot.frames[...] = frames
                frames = slot.frames
            self._device.upload(slot.input, frames, self._upload)
            slot.uploaded.record(self._upload)
            self.compute.wait(slot.uploaded)
            slot.launch()
            slot.computed.record(self.compute)
            self._download.wait(slot.computed)
            for name, host in slot.answers.items():
                self._device.download(host, slot.outputs[name], self._download)
            slot.finished.record(self._download)
        return Work(slot)

    def start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> Work:
        """The same for one frame of any size, uint8 [height, width, 3], which is copied now."""
        with self._taken() as slot:
            lane = self._lane(slot, plan)
            lane.frame[...] = image
            lane.upload(self._upload)
            slot.uploaded.record(self._upload)
            self.compute.wait(slot.uploaded)
            lane.resize(self.compute, slot.input)
            slot.launch()
            lane.finish(self.compute, slot.outputs[SCORES], drawing)
            slot.computed.record(self.compute)
            self._download.wait(slot.computed)
            lane.download(self._download)
            slot.finished.record(self._download)
        return Work(slot, frame=True)

    def finish(self, work: Work) -> Answer:
        """Wait for a batch; the arrays are the slot's, and its next batch overwrites them."""
        slot = work.slot
        try:
            slot.finished.synchronize()
        finally:
            self._free.append(slot)
        if work.frame:
            assert slot.lane is not None
            picture = slot.lane.picture
            return Answer(slot.lane.class_map[np.newaxis], picture=None if picture is None else picture[np.newaxis])
        return Answer(slot.answers.get(CLASS_MAP), slot.answers.get(CONFIDENCE), slot.answers.get(SCORES))

    def kernel_times(self, runs: int) -> list[float]:
        """Milliseconds on the device of `runs` inferences one after the other, without transfers.

        The host's time for launching is not in them: see `rtpsp.engine.cuda_timing.LaunchTimer`.
        """
        if self._timer is None:
            self._timer = LaunchTimer(self._device, self.compute)
        return [self._timer.milliseconds(self.slots[0].launch) for _ in range(runs)]

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what is in flight, and let go of what launches it; the device frees the rest."""
        try:
            self._device.synchronize()
        except MissingError as second:
            if error is None:
                raise
            _log.debug("after %r: %s", error, second)
        finally:
            for slot in self.slots:
                slot.launch = _nothing_bound

    def _lane(self, slot: Slot, plan: FitPlan) -> Lane:
        assert self._device_io is not None
        if slot.lane is not None and slot.lane.plan != plan:
            slot.lane.free()  # before the new one is made: there may not be memory for both
            slot.lane = None
        if slot.lane is None:
            slot.lane = self._device_io.lane(plan)
        return slot.lane

    @contextlib.contextmanager
    def _taken(self) -> Iterator[Slot]:
        """A free slot; where its work could not be started whole, it is free again once its part of it is done."""
        slot = self._free.popleft()
        try:
            yield slot
        except BaseException:
            with contextlib.suppress(MissingError):
                self._device.synchronize()
            self._free.append(slot)
            raise


def _nothing_bound() -> None:
    raise AssertionError("a slot launches nothing until a backend binds it")


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
