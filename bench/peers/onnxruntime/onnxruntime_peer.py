"""ONNX Runtime as "Get started with ONNX Runtime in Python" has it; INT8 by "Quantize ONNX models".

All session options are the defaults. INT8 is the static quantisation of that page with its defaults (QDQ, signed bytes,
ranges by the extremes), after the preprocessing that the page asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from peer_job import ClassMap, Frame, Job, Loaded


def load(job: Job) -> Loaded:
    """A session with all defaults."""
    model = job.model if job.precision == "fp32" else quantised(job)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def segment(frame: Frame) -> ClassMap:
        (logits,) = session.run(None, {name: to_image(frame, job)})
        return np.argmax(logits[0], axis=0).astype(np.uint8)

    threads = session.get_session_options().intra_op_num_threads
    versions = {"onnxruntime": onnxruntime.__version__}
    return Loaded(segment, "f32" if job.precision == "fp32" else "i8", threads or None, versions)


def to_image(frame: Frame, job: Job) -> Any:
    """float32 [1, 3, height, width], normalised."""
    if frame.shape[:2] != (job.height, job.width):
        frame = cv2.resize(
            frame, (job.width, job.height), interpolation=cv2.INTER_AREA if job.average else cv2.INTER_LINEAR
        )
    if job.channels == "rgb":
        frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    image = (frame.astype(np.float32) / 255 - np.array(job.mean, np.float32)) / np.array(job.std, np.float32)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def quantised(job: Job) -> str:
    """The path of the model in INT8."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images: Iterator[Any] = (to_image(frame, job) for frame in np.load(job.calibration))

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    ready, path = Path(job.folder) / "preprocessed.onnx", Path(job.folder) / "int8.onnx"
    quant_pre_process(job.model, str(ready))
    quantize_static(str(ready), str(path), Reader())
    return str(path)
