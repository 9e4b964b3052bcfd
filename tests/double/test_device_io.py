"""Device IO through the driver: a frame's way over three streams, several lanes, sizes that change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.device_reference import class_map, draw, resize
from rtpsp.drawing import Drawing
from rtpsp.engine.cuda import Buffer, CudaDevice, open_device
from rtpsp.engine.device_io import DeviceIO, Lane
from rtpsp.errors import MissingError
from rtpsp.fit import FitPlan, plan_fit
from rtpsp.labels import CAMVID
from rtpsp.spec import Fit, ModelSpec
from tests.double import EAGER, LAZY, OTHERS_FIRST, OUT_OF_MEMORY, SHUFFLED, Double
from tests.test_class_mapper import regions

CELLS = (6, 8)
WAITS = {"cuStreamSynchronize", "cuCtxSynchronize", "cuMemAlloc", "cuMemHostAlloc", "cuMemFree", "cuMemFreeHost"}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kernels are kept: they are compiled once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def device(binding: str, double: Double, engines: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaDevice]:
    monkeypatch.setenv("RTPSP_ENGINES", str(engines))
    with double.one_thread(), open_device(0, binding) as device:
        yield device


def make_plan(source: tuple[int, int] = (60, 82), fit: Fit = "letterbox") -> FitPlan:
    return plan_fit(source, ModelSpec("test", "test", 48, 64, CAMVID, fit=fit))


def make_image(plan: FitPlan, seed: int) -> Image:
    image: Image = np.random.default_rng(seed).integers(0, 256, (*plan.source_size, 3), np.uint8)
    return image


class Way:
    """A frame's, from the host through a lane and back; the network is a table of scores."""

    def __init__(self, device: CudaDevice, lane: Lane) -> None:
        self.device, self.lane = device, lane
        self.up, self.work, self.down = (device.stream() for _ in range(3))
        self.uploaded, self.computed, self.finished = (device.event() for _ in range(3))
        self.input: Buffer = device.allocate(48 * 64 * 3)
        self.made: Image = device.pinned((48, 64, 3), np.uint8)

    def start(self, image: Image, scores: Buffer, drawing: Drawing | None, wait: bool = True) -> None:
        self.lane.frame[...] = image
        self.lane.upload(self.up)
        self.uploaded.record(self.up)
        if wait:
            self.work.wait(self.uploaded)
        self.lane.resize(self.work, self.input)
        self.lane.finish(self.work, scores, drawing)
        self.computed.record(self.work)
        self.down.wait(self.computed)
        self.device.download(self.made, self.input, self.down)
        self.lane.download(self.down)
        self.finished.record(self.down)


@pytest.mark.parametrize("mode", [LAZY, EAGER, OTHERS_FIRST, SHUFFLED])
def test_frames_come_down_ready_to_be_shown(device: CudaDevice, double: Double, mode: int) -> None:
    double.mode(mode)
    plans = [make_plan(), make_plan((71, 33), "crop")]
    tables = [regions(11, CELLS, seed) for seed in range(6)]
    io = DeviceIO(device, plans[0].spec, CELLS)
    scores = [io.put(table) for table in tables]
    ways = [Way(device, DeviceIO(device, plan.spec, CELLS).lane(plan)) for plan in plans]
    drawings = [Drawing("overlay", 0.5), Drawing("mask"), None]
    before = len(double.log())
    for number in range(6):  # two in flight, each begun while the other runs
        way, plan, drawing = ways[number % 2], plans[number % 2], drawings[number % 3]
        if number >= 2:
            check(way, plans[number % 2], number - 2, tables, drawings)
        way.start(make_image(plan, number), scores[number], drawing)
    for number in (4, 5):
        check(ways[number % 2], plans[number % 2], number, tables, drawings)
    names = {call.name for call in double.log()[before:]}
    assert "cuLaunchKernel" in names and not names & WAITS, "a frame allocates nothing, and waits for its answer alone"


def check(way: Way, plan: FitPlan, number: int, tables: list[np.ndarray], drawings: list[Drawing | None]) -> None:
    way.finished.synchronize()
    image, drawing = make_image(plan, number), drawings[number % 3]
    np.testing.assert_array_equal(way.made, resize(image, plan))
    expected = class_map(tables[number], plan)
    assert (way.lane.class_map != expected).mean() < 0.001
    if drawing is None:
        assert way.lane.picture is None
    else:
        assert way.lane.picture is not None
        np.testing.assert_array_equal(way.lane.picture, draw(image, way.lane.class_map, CAMVID, drawing))


def test_a_wait_left_out_shows(device: CudaDevice, double: Double) -> None:
    """That the test above can fail: without the wait for the upload, the network gets the frame before."""
    double.mode(LAZY)
    plan = make_plan()
    io = DeviceIO(device, plan.spec, CELLS)
    way, scores = Way(device, io.lane(plan)), io.put(regions(11, CELLS))
    for number in range(2):
        way.start(make_image(plan, number), scores, None, wait=number == 0)
        way.finished.synchronize()
    assert not np.array_equal(way.made, resize(make_image(plan, 1), plan))


def test_a_lane_gives_everything_back(device: CudaDevice, double: Double) -> None:
    io = DeviceIO(device, make_plan().spec, CELLS)
    held = double.count("buffers"), double.count("pinned")
    for source in ((60, 82), (333, 21)):
        lane = io.lane(make_plan(source))
        assert double.count("pinned") == held[1] + 3
        lane.free()
        assert (double.count("buffers"), double.count("pinned")) == held


def test_a_lane_that_finds_no_memory_says_so(device: CudaDevice, double: Double) -> None:
    io = DeviceIO(device, make_plan().spec, CELLS)
    held = double.count("buffers"), double.count("pinned")
    for nth in (1, 4):
        double.fail("cuMemAlloc", nth, OUT_OF_MEMORY)
        with pytest.raises(MissingError, match="were asked for and refused, the GPU has"):
            io.lane(make_plan())
        assert (double.count("buffers"), double.count("pinned")) == held, "what it had got is given back"
