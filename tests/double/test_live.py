"""The live loop with a TensorRT engine on the driver's double: pictures as the CPU's, and an end in order."""

from __future__ import annotations

import gc
from pathlib import Path

import av
import numpy as np
import pytest

import rtpsp
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.engine.fake import FakeEngine
from rtpsp.engine.standin import StandIn, standin_plan
from rtpsp.engine.tensorrt_backend import TensorRTEngine
from rtpsp.errors import MissingError
from rtpsp.fit import no_class
from rtpsp.header import EngineHeader
from rtpsp.live import RunOptions
from rtpsp.spec import Fit, ModelSpec
from rtpsp.stream.frame import VIEWS
from rtpsp.stream.pipeline import Pipeline
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.render import RenderOptions
from tests.double import EAGER, LAZY, OTHERS_FIRST, Double
from tests.engine.contract import SPEC, scores_of
from tests.stream.doubles import Collector
from tests.stream.test_device_io import Pictures
from tests.stream.test_smooth import Film, shaken, still


@pytest.fixture(autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for compiled kernels, one for all tests."""
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path_factory.getbasetemp() / "engines"))


def on_the_double(choice: DeviceIOChoice, depth: int = 1, fit: Fit = "stretch") -> Engine:
    spec = ModelSpec(SPEC.name, SPEC.arch, *SPEC.size, SPEC.labels, fit=fit)
    header = EngineHeader(spec, "tensorrt", "fp32", "", options={"batch": 1, "confidence": False, "tail": "host"})
    standin, options = StandIn(), EngineOptions(depth=depth, device_io=choice)
    return TensorRTEngine(header, standin_plan(header), options, trt=standin.module, device=standin.device)


@pytest.mark.parametrize("mode", [LAZY, EAGER, OTHERS_FIRST])
@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize(("fit", "depth"), [("stretch", 1), ("letterbox", 2), ("crop", 3)])
def test_every_frame_becomes_what_the_cpu_makes_of_it(
    fit: Fit, depth: int, choice: DeviceIOChoice, mode: int, double: Double
) -> None:
    double.mode(mode)
    sizes = [(24, 40), (24, 40), (45, 99), SPEC.size, (10, 11)]
    render = RenderOptions(alpha=0.4, legend=True)
    runs = []
    device = on_the_double(choice, depth, fit)
    for engine in (device, FakeEngine(device.spec, scores=scores_of, cells=SPEC.size)):
        sinks = [Collector(view) for view in VIEWS]
        report = rtpsp.run(Pictures(15, sizes), engine, sinks, RunOptions(mask_size="frame", render=render))
        assert report.engine["device_io"] is (engine is device and choice == "on")
        runs.append(sinks[0].items)
    for item, other in zip(*runs, strict=True):
        assert item.frame.index == other.frame.index
        same = item.class_map == other.class_map
        assert same.mean() > 0.99, "a byte more or less after the resize decides a tie"
        assert ((item.class_map == no_class(11)) == (other.class_map == no_class(11))).all()
        for view in VIEWS:
            alike = np.hstack([same, same]) if view == "side-by-side" else same
            off = np.abs(item.pictures[view].astype(int) - other.pictures[view])
            assert off[alike].max() <= 1, view


@pytest.mark.parametrize("choice", ["auto", "off"])
@pytest.mark.parametrize("depth", [1, 3])
def test_scores_are_filtered_over_time_as_the_cpus_are(choice: DeviceIOChoice, depth: int, double: Double) -> None:
    double.mode(LAZY)
    device, runs = on_the_double(choice, depth), []
    cpu = FakeEngine(device.spec, scores=scores_of, cells=SPEC.size)
    for engine, smooth in ((device, True), (cpu, True), (cpu, False)):
        sink = Collector()
        film = Film(shaken(still((24, 40)), 9))
        report = rtpsp.run(film, engine, [sink], RunOptions(mask_size="frame", smooth=smooth))
        assert (report.engine["device_io"], report.engine["smooth"]) == (False, smooth)
        runs.append([item.class_map for item in sink.items])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (np.array(runs[1]) != runs[2]).any(), "else nothing is shown"


@pytest.mark.parametrize("choice", ["on", "off"])
@pytest.mark.parametrize("call", ["cuMemcpyHtoDAsync", "run:cuMemcpyDtoHAsync", "cuGraphLaunch", "cuEventSynchronize"])
def test_a_gpu_that_is_lost_ends_the_run_and_the_recording_plays(
    call: str, choice: DeviceIOChoice, double: Double, tmp_path: Path
) -> None:
    class Failing(Collector):
        def write(self, item: object) -> None:
            super().write(item)  # type: ignore[arg-type]
            if len(self.items) == 5:
                double.fail(call)

    sinks = [Failing("overlay"), VideoFile(tmp_path / "x.mp4")]
    pipeline = Pipeline(Pictures(1000, [(48, 64)]), on_the_double(choice, depth=2), sinks)
    gc.disable()  # what TensorRT made goes when its last reference does, not when Python looks for cycles
    try:
        with pytest.raises(MissingError, match=r"^CUDA's cu") as caught:
            pipeline.run()
    finally:
        gc.enable()
    assert "\n" not in str(caught.value) and pipeline.report().ended == f"error: {caught.value}"
    assert double.left() == {}, "also while a traceback holds on to every frame that it passed"
    shown = pipeline.report().frames.shown
    assert 5 <= shown < 1000
    with av.open(str(tmp_path / "x.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == shown
