"""TensorRT engines on the driver's double, with the stand-in for TensorRT: what they allocate, wait for and free.

Everything between the engine's contract and the driver is the real code; on a GPU `tests/gpu` runs it once more.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from rtpsp import device_reference
from rtpsp.arrays import Image
from rtpsp.drawing import Drawing
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.cuda import Buffer, CudaDevice, Graph, Kernel, Stream
from rtpsp.engine.cuda_timing import SHORTEST
from rtpsp.engine.standin import ExecutionContext, StandIn, standin_plan
from rtpsp.engine.tensorrt_backend import TensorRTEngine, TensorRTRTXEngine, read_layers
from rtpsp.errors import EngineFileError, InputError, MissingError, UsageError
from rtpsp.fit import plan_fit
from rtpsp.header import EngineHeader, Precision
from rtpsp.spec import Fit
from tests.double import EAGER, LAZY, OTHERS_FIRST, OUT_OF_MEMORY, SHUFFLED, Double
from tests.engine.contract import SPEC, EngineContract, Make, ScoresContract, frames, header_of, scores_of

FLAVOURS = {"tensorrt": TensorRTEngine, "tensorrt-rtx": TensorRTRTXEngine}
WAITS = ("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize", "cuEventQuery", "cuStreamQuery")
CLEANUP = ("Free", "Destroy", "Unload", "PopCurrent", "Release")


@pytest.fixture(autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for compiled kernels, one for all tests."""
    folder = tmp_path_factory.getbasetemp() / "engines"
    monkeypatch.setenv("RTPSP_ENGINES", str(folder))
    return folder


def maker(flavour: str, tail: str, binding: str | None = None) -> Make:
    def make(
        precision: Precision = "fp32", options: EngineOptions | None = None, confidence: bool = False, batch: int = 1
    ) -> Engine:
        header = header_of(flavour, tail, precision, confidence and tail == "graph", batch)
        standin = StandIn()
        device = partial(standin.device, 0, binding)
        return FLAVOURS[flavour](header, standin_plan(header), options, trt=standin.module, device=device)

    return make


class TestEngine(EngineContract):
    @pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
    def make(self, request: pytest.FixtureRequest, double: Double, binding: str) -> Make:
        return maker(request.param, "graph", binding)


class TestScores(ScoresContract):
    @pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
    def make_scores(self, request: pytest.FixtureRequest, double: Double) -> Make:
        def make(
            precision: Precision = "fp32",
            options: EngineOptions | None = None,
            confidence: bool = False,
            batch: int = 1,
        ) -> Engine:
            header = header_of(request.param, "host", precision, confidence, batch)
            standin = StandIn()
            return FLAVOURS[request.param](
                header, standin_plan(header), options, trt=standin.module, device=standin.device
            )

        return make


@contextmanager
def opened(
    standin: StandIn,
    options: EngineOptions | None = None,
    header: EngineHeader | None = None,
    flavour: str = "tensorrt",
) -> Iterator[TensorRTEngine]:
    header = header or header_of(flavour)
    engine = FLAVOURS[flavour](header, standin_plan(header), options, trt=standin.module, device=standin.device)
    with engine:
        yield engine
    assert_freed(standin)


def assert_freed(standin: StandIn) -> None:
    assert not +standin.alive, "objects of TensorRT outlived the engine"
    assert standin.late == 0, "objects of TensorRT were freed after the device was closed"


def expected(given: Image) -> np.ndarray:
    answer: np.ndarray = given.argmax(axis=3)
    return answer


def test_a_frame_allocates_nothing_and_waits_once(double: Double) -> None:
    with opened(StandIn(), EngineOptions(depth=2)) as engine:
        engine.infer(frames(0))
        before = len(double.log())
        with double.one_thread():
            engine.infer(frames(1))
        assert double.calls()[before:] == [
            "cuMemcpyHtoDAsync", "cuEventRecord",
            "cuStreamWaitEvent", "cuGraphLaunch", "cuEventRecord",
            "cuStreamWaitEvent", "cuMemcpyDtoHAsync", "cuEventRecord",
            "cuEventSynchronize",
        ]  # fmt: skip


