"""A stand-in for TensorRT's runtime whose "plans" are kernels of ours: the class of a pixel is its brightest channel.

With it all of `rtpsp.engine.tensorrt_backend` runs on any GPU, whatever TensorRT says to that one, for a kernel of a
set length: it shows what the transfers, streams, events and graphs around an engine do, and what they cost. It has the
half of TensorRT's module that `rtpsp.engine.tensorrt_api.RuntimeModule` names:

    standin = StandIn()
    payload = standin_plan(header, nanoseconds=2_000_000)
    with TensorRTEngine(header, payload, trt=standin.module, device=standin.device) as engine:
        ...
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, cast

import numpy as np

from rtpsp.engine.cuda import CudaDevice, Kernel, Stream, open_device
from rtpsp.engine.kernel_compiler import compile_kernels
from rtpsp.engine.tensorrt_api import RuntimeModule
from rtpsp.errors import MissingError
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, SCORES, EngineHeader

_THREADS = 256
_MAGIC = "standin"


def standin_plan(header: EngineHeader, nanoseconds: int = 0, layers: str = "") -> bytes:
    """A plan for the engine that a header describes, of up to 256 classes.

    Args:
        header: Gives sizes, batch, tail and confidence.
        nanoseconds: How long an inference keeps the GPU waiting before it computes; a thread's time, not its power.
        layers: What the engine inspector tells of it, as JSON.
    """
    spec, options = header.spec, header.options
    batch = int(options.get("batch", 1))
    outputs = {CLASS_MAP: ["UINT8", [batch, *spec.size]]}
    if options.get("tail") == "host":
        outputs = {SCORES: ["FLOAT", [batch, len(spec.labels), *spec.size]]}
    elif options.get(CONFIDENCE):
        outputs[CONFIDENCE] = ["UINT8", [batch, *spec.size]]
    plan = {_MAGIC: nanoseconds, "inputs": {FRAMES: ["UINT8", [batch, *spec.size, 3]]}, "outputs": outputs}
    return json.dumps({**plan, "layers": layers}).encode()


class DataType(Enum):
    UINT8 = 1
    FLOAT = 4


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class LayerInformationFormat(Enum):
    JSON = 0


class ProfilingVerbosity(Enum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 2


class CudaGraphStrategy(Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class ILogger:
    """What the adapter of `rtpsp.engine.tensorrt_api.make_log` is made from."""

    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4


class StandIn:
    """The module. It notes what it makes and what is freed, in order, and fails where it is told to.

    Args:
        fail: By the name of a call, which one of them is refused as TensorRT does, with False or None: 1 for the first.

    Attributes:
        alive: Objects that were made and not freed, by class.
        freed: Classes of freed objects, in order.
        late: How many were freed when their device was closed already.
        host_code: Whether the last plan that was loaded might have run a runtime of its own.
    """

    __version__ = "11.0"
    ILogger = ILogger
    TensorIOMode = TensorIOMode
    LayerInformationFormat = LayerInformationFormat
    CudaGraphStrategy = CudaGraphStrategy
    ProfilingVerbosity = ProfilingVerbosity

    def __init__(self, fail: Mapping[str, int] | None = None) -> None:
        self.alive: Counter[str] = Counter()
        self.freed: list[str] = []
        self.late = 0
        self.host_code = False
        self.opened: CudaDevice | None = None
        self._fail = dict(fail or {})
        self._calls: Counter[str] = Counter()

    @contextmanager
    def device(self, index: int = 0, binding: str | None = None) -> Iterator[CudaDevice]:
        """`rtpsp.engine.cuda.open_device`, whose device the stand-in's kernels then use."""
        with open_device(index, binding) as device:
            self.opened = device
            try:
                yield device
            finally:
                self.opened = None

    @property
    def module(self) -> RuntimeModule:
        """This, for mypy: to it the members of an Enum are constants, and those of TensorRT's are not."""
        return cast(RuntimeModule, self)

    def Runtime(self, log: Any) -> Runtime:  # TensorRT's name
        return Runtime(self, log)

    def refuses(self, call: str) -> bool:
        """Count a call, and say whether it is the one to be refused."""
        self._calls[call] += 1
        return self._calls[call] == self._fail.get(call)


class _Object:
    def __init__(self, standin: StandIn, parent: _Object | None = None) -> None:
        self.standin = standin
        self._parent = parent  # as TensorRT's bindings keep what made an object as long as that
        standin.alive[type(self).__name__] += 1

    def __del__(self) -> None:
        self.standin.alive[type(self).__name__] -= 1
        self.standin.freed.append(type(self).__name__)
        self.standin.late += self.standin.opened is None


