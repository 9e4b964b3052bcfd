"""The script that everybody writes first: read a frame, infer, draw, show, and again.

OpenCV reads the video, OpenVINO infers with its defaults, the classes' colours are blended over the frame. There is no
window: the picture that ``imshow`` would get is thrown away.
"""

from __future__ import annotations

import time

import cv2
import numpy as np
import openvino as ov
from peer_job import ClassMap, Frame, Job, Loaded


def load(job: Job) -> Loaded:
    """The model compiled for the CPU."""
    core = ov.Core()
    compiled = core.compile_model(core.read_model(job.model), "CPU")
    mean, std = np.array(job.mean, np.float32), np.array(job.std, np.float32)
    palette = np.array(job.palette, np.uint8)

    def segment(frame: Frame) -> ClassMap:
        how = cv2.INTER_AREA if job.average else cv2.INTER_LINEAR
        image = cv2.resize(frame, (job.width, job.height), interpolation=how)
        if job.channels == "rgb":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        values = (image.astype(np.float32) / 255 - mean) / std
        logits = compiled(values.transpose(2, 0, 1)[None])[0]
        return np.argmax(logits[0], axis=0).astype(np.uint8)

    def loop(frames: int) -> list[float]:
        video = cv2.VideoCapture(job.video)
        stamps: list[float] = []
        while len(stamps) < frames:
            found, frame = video.read()
            if not found:
                break
            size = frame.shape[1], frame.shape[0]
            mask = cv2.resize(palette[segment(frame)], size, interpolation=cv2.INTER_NEAREST)
            cv2.addWeighted(frame, 0.5, mask, 0.5, 0)
            stamps.append(time.monotonic())
        video.release()
        return stamps

    ran = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    return Loaded(segment, ran, threads, {"openvino": ov.__version__.split("-")[0], "opencv": cv2.__version__}, loop)
