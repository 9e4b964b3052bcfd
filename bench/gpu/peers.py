"""What there is to beat: the same networks in torch, FP16 in channels-last with CUDA graphs, and in ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.facts import busy_state
from gpu.models import SIZES, frames_of
from gpu.part import Job, Skip, figures, rounded

if TYPE_CHECKING:
    import torch
    import torch.fx

    from rtpsp.graph.lower import Tail

LONGEST_HOLD = 25_600_000
"""Cycles of the GPU's clock, more than ten milliseconds, for which `timed` keeps a stream busy at most."""
_hold_cycles = 200_000


def cuda_torch() -> Any:
    """The module torch.

    Raises:
        Skip: It sees no device.
    """
    import torch

    if not torch.cuda.is_available():
        raise Skip(f"torch {torch.__version__} sees no CUDA device")
    torch.backends.cudnn.benchmark = True
    return torch


def torch_network(network: str, device: str = "cuda", tail: Tail = "graph") -> tuple[torch.nn.Module, Any]:
    """FP16, channels last, batch norms folded, frames in, with random weights; and its spec.

    Out come what our engines give, by their tail: class ids of every pixel (``graph``), or the FP32 scores of the
    network's cells, before it interpolates them (``host``).
    """
    import torch
    from torch.fx.experimental.optimization import fuse

    from rtpsp.labels import CAMVID
    from rtpsp.model.pspnet import build
    from rtpsp.model.synthetic import randomise_statistics
    from rtpsp.spec import ModelSpec

    height, width = SIZES[network]
    spec = ModelSpec(network, network, height, width, CAMVID)
    model = build(network, len(CAMVID))
    randomise_statistics(model, seed=1)
    inner: Any = fuse(model.eval())
    if tail == "host":
        _without_last_resize(inner)
    inner = inner.half().to(device, memory_format=torch.channels_last)
    mean, scale = (
        torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        for values in ([255 * mean for mean in spec.mean], [1 / (255 * std) for std in spec.std])
    )

    class FromFrames(torch.nn.Module):
        """Normalised on the device, as our engines do it, and with their answer."""

        def __init__(self) -> None:
            super().__init__()
            self.network = inner

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            image = frames.flip(3).permute(0, 3, 1, 2).float()  # BGR rows of pixels: channels last as they are
            scores: torch.Tensor = self.network(((image - mean) * scale).half())
            return scores.float() if tail == "host" else scores.argmax(1).byte()

    return FromFrames().eval(), spec


def _without_last_resize(traced: torch.fx.GraphModule) -> None:
    """Lets the scores out of a traced network before they are interpolated."""
    from torch.nn.functional import interpolate

    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    last = output.args[0]
    assert last.target is interpolate, f"the network ends with {last.target}"
    output.args = (last.args[0],)
    traced.graph.eliminate_dead_code()
    traced.recompile()


@contextmanager
def graphed(model: Any, frames: Any) -> Iterator[tuple[Callable[[], None], Any, Any]]:
    """A CUDA graph of one inference: what replays it, its input and its output on the device."""
    torch = cuda_torch()
    with torch.inference_mode():
        still = frames.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                model(still)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = model(still)
        yield graph.replay, still, answer


def torch_peer(job: Job) -> dict[str, Any]:
    """Latency in torch: eager and as a CUDA graph, by events and by the wall clock, and as a graph up to the scores."""
    torch = cuda_torch()
    (network,) = job.arguments
    model, spec = torch_network(network)
    job.keep(work_plain=_arithmetic(network))
    pictures = [torch.from_numpy(picture[None]).pin_memory() for picture in frames_of(spec, 4)]
    frames = pictures[0].cuda()

    def eager(turn: int) -> None:
        model(frames)
        torch.cuda.synchronize()

    with torch.inference_mode():
        job.keep(eager_device=_by_events(job, lambda: model(frames)), eager_wall=_by_clock(job, eager))
    with graphed(model, frames) as (replay, still, answer):
        down = torch.empty(answer.shape, dtype=answer.dtype).pin_memory()

        def whole(turn: int) -> None:
            still.copy_(pictures[turn % len(pictures)], non_blocking=True)
            replay()
            down.copy_(answer, non_blocking=True)
            torch.cuda.current_stream().synchronize()

        job.keep(graph_device=_by_events(job, replay))
        job.keep(graph_with_copies_wall=_by_clock(job, whole))
        agree = float((down == answer.cpu()).float().mean())
        job.keep(state=busy_state(partial(timed, replay)))
    scores, _ = torch_network(network, tail="host")
    with graphed(scores, frames) as (replay, *_):
        job.keep(graph_device_to_scores=_by_events(job, replay))
    return {
        "format": "fp16, channels last",
        "answer_arrives": agree,
        "peak_memory_mib": rounded(torch.cuda.max_memory_allocated() / 2**20),
        "weights": "random",
    }


