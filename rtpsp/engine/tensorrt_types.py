"""What we use of TensorRT's Python API, as protocols that mypy checks: the bindings come without types.

One protocol stands for each class, under TensorRT's own name, with only the members that this code touches. Whoever
needs another adds it here first, and ``tests/bindings/`` then asks the bindings of each flavour whether they have it.
`RTX_ONLY` lists what only one of them has.

Sources: the docstrings of the bindings of TensorRT 10.16 and 11.4 and of TensorRT-RTX 1.7; they are also at
https://docs.nvidia.com/deeplearning/tensorrt/11.4.0/_static/python-api/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

RTX_ONLY = {
    "ComputeCapability": "TensorRT builds for the GPU at hand alone",
    "CudaGraphStrategy": "TensorRT leaves the capturing of CUDA graphs to its caller",
    "IBuilderConfig.num_compute_capabilities": "as ComputeCapability",
    "IBuilderConfig.set_compute_capability": "as ComputeCapability",
    "IRuntimeCache": "TensorRT compiles its kernels when it builds, TensorRT-RTX when it loads",
    "IRuntimeConfig.create_runtime_cache": "as IRuntimeCache",
    "IRuntimeConfig.cuda_graph_strategy": "as CudaGraphStrategy",
    "IRuntimeConfig.set_runtime_cache": "as IRuntimeCache",
}
"""Members that TensorRT-RTX has and TensorRT lacks, each with its reason: no other flavour's code may touch them."""


class Enumerator(Protocol):
    """One value of an enumeration. Its number differs between releases: it must not be stored."""

    @property
    def name(self) -> str: ...

    def __int__(self) -> int: ...


class ILogger(Protocol):
    """Where TensorRT's lines go; it must outlive everything that was made with it."""

    def log(self, severity: Enumerator, msg: str) -> None: ...


class IHostMemory(Protocol):
    """Bytes that TensorRT owns; ``bytes(memory)`` copies them."""

    @property
    def nbytes(self) -> int: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...


class BuilderFlag(Protocol):
    TF32: Enumerator
    VERSION_COMPATIBLE: Enumerator


class MemoryPoolType(Protocol):
    WORKSPACE: Enumerator


class NetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: Enumerator


class ProfilingVerbosity(Protocol):
    LAYER_NAMES_ONLY: Enumerator
    DETAILED: Enumerator


class HardwareCompatibilityLevel(Protocol):
    AMPERE_PLUS: Enumerator
    SAME_COMPUTE_CAPABILITY: Enumerator


class ITimingCache(Protocol):
    """Which kernel was the fastest for each layer, as measured."""

    def serialize(self) -> IHostMemory | None: ...


class IProgressMonitor(Protocol):
    """Told what the builder is at, from any thread of its own."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...
    def phase_finish(self, phase_name: str) -> None: ...


class IBuilderConfig(Protocol):
    builder_optimization_level: int
    hardware_compatibility_level: Enumerator
    max_aux_streams: int
    num_compute_capabilities: int
    profiling_verbosity: Enumerator
    progress_monitor: IProgressMonitor

    def clear_flag(self, flag: Enumerator) -> None: ...
    def set_flag(self, flag: Enumerator) -> None: ...
    def set_memory_pool_limit(self, pool: Enumerator, pool_size: int) -> None: ...
    def set_compute_capability(self, compute_capability: Enumerator, index: int) -> bool: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...
    def get_timing_cache(self) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...


class INetworkDefinition(Protocol):
    @property
    def num_layers(self) -> int: ...


class Builder(Protocol):
    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class ParserError(Protocol):
    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    @property
    def num_errors(self) -> int: ...

    def parse(self, model: bytes) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class TensorIOMode(Protocol):
    INPUT: Enumerator


class LayerInformationFormat(Protocol):
    JSON: Enumerator


class CudaGraphStrategy(Protocol):
    DISABLED: Enumerator
    WHOLE_GRAPH_CAPTURE: Enumerator


class EngineInspector(Protocol):
    def get_engine_information(self, format: Enumerator) -> str: ...


class IRuntimeCache(Protocol):
    """Kernels that TensorRT-RTX compiled for this GPU."""

    def deserialize(self, blob: bytes) -> bool: ...
    def serialize(self) -> IHostMemory | None: ...


class IRuntimeConfig(Protocol):
    cuda_graph_strategy: Enumerator

    def create_runtime_cache(self) -> IRuntimeCache: ...
    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...


class IExecutionContext(Protocol):
    """One inference at a time; of one thread at a time."""

    nvtx_verbosity: Enumerator

    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    @property
    def num_io_tensors(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...

    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Enumerator: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_dtype(self, name: str) -> Enumerator: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...
    def create_execution_context(self, runtime_config: IRuntimeConfig = ...) -> IExecutionContext | None: ...
    def create_engine_inspector(self) -> EngineInspector: ...


class Runtime(Protocol):
    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...
