"""The builder, for real by TensorRT-RTX where it needs no GPU, else on a double of TensorRT's module."""

from __future__ import annotations

import logging
import os
import signal
import threading
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.engine import tensorrt_builder
from rtpsp.engine.tensorrt_api import FLAVOURS, load, make_log
from rtpsp.engine.tensorrt_builder import THREAD, Plan, PlanOptions, build_plan
from rtpsp.engine.tensorrt_options import RTX_DEFAULT
from rtpsp.engine.tensorrt_progress import Phases
from rtpsp.errors import MissingError, ModelError, UsageError
from rtpsp.graph.editing import set_constant
from rtpsp.graph.lower import lower
from rtpsp.header import Target
from rtpsp.machine import Gpu
from rtpsp.onnx_file import model_bytes
from tests.engine.tensorrt_double import Double, Severity
from tests.graph.conftest import build_model, build_spec

GPU = Gpu("NVIDIA H200 NVL", "9.0", "580.65", 144 << 30, "13.0")
CAPABILITY_BITS = {"7.5": 0x01, "8.0": 0x02, "8.6": 0x04, "8.9": 0x08, "12.0": 0x10, "12.1": 0x20}
"""In byte 32 of a plan of TensorRT-RTX; 0x40 is set by its default too, which no compute capability of its API sets."""

needs_rtx = pytest.mark.skipif(
    not os.environ.get("CI") and find_spec("tensorrt_rtx_bindings") is None,  # CI has it, or fails
    reason="needs the extra tensorrt-rtx",
)


@pytest.fixture(scope="module")
def lowered() -> ir.Model:
    spec = build_spec()
    return lower(build_model(spec, half=False), spec, verify=False)


@pytest.fixture(scope="module")
def graph(lowered: ir.Model) -> bytes:
    return model_bytes(lowered)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    monkeypatch.setattr(tensorrt_builder, "gpus", lambda: (GPU,))
    return Double()


def on(double: Double, options: PlanOptions | None = None, **more: Any) -> Plan:
    return build_plan("tensorrt", b"graph", options, trt=double.module(), **more)


def cancelled() -> bool:
    """Waits in the builder's thread until its build is cancelled; False if nobody does so."""
    work: Any = threading.current_thread()
    return bool(work.cancelled.wait(10))


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@needs_rtx
def test_a_plan_is_for_the_usual_gpus_or_those_asked_for(graph: bytes) -> None:
    usual = build_plan("tensorrt-rtx", graph)
    assert usual.target == Target(compute_capabilities=RTX_DEFAULT, or_later=True)
    assert usual.data[32] == 0x40 | sum(CAPABILITY_BITS[capability] for capability in RTX_DEFAULT)
    assert usual.versions == {"tensorrt-rtx": load("tensorrt-rtx").__version__}
    assert usual.notes == ()
    asked = build_plan("tensorrt-rtx", graph, PlanOptions(targets=("8.9", "12.0", "8.9")))
    assert asked.target == Target(compute_capabilities=("8.9", "12.0"))
    assert asked.data[32] == CAPABILITY_BITS["8.9"] | CAPABILITY_BITS["12.0"]


@needs_rtx
def test_the_same_graph_gives_the_same_bytes(graph: bytes) -> None:
    options = PlanOptions(workspace=1 << 28, optimisation_level=2, aux_streams=0, tf32=True, targets=("8.6",))
    assert build_plan("tensorrt-rtx", graph, options) == build_plan("tensorrt-rtx", graph, options)


@needs_rtx
def test_what_the_builder_says_is_logged(graph: bytes, caplog: pytest.LogCaptureFixture) -> None:
    lines = {}
    for verbose in (False, True):
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            build_plan("tensorrt-rtx", graph, PlanOptions(verbose=verbose))
        lines[verbose] = [record for record in caplog.records if record.name == "rtpsp.tensorrt"]
    assert lines[False] and len(lines[True]) > 5 * len(lines[False])
    assert {record.levelno for record in lines[True]} == {logging.DEBUG}
    assert all("\n" not in record.getMessage() for record in lines[True])


@needs_rtx
def test_progress_grows_to_one_in_the_callers_thread(graph: bytes) -> None:
    told: list[tuple[str, float]] = []
    threads = set()

    def progress(phase: str, share: float) -> None:
        told.append((phase, share))
        threads.add(threading.get_ident())

    build_plan("tensorrt-rtx", graph, progress=progress)
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert len(set(shares)) > 20 and len({phase for phase, _ in told}) > 5
    assert max(later - sooner for sooner, later in pairwise(shares)) < 0.4
    assert threads == {threading.get_ident()}


@needs_rtx
def test_the_parsers_error_arrives_whole(lowered: ir.Model) -> None:
    broken = lowered.clone()
    weights = next(node for node in broken.graph if node.op_type == "Conv").inputs[1]
    assert weights is not None and weights.const_value is not None
    set_constant(weights, weights.const_value.numpy().astype(np.float16))
    with pytest.raises(ModelError) as caught:
        build_plan("tensorrt-rtx", model_bytes(broken))
    told = str(caught.value)
    node = next(node for node in broken.graph if node.op_type == "Conv")
    assert f"node {node.name!r} (Conv): " in told
    assert "`input` and `kernel` must be of same type" in told and "Half" in told
    assert "\n" not in told and "another precision" in told


