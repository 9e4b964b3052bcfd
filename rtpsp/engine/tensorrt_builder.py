"""From a lowered graph to a plan: TensorRT's parser and builder, of any flavour.

What a layer computes in is what the graph says, since networks are strongly typed: TensorRT 11 and TensorRT-RTX know no
other, and TensorRT 10 is asked for it. The builder works in a thread of its own while the caller waits, so that Ctrl-C
is heard; everything of TensorRT's lives and dies in that thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from rtpsp.engine import tensorrt_types as types
from rtpsp.engine.tensorrt_api import Flavour, Log, TensorRT, flavour_of, load, make_log
from rtpsp.engine.tensorrt_options import PlanOptions as PlanOptions
from rtpsp.engine.tensorrt_options import check_options, configure, plan_target
from rtpsp.engine.tensorrt_progress import Phases, make_monitor
from rtpsp.engine.tensorrt_timings import TimingCache
from rtpsp.errors import MissingError, ModelError, RtpspError, UsageError
from rtpsp.header import Target
from rtpsp.machine import Gpu, gpus, why_no_gpu

_log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]

THREAD = "rtpsp-build"
PARSING, DONE = "Reading the graph", "Built"

# Texts of TensorRT's own, as its library has them (11.4, and TensorRT-RTX 1.7.1 of the same sources).
_NO_MEMORY = (
    "out of memory", "outofmemory", "cudaerrormemoryallocation", "insufficient memory", "memory is insufficient",
    "could not be allocated",
)  # fmt: skip
_NO_WORKSPACE = ("insufficient workspace", "within workspace limit", "increase the workspace")
_NOTHING_FITS = "could not find any implementation"  # of a node, as a small workspace may be the reason for
_NO_GPU = ("cudaerror 35", "cudaerror 100", "cuda initialization failure", "cuda driver version is insufficient")


@dataclass(frozen=True)
class Plan:
    """What the builder made.

    Attributes:
        data: The plan, for the runtime of the same flavour and release.
        target: The GPUs that it is for.
        versions: The flavour's release, by the name of its distribution.
        notes: What its user should know, each a clause.
    """

    data: bytes = field(repr=False)
    target: Target
    versions: dict[str, str]
    notes: tuple[str, ...] = ()


def build_plan(
    flavour: str,
    model: bytes,
    options: PlanOptions | None = None,
    progress: Progress | None = None,
    *,
    trt: TensorRT | None = None,
) -> Plan:
    """Build a plan; seconds for TensorRT-RTX, minutes for TensorRT.

    Whatever is raised in the caller while it waits, by a signal or by `progress`, cancels the build at the builder's
    next step, and is raised on once the builder has ended. A second one is raised on at once.

    Args:
        flavour: ``tensorrt`` builds for the GPU of this machine, ``tensorrt-rtx`` needs none.
        model: A graph as `rtpsp.graph` gives it, static and with its weights inside, as the bytes of an ONNX file.
        options: What the builder is told.
        progress: Told the phase that the builder is at, and the share of the whole that is done: 0 to 1, never less
            than before. It is called in the caller's thread.
        trt: The flavour's module, instead of the one that is installed.

    Raises:
        MissingError: The flavour is not installed or too old, there is no GPU for it, or its memory does not suffice.
        ModelError: TensorRT does not take the graph; with every error, its node and the node's operator.
        UsageError: No such flavour, it lacks an option that was given, or nothing does with the workspace.
    """
    kind, options = flavour_of(flavour), options or PlanOptions()
    check_options(kind, options)
    gpu = None if kind.rtx else _gpu(kind)
    work = _Work(kind, trt or load(flavour), model, options, gpu)
    try:
        work.start()
        while (told := work.told.get()) is not None:
            if progress is not None:
                progress(*told)
    except BaseException:
        work.cancelled.set()
        if work.is_alive():
            work.join()
        raise
    work.join()
    return work.plan.result()


def make_builder(kind: Flavour, trt: TensorRT, log: Log) -> types.Builder:
    """A builder.

    Raises:
        MissingError: It could not be made, as without a driver that is new enough.
    """
    try:
        return trt.Builder(log)
    except TypeError as error:  # what the bindings make of a null pointer
        said = "; ".join(log.take()) or str(error)
        raise MissingError(
            f"{kind.title} {trt.__version__} cannot start its builder ({said}): see what rtpsp doctor says of the GPU"
        ) from error


def parse(kind: Flavour, trt: TensorRT, builder: types.Builder, model: bytes, log: Log) -> types.INetworkDefinition:
    """A graph as a strongly typed network.

    Raises:
        ModelError: With every error that the parser has, its node and the node's operator.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if parser.parse(model):
        _log.debug("%s %s: %d layers", kind.title, trt.__version__, network.num_layers)
        return network
    errors = [_told(parser.get_error(index)) for index in range(parser.num_errors)] or log.take()
    said = "; ".join(errors) or "it gave no reason"
    raise ModelError(f"{kind.title}'s parser refuses the graph: {said}: try another precision or another backend")


