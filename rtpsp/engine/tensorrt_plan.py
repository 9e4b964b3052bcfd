"""A TensorRT plan in a GPU's memory: its runtime, engine and execution contexts, freed in order.

TensorRT frees its objects when Python drops the last reference, and they need the CUDA context for it. So no local
variable here ever names one: the traceback of an exception keeps the variables of every function that it passed, and
would keep TensorRT's objects until long after the context is gone. They are attributes of `LoadedPlan` alone, and
`close` empties those in order.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from rtpsp.engine.tensorrt_api import Flavour, Log, RuntimeModule, make_log
from rtpsp.engine.tensorrt_types import ICudaEngine, IExecutionContext, IRuntimeCache, IRuntimeConfig, Runtime
from rtpsp.errors import EngineFileError, MissingError, OutputError
from rtpsp.files import write_atomically

_log = logging.getLogger(__name__)

_TYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT8": "int8", "INT32": "int32", "INT64": "int64"}
"""TensorRT's names of types, and NumPy's; its own `nptype` raises for those that NumPy lacks."""


class Tensor(NamedTuple):
    """An input or output of a plan: NumPy's name of its type, or TensorRT's where NumPy has none, and its shape."""

    type: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.type} {list(self.shape)}"


class LoadedPlan:
    """A plan that is loaded and can be run; what it holds of TensorRT is freed by `close`, in the thread that calls it.

    Args:
        trt: TensorRT's module.
        flavour: Which one it is.
    """

    def __init__(self, trt: RuntimeModule, flavour: Flavour) -> None:
        self._trt = trt
        self._flavour = flavour
        self._log: Log = make_log(trt)
        self._runtime: Runtime | None = None
        self._engine: ICudaEngine | None = None
        self._config: IRuntimeConfig | None = None
        self._cache: IRuntimeCache | None = None
        self._cached = b""
        self._contexts: list[IExecutionContext | None] = []

    def load(self, payload: bytes, host_code: bool = False) -> None:
        """Deserialise a plan.

        Args:
            payload: The plan.
            host_code: It brings a runtime of its own, as version-compatible plans do, and may run that.

        Raises:
            EngineFileError: It is damaged, or for another TensorRT or GPU.
        """
        try:
            self._runtime = self._trt.Runtime(self._log)
        except TypeError as error:  # pybind11's word for a null pointer
            raise MissingError(f"{self._name} has no runtime here ({self._reason()}): see 'rtpsp doctor'") from error
        if host_code:
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(payload)
        if self._engine is None:
            raise EngineFileError(
                f"{self._name} cannot load this engine ({self._reason()}): build it again on this machine with 'rtpsp "
                f"build-engine'"
            )

    def configure(self, cache: bytes | None, cuda_graph: bool) -> None:
        """What TensorRT-RTX does when it makes a context: it compiles kernels, and may capture CUDA graphs itself.

        Args:
            cache: Kernels that `compiled` gave before; None where there are none.
            cuda_graph: Capture whole inferences.
        """
        assert self._engine is not None
        self._config = self._engine.create_runtime_config()
        strategies = self._trt.CudaGraphStrategy
        self._config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graph else strategies.DISABLED
        self._cache = self._config.create_runtime_cache()
        if cache is not None:
            if self._cache.deserialize(cache):
                self._cached = cache
            else:
                _log.info("kernels kept for this engine are of another %s, driver or GPU: compiled again", self._name)
                self._cache = self._config.create_runtime_cache()
                self._log.take()
        if not self._config.set_runtime_cache(self._cache):
            _log.info("%s takes no cache of kernels (%s): it compiles them each time", self._name, self._reason())

    def add_context(self) -> int:
        """Make one more execution context, with device memory of its own.

        Returns:
            Its number, for `bind` and `enqueue`.

        Raises:
            MissingError: The GPU's memory does not suffice, or TensorRT gives another reason.
        """
        assert self._engine is not None
        if self._config is None:
            self._contexts.append(self._engine.create_execution_context())
        else:
            self._contexts.append(self._engine.create_execution_context(self._config))
        if self._contexts[-1] is None:
            mib = -(-self._engine.device_memory_size_v2 // (1 << 20))
            raise MissingError(
                f"{self._name} cannot make an execution context, which needs {mib} MiB ({self._reason()}): close what "
                f"else uses the GPU (see nvidia-smi), or use a smaller model, --batch 1 or less depth"
            )
        # What a detailed plan tells profilers at each inference costs the host time; the inspector loses nothing by it.
        self._contexts[-1].nvtx_verbosity = self._trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        return len(self._contexts) - 1

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs and outputs by name."""
        assert self._engine is not None
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = self._engine.get_tensor_dtype(name).name
            side = inputs if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT else outputs
            side[name] = Tensor(_TYPES.get(kind, kind), tuple(self._engine.get_tensor_shape(name)))
        return inputs, outputs

    def bind(self, context: int, addresses: Mapping[str, int]) -> None:
        """Say where the tensors of a context are, by name: device addresses."""
        for name, address in addresses.items():
            if not self._context(context).set_tensor_address(name, address):
                raise MissingError(
                    f"{self._name} refuses the memory of tensor {name} ({self._reason()}): build the engine again with "
                    f"'rtpsp build-engine'"
                )

    def enqueue(self, context: int, stream: int) -> None:
        """Put an inference of a context onto a stream, by its handle; does not wait for it.

        Raises:
            MissingError: TensorRT refuses.
        """
        if not self._context(context).execute_async_v3(stream):
            raise MissingError(f"{self._name} could not start an inference ({self._reason()}): see 'rtpsp doctor'")

    def information(self) -> str:
        """What the engine inspector tells of the layers, as JSON; `rtpsp.engine.tensorrt_layers` reads it."""
        assert self._engine is not None
        return self._engine.create_engine_inspector().get_engine_information(self._trt.LayerInformationFormat.JSON)

    def compiled(self) -> bytes:
        """Kernels that TensorRT-RTX compiled, for `configure`; empty where there is nothing new."""
        if self._cache is None:
            return b""
        memory = self._cache.serialize()
        blob = b"" if memory is None else bytes(memory)
        if blob == self._cached:
            return b""
        self._cached = blob
        return blob

    def close(self) -> None:
        """Free contexts, configuration, engine and runtime, in this order."""
        while self._contexts:
            self._contexts.pop()
        self._cache = None
        self._config = None
        self._engine = None
        self._runtime = None
        for error in self._log.take():
            _log.warning("%s: %s", self._name, error)

    @property
    def _name(self) -> str:
        return f"{self._flavour.title} {self._trt.__version__}"

    def _context(self, number: int) -> IExecutionContext:
        return cast(IExecutionContext, self._contexts[number])  # None was refused by `add_context`

    def _reason(self) -> str:
        return "; ".join(self._log.take()) or "it gives no reason"


class KernelCache:
    """The file in which kernels that TensorRT-RTX compiled for a plan on a GPU are kept from run to run.

    Args:
        folder: Where; it is made when it is needed.
        payload: The plan.
        gpu: Its name: TensorRT-RTX refuses kernels for another one.
    """

    def __init__(self, folder: Path, payload: bytes, gpu: str) -> None:
        digest = hashlib.sha256(payload)
        digest.update(gpu.encode())
        self.path = folder / f"{digest.hexdigest()[:32]}.kernels"

    def read(self) -> bytes | None:
        """What was kept; None where nothing was, or it cannot be read."""
        try:
            return self.path.read_bytes() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read (%s): kernels are compiled again", self.path, error.strerror)
            return None

    def write(self, blob: bytes) -> None:
        """Keep it, whole or not at all; where that fails the next run compiles again."""
        if not blob:
            return
        try:
            write_atomically(self.path, blob, hint="kernels are compiled again by the next run", make_folder=True)
        except OutputError as error:
            _log.warning("%s", error)


def dtype_of(tensor: Tensor) -> np.dtype[np.generic]:
    """Its type; the caller has checked that NumPy has it."""
    return np.dtype(tensor.type)