@needs_rtx
def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ModelError, match=r"TensorRT-RTX(.s parser refuses the graph: | cannot build the engine \()"):
        build_plan("tensorrt-rtx", b"\x00nonsense" * 20)


@needs_rtx
def test_the_builders_reason_arrives_too(graph: bytes) -> None:
    with pytest.raises(
        ModelError, match=r"TensorRT-RTX cannot build the engine \(.*Turing \(SM75\).*another precision"
    ):
        build_plan("tensorrt-rtx", graph, PlanOptions(targets=("7.5", "8.9")))


@needs_rtx
def test_it_does_so_beside_an_engine_that_is_open(graph: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Of two loggers TensorRT would take the first alone, while anything lives that was made with it."""
    trt = load("tensorrt-rtx")
    runtime = trt.Runtime(make_log(trt))
    with pytest.raises(ModelError, match=r"SM75"):
        build_plan("tensorrt-rtx", graph, PlanOptions(targets=("7.5",)))
    assert runtime.deserialize_cuda_engine(b"x" * 100) is None
    assert "differs from one already registered" not in caplog.text


@needs_rtx
def test_a_target_that_this_release_does_not_know(graph: bytes) -> None:
    with pytest.raises(UsageError, match=r"1\.7.* does not build for compute capability 9\.0, expected .*8\.9.*12\.0"):
        build_plan("tensorrt-rtx", graph, PlanOptions(targets=("8.9", "9.0")))


@needs_rtx
def test_without_a_gpu_nothing_runs_a_plan_and_its_log_says_why(graph: bytes) -> None:
    trt = load("tensorrt-rtx")
    log = make_log(trt)
    runtime = trt.Runtime(log)
    assert runtime.deserialize_cuda_engine(b"x" * 100) is None
    assert log.take() and log.errors == []


@needs_rtx
def test_ctrl_c_cancels_the_build(
    graph: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal arrives while the builder is in its midst; only then does the builder go on."""
    step = Phases.step
    main = threading.main_thread().ident
    assert main is not None
    heard: list[bool] = []

    def interrupted(self: Phases, name: str, number: int) -> None:
        if not heard:
            signal.pthread_kill(main, signal.SIGINT)
            heard.append(cancelled())
        step(self, name, number)

    monkeypatch.setattr(Phases, "step", interrupted)
    with caplog.at_level(logging.INFO, "rtpsp.tensorrt"), pytest.raises(KeyboardInterrupt):
        build_plan("tensorrt-rtx", graph)
    assert heard == [True] and "BuildCanceled" in caplog.text
    assert running() == []


def test_an_error_of_the_one_who_watches_cancels_too(double: Double) -> None:
    double.during = cancelled

    def progress(phase: str, share: float) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        on(double, progress=progress)
    assert double.cancelled and running() == []


def test_a_second_ctrl_c_waits_for_nothing(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    double.during = hangs.wait
    join = threading.Thread.join

    def progress(phase: str, share: float) -> None:
        raise KeyboardInterrupt("first")

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        if self.name == THREAD:
            raise KeyboardInterrupt("second")
        join(self, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt, match="second"):
            on(double, progress=progress)
    (left,) = running()
    assert left.daemon, "it must not hold up the end of the process"
    hangs.set()
    left.join(30)
    assert running() == []


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (PlanOptions(), [("clear_flag", "TF32"), ("profiling_verbosity", "DETAILED")]),
        (PlanOptions(tf32=True, detailed=False), []),
        (PlanOptions(tf32=True, detailed=False, workspace=1 << 30), [("set_memory_pool_limit", "WORKSPACE", 1 << 30)]),
        (PlanOptions(tf32=True, detailed=False, optimisation_level=0), [("builder_optimization_level", 0)]),
        (PlanOptions(tf32=True, detailed=False, aux_streams=0), [("max_aux_streams", 0)]),
        (PlanOptions(tf32=True, detailed=False, version_compatible=True), [("set_flag", "VERSION_COMPATIBLE")]),
        (
            PlanOptions(tf32=True, detailed=False, hardware="ampere+"),
            [("hardware_compatibility_level", "AMPERE_PLUS")],
        ),
        (
            PlanOptions(tf32=True, detailed=False, hardware="same"),
            [("hardware_compatibility_level", "SAME_COMPUTE_CAPABILITY")],
        ),
    ],
)
def test_each_option_reaches_tensorrt(double: Double, options: PlanOptions, calls: list[tuple[object, ...]]) -> None:
    plan = on(double, options)
    assert plan.data == b"plan" and plan.versions == {"tensorrt": "10.16.1"}
    told = [tuple(getattr(value, "name", value) for value in call) for call in double.calls]
    assert told == [("create_network", 1 << 1), *calls], (
        "strongly typed is bit 1 of TensorRT 10, and nothing is by default"
    )


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (PlanOptions(), Target(gpu=GPU.name, driver=GPU.driver, compute_capabilities=("9.0",))),
        (PlanOptions(hardware="same"), Target(gpu=GPU.name, driver=GPU.driver, compute_capabilities=("9.0",))),
        (
            PlanOptions(hardware="ampere+"),
            Target(gpu=GPU.name, driver=GPU.driver, compute_capabilities=("8.0",), or_later=True),
        ),
        (
            PlanOptions(version_compatible=True),
            Target(gpu=GPU.name, driver=GPU.driver, compute_capabilities=("9.0",), version_compatible=True),
        ),
    ],
)
def test_the_target_says_which_gpus_run_it(double: Double, options: PlanOptions, target: Target) -> None:
    assert on(double, options).target == target


