"""The live loop on a device: frames in, pictures out, drawn there or here and alike."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.engine.base import EngineOptions
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.engine.standin import StandIn
from rtpsp.live import RunOptions, run
from rtpsp.stream.frame import Rendered
from rtpsp.stream.sink import NullSink
from tests.engine.contract import header_of
from tests.gpu.conftest import standin_engine

SOURCE = "sim://street?w=160&h=120&fps=30&frames=12&seed=2"


class Kept(NullSink):
    """Keeps what it is given."""

    view = "overlay"

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.class_maps: list[np.ndarray] = []

    def write(self, item: Rendered) -> None:
        self.pictures.append(item.pictures["overlay"].copy())
        self.class_maps.append(item.class_map.copy())


def shown(standin: StandIn, binding: str, device_io: DeviceIOChoice, depth: int) -> Kept:
    options = EngineOptions(device_io=device_io, depth=depth)
    engine = standin_engine(standin, binding, header_of("tensorrt", "host"), options, nanoseconds=200_000)
    kept = Kept()
    report = run(SOURCE, engine, [kept], RunOptions(policy="every", mask_size="frame"))
    assert report.frames.shown == 12 and report.engine["device_io"] == (device_io == "on")
    return kept


@pytest.mark.parametrize("depth", [1, 2])
def test_pictures_are_the_same_wherever_they_are_drawn(standin: StandIn, binding: str, depth: int) -> None:
    there, here = shown(standin, binding, "on", depth), shown(standin, binding, "off", depth)
    for on_device, on_host, ids, others in zip(
        there.pictures, here.pictures, there.class_maps, here.class_maps, strict=True
    ):
        same = (
            ids == others
        )  # resized by OpenCV here, to one level the same: where channels are close they change places
        assert same.mean() > 0.97
        assert np.abs(on_device.astype(int) - on_host)[same].max() <= 1


def test_an_error_ends_the_run_in_order(binding: str) -> None:
    broken = StandIn({"execute_async_v3": 6})
    options = EngineOptions(device_io="on", cuda_graph=False)
    engine = standin_engine(broken, binding, header_of("tensorrt", "host"), options)
    with pytest.raises(Exception, match="could not start an inference"):
        run(SOURCE, engine, [Kept()], RunOptions(policy="every"))
    assert not +broken.alive and not broken.late