def serialise(
    kind: Flavour,
    builder: types.Builder,
    network: types.INetworkDefinition,
    config: types.IBuilderConfig,
    log: Log,
    workspace: int = 0,
) -> types.IHostMemory:
    """The network's plan.

    Args:
        kind: What builds it.
        builder: The builder.
        network: From `parse`.
        config: From `configure`.
        log: That of the builder.
        workspace: Its limit in bytes, as `PlanOptions` has it, for the advice of an error.

    Raises:
        MissingError: There is no GPU that it can use, or its memory does not suffice.
        ModelError: The builder has no implementation of something in the graph.
        UsageError: It has none that does with the workspace.
    """
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failure(kind, log.take(), workspace)
    return plan


class _Work(threading.Thread):
    """One build.

    Attributes:
        told: What progress is to be told, then None when the thread has nothing more to say.
        cancelled: Ends the build at its next step.
        plan: What it made, or why not.
    """

    def __init__(self, kind: Flavour, trt: TensorRT, model: bytes, options: PlanOptions, gpu: Gpu | None) -> None:
        super().__init__(name=THREAD, daemon=True)  # it cannot be ended from outside, nor is it to hold up an exit
        self.told: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
        self.cancelled = threading.Event()
        self.plan: Future[Plan] = Future()
        self._kind, self._trt, self._model, self._options, self._gpu = kind, trt, model, options, gpu

    def run(self) -> None:
        try:
            self.plan.set_result(self._build())
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they hold what has to be freed in this thread
            self.plan.set_exception(error)
        finally:
            self.told.put(None)

    def _build(self) -> Plan:
        kind, trt, options = self._kind, self._trt, self._options
        target = plan_target(kind, options, self._gpu)
        log = make_log(trt, options.verbose)  # it and the monitor outlive what is made with them
        monitor = make_monitor(trt, Phases(self._tell), self.cancelled)
        self._tell(PARSING, 0.0)
        builder = make_builder(kind, trt, log)
        network = parse(kind, trt, builder, self._model, log)
        config = configure(kind, trt, builder, options)
        config.progress_monitor = monitor
        timings = TimingCache(options.timing_cache, trt.__version__, self._gpu)
        timings.load_into(config)
        try:
            data = bytes(serialise(kind, builder, network, config, log, options.workspace))
        finally:
            timings.save_from(config)
        self._tell(DONE, 1.0)
        for error in log.take():
            _log.warning("%s built the engine, and reported an error: %s", kind.title, error)
        return Plan(data, target, {kind.package: trt.__version__}, tuple(timings.notes))

    def _tell(self, phase: str, share: float) -> None:
        self.told.put((phase, share))


def _gpu(kind: Flavour) -> Gpu:
    found = gpus()
    if not found:
        raise MissingError(
            f"{kind.title} builds on the GPU that it builds for ({why_no_gpu()}): build there, or with the backend "
            f"tensorrt-rtx, which needs none"
        )
    return found[0]


def _told(error: types.ParserError) -> str:
    return f"node {error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())}"


def _failure(kind: Flavour, errors: list[str], workspace: int) -> RtpspError:
    said = "; ".join(errors) or "it gave no reason: see its log with --verbose"
    lower, what = said.lower(), f"{kind.title} cannot build the engine"
    lacks_workspace = any(sign in lower for sign in _NO_WORKSPACE)
    lacks_memory = any(sign in lower for sign in _NO_MEMORY)
    if workspace and (lacks_workspace or (_NOTHING_FITS in lower and not lacks_memory)):
        return UsageError(
            f"{what} with a workspace of {workspace / (1 << 20):g} MiB ({said}): give it more with --workspace, or "
            f"leave that out"
        )
    if lacks_workspace or lacks_memory:
        return MissingError(
            f"{what}: the GPU's memory does not suffice ({said}): close what else uses it, give less workspace, or "
            f"build for smaller frames"
        )
    if any(sign in lower for sign in _NO_GPU):
        return MissingError(f"{what}: no GPU that it can use ({said}): see what rtpsp doctor says of it")
    return ModelError(f"{what} ({said}): try another precision or another backend")