def test_every_error_of_the_parser_is_told(double: Double) -> None:
    double.parser_errors = [("first\n  wrong", "conv1", "Conv"), ("second wrong", "", "Resize")]
    with pytest.raises(ModelError) as caught:
        on(double)
    assert "node 'conv1' (Conv): first wrong; node '' (Resize): second wrong: try" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("Error Code 2: OutOfMemory (no further information)", MissingError, "memory does not suffice"),
        ("Cuda Runtime (out of memory)", MissingError, "memory does not suffice"),
        ("Requested amount of GPU memory (8 bytes) could not be allocated.", MissingError, "memory does not suffice"),
        ("Skipped 1 tactics due to insufficient workspace.", MissingError, "memory does not suffice"),
        ("CUDA initialization failure with error: 35", MissingError, "no GPU that it can use"),
        ("Error Code 10: Could not find any implementation for node x", ModelError, "another precision"),
    ],
)
def test_a_builder_that_gives_nothing(double: Double, line: str, error: type[Exception], said: str) -> None:
    double.plan, double.says = None, [(Severity.ERROR, line)]
    with pytest.raises(error, match=f"(?s)TensorRT cannot build the engine.*{said}") as caught:
        on(double)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("Error Code 10: Could not find any implementation for node x", UsageError, "a workspace of 0.5 MiB"),
        ("Skipped 1 tactics due to insufficient workspace.", UsageError, "give it more with --workspace"),
        ("Cuda Runtime (out of memory); could not find any implementation", MissingError, "memory does not suffice"),
        ("Error Code 4: something else", ModelError, "another precision"),
    ],
)
def test_a_builder_that_gives_nothing_with_a_small_workspace(
    double: Double, line: str, error: type[Exception], said: str
) -> None:
    double.plan, double.says = None, [(Severity.ERROR, line)]
    with pytest.raises(error, match=f"(?s)TensorRT cannot build the engine.*{said}"):
        on(double, PlanOptions(workspace=1 << 19))


@needs_rtx
def test_a_workspace_that_is_too_small(graph: bytes) -> None:
    with pytest.raises(UsageError, match=r"with a workspace of 1 MiB \(.*within workspace limit.*give it more"):
        build_plan("tensorrt-rtx", graph, PlanOptions(workspace=1 << 20))


def test_a_builder_that_cannot_start(double: Double) -> None:
    double.builds, double.says = False, [(Severity.ERROR, "CUDA initialization failure with error: 35")]
    with pytest.raises(MissingError, match=r"10\.16\.1 cannot start its builder \(CUDA .* 35\): see what rtpsp doctor"):
        on(double)


def test_errors_that_stop_nothing_are_warned_of(double: Double, caplog: pytest.LogCaptureFixture) -> None:
    double.says = [(Severity.ERROR, "skipping a tactic"), (Severity.INTERNAL_ERROR, "Thread context has not been set!")]
    on(double)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == ["TensorRT built the engine, and reported an error: skipping a tactic"]


def test_without_a_gpu_tensorrt_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_builder, "gpus", lambda: ())
    monkeypatch.setattr(tensorrt_builder, "why_no_gpu", lambda: "this machine has no NVIDIA GPU")
    with pytest.raises(MissingError, match=r"\(this machine has no NVIDIA GPU\): build there, or .* tensorrt-rtx"):
        build_plan("tensorrt", b"graph")


@pytest.mark.parametrize(
    ("flavour", "options", "said"),
    [
        ("tensorrt-rtx", PlanOptions(timing_cache=Path("x")), "TensorRT-RTX has no option for a timing cache"),
        ("tensorrt-rtx", PlanOptions(hardware="same", version_compatible=True), "hardware .*, version compatibility"),
        ("tensorrt", PlanOptions(targets=("8.9",)), "TensorRT has no option for a target compute capability"),
        ("tensorflow", PlanOptions(), "'tensorflow': expected one of tensorrt, tensorrt-rtx"),
    ],
)
def test_an_option_that_the_flavour_lacks(flavour: str, options: PlanOptions, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_plan(flavour, b"graph", options, trt=Double().module())


def test_flavours_are_named_as_backends() -> None:
    assert list(FLAVOURS) == ["tensorrt", "tensorrt-rtx"]
    assert all(name == flavour.name for name, flavour in FLAVOURS.items())