def test_the_next_frame_goes_up_while_this_one_is_computed(double: Double) -> None:
    with opened(StandIn(), EngineOptions(depth=2)) as engine:
        before = len(double.log())
        tickets = [engine.submit(frames(seed)) for seed in range(2)]
        calls = double.log()[before:]
        assert not [call.name for call in calls if call.name in WAITS], "to submit is not to wait"
        (upload,), (download,) = (
            {call.handle for call in calls if call.name == name} for name in ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync")
        )
        waiting = Counter(call.handle for call in calls if call.name == "cuStreamWaitEvent")
        assert waiting.pop(download) == 2, "each answer comes down after its inference"
        assert list(waiting.values()) == [2] and upload not in waiting, "frames go up while others are computed"
        assert double.count("pending") > 0
        for seed, ticket in enumerate(tickets):
            np.testing.assert_array_equal(engine.collect(ticket).class_map, expected(frames(seed)))


@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize(("mode", "seeds"), [(LAZY, 1), (EAGER, 1), (OTHERS_FIRST, 1), (SHUFFLED, 20)])
def test_answers_do_not_depend_on_what_runs_when(mode: int, seeds: int, cuda_graph: bool, double: Double) -> None:
    for depth in (1, 2, 3):
        with opened(StandIn(), EngineOptions(depth=depth, cuda_graph=cuda_graph)) as engine:
            buffers = [engine.frame_buffer() for _ in range(depth)]
            for seed in range(seeds):
                double.mode(mode, seed + 1)
                run_through(engine, buffers, depth)


def run_through(engine: Engine, buffers: list[Image], depth: int) -> None:
    tickets = []
    for seed in range(3 * depth):
        buffer = buffers[seed % depth]
        buffer[:] = frames(seed)
        tickets.append(engine.submit(buffer))
        if len(tickets) == depth:
            result = engine.collect(tickets.pop(0))
            np.testing.assert_array_equal(result.class_map, expected(frames(seed - depth + 1)))
    for ticket in tickets:
        engine.collect(ticket)


def test_the_double_sees_a_wait_that_is_missing(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "wait", lambda self, event: None)
    with opened(StandIn()) as engine:
        stale = [(engine.infer(frames(seed)).class_map == expected(frames(seed))).all() for seed in range(4)]
    assert not all(stale)


def test_a_frame_buffer_is_read_where_it_is_and_other_frames_are_copied(double: Double) -> None:
    with opened(StandIn()) as engine:
        buffer = engine.frame_buffer()
        assert buffer.shape == (1, *SPEC.size, 3) and not buffer.any() and buffer.flags.c_contiguous
        for given, seen in ((buffer, frames(2)), (frames(1), frames(1))):
            given[:] = frames(1)
            ticket = engine.submit(given)
            given[:] = frames(2)  # before the device has read it: nobody waited for that yet
            np.testing.assert_array_equal(engine.collect(ticket).class_map, expected(seen))