class Runtime(_Object):
    """See TensorRT's ``Runtime``, as every class here its namesake."""

    def __init__(self, standin: StandIn, log: Any) -> None:
        super().__init__(standin)
        self.engine_host_code_allowed = False
        self.log = log

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        try:
            plan = json.loads(serialized_engine)
            nanoseconds = plan[_MAGIC]
        except (ValueError, TypeError, KeyError):
            self.log.log(ILogger.Severity.ERROR, "Serialization assertion magicTag failed.\n")
            return None
        self.standin.host_code = self.engine_host_code_allowed
        if self.standin.refuses("deserialize_cuda_engine"):
            return None
        device = self.standin.opened
        assert device is not None, "open the GPU by the stand-in's own `device`"
        try:
            module = device.load_module(compile_kernels(device.compute_capability, (_MAGIC,)))
            names = ("wait", "classes", "confidence", "scores")
            kernels = {name: module.kernel(f"{_MAGIC}_{name}") for name in names}
        except MissingError as error:
            self.log.log(ILogger.Severity.ERROR, str(error))
            return None
        return Engine(self, plan, nanoseconds, kernels)


class Engine(_Object):
    def __init__(
        self, runtime: Runtime, plan: Mapping[str, Any], nanoseconds: int, kernels: Mapping[str, Kernel]
    ) -> None:
        super().__init__(runtime.standin, runtime)
        self.log = runtime.log
        self.inputs, self.outputs, self.layers = plan["inputs"], plan["outputs"], plan["layers"]
        self._names = [*self.inputs, *self.outputs]
        self.nanoseconds = nanoseconds
        self.kernels = kernels

    device_memory_size_v2 = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return str(self._names[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple((self.inputs | self.outputs)[name][1])

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[(self.inputs | self.outputs)[name][0]]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(self.standin, self)

    def create_execution_context(self, runtime_config: RuntimeConfig | None = None) -> ExecutionContext | None:
        if self.standin.refuses("create_execution_context"):
            self.log.log(ILogger.Severity.ERROR, "Error Code 2: OutOfMemory (no further information)")
            return None
        if runtime_config is not None and runtime_config.cache is not None:
            runtime_config.cache.blob = RuntimeCache.GOOD
        return ExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self.standin, self)


class EngineInspector(_Object):
    def get_engine_information(self, format: LayerInformationFormat) -> str:
        assert isinstance(self._parent, Engine)
        return str(self._parent.layers)


class RuntimeConfig(_Object):
    cuda_graph_strategy = CudaGraphStrategy.DISABLED
    cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache(self.standin, self._parent)

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return not self.standin.refuses("set_runtime_cache")


class RuntimeCache(_Object):
    GOOD = b"standin's kernels"
    blob = b""

    def deserialize(self, blob: bytes) -> bool:
        if blob != self.GOOD:
            return False
        self.blob = blob
        return True

    def serialize(self) -> bytes:
        return self.blob


class ExecutionContext(_Object):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.standin, engine)
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self.nvtx_verbosity = ProfilingVerbosity.DETAILED  # as the plan

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self.standin.refuses("set_tensor_address"):
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.standin.refuses("execute_async_v3"):
            self._engine.log.log(ILogger.Severity.ERROR, "Error Code 1: Cuda Runtime (launch failure)")
            return False
        try:
            self._launch(self._stream(stream_handle))
        except MissingError as error:
            self._engine.log.log(ILogger.Severity.ERROR, str(error))
            return False
        return True

    def _launch(self, stream: Stream) -> None:
        if self._engine.nanoseconds:
            one = (1, 1, 1)
            self._engine.kernels["wait"].launch(stream, one, one, np.uint64(self._engine.nanoseconds))
        frames = self._engine.get_tensor_shape(FRAMES)
        count = int(np.prod(frames[:3]))
        grid = (-(-count // _THREADS), 1, 1)
        for name, (_, shape) in self._engine.outputs.items():
            more = [np.int32(frames[1] * frames[2]), np.int32(shape[1])] if name == SCORES else []
            kernel = self._engine.kernels["classes" if name == CLASS_MAP else name]
            source, to = (np.uint64(self._addresses[tensor]) for tensor in (FRAMES, name))
            kernel.launch(stream, grid, (_THREADS, 1, 1), source, to, np.int32(count), *more)

    def _stream(self, handle: int) -> Stream:
        """The device's stream of that handle, which a kernel's launch wants and TensorRT is not given."""
        device = self.standin.opened
        assert device is not None
        return next(thing for thing in device._owned.values() if isinstance(thing, Stream) and thing.handle == handle)
