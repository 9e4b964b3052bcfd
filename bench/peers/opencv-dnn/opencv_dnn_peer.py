"""OpenCV's dnn module as its segmentation sample has it: ``readNetFromONNX``, ``blobFromImage``, ``forward``, argmax.

Backend and target are the defaults. ``blobFromImage`` has one scale for all planes, so the deviations are divided by
afterwards, as the sample's users do. OpenCV 5 takes its new engine by default, which (5.0.0.93, this network) answers
wrongly in some processes, with one thread too; the classic engine is what a user would turn to then.
"""

from __future__ import annotations

import cv2
import numpy as np
from peer_job import ClassMap, Frame, Job, Loaded


def load(job: Job) -> Loaded:
    """The network with the default backend, in the default engine or in the classic one."""
    engine = cv2.dnn.ENGINE_CLASSIC if job.precision == "fp32, classic engine" else cv2.dnn.ENGINE_AUTO
    net = cv2.dnn.readNetFromONNX(job.model, engine=engine)
    mean = [255 * value for value in job.mean]
    std = np.array(job.std, np.float32).reshape(1, 3, 1, 1)
    swap = job.channels == "rgb"

    def segment(frame: Frame) -> ClassMap:
        if frame.shape[:2] != (job.height, job.width) and job.average:
            frame = cv2.resize(frame, (job.width, job.height), interpolation=cv2.INTER_AREA)
        blob = cv2.dnn.blobFromImage(frame, 1 / 255, (job.width, job.height), mean, swapRB=swap, crop=False)
        blob = blob / std
        net.setInput(blob)
        logits = net.forward()
        return np.argmax(logits[0], axis=0).astype(np.uint8)

    return Loaded(segment, "f32", cv2.getNumThreads(), {"opencv": cv2.__version__})
