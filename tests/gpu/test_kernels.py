"""Our kernels on a device, against what they are defined by in NumPy; other random input each time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rtpsp import device_reference
from rtpsp.drawing import Drawing
from rtpsp.engine.cuda import CudaDevice
from rtpsp.engine.device_io import DeviceIO
from rtpsp.fit import plan_fit
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.spec import Fit, ModelSpec, Resize

MANY = LabelSet("many", tuple(f"class {index}" for index in range(300)), distinct_palette(300))


@pytest.mark.parametrize("labels", [CAMVID, MANY], ids=["11 classes", "300 classes"])
@pytest.mark.parametrize("source", [(37, 53), (96, 130), (201, 160)])
@pytest.mark.parametrize(("fit", "resize"), [("stretch", "area"), ("letterbox", "bilinear"), ("crop", "area")])
def test_a_frame_goes_through(
    device: CudaDevice, fit: Fit, resize: Resize, source: tuple[int, int], labels: LabelSet
) -> None:
    random = np.random.default_rng(seed := time.time_ns())
    print(f"seed {seed}")
    spec = ModelSpec("any", "any", 48, 64, labels, fit=fit, resize=resize)
    plan, cells = plan_fit(source, spec), (6, 8)
    lane, stream = DeviceIO(device, spec, cells).lane(plan), device.stream()
    scores = device.pinned((1, len(labels), *cells), np.float32)
    resized = device.pinned((*spec.size, 3), np.uint8)
    there, scores_there = device.allocate(resized.nbytes), device.allocate(scores.nbytes)
    for drawing in (Drawing("overlay", 0.3), Drawing("mask"), None):
        image = random.integers(0, 256, (*source, 3), np.uint8)
        scores[...] = random.normal(size=scores.shape)
        resized[...] = 0xA5
        device.upload(there, resized, stream)
        device.upload(scores_there, scores, stream)
        lane.frame[...] = image
        lane.class_map[...] = 77
        lane.upload(stream)
        lane.resize(stream, there)
        lane.finish(stream, scores_there, drawing)
        lane.download(stream)
        device.download(resized, there, stream)
        stream.synchronize()
        np.testing.assert_array_equal(resized, device_reference.resize(image, plan))
        expected = device_reference.class_map(scores[0], plan)
        assert np.mean(lane.class_map != expected) < 1e-3  # but for scores that are equal, or nearly so
        assert (lane.picture is None) == (drawing is None)
        if drawing is not None and lane.picture is not None:
            drawn = device_reference.draw(image, lane.class_map, labels, drawing)
            assert np.abs(lane.picture.astype(int) - drawn).max() <= 1
