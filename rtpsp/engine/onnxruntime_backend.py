"""ONNX Runtime: the second opinion on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtpsp.arrays import Image
from rtpsp.engine.base import Answer, Engine, EngineOptions
from rtpsp.errors import EngineFileError
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, SCORES, EngineHeader
from rtpsp.runtimes import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime as ort
else:
    ort = import_onnxruntime()

_ERRORS_ONLY = 3
_WRONG = ["WeightBiasQuantization"]
"""Makes biases of INT8 convolutions integers, without which they run in float; nonsense of them where scales are FP16,
as for GPUs (ONNX Runtime 1.32)."""


class ONNXRuntimeEngine(Engine):
    """A lowered ONNX graph in a session on the CPU provider.

    The provider has no half-precision convolution on x86-64: an engine built for fp16 runs in f32 here, and says so in
    `ran`. A batch runs inside `submit`.
    """

    def __init__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> None:
        super().__init__(header, options)
        self._payload = payload
        self._session: ort.InferenceSession | None = None

    def _open(self) -> str:
        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.intra_op_num_threads = self.options.threads
        settings.inter_op_num_threads = 1
        # A spinning pool takes the cores from decoding and drawing while it waits for the next frame.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = self._make_session(settings)
        self._check_payload(_told(session.get_inputs()), _told(session.get_outputs()))
        self._session = session
        return self._format

    def _make_session(self, settings: ort.SessionOptions) -> ort.InferenceSession:
        return self._load(settings, ["CPUExecutionProvider"])

    def _load(
        self, settings: ort.SessionOptions, providers: Sequence[str | tuple[str, dict[str, str]]]
    ) -> ort.InferenceSession:
        """A session of the payload.

        Raises:
            EngineFileError: ONNX Runtime cannot make one.
        """
        try:
            return ort.InferenceSession(
                self._payload, settings, providers=list(providers), enable_fallback=0,
                disabled_optimizers=[] if self._scales == "fp32" else _WRONG,
            )  # fmt: skip
        except Exception as error:  # ONNX Runtime raises a class of its own for each status code
            raise EngineFileError(
                f"ONNX Runtime {ort.__version__} cannot load this engine ({error}): build it again with 'rtpsp "
                f"build-engine'"
            ) from error

    @property
    def _format(self) -> str:
        """What the convolutions run in."""
        return "u8" if self._scales == "fp32" else "f32"

    @property
    def _scales(self) -> str | None:
        """Type of the scales in an INT8 graph, as its builder says; None in any other."""
        told = self.header.options.get("int8")
        return told.get("scales") if isinstance(told, dict) else None

    def _close(self) -> None:
        self._session = None

    def _start(self, frames: Image) -> Answer:
        assert self._session is not None
        if self.gives_scores:
            return Answer(scores=np.asarray(self._session.run([SCORES], {FRAMES: frames})[0]))
        wanted = [CLASS_MAP, CONFIDENCE] if self.gives_confidence else [CLASS_MAP]
        return Answer(*(np.asarray(output) for output in self._session.run(wanted, {FRAMES: frames})))

    def _finish(self, work: Answer) -> Answer:
        return work


def _told(tensors: Iterable[ort.NodeArg]) -> dict[str, str]:
    """Type and shape of inputs or outputs by name, types as NumPy calls them."""
    types = {"float": "float32"}
    told = {}
    for tensor in tensors:
        kind = tensor.type.removeprefix("tensor(").removesuffix(")")
        told[tensor.name] = f"{types.get(kind, kind)} {tensor.shape}"
    return told
