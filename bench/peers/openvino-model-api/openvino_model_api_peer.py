"""OpenVINO's model_api: its segmentation wrapper in its asynchronous pipeline, as its own example has it.

The wrapper builds resizing and normalisation into the model and gives class ids of the frame's size. The pipeline keeps
as many requests in flight as it has by default; results are taken in the frames' order.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
from model_api.models import SegmentationModel
from model_api.pipelines import AsyncPipeline
from peer_job import ClassMap, Frame, Job, Loaded


def load(job: Job) -> Loaded:
    """The wrapper with its own defaults; its thresholds are off, for they are made for probabilities."""
    configuration = {
        "mean_values": [255 * value for value in job.mean],
        "scale_values": [255 * value for value in job.std],
        "reverse_input_channels": job.channels == "rgb",
        "soft_threshold": float("inf"),
        "return_soft_prediction": False,
        "labels": [str(number) for number in range(job.classes)],
    }
    model = SegmentationModel.create_model(job.model, "Segmentation", configuration, device="CPU")
    pipeline = AsyncPipeline(model)
    palette = np.array(job.palette, np.uint8)

    def segment(frame: Frame) -> ClassMap:
        pipeline.submit_data(frame, 0)
        pipeline.await_all()
        ids, _ = pipeline.get_result(0)
        return np.asarray(ids).astype(np.uint8)

    def loop(frames: int) -> list[float]:
        video = cv2.VideoCapture(job.video)
        stamps: list[float] = []
        submitted = 0

        def take(result: Any) -> None:
            ids, meta = result
            cv2.addWeighted(meta["frame"], 0.5, palette[np.asarray(ids)], 0.5, 0)
            stamps.append(time.monotonic())

        while submitted < frames:
            result = pipeline.get_result(len(stamps))
            if result:
                take(result)
                continue
            if not pipeline.is_ready():
                pipeline.await_any()
                continue
            found, frame = video.read()
            if not found:
                break
            pipeline.submit_data(frame, submitted, {"frame": frame})
            submitted += 1
        pipeline.await_all()
        while len(stamps) < submitted:
            take(pipeline.get_result(len(stamps)))
        video.release()
        return stamps

    compiled = model.inference_adapter.compiled_model
    ran = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    return Loaded(segment, ran, threads, {"model_api": version("openvino-model-api")}, loop)