def test_what_goes_up_and_down_is_page_locked(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: set[int] = set()
    pinned, upload, download = CudaDevice.pinned, CudaDevice.upload, CudaDevice.download

    def noting(self: CudaDevice, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        array = pinned(self, shape, dtype)
        locked.add(array.ctypes.data)
        return array

    def up(self: CudaDevice, to: Buffer, frm: NDArray[Any], stream: Stream) -> None:
        assert frm.ctypes.data in locked
        upload(self, to, frm, stream)

    def down(self: CudaDevice, to: NDArray[Any], frm: Buffer, stream: Stream) -> None:
        assert to.ctypes.data in locked
        download(self, to, frm, stream)

    monkeypatch.setattr(CudaDevice, "pinned", noting)
    with opened(StandIn(), header=header_of("tensorrt", "host")) as engine:
        image, plan = np.zeros((30, 50, 3), np.uint8), plan_fit((30, 50), SPEC)
        for _ in range(2):  # tables for a size are copied from other memory, once for each slot
            engine.collect(engine.submit_frame(image, plan, Drawing("mask")))
        monkeypatch.setattr(CudaDevice, "upload", up)
        monkeypatch.setattr(CudaDevice, "download", down)
        for given in (frames(1), engine.frame_buffer()):
            engine.infer(given)
            engine.collect(engine.submit_frame(image, plan, Drawing("overlay")))


def test_answers_outlive_the_engine(double: Double) -> None:
    header = header_of("tensorrt", "host")
    image = frames(3)[0]
    with opened(StandIn(), header=header) as engine:
        plain = engine.infer(frames(1))
        drawn = engine.collect(engine.submit_frame(image, plan_fit(SPEC.size, SPEC), Drawing("mask")))
    assert plain.scores is not None and drawn.picture is not None
    np.testing.assert_array_equal(plain.scores, scores_of(frames(1)))  # page-locked memory is gone: it was copied
    assert drawn.picture.any() and (plain.class_map == expected(frames(1))).all()


def story(double: Double, standin: StandIn, flavour: str, header: EngineHeader) -> None:
    """Everything an engine does in its life."""
    with opened(standin, EngineOptions(depth=2), header, flavour) as engine:
        buffer = engine.frame_buffer()
        for _ in range(3):
            tickets = [engine.submit(frames(1)), engine.submit(buffer)]
            for ticket in tickets:
                engine.collect(ticket)
        if engine.device_io:
            for size in ((20, 30), (10, 40)):
                plan = plan_fit(size, engine.spec)
                image = np.zeros((*size, 3), np.uint8)
                engine.collect(engine.submit_frame(image, plan, Drawing("overlay")))
        engine.kernel_times(1)


@pytest.mark.parametrize(("flavour", "tail"), [("tensorrt", "host"), ("tensorrt-rtx", "graph")])
def test_whatever_call_fails_everything_is_freed_in_order(
    flavour: str, tail: str, double: Double, caplog: pytest.LogCaptureFixture
) -> None:
    header = header_of(flavour, tail)
    story(double, StandIn(), flavour, header)
    counts = Counter(name for name in double.calls() if not any(word in name for word in CLEANUP))
    del counts["cuStreamEndCapture"]  # its failure would leave the double capturing, as no driver does
    assert counts["cuMemcpyHtoDAsync"] >= 6 and counts["cuStreamCreate"] >= 3
    for name, count in counts.items():
        for nth in range(1, count + 1):
            double.reset()
            double.fail(name, nth)
            caplog.clear()
            standin = StandIn()
            gc.disable()  # TensorRT's objects go when their last reference does, not when Python looks for cycles
            try:
                story(double, standin, flavour, header)
                told = ("no CUDA graph", "on the CPU", "times on the GPU hold some of the host's")
                assert any(words in caplog.text for words in told), f"{name} {nth} went unseen"
            except (MissingError, EngineFileError) as error:
                assert "\n" not in str(error)
                assert_freed(standin)  # also while a traceback holds on to every frame that it passed
            finally:
                gc.enable()
            assert double.left() == {}, (name, nth)


@pytest.mark.parametrize("name", ["run:cuMemcpyHtoDAsync", "run:cuGraphLaunch", "run:cuMemcpyDtoHAsync"])
def test_the_third_frame_fails_on_the_device(name: str, double: Double) -> None:
    standin = StandIn()
    with pytest.raises(MissingError, match=r"^CUDA's cu\w+ failed: "), opened(standin) as engine:
        engine.infer(frames(0))
        double.fail(name, 3)
        for seed in range(4):
            engine.infer(frames(seed))
        pytest.fail("four frames passed")
    assert_freed(standin)


def test_the_third_frame_fails_in_the_caller(double: Double) -> None:
    standin = StandIn()
    with pytest.raises(ZeroDivisionError), opened(standin, EngineOptions(depth=2)) as engine, double.one_thread():
        for seed in range(3):
            engine.submit(frames(seed))
            if seed == 1:
                raise ZeroDivisionError
    assert_freed(standin)


@pytest.mark.parametrize(
    ("call", "nth", "error", "says"),
    [
        ("deserialize_cuda_engine", 1, EngineFileError, "cannot load this engine .*build it again on this machine"),
        ("create_execution_context", 1, MissingError, r"needs 0 MiB \(Error Code 2: OutOfMemory .*: close what else"),
        ("create_execution_context", 2, MissingError, "OutOfMemory"),
        ("set_tensor_address", 1, MissingError, "refuses the memory of tensor frames"),
        ("set_tensor_address", 4, MissingError, "refuses the memory of tensor class_map"),
        ("execute_async_v3", 1, MissingError, r"could not start an inference \(Error Code 1: Cuda Runtime"),
        ("execute_async_v3", 4, MissingError, "could not start an inference"),
    ],
)
def test_what_tensorrt_refuses_is_one_line(
    call: str, nth: int, error: type[Exception], says: str, double: Double
) -> None:
    standin = StandIn(fail={call: nth})
    with pytest.raises(error, match=says) as caught, opened(standin, EngineOptions(cuda_graph=False)) as engine:
        for seed in range(3):
            engine.infer(frames(seed))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("TensorRT 11.0 ")
    assert_freed(standin)


def test_an_engine_whose_launch_failed_once_still_works(double: Double) -> None:
    standin = StandIn(fail={"execute_async_v3": 4})  # two warm up, the third is the first frame
    with opened(standin, EngineOptions(depth=2, cuda_graph=False)) as engine:
        engine.infer(frames(0))
        with pytest.raises(MissingError, match="could not start"):
            engine.submit(frames(1))
        tickets = [engine.submit(frames(seed)) for seed in (2, 3)]
        for seed, ticket in zip((2, 3), tickets, strict=True):
            np.testing.assert_array_equal(engine.collect(ticket).class_map, expected(frames(seed)))


def test_out_of_memory_says_how_much_and_what_to_do(double: Double) -> None:
    double.fail("cuMemAlloc", 2, OUT_OF_MEMORY)
    standin = StandIn()
    with pytest.raises(MissingError, match=r"MiB .*asked for and refused.*close what else uses it"), opened(standin):
        pass
    assert_freed(standin)


def test_a_damaged_plan_is_one_line(double: Double) -> None:
    standin = StandIn()
    engine = TensorRTEngine(header_of("tensorrt"), b"nonsense", trt=standin.module, device=standin.device)
    with pytest.raises(EngineFileError, match=r"cannot load this engine \(Serialization assertion magicTag failed.\)"):
        engine.__enter__()
    assert_freed(standin)


def test_a_plan_that_is_not_what_its_header_says(double: Double) -> None:
    standin = StandIn()
    plan = standin_plan(header_of("tensorrt", batch=2))
    engine = TensorRTEngine(header_of("tensorrt"), plan, trt=standin.module, device=standin.device)
    with pytest.raises(EngineFileError, match=r"takes frames uint8 \[2, 12, 20, 3\], its header promises"), engine:
        pass
    assert_freed(standin)


def test_an_inference_is_one_graph_where_that_can_be(double: Double, caplog: pytest.LogCaptureFixture) -> None:
    def calls(options: EngineOptions, standin: StandIn) -> Counter[str]:
        double.reset()
        with opened(standin, options) as engine:
            before = len(double.log())
            np.testing.assert_array_equal(engine.infer(frames(1)).class_map, expected(frames(1)))
            return Counter(double.calls()[before:])

    whole = calls(EngineOptions(), StandIn())
    assert whole["cuGraphLaunch"] == 1 and whole["cuLaunchKernel"] == 0
    pieces = calls(EngineOptions(cuda_graph=False), StandIn())
    assert pieces["cuGraphLaunch"] == 0 and pieces["cuLaunchKernel"] == 1
    assert not caplog.records
    refused = calls(EngineOptions(), StandIn(fail={"execute_async_v3": 4}))  # the second slot's, in its capture
    assert refused == pieces
    assert "no CUDA graph" in caplog.text and "could not start an inference (Error Code 1" in caplog.text


@pytest.mark.parametrize("call", ["cuGraphLaunch", "run:cuGraphLaunch"])
def test_graphs_are_tried_before_the_first_frame(call: str, double: Double, caplog: pytest.LogCaptureFixture) -> None:
    """One that the driver refuses to launch is done without; one that fails on the device takes the context with it."""
    standin = StandIn()
    double.fail(call, 2)
    if call.startswith("run:"):
        with pytest.raises(MissingError, match=r"could not start an inference .*unknown error"), opened(standin):
            pytest.fail("it opened")
    else:
        with opened(standin) as engine:
            assert double.count("graphs") == 0
            before = len(double.log())
            for seed in range(3):
                np.testing.assert_array_equal(engine.infer(frames(seed)).class_map, expected(frames(seed)))
            assert "cuLaunchKernel" in double.calls()[before:] and "cuGraphLaunch" not in double.calls()[before:]
        assert "no CUDA graph" in caplog.text and "cuGraphLaunch" in caplog.text
    assert_freed(standin)


def test_after_a_refused_graph_it_is_tried_whether_anything_runs(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = StandIn.refuses

    def from_then_on(self: StandIn, call: str) -> bool:
        return refuses(self, call) or self._calls["execute_async_v3"] > 4

    monkeypatch.setattr(StandIn, "refuses", from_then_on)
    standin = StandIn(fail={"execute_async_v3": 4})  # the second slot's, in its capture
    with pytest.raises(MissingError, match="could not start an inference"), opened(standin):
        pytest.fail("it opened")
    assert_freed(standin)


def test_one_engine_may_come_and_go_while_another_is_captured(
    double: Double, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    capture = CudaDevice.capture
    answers: list[np.ndarray] = []

    def other() -> None:
        with opened(StandIn(), EngineOptions(cuda_graph=False)) as engine:
            answers.append(engine.infer(frames(2)).class_map)

    def slowly(self: CudaDevice, stream: Stream, work: Callable[[], None]) -> Graph:
        def and_meanwhile() -> None:
            thread = Thread(target=other)
            thread.start()
            thread.join()
            work()

        return capture(self, stream, and_meanwhile)

    monkeypatch.setattr(CudaDevice, "capture", slowly)
    with opened(StandIn()) as engine:
        np.testing.assert_array_equal(engine.infer(frames(1)).class_map, expected(frames(1)))
    assert not caplog.records
    assert len(answers) == 2 and all((answer == expected(frames(2))).all() for answer in answers)


def test_profilers_are_told_little_at_each_inference(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    launch = ExecutionContext._launch

    def noting(self: ExecutionContext, stream: Stream) -> None:
        told.append(self.nvtx_verbosity.name)
        launch(self, stream)

    monkeypatch.setattr(ExecutionContext, "_launch", noting)
    with opened(StandIn()):
        assert set(told) == {"LAYER_NAMES_ONLY"}


def test_an_engine_can_be_entered_again(double: Double) -> None:
    standin = StandIn()
    header = header_of("tensorrt")
    engine = TensorRTEngine(header, standin_plan(header), trt=standin.module, device=standin.device)
    for seed in range(2):
        with engine:
            np.testing.assert_array_equal(engine.infer(frames(seed)).class_map, expected(frames(seed)))
        assert double.left() == {}
        assert_freed(standin)


def test_kernels_that_rtx_compiled_are_kept(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path))
    caplog.set_level(logging.INFO, "rtpsp.engine.tensorrt_plan")
    with opened(StandIn(), flavour="tensorrt-rtx"):
        (kept,) = (tmp_path / "runtime-cache").iterdir()
    good = kept.read_bytes()
    assert good
    written = kept.stat().st_mtime_ns
    with opened(StandIn(), flavour="tensorrt-rtx") as engine:
        engine.infer(frames(1))
    assert kept.stat().st_mtime_ns == written and not caplog.records, "what was accepted is not written again"
    kept.write_bytes(b"of another driver")
    with opened(StandIn(), flavour="tensorrt-rtx") as engine:
        np.testing.assert_array_equal(engine.infer(frames(1)).class_map, expected(frames(1)))
    assert "of another TensorRT-RTX 11.0, driver or GPU: compiled again" in caplog.text
    assert kept.read_bytes() == good and list(kept.parent.iterdir()) == [kept]


def test_rtx_without_a_cache_runs_and_says_so(double: Double, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rtpsp.engine.tensorrt_plan")
    with opened(StandIn(fail={"set_runtime_cache": 1}), flavour="tensorrt-rtx") as engine:
        engine.infer(frames(1))
    assert "takes no cache of kernels" in caplog.text


def device_io_header(fit: Fit) -> EngineHeader:
    return replace(header_of("tensorrt", "host"), spec=replace(SPEC, fit=fit))


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_whole_frames_of_changing_sizes(fit: Fit, double: Double) -> None:
    header = device_io_header(fit)
    with opened(StandIn(), EngineOptions(depth=2), header) as engine:
        assert engine.device_io and engine.cells == SPEC.size
        made = []
        for size in ((24, 40), (24, 40), (7, 90), (50, 33), (24, 40), (1, 1), (24, 40), (24, 40)):
            plan = plan_fit(size, engine.spec)
            for mode in (LAZY, OTHERS_FIRST):
                double.mode(mode)
                drawings = (Drawing("overlay", 0.3), None, Drawing("mask"))
                images = [np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8) for seed in range(3)]
                tickets = [engine.submit_frame(images[0], plan, drawings[0])]
                for index, (image, drawing) in enumerate(zip(images, drawings, strict=True)):
                    if index < 2:
                        tickets.append(engine.submit_frame(images[index + 1], plan, drawings[index + 1]))
                    result = engine.collect(tickets.pop(0))
                    scores = scores_of(device_reference.resize(image, plan)[np.newaxis])[0]
                    ids = device_reference.class_map(scores, plan)
                    assert np.mean(result.class_map[0] != ids) < 0.002  # but for ties
                    assert result.class_map.dtype == ids.dtype and result.scores is None
                    assert (result.picture is None) == (drawing is None)
                    if result.picture is not None and drawing is not None:
                        picture = device_reference.draw(image, result.class_map[0], engine.spec.labels, drawing)
                        assert np.abs(result.picture[0].astype(int) - picture).max() <= 1
            made.append(double.count("buffers"))
        np.testing.assert_array_equal(engine.infer(frames(4)).class_map, expected(frames(4)))
    assert len(set(made)) == 1, "memory for a size that is gone is freed"


def test_a_whole_frame_allocates_nothing_and_waits_once(double: Double) -> None:
    plan = plan_fit((30, 50), SPEC)
    image = np.zeros((30, 50, 3), np.uint8)
    with opened(StandIn(), header=header_of("tensorrt", "host")) as engine:
        for _ in range(2):  # once for each slot
            engine.collect(engine.submit_frame(image, plan, Drawing("overlay")))
        before = len(double.log())
        engine.collect(engine.submit_frame(image, plan_fit((30, 50), engine.spec), Drawing("overlay")))
        assert double.calls()[before:] == [
            "cuMemcpyHtoDAsync", "cuEventRecord",
            "cuStreamWaitEvent", "cuLaunchKernel", "cuGraphLaunch", "cuLaunchKernel", "cuLaunchKernel", "cuEventRecord",
            "cuStreamWaitEvent", "cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync", "cuEventRecord",
            "cuEventSynchronize",
        ]  # fmt: skip


def test_device_io_is_refused_or_left_out_where_its_kernels_are_missing(
    double: Double, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*arguments: object) -> bytes:
        raise MissingError("kernels need NVIDIA's compiler")

    monkeypatch.setattr("rtpsp.engine.device_io.compile_kernels", missing)
    header = header_of("tensorrt", "host")
    with opened(StandIn(), header=header) as engine:
        assert not engine.device_io
        with pytest.raises(UsageError, match="no device_io"):
            engine.submit_frame(np.zeros((30, 50, 3), np.uint8), plan_fit((30, 50), SPEC))
        np.testing.assert_array_equal(engine.infer(frames(1)).class_map, expected(frames(1)))
    assert "on the CPU: kernels need NVIDIA's compiler" in caplog.text
    standin = StandIn()
    with pytest.raises(MissingError, match="kernels need"), opened(standin, EngineOptions(device_io="on"), header):
        pass
    assert_freed(standin)
    with opened(StandIn(), EngineOptions(device_io="off"), header) as engine:
        assert not engine.device_io


def test_frames_that_are_not_what_their_plan_says(double: Double) -> None:
    plan = plan_fit((30, 50), SPEC)
    with opened(StandIn(), header=header_of("tensorrt", "host")) as engine:
        floats = cast(Image, np.zeros((30, 50, 3)))
        for wrong in (np.zeros((30, 51, 3), np.uint8), floats, np.zeros((30, 100, 3), np.uint8)[:, ::2]):
            with pytest.raises(InputError, match=r"expected contiguous uint8 \[30, 50, 3\] \(BGR\)"):
                engine.submit_frame(wrong, plan)
        right = np.zeros((30, 50, 3), np.uint8)
        with pytest.raises(InputError, match="the plan is one for"):
            engine.submit_frame(right, replace(plan, spec=replace(SPEC, name="another")))
        engine.submit_frame(right, plan)
        with pytest.raises(UsageError, match="depth is 1"):
            engine.submit_frame(right, plan)


def test_kernels_are_timed_without_transfers_and_the_host_s_launching(double: Double) -> None:
    with opened(StandIn()) as engine:
        engine.kernel_times(1)
        before = len(double.log())
        assert len(engine.kernel_times(5)) == 5
        assert double.calls()[before:] == 5 * [
            "cuLaunchKernel", "cuEventRecord", "cuGraphLaunch", "cuEventRecord",
            "cuEventQuery", "cuEventSynchronize", "cuEventElapsedTime",
        ]  # fmt: skip


@pytest.mark.parametrize(("slow", "delays"), [(3, [1, 2, 4, 8]), (99, [1, 2, 4, 8, 16, 32, 64, 128])])
def test_a_delay_that_was_too_short_is_doubled(
    slow: int, delays: list[int], double: Double, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`slow` launches take the host so long that the device is there before they are."""
    waited: list[int] = []
    launch = Kernel.launch

    def noting(self: Kernel, stream: Stream, grid: Any, block: Any, *arguments: Any) -> None:
        waited.append(int(arguments[0]))
        double.mode(EAGER if len(waited) <= slow else LAZY)
        launch(self, stream, grid, block, *arguments)

    with opened(StandIn()) as engine:
        monkeypatch.setattr(Kernel, "launch", noting)
        assert engine.kernel_times(1)[0] >= 0
        assert waited == [SHORTEST * times for times in delays]
        assert ("hold some of the host's for launching: to launch" in caplog.text) == (slow == 99)
        engine.kernel_times(2)
        assert waited[len(delays) :] == 2 * waited[len(delays) - 1 :][:1], "it is kept, and not tried again in vain"


def test_kernels_are_timed_where_the_driver_compiles_nothing(double: Double, caplog: pytest.LogCaptureFixture) -> None:
    with opened(StandIn()) as engine:
        double.fail("cuModuleLoadData")
        assert len(engine.kernel_times(3)) == 3
    assert len(caplog.records) == 1 and "hold some of the host's for launching: CUDA's cuModule" in caplog.text


def test_the_inspector_tells_what_ran_and_the_layers(double: Double) -> None:
    told = '{"Layers": [{"Name": "conv1", "LayerType": "CaskConvolution", "Inputs": [{"DataType": "Half"}]}]}'
    header = header_of("tensorrt")
    standin = StandIn()
    plan = standin_plan(header, layers=told)
    with TensorRTEngine(header, plan, trt=standin.module, device=standin.device) as engine:
        assert engine.ran == "f16", "what the plan tells comes before what was asked for"
    (layer,) = read_layers(header, plan, trt=standin.module, device=standin.device)
    assert layer.name == "conv1" and layer.inputs == ("f16",)
    assert_freed(standin)


@pytest.mark.parametrize(
    ("precision", "options", "ran"),
    [("fp32", {}, "f32"), ("fp32", {"plan": {"tf32": True}}, "tf32"), ("fp16", {}, "f16"), ("int8", {}, "i8")],
)
def test_what_ran_by_the_header_where_the_plan_does_not_tell(
    precision: Precision, options: dict[str, object], ran: str, double: Double
) -> None:
    header = header_of("tensorrt", precision=precision)
    with opened(StandIn(), header=replace(header, options=header.options | options)) as engine:
        assert engine.ran == ran


@pytest.mark.parametrize("wanted", [True, False])
def test_a_version_compatible_plan_may_bring_its_runtime(wanted: bool, double: Double) -> None:
    header, standin = header_of("tensorrt"), StandIn()
    with opened(standin, header=replace(header, target=replace(header.target, version_compatible=wanted))):
        assert standin.host_code == wanted
