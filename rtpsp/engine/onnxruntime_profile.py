"""ONNX Runtime's times of layers: the events that its profiler writes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rtpsp.arrays import Image
from rtpsp.engine.base import Answer, Result
from rtpsp.engine.onnxruntime_backend import ONNXRuntimeEngine
from rtpsp.engine.profile import ProfiledEngine, RanLayer

if TYPE_CHECKING:
    import onnxruntime as ort

_FORMATS = {
    "float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "uint8": "u8", "int8": "i8", "int32": "i32",
    "int64": "i64", "bool": "bool",
}  # fmt: skip
_EVENT = "_kernel_time"
_RENAMED = re.compile(r"(?:_token_\d+|_nchwc|_nhwc|_quant|_q\d*|_dq\d*|/duplicated)+$")
"""What its optimiser puts behind the names of nodes that it changes."""


class ProfiledONNXRuntimeEngine(ONNXRuntimeEngine, ProfiledEngine):
    """A session that writes down what it does."""

    def _open(self) -> str:
        self._folder = TemporaryDirectory(prefix="rtpsp-profile-")
        self._inferences = 0
        self._counted: list[int] = []
        try:
            return super()._open()
        except BaseException:
            self._folder.cleanup()
            raise

    def _make_session(self, settings: ort.SessionOptions) -> ort.InferenceSession:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(self._folder.name) / "layers")
        return super()._make_session(settings)

    def _close(self) -> None:
        super()._close()  # the session writes its file, if it has not, before the folder goes
        self._folder.cleanup()

    def _start(self, frames: Image) -> Answer:
        self._inferences += 1
        return super()._start(frames)

    def infer_counted(self, frames: Image) -> Result:
        """See `ProfiledEngine.infer_counted`."""
        self._counted.append(self._inferences)
        return self.infer(frames)

    def layers(self) -> tuple[RanLayer, ...]:
        """See `ProfiledEngine.layers`."""
        assert self._session is not None
        events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        runs = _runs(events)
        return _layers([runs[number] for number in self._counted])


def _runs(events: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The nodes' events of each inference: they come before that of the whole run."""
    runs, nodes = [], list[Mapping[str, Any]]()
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_EVENT):
            nodes.append(event)
        elif event.get("name") == "model_run":
            runs.append(nodes)
            nodes = []
    return runs


def _layers(runs: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[RanLayer, ...]:
    # By place, not by name, which several may share: a session runs its nodes in one order.
    return tuple(
        _layer(same[-1], tuple(float(event["dur"]) / 1e6 for event in same)) for same in zip(*runs, strict=True)
    )


def _layer(event: Mapping[str, Any], seconds: tuple[float, ...]) -> RanLayer:
    told = event["args"]
    name = str(event["name"]).removesuffix(_EVENT)
    inputs = [(kind, shape) for tensor in told.get("input_type_shape", ()) for kind, shape in tensor.items()]
    sizes = [told.get(key) for key in ("activation_size", "parameter_size", "output_size")]
    kind = str(told.get("op_name", ""))
    product = any(word in kind for word in ("Conv", "MatMul", "Gemm"))
    return RanLayer(
        name=name,
        kind=kind,
        format=_FORMATS.get(inputs[0][0], inputs[0][0]) if inputs else "",
        sources=(_RENAMED.sub("", name),),
        seconds=seconds,
        bytes=None if None in sizes else sum(map(int, sizes)),
        packed=product and all(math.prod(shape) == max(shape, default=1) for _, shape in inputs[1:]),
    )
