"""OpenVINO: the default engine on a CPU."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rtpsp.arrays import Image
from rtpsp.engine.base import Answer, Engine, EngineOptions
from rtpsp.errors import EngineFileError
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, SCORES, EngineHeader
from rtpsp.runtimes import import_openvino

if TYPE_CHECKING:
    import openvino as ov
else:
    ov = import_openvino()

_HALF_FORMATS = (("BF16", "bf16"), ("FP16", "f16"))
"""OpenVINO's capability names in the order we prefer them, and its names of the formats."""


class OpenVINOEngine(Engine):
    """A lowered ONNX graph, compiled for the CPU when the engine is entered."""

    _more_settings: Mapping[str, Any] = {}
    """What a subclass tells the compiler besides."""

    def __init__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> None:
        super().__init__(header, options)
        self._payload = payload
        self._compiled: ov.CompiledModel | None = None
        self._free: deque[ov.InferRequest] = deque()

    def _open(self) -> str:
        core = ov.Core()
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # Never left to the default, which is bf16 on a CPU that has it, also for an engine called fp32.
            "INFERENCE_PRECISION_HINT": self._format(core),
            **self._more_settings,
        }
        if self.options.threads:
            settings["INFERENCE_NUM_THREADS"] = self.options.threads
        try:
            model = core.read_model(self._payload)
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EngineFileError(
                f"OpenVINO {ov.__version__} cannot compile this engine ({reason}): build it again with 'rtpsp "
                f"build-engine'"
            ) from error
        self._check_payload(_told(compiled.inputs), _told(compiled.outputs))
        self._compiled = compiled
        self._free.extend(compiled.create_infer_request() for _ in range(self.depth))
        return _format_of_convolutions(compiled)

    def _format(self, core: ov.Core) -> str:
        return (half_format(core) if self.header.precision == "fp16" else None) or "f32"

    def _close(self) -> None:
        self._free.clear()
        self._compiled = None

    def _start(self, frames: Image) -> tuple[ov.InferRequest, Image]:
        request = self._free.popleft()
        request.set_input_tensor(ov.Tensor(frames, shared_memory=True))
        request.start_async()
        return request, frames  # the frames are kept alive: the request reads them without a copy

    def _finish(self, work: tuple[ov.InferRequest, Image]) -> Answer:
        request, _ = work
        request.wait()
        self._free.append(request)
        if self.gives_scores:
            return Answer(scores=np.asarray(request.get_tensor(SCORES).data))
        confidence = np.asarray(request.get_tensor(CONFIDENCE).data) if self.gives_confidence else None
        return Answer(np.asarray(request.get_tensor(CLASS_MAP).data), confidence)


def half_format(core: ov.Core | None = None) -> str | None:
    """The half-precision format that this CPU has units for, ``bf16`` or ``f16``; None when it has neither."""
    capabilities = (core or ov.Core()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return next((name for capability, name in _HALF_FORMATS if capability in capabilities), None)


def _told(ports: Iterable[ov.ConstOutput]) -> dict[str, str]:
    """Type and shape of inputs or outputs by name; OpenVINO may give one further names, of tensors that it fused."""
    types = {"u8": "uint8", "i32": "int32", "f32": "float32"}
    ours = (FRAMES, CLASS_MAP, CONFIDENCE, SCORES)
    told = {}
    for port in ports:
        name = next((name for name in ours if name in port.names), ", ".join(port.names))
        kind = port.element_type.get_type_name()
        told[name] = f"{types.get(kind, kind)} {str(port.partial_shape).replace(',', ', ')}"
    return told


def _format_of_convolutions(compiled: ov.CompiledModel) -> str:
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    formats = Counter(
        str(info["runtimePrecision"].value) for info in infos if "Convolution" in str(info["layerType"].value)
    )
    return formats.most_common(1)[0][0] if formats else "f32"
