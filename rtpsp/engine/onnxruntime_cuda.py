"""ONNX Runtime's CUDA provider: an NVIDIA GPU without TensorRT.

ONNX Runtime itself tells of a provider that cannot be had on standard error alone, and goes on without it; and a node
that the provider lacks runs on the CPU. Here a session that does not hold the provider is an error with the reason.

INT8 graphs are no faster here: the provider has no INT8 convolution, and runs them in FP16 or FP32 between
DequantizeLinear and QuantizeLinear (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os.path
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from rtpsp.engine.compatibility import reason_and_fix
from rtpsp.engine.onnxruntime_backend import ONNXRuntimeEngine
from rtpsp.engine.table import BACKENDS
from rtpsp.errors import EngineFileError, MissingError
from rtpsp.header import FRAMES
from rtpsp.machine import gpus, why_no_gpu
from rtpsp.runtimes import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime as ort
else:
    ort = import_onnxruntime()

_log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
_FATAL, _WARNING = 4, 2  # ONNX Runtime's own severities; it starts with the second
_LIBRARY = "libonnxruntime_providers_cuda.so"
_NOT_BUILT_IN = "the package that is imported was built without it"
_OR = ", or build an engine with --backend onnxruntime"
_SHARE = 0.5
"""Of a GPU's memory that the session's arena may grow to: beside it lie the workspaces of cuDNN, and other programs."""


class ONNXRuntimeCUDAEngine(ONNXRuntimeEngine):
    """A lowered ONNX graph in a session on the CUDA provider, which copies frames and answers itself.

    A batch runs inside `submit`.
    """

    def _make_session(self, settings: ort.SessionOptions) -> ort.InferenceSession:
        if CUDA not in ort.get_available_providers():
            raise _refused(_NOT_BUILT_IN, _OR)
        with _quiet():
            try:
                session = self._load(settings, [(CUDA, provider_options())])
            except EngineFileError as error:
                if "cuda" not in str(error).lower():
                    raise
                raise _refused(str(error.__cause__), _OR) from error  # of the GPU, not of the graph
        if CUDA not in session.get_providers():
            raise _refused(_why_not_loaded(), _OR)
        if self.header.precision == "int8":
            _log.warning("ONNX Runtime's CUDA provider runs INT8 graphs in floating point: FP16 is as fast or faster")
        self._warm_up(session)
        return session

    def _warm_up(self, session: ort.InferenceSession) -> None:
        """Tries cuDNN's algorithms and grows the memory now, not in the first frame.

        Raises:
            MissingError: The GPU has not the memory, or fails.
        """
        try:
            session.run(None, {FRAMES: np.zeros((self.batch, *self.spec.frame_shape), np.uint8)})
        except Exception as error:  # as above: a class for each status code
            raise _refused(str(error), _OR) from error

    @property
    def _format(self) -> str:
        told = self._scales or self.header.precision
        return "f16" if told == "fp16" else "f32"


def provider_options() -> dict[str, str]:
    """What the CUDA provider is told, in its own terms.

    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
    """
    options = {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",  # by default it doubles, and holds twice what it needs
        "cudnn_conv_algo_search": "EXHAUSTIVE",  # the shape is one and the same, so that trying all pays
        "use_tf32": "0",  # an fp32 engine is fp32
    }
    found = gpus()
    if found:
        options["gpu_mem_limit"] = str(int(_SHARE * found[0].memory))
    return options


def try_cuda() -> None:
    """Open a session of one node on the GPU.

    Raises:
        MissingError: The CUDA provider does not run here.
    """
    why = _why_no_cuda()
    if why:
        raise _refused(why)


@cache
def _why_no_cuda() -> str | None:
    if CUDA not in ort.get_available_providers():
        return _NOT_BUILT_IN
    with _quiet():
        try:
            session = ort.InferenceSession(_one_node(), providers=[CUDA], enable_fallback=0)
            if CUDA not in session.get_providers():
                return _why_not_loaded()
            session.run(None, {"x": np.zeros(1, np.float32)})
        except Exception as error:  # as above
            return str(error)
    return None


def _why_not_loaded() -> str:
    """Why ONNX Runtime has gone on without the provider: it tells standard error alone.

    To be asked after that: the library is made to be loaded by ONNX Runtime first.
    """
    try:
        ctypes.CDLL(os.path.join(os.path.dirname(ort.__file__), "capi", _LIBRARY))
    except OSError as error:
        return str(error)
    return why_no_gpu() or "its library loads, and ONNX Runtime does not say what is amiss"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """For making a session: what ONNX Runtime would print is said by an error of ours, in one line.

    CUDA's and cuDNN's libraries are loaded out of NVIDIA's Python packages, which no loader's path names.
    """
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    ort.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)


def _one_node() -> bytes:
    import onnx_ir as ir

    from rtpsp.onnx_file import model_bytes

    kind = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="x", shape=ir.Shape((1,)), type=kind)
    node = ir.node("Relu", [x])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "y", ir.Shape((1,)), kind
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 19}, name="try")
    return model_bytes(ir.Model(graph, ir_version=9))


def _refused(reason: str, instead_of_it: str = "") -> MissingError:
    """The error for a reason, with what to do about it: commands where there are some, which can be pasted."""
    told, fix = reason_and_fix(" ".join(reason.split()))
    backend = BACKENDS["onnxruntime-cuda"]
    if told == _NOT_BUILT_IN:  # of two packages with the same files the later one's lie there: both have to go
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {_install()}"
    elif "memory" in told.lower():
        fix = "close other programs on the GPU, or build for a smaller size or batch"
    elif not fix and "libcuda.so" in told:
        fix = "install NVIDIA's driver"
    elif not fix and "driver" in told.lower():
        fix = f"upgrade NVIDIA's driver, or for CUDA 12 pip install {backend.install_cu12}"
    return MissingError(
        f"ONNX Runtime {ort.__version__} has no CUDA provider here ({told}): "
        f"{fix or f'pip install --upgrade {_install()}'}{instead_of_it}"
    )


def _install() -> str:
    """What to give to ``pip install`` under this machine's driver."""
    found = gpus()
    return BACKENDS["onnxruntime-cuda"].install_for(found[0].cuda if found else "")
