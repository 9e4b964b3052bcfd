"""The CUDA runtime on the driver's double: the contract, and what only a double shows."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from cuda.bindings import driver

from rtpsp.engine import cuda_contexts
from rtpsp.engine.cuda import CaptureFailed, CudaDevice, CudaFailed, open_device
from rtpsp.errors import MissingError
from tests.double import (
    DRIVER_MISMATCH,
    EAGER,
    ILLEGAL_ADDRESS,
    LAZY,
    NO_DEVICE,
    OTHERS_FIRST,
    OUT_OF_MEMORY,
    SHUFFLED,
    UNKNOWN,
    Double,
)
from tests.double.cuda_contract import COUNT, CudaContract, Scaler, device, numbers

__all__ = ["device"]  # a fixture

MODES = {"lazy": LAZY, "eager": EAGER, "others-first": OTHERS_FIRST, "shuffled": SHUFFLED}


class TestContract(CudaContract):
    @pytest.fixture(autouse=True, params=MODES)
    def mode(self, request: pytest.FixtureRequest, double: Double) -> None:
        double.mode(MODES[request.param])


@pytest.fixture(autouse=True)
def on_the_double(double: Double) -> None:
    """Whatever a test does, all is given back at its end."""


def three_frames(device: CudaDevice, then: Callable[[int], None] = lambda frame: None) -> None:
    scaler = Scaler(device)
    graph = device.capture(scaler.work, lambda: scaler.enqueue(scaler.work))
    device.event(timing=True, spin=True)
    for frame in range(3):
        scaler.submit(numbers(frame))
        then(frame)
        scaler.downloaded.synchronize()
    graph.launch(scaler.work)


def test_everything_is_freed_newest_first_and_popped_by_one_thread(binding: str, double: Double) -> None:
    with double.one_thread(), open_device(0, binding) as device:
        three_frames(device)
    calls = double.calls()
    made = [name for name in calls if name.startswith(("cuMemAlloc", "cuMemHostAlloc", "cuModuleLoad"))]
    assert len(made) == 5
    freed = [name for name in calls if name.startswith(("cuMemFree", "cuModuleUnload"))]
    assert freed == ["cuModuleUnload", "cuMemFreeHost", "cuMemFreeHost", "cuMemFree", "cuMemFree"]
    assert calls.count("cuCtxPushCurrent") == calls.count("cuCtxPopCurrent") == 1
    assert calls[-1] == "cuCtxPopCurrent"
    waited = len(calls) - calls[::-1].index("cuStreamSynchronize")
    assert waited < calls.index("cuGraphExecDestroy") < calls.index("cuMemFreeHost")
    assert calls.count("cuStreamSynchronize") == 3 and "cuCtxSynchronize" not in calls


def test_the_third_frame_raises(binding: str, double: Double) -> None:
    def fail(frame: int) -> None:
        if frame == 2:
            raise ValueError("the third frame")

    with (
        double.one_thread(),
        pytest.raises(ValueError, match="the third frame"),
        open_device(0, binding) as device,
    ):
        three_frames(device, fail)
    assert double.left() == {}
    assert double.count("pending") == 0


@pytest.mark.parametrize("elsewhere", [True, False], ids=["another thread", "this thread"])
def test_a_wait_for_the_whole_gpu_ends_a_capture(binding: str, double: Double, elsewhere: bool) -> None:
    """As another library in the process may do it. The stream works afterwards, and can be captured."""
    failed: list[driver.CUresult] = []

    def wait() -> None:
        with open_device(0, binding):
            failed.extend(driver.cuCtxSynchronize())

    def work() -> None:
        if elsewhere:
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join()
        else:
            wait()
        scaler.enqueue(scaler.work)

    with open_device(0, binding) as device:
        scaler = Scaler(device)
        told = r"cannot be captured .* error during capture.*: nothing may wait for the whole GPU"
        with pytest.raises(CaptureFailed, match=told):
            device.capture(scaler.work, work)
        assert failed == [driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED]
        scaler.submit(numbers(1))
        device.synchronize()
        np.testing.assert_array_equal(scaler.output, numbers(1) * 2 + 3)
        device.capture(scaler.work, lambda: scaler.enqueue(scaler.work)).launch(scaler.work)


@pytest.mark.parametrize("name", ["run:cuLaunchKernel", "cuLaunchKernel", "cuMemcpyDtoHAsync", "cuEventSynchronize"])
def test_the_driver_fails_at_the_third_frame(binding: str, double: Double, name: str) -> None:
    """A kernel that faults takes the context with it: every later call fails too, and all is given back even so."""
    double.fail(name, 3, ILLEGAL_ADDRESS)
    with double.one_thread(), pytest.raises(CudaFailed) as caught, open_device(0, binding) as device:
        three_frames(device)
    told = str(caught.value)
    assert "an illegal memory access was encountered" in told
    assert name.removeprefix("run:") in told or name.startswith("run:")
    assert "start again" in told
    assert "\n" not in told


def test_a_failure_while_freeing_is_told_and_the_rest_is_freed(double: Double) -> None:
    """PyCUDA tells it on stderr, for some things alone; its own destructors have nobody to raise to."""
    double.fail("cuEventDestroy", 1, UNKNOWN)
    with pytest.raises(CudaFailed, match="cuEventDestroy failed"), open_device(0, "cuda-python") as device:
        stream, event = device.stream(), device.event()
        event.record(stream)
    assert double.left() == {"events": 1}
    double.reset()


def test_a_missing_wait_shows_as_stale_data(binding: str, double: Double) -> None:
    """What the double is for: this is a mistake that a GPU shows now and then."""
    with open_device(0, binding) as device:
        scaler = Scaler(device)
        scaler.submit(numbers(1))
        scaler.downloaded.synchronize()
        scaler.input[:] = numbers(2)
        device.upload(scaler.source, scaler.input, scaler.up)
        scaler.enqueue(scaler.work)  # without waiting for the upload
        device.download(scaler.output, scaler.target, scaler.work)
        scaler.work.synchronize()
        np.testing.assert_array_equal(scaler.output, numbers(1) * 2 + 3)


def test_what_is_overwritten_too_soon_shows(binding: str, double: Double) -> None:
    """The host writes the next frame before the last one went up; a buffer is refilled while a kernel reads it."""
    with open_device(0, binding) as device:
        scaler = Scaler(device)
        scaler.submit(numbers(1))
        scaler.input[:] = numbers(2)  # without waiting
        scaler.downloaded.synchronize()
        np.testing.assert_array_equal(scaler.output, numbers(2) * 2 + 3)
        double.mode(OTHERS_FIRST)
        scaler.submit(numbers(3))
        late = device.pinned((COUNT,), np.float32)
        late[:] = numbers(4)
        device.upload(scaler.source, late, scaler.up)  # without waiting for the kernel
        scaler.downloaded.synchronize()
        np.testing.assert_array_equal(scaler.output, numbers(4) * 2 + 3)


def test_nothing_is_allocated_or_waited_for_behind_the_caller(binding: str, double: Double) -> None:
    with open_device(0, binding) as device:
        scaler = Scaler(device)
        before = len(double.log())
        scaler.submit(numbers())
        enqueued = double.calls()[before:]
        scaler.downloaded.synchronize()
    copies = ["cuMemcpyHtoDAsync", "cuEventRecord", "cuStreamWaitEvent", "cuLaunchKernel"]
    assert enqueued == [*copies, "cuEventRecord", "cuStreamWaitEvent", "cuMemcpyDtoHAsync", "cuEventRecord"]


def test_the_primary_context_is_retained_once(binding: str, double: Double) -> None:
    def use() -> None:
        with open_device(0, binding) as device:
            device.stream().synchronize()

    use()
    retained = double.count("retained")
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert double.count("retained") == retained


def test_a_process_that_used_it_ends_quietly(binding: str) -> None:
    """PyCUDA has things to say when a context goes the wrong way."""
    program = (
        "import threading\n"
        "import tests.double.conftest\n"
        "from rtpsp.engine.cuda import open_device\n"
        "def use():\n"
        f"    with open_device(0, {binding!r}) as device:\n"
        "        device.stream(), device.event(), device.pinned((4, 4), 'u1'), device.allocate(16)\n"
        "{first}\n"
        "use()\n"
    )
    for first in ("", "thread = threading.Thread(target=use); thread.start(); thread.join()"):
        command = [sys.executable, "-c", program.format(first=first)]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_what_is_written_behind_a_buffer_is_noticed(double: Double) -> None:
    with open_device(0, "cuda-python") as device:
        scaler = Scaler(device)
        device.free(scaler.target)
        scaler.target = device.allocate(4 * COUNT - 8)
        scaler.enqueue(scaler.work)
        device.synchronize()
    assert double.left() == {"overruns": 1}
    double.reset()


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not opened a GPU yet."""
    monkeypatch.setattr(cuda_contexts, "_contexts", {})


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        ("cuInit", NO_DEVICE, r"cuInit failed: no CUDA-capable device is detected.*: see what nvidia-smi lists"),
        ("cuInit", DRIVER_MISMATCH, r"cuInit failed: system has unsupported display driver.*: restart the machine"),
        ("cuInit", UNKNOWN, r"cuInit failed: unknown error.*: start again"),
        ("cuDevicePrimaryCtxRetain", OUT_OF_MEMORY, r"cuDevicePrimaryCtxRetain failed: out of memory.*: another proc"),
    ],
)
def test_a_driver_that_does_not_start(binding: str, double: Double, call: str, code: int, told: str) -> None:
    double.fail(call, 1, code)
    with pytest.raises(MissingError, match=told) as caught, open_device(0, binding):
        pass
    assert "\n" not in str(caught.value)
    with open_device(0, binding) as device:  # and is asked again the next time
        device.stream().synchronize()


@pytest.mark.usefixtures("forgotten")
def test_no_gpu_and_an_old_driver(binding: str, double: Double) -> None:
    double.set_device(devices=0)
    with pytest.raises(MissingError, match=r"no CUDA-capable device|CUDA shows 0"), open_device(0, binding):
        pass
    double.set_device(version=11080)
    told = r"driver is of CUDA 11\.8, expected 12\.0 or newer: update the driver"
    with pytest.raises(MissingError, match=told), open_device(0, binding):
        pass


def test_out_of_memory_names_the_numbers(binding: str, double: Double) -> None:
    double.set_device(total=100 << 20)
    with open_device(0, binding) as device:
        device.allocate(60 << 20)
        told = (
            r"50\.0 MiB of memory of Double were asked for and refused, the GPU has 40\.0 MiB of 100\.0 MiB free: close"
        )
        with pytest.raises(MissingError, match=told):
            device.allocate(50 << 20)
        double.fail("cuMemHostAlloc", 1, OUT_OF_MEMORY)
        with pytest.raises(MissingError, match=r"0\.0 MiB of host memory that stays in place were asked for"):
            device.pinned((5,), np.uint8)
