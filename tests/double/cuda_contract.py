"""What every binding of CUDA must do, on the driver's double and on a GPU alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from rtpsp.engine.cuda import Buffer, CaptureFailed, CudaDevice, CudaFailed, Stream, open_device
from rtpsp.errors import MissingError, UsageError

# extern "C" void contract_scale(const float *from, float *to, int count, double factor, unsigned char offset):
# to[i] = from[i] * float(factor) + float(offset). PTX, which any GPU's driver compiles; the double has it built in.
SCALE = b"""
.version 6.4
.target sm_75
.address_size 64
.visible .entry contract_scale(
    .param .u64 from, .param .u64 to, .param .u32 count, .param .f64 factor, .param .u8 offset)
{
    .reg .pred %outside;
    .reg .u32 %block, %width, %thread, %i, %count, %offset;
    .reg .u64 %from, %to, %at;
    .reg .f64 %factor;
    .reg .f32 %scale, %add, %value;
    mov.u32 %block, %ctaid.x;
    mov.u32 %width, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.u32 %i, %block, %width, %thread;
    ld.param.u32 %count, [count];
    setp.ge.u32 %outside, %i, %count;
    @%outside bra DONE;
    ld.param.u64 %from, [from];
    ld.param.u64 %to, [to];
    ld.param.f64 %factor, [factor];
    ld.param.u8 %offset, [offset];
    cvt.rn.f32.f64 %scale, %factor;
    cvt.rn.f32.u32 %add, %offset;
    mul.wide.u32 %at, %i, 4;
    add.u64 %from, %from, %at;
    add.u64 %to, %to, %at;
    ld.global.f32 %value, [%from];
    mul.rn.f32 %value, %value, %scale;
    add.rn.f32 %value, %value, %add;
    st.global.f32 [%to], %value;
DONE:
    ret;
}
"""
COUNT, THREADS = 1000, 128


@pytest.fixture
def device(binding: str) -> Iterator[CudaDevice]:
    """The first GPU, open; `binding` is a fixture of the module that runs the suite."""
    with open_device(0, binding) as opened:
        yield opened


def numbers(seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).integers(-1000, 1000, COUNT).astype(np.float32)


class Scaler:
    """Upload, kernel and download of one frame, on a stream each, ordered by events."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.up, self.work, self.down = device.stream(), device.stream(), device.stream()
        self.uploaded, self.worked, self.downloaded = device.event(), device.event(), device.event()
        self.source, self.target = device.allocate(4 * COUNT), device.allocate(4 * COUNT)
        self.input, self.output = device.pinned((COUNT,), np.float32), device.pinned((COUNT,), np.float32)
        self.kernel = device.load_module(SCALE).kernel("contract_scale")

    def enqueue(self, stream: Stream, factor: float = 2.0, offset: int = 3) -> None:
        blocks = (COUNT + THREADS - 1) // THREADS
        arguments = (self.source, self.target, np.int32(COUNT), np.float64(factor), np.uint8(offset))
        self.kernel.launch(stream, (blocks, 1, 1), (THREADS, 1, 1), *arguments)

    def submit(self, values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        self.input[:] = values
        self.device.upload(self.source, self.input, self.up)
        self.uploaded.record(self.up)
        self.work.wait(self.uploaded)
        self.enqueue(self.work)
        self.worked.record(self.work)
        self.down.wait(self.worked)
        self.device.download(self.output, self.target, self.down)
        self.downloaded.record(self.down)


class CudaContract:
    """Inherit it in a module that has a fixture `binding` and imports `device`."""

    def test_a_device_says_what_it_is(self, device: CudaDevice, binding: str) -> None:
        assert device.binding == binding
        assert device.name
        assert float(device.compute_capability) >= 7.5
        assert int(device.cuda.split(".")[0]) >= 12
        assert device.multiprocessors > 0
        free, total = device.memory()
        assert 0 < free <= total

    def test_a_copy_comes_back(self, device: CudaDevice) -> None:
        stream = device.stream()
        for shape, dtype in (((3, 5), np.dtype(np.uint8)), ((1, 7, 11, 3), np.dtype(np.int32))):
            up, down = device.pinned(shape, dtype), device.pinned(shape, dtype)
            assert (up.shape, up.dtype, up.flags.c_contiguous, up.flags.writeable) == (shape, dtype, True, True)
            up[...] = np.random.default_rng(1).integers(0, 200, shape)
            down[...] = 0
            buffer = device.allocate(up.nbytes)
            device.upload(buffer, up, stream)
            device.download(down, buffer, stream)
            stream.synchronize()
            np.testing.assert_array_equal(down, up)

    def test_memory_that_is_not_pinned_is_copied_too(self, device: CudaDevice) -> None:
        stream, values = device.stream(), numbers()
        buffer = device.allocate(values.nbytes)
        device.upload(buffer, values, stream)
        back = np.zeros_like(values)
        device.download(back, buffer, stream)
        stream.synchronize()
        np.testing.assert_array_equal(back, values)

    def test_a_part_of_a_buffer_is_copied(self, device: CudaDevice) -> None:
        stream, values = device.stream(), numbers()
        buffer = device.allocate(values.nbytes)
        device.upload(buffer, values, stream)
        device.upload(buffer, np.zeros(10, np.float32), stream)
        half = np.empty(COUNT // 2, np.float32)
        device.download(half, buffer, stream)
        stream.synchronize()
        np.testing.assert_array_equal(half, [0] * 10 + list(values[10 : COUNT // 2]))

    def test_events_order_three_streams(self, device: CudaDevice) -> None:
        scaler = Scaler(device)
        for seed in range(5):
            values = numbers(seed)
            scaler.submit(values)
            scaler.downloaded.synchronize()
            np.testing.assert_array_equal(scaler.output, values * 2 + 3)

    def test_a_kernel_takes_addresses_and_numbers_of_any_width(self, device: CudaDevice) -> None:
        scaler, values = Scaler(device), numbers()
        scaler.submit(values)
        scaler.downloaded.synchronize()
        half = np.uint64(scaler.source.pointer + 4 * (COUNT // 2))
        arguments = (half, scaler.target, np.int32(10), np.float64(-1), np.uint8(255))
        scaler.kernel.launch(scaler.work, (1, 1, 1), (32, 1, 1), *arguments)
        first = np.empty(11, np.float32)
        device.download(first, scaler.target, scaler.work)
        scaler.work.synchronize()
        middle = COUNT // 2
        np.testing.assert_array_equal(first, [*(255 - values[middle : middle + 10]), values[10] * 2 + 3])

    def test_an_event_gets_done_and_tells_time(self, device: CudaDevice) -> None:
        stream = device.stream()
        start, end = device.event(timing=True), device.event(timing=True, spin=True)
        assert end.done()  # never recorded
        buffer, values = device.allocate(4 * COUNT), device.pinned((COUNT,), np.float32)
        start.record(stream)
        device.upload(buffer, values, stream)
        end.record(stream)
        while not end.done():
            pass
        end.synchronize()
        assert end.milliseconds_since(start) >= 0

    def test_the_device_waits_for_all_streams(self, device: CudaDevice) -> None:
        scaler, values = Scaler(device), numbers()
        scaler.submit(values)
        device.synchronize()
        np.testing.assert_array_equal(scaler.output, values * 2 + 3)

    def test_a_graph_is_captured_and_launched(self, device: CudaDevice) -> None:
        scaler, values = Scaler(device), numbers()
        scaler.input[:] = values
        scaler.output[:] = 0

        def work() -> None:
            device.upload(scaler.source, scaler.input, scaler.work)
            scaler.worked.record(scaler.work)
            scaler.up.wait(scaler.worked)  # the capture takes the other stream in
            scaler.enqueue(scaler.up)
            scaler.uploaded.record(scaler.up)
            scaler.work.wait(scaler.uploaded)
            device.download(scaler.output, scaler.target, scaler.work)

        graph = device.capture(scaler.work, work)
        scaler.work.synchronize()
        assert not scaler.output.any()  # captured, not run
        for seed in (1, 2):
            values = scaler.input[:] = numbers(seed)
            graph.launch(scaler.down)
            scaler.downloaded.record(scaler.down)
            scaler.downloaded.synchronize()
            np.testing.assert_array_equal(scaler.output, values * 2 + 3)
        device.free(graph)

    def test_what_cannot_be_captured_says_why_and_leaves_the_stream_usable(self, device: CudaDevice) -> None:
        scaler, values = Scaler(device), numbers()
        with pytest.raises(CaptureFailed, match=r"cannot be captured .*StreamSynchronize"):
            device.capture(scaler.work, scaler.work.synchronize)
        with pytest.raises(CaptureFailed, match="of its own"):
            device.capture(scaler.work, self._refuse)
        with pytest.raises(ZeroDivisionError):
            device.capture(scaler.work, lambda: print(1 // 0))
        scaler.submit(values)
        scaler.downloaded.synchronize()
        np.testing.assert_array_equal(scaler.output, values * 2 + 3)
        graph = device.capture(scaler.work, lambda: scaler.enqueue(scaler.work, 3.0, 0))
        graph.launch(scaler.work)
        device.download(scaler.output, scaler.target, scaler.work)
        scaler.work.synchronize()
        np.testing.assert_array_equal(scaler.output, values * 3)

    @staticmethod
    def _refuse() -> None:
        raise CaptureFailed("TensorRT has reasons of its own")

    def test_other_threads_may_open_and_close_while_one_captures(self, device: CudaDevice, binding: str) -> None:
        stream = device.stream()
        problems: list[BaseException] = []

        def use() -> None:
            try:
                with open_device(0, binding) as other:
                    scaler = Scaler(other)
                    scaler.submit(numbers(1))
                    other.synchronize()
                    scaler.submit(numbers(2))
                    other.free(other.allocate(1 << 16))
            except BaseException as error:
                problems.append(error)

        def work() -> None:
            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            device.upload(buffer, values, stream)

        buffer, values = device.allocate(4 * COUNT), device.pinned((COUNT,), np.float32)
        device.capture(stream, work).launch(stream)
        stream.synchronize()
        assert problems == []

    def test_one_device_may_be_open_twice(self, device: CudaDevice, binding: str) -> None:
        stream = device.stream()
        with open_device(0, binding) as again:
            again.stream().synchronize()
            buffer = again.allocate(64)
        stream.synchronize()  # the context is still there
        with pytest.raises(UsageError):
            device.free(buffer)

    def test_too_much_memory_says_how_much(self, device: CudaDevice) -> None:
        _, total = device.memory()
        with pytest.raises(MissingError, match=r"asked for and refused.* free: close what else uses it"):
            device.allocate(2 * total)
        device.allocate(64)

    @pytest.mark.parametrize("image", [b"no image at all, of any kind\0", SCALE], ids=["image", "name"])
    def test_kernels_that_are_not_there(self, device: CudaDevice, image: bytes) -> None:
        with pytest.raises(CudaFailed, match=r"CUDA's \w+ failed: "):
            device.load_module(image).kernel("another")
        device.allocate(64)

    def test_arguments_that_do_not_fit(self, device: CudaDevice) -> None:
        stream, buffer = device.stream(), device.allocate(64)
        with pytest.raises(UsageError, match=r"array is uint8 \[65\], expected .* at most 64 bytes"):
            device.upload(buffer, np.zeros(65, np.uint8), stream)
        with pytest.raises(UsageError, match="not C-contiguous"):
            device.download(np.zeros((4, 4), np.uint8)[:, :2], buffer, stream)
        with pytest.raises(UsageError, match="0 bytes"):
            device.allocate(0)
        with pytest.raises(UsageError, match="0 bytes"):
            device.pinned((0, 4), np.uint8)

    def test_what_is_freed_is_gone(self, device: CudaDevice) -> None:
        stream, event, buffer = device.stream(), device.event(), device.allocate(64)
        array, module = device.pinned((8,), np.uint8), device.load_module(SCALE)
        for thing in (module, array, buffer, event, stream):
            device.free(thing)
            with pytest.raises(UsageError, match="freed already"):
                device.free(thing)
        with pytest.raises(UsageError, match=r"Stream of .*, freed"):
            stream.synchronize()
        with pytest.raises(UsageError, match="freed"):
            device.download(np.empty(8, np.uint8), buffer, device.stream())

    def test_it_belongs_to_its_thread(self, device: CudaDevice) -> None:
        stream, event, buffer = device.stream(), device.event(), device.allocate(64)
        uses = (
            stream.synchronize,
            event.done,
            device.stream,
            device.memory,
            device.synchronize,
            lambda: device.allocate(64),
            lambda: device.free(buffer),
            lambda: device.upload(buffer, np.zeros(8, np.uint8), stream),
            lambda: device.capture(stream, lambda: None),
        )
        raised: list[str] = []

        def use() -> None:
            for one in uses:
                try:
                    one()
                except UsageError as error:
                    raised.append(str(error))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert raised == ["CUDA device is open in another thread: open it in the thread that uses it"] * len(uses)

    def test_it_ends_with_its_block(self, binding: str) -> None:
        with open_device(0, binding) as device:
            stream: Stream = device.stream()
            buffer: Buffer = device.allocate(64)
        for use in (stream.synchronize, device.stream, lambda: device.free(buffer)):
            with pytest.raises(UsageError, match="closed"):
                use()

    def test_it_is_opened_in_one_thread_after_the_other(self, binding: str) -> None:
        """The first thread is gone when the second takes over: what it made was freed in it."""
        results: list[float] = []

        def use(seed: int) -> None:
            with open_device(0, binding) as device:
                scaler = Scaler(device)
                scaler.submit(numbers(seed))
                scaler.downloaded.synchronize()
                results.append(float(scaler.output[0]))

        for seed in (1, 2):
            thread = threading.Thread(target=use, args=(seed,))
            thread.start()
            thread.join()
        assert results == [float(numbers(seed)[0] * 2 + 3) for seed in (1, 2)]

    def test_an_exception_goes_through(self, binding: str) -> None:
        with pytest.raises(KeyError, match="third frame"), open_device(0, binding) as device:
            Scaler(device).submit(numbers())
            raise KeyError("third frame")

    def test_no_such_gpu_or_binding(self, binding: str) -> None:
        with pytest.raises(MissingError, match=r"GPU 99 was asked for, CUDA shows \d"), open_device(99, binding):
            pass
        with pytest.raises(UsageError, match="'cupy', expected one of pycuda, cuda-python"), open_device(0, "cupy"):
            pass