def _arithmetic(network: str) -> dict[str, Any]:
    """As `gpu.models.arithmetic`, where that has nothing to prepare; without layers."""
    from rtpsp.labels import CAMVID
    from rtpsp.model.pspnet import build, multiply_adds, parameter_count

    model = build(network, len(CAMVID))
    gmac = rounded(multiply_adds(model, SIZES[network]) / 1e9, 6)
    return {"gmac": gmac, "weights": parameter_count(model), "layers": []}


def torch_compiled(job: Job) -> dict[str, Any]:
    """The same by torch.compile in its mode for small batches, with the seconds that compiling takes."""
    torch = cuda_torch()
    (network,) = job.arguments
    model, spec = torch_network(network)
    frames = torch.from_numpy(frames_of(spec, 1)).cuda()
    compiled = torch.compile(model, mode="reduce-overhead")
    with torch.inference_mode():
        begin = time.monotonic()
        for _ in range(3):
            compiled(frames)
        torch.cuda.synchronize()
        job.keep(compile_seconds=round(time.monotonic() - begin, 1))
        return {"device": _by_events(job, lambda: compiled(frames)), "format": "fp16, channels last"}


def _by_events(job: Job, work: Callable[[], Any]) -> dict[str, float | int]:
    return figures(job.repeated(lambda turn: timed(work)))


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds on the device by torch's events, without what the host takes to launch.

    As `rtpsp.engine.cuda_timing.LaunchTimer` measures our engines: the stream is kept busy until all lies on it, and
    longer the next time where the first event tells that this was too short.
    """
    global _hold_cycles
    torch = cuda_torch()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    while True:
        torch.cuda._sleep(_hold_cycles)
        begin.record()
        work()
        end.record()
        behind = not begin.query()
        end.synchronize()
        if behind or _hold_cycles >= LONGEST_HOLD:
            took: float = begin.elapsed_time(end)
            return took
        _hold_cycles *= 2


def _by_clock(job: Job, work: Callable[[int], None]) -> dict[str, float | int]:
    def one(turn: int) -> float:
        begin = time.perf_counter()
        work(turn)
        return 1e3 * (time.perf_counter() - begin)

    return figures(job.repeated(one))


def onnxruntime_cuda(job: Job) -> dict[str, Any]:
    """The graphs that TensorRT gets, by ONNX Runtime's CUDA provider as our backend sets it up: FP32 without TF32."""
    import onnxruntime

    from rtpsp.engine.onnxruntime_cuda import CUDA, provider_options, try_cuda
    from rtpsp.errors import MissingError

    (network,) = job.arguments
    try:
        try_cuda()  # which also loads CUDA's and cuDNN's libraries out of their Python packages
    except MissingError as error:
        raise Skip(str(error)) from error
    job.keep(provider_options=provider_options())
    stored = np.load(job.work / f"{network}.npz")
    for variant in ("fp16-split-scores", "fp16-split-classes", "fp16-plain-scores", "fp32-plain-scores"):
        path = job.work / f"{network}-{variant}.onnx"
        if not path.exists():
            continue
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=[(CUDA, provider_options())])
        if session.get_providers()[0] != CUDA:
            raise RuntimeError(f"ONNX Runtime went on without {CUDA}, which ran one node before")
        name, frames = session.get_inputs()[0].name, stored["frames"][:1]
        begin = onnxruntime.OrtValue.ortvalue_from_numpy(frames, "cuda", 0)
        binding = session.io_binding()
        binding.bind_ortvalue_input(name, begin)
        binding.bind_output(session.get_outputs()[0].name, "cuda")

        def bound(turn: int, session: Any = session, binding: Any = binding) -> None:
            session.run_with_iobinding(binding)  # returns when the device is done

        def plain(turn: int, session: Any = session, name: str = name, frames: Any = frames) -> None:
            session.run(None, {name: frames})

        job.keep(**{variant: {"on_device_wall": _by_clock(job, bound), "with_copies_wall": _by_clock(job, plain)}})
    return {}
