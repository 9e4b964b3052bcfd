"""OpenVINO as its guides have it: preprocessing built into the model, the device's defaults, INT8 by NNCF's defaults.

"Running inference", "Optimize preprocessing" (colour order, mean and scale in the graph), "Precision control"
(``INFERENCE_PRECISION_HINT``: without it a CPU that has bf16 uses it) and NNCF's "Basic quantization flow".
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import openvino as ov
from peer_job import ClassMap, Frame, Job, Loaded


def load(job: Job) -> Loaded:
    """The model compiled for the CPU."""
    core = ov.Core()
    model = with_preprocessing(core.read_model(job.model), job)
    if job.precision == "int8":
        model = quantised(model, job)
    hint = {"INFERENCE_PRECISION_HINT": "f32"} if job.precision == "f32" else {}
    compiled = core.compile_model(model, "CPU", hint)

    def segment(frame: Frame) -> ClassMap:
        logits = compiled(resized(frame, job)[None])[0]
        return np.argmax(logits[0], axis=0).astype(np.uint8)

    ran = {"int8": "i8"}.get(job.precision, compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    return Loaded(segment, ran, threads, {"openvino": ov.__version__.split("-")[0]})


def resized(frame: Frame, job: Job) -> Frame:
    """A frame of the model's size."""
    if frame.shape[:2] == (job.height, job.width):
        return frame
    how = cv2.INTER_AREA if job.average else cv2.INTER_LINEAR
    return cv2.resize(frame, (job.width, job.height), interpolation=how)


def with_preprocessing(model: Any, job: Job) -> Any:
    """The model, taking uint8 BGR frames."""
    ppp = ov.preprocess.PrePostProcessor(model)
    ppp.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    ppp.input().tensor().set_color_format(ov.preprocess.ColorFormat.BGR)
    ppp.input().model().set_layout(ov.Layout("NCHW"))
    steps = ppp.input().preprocess().convert_element_type(ov.Type.f32)
    if job.channels == "rgb":
        steps.convert_color(ov.preprocess.ColorFormat.RGB)
    steps.mean([255 * value for value in job.mean]).scale([255 * value for value in job.std])
    return ppp.build()


def quantised(model: Any, job: Job) -> Any:
    """The model in INT8."""
    import nncf

    frames = np.load(job.calibration)
    return nncf.quantize(model, nncf.Dataset(frames, lambda frame: resized(frame, job)[None]), subset_size=len(frames))
