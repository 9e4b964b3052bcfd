"""TensorRT and TensorRT-RTX: engines on NVIDIA GPUs."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from rtpsp.arrays import Image
from rtpsp.drawing import Drawing
from rtpsp.engine.base import Answer, Engine, EngineOptions
from rtpsp.engine.cuda import CudaDevice, open_device
from rtpsp.engine.device_io import DeviceIO
from rtpsp.engine.ring import Output, Ring, Work
from rtpsp.engine.tensorrt_api import RuntimeModule, flavour_of, load
from rtpsp.engine.tensorrt_layers import Layer, convolutions_ran, parse_layers
from rtpsp.engine.tensorrt_plan import KernelCache, LoadedPlan, dtype_of
from rtpsp.errors import MissingError
from rtpsp.fit import FitPlan
from rtpsp.header import FRAMES, EngineHeader
from rtpsp.places import engines_folder

_log = logging.getLogger(__name__)

_ASKED = {"fp32": "f32", "fp16": "f16", "int8": "i8"}

OpenDevice = Callable[[], AbstractContextManager[CudaDevice]]


class TensorRTEngine(Engine):
    """A plan of TensorRT's, loaded when the engine is entered.

    Args:
        header: What the engine file says of it.
        payload: The plan.
        options: How it may use the machine.
        trt: TensorRT's module; None imports it when the engine is opened.
        device: Opens the GPU.
    """

    flavour = "tensorrt"
    _can_device_io = True

    def __init__(
        self,
        header: EngineHeader,
        payload: bytes,
        options: EngineOptions | None = None,
        *,
        trt: RuntimeModule | None = None,
        device: OpenDevice = open_device,
    ) -> None:
        super().__init__(header, options)
        self._payload = payload
        self._trt = trt
        self._open_device = device
        self._ring: Ring | None = None
        self._resources = ExitStack()

    def kernel_times(self, runs: int) -> list[float]:
        """Milliseconds that the GPU takes for each of `runs` inferences, by its own events, without transfers and what
        the host takes to launch them.

        Raises:
            UsageError: Not open, or open in another thread.
        """
        self._check_thread()
        assert self._ring is not None
        return self._ring.kernel_times(runs)

    def _open(self) -> str:
        flavour = flavour_of(self.flavour)
        trt = self._trt or load(self.flavour)
        with ExitStack() as stack:  # whatever fails below, what was made before it is freed, newest first
            device = stack.enter_context(self._open_device())
            plan = LoadedPlan(trt, flavour)
            stack.callback(plan.close)
            plan.load(self._payload, host_code=self.header.target.version_compatible)
            inputs, outputs = plan.tensors()
            self._check_payload(*({name: str(tensor) for name, tensor in side.items()} for side in (inputs, outputs)))
            cache = self._configure(plan, device, stack) if flavour.rtx else None
            given = {name: Output(tensor.shape, dtype_of(tensor)) for name, tensor in outputs.items()}
            device_io = self._device_io_on(device)
            ring = Ring(device, inputs[FRAMES].shape, given, self.depth, device_io, self.options.spin)
            stack.enter_context(ring)
            for slot in ring.slots:
                number = plan.add_context()
                buffers = {FRAMES: slot.input, **slot.outputs}
                plan.bind(number, {name: buffer.pointer for name, buffer in buffers.items()})
                slot.launch = partial(plan.enqueue, number, ring.compute.handle)
            ring.warm_up()
            if cache is not None:
                ring.warm_up()  # TensorRT-RTX launches now what it captured in the first inference
                cache.write(plan.compiled())
            elif self.options.cuda_graph and (reason := ring.capture()):
                _log.warning("no CUDA graph, each inference is launched layer by layer: %s", reason)
            ran = convolutions_ran(parse_layers(plan.information())) or self._asked()
            self._ring, self._resources = ring, stack.pop_all()
        return ran

    def _close(self) -> None:
        self._ring = None
        resources, self._resources = self._resources, ExitStack()
        # Where an exception brought us here it is the one to be told, and the device keeps its own failures to itself.
        resources.__exit__(*sys.exc_info())

    def _start(self, frames: Image) -> Work:
        assert self._ring is not None
        return self._ring.start(frames)

    def _start_frame(self, image: Image, plan: FitPlan, drawing: Drawing | None) -> Work:
        assert self._ring is not None
        return self._ring.start_frame(image, plan, drawing)

    def _finish(self, work: Work) -> Answer:
        assert self._ring is not None
        return self._ring.finish(work)

    def _frame_buffer(self, shape: tuple[int, ...]) -> Image:
        assert self._ring is not None
        return self._ring.frame_buffer(shape)

    def _device_io_on(self, device: CudaDevice) -> DeviceIO | None:
        if not self.device_io:
            return None
        assert self.cells is not None
        try:
            return DeviceIO(device, self.spec, self.cells)
        except MissingError as error:
            if self.options.device_io == "on":
                raise
            _log.warning("frames are resized and drawn on the CPU: %s", error)
            self.device_io = False
            return None

    def _configure(self, plan: LoadedPlan, device: CudaDevice, stack: ExitStack) -> KernelCache:
        cache = KernelCache(engines_folder() / "runtime-cache", self._payload, device.name)
        plan.configure(cache.read(), self.options.cuda_graph)
        stack.callback(lambda: cache.write(plan.compiled()))
        return cache

    def _asked(self) -> str:
        builder = self.header.options.get("plan")
        tf32 = self.header.precision == "fp32" and isinstance(builder, dict) and builder.get("tf32") is True
        return "tf32" if tf32 else _ASKED[self.header.precision]


class TensorRTRTXEngine(TensorRTEngine):
    """A plan of TensorRT-RTX's, which compiles its kernels for this GPU when it is opened, and keeps them."""

    flavour = "tensorrt-rtx"


def read_layers(
    header: EngineHeader, payload: bytes, *, trt: RuntimeModule | None = None, device: OpenDevice = open_device
) -> list[Layer]:
    """The layers of a plan, as its engine inspector tells them; needs the GPU that it was built for.

    Args:
        header: What the engine file says of it.
        payload: The plan.
        trt: TensorRT's module; None imports the one of the header's backend.
        device: Opens the GPU.

    Raises:
        EngineFileError: The plan is damaged, or for another TensorRT or GPU.
        MissingError: TensorRT, CUDA or the GPU is missing.
        UsageError: The engine is not one of TensorRT's.
    """
    flavour = flavour_of(header.backend)
    with device(), contextlib.closing(LoadedPlan(trt or load(flavour.name), flavour)) as plan:
        plan.load(payload, host_code=header.target.version_compatible)
        return parse_layers(plan.information())
