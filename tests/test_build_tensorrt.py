"""TensorRT engines by `build_engine`: really built, ahead of time and without a GPU, by TensorRT-RTX."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp import build
from rtpsp.build import BuildOptions, build_engine
from rtpsp.calibration_cache import CalibrationCache, to_fit, write_cache
from rtpsp.comparison import Ratio
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.compatibility import Verdict
from rtpsp.engine.fake import FakeEngine
from rtpsp.engine.file import read_engine_file
from rtpsp.engine.tensorrt_options import RTX_DEFAULT, PlanOptions
from rtpsp.errors import BoundNotMet, EngineFileError, MissingError, ModelError
from rtpsp.graph.lower import Head, lower
from rtpsp.graph.ranges import canonical, collect, graph_digest, to_ranges
from rtpsp.graph.verify import open_session, sample_frames
from rtpsp.header import EngineHeader
from rtpsp.int8 import Int8Options
from rtpsp.maker import Maker
from rtpsp.onnx_file import load_model, save_model
from tests.conftest import save_frames
from tests.full_width import full_width

needs_rtx = pytest.mark.skipif(
    not os.environ.get("CI") and any(find_spec(name) is None for name in ("tensorrt_rtx_bindings", "torch")),
    reason="needs the extras train and tensorrt-rtx",
)  # the build server has them, or fails

RTX = "tensorrt-rtx"
PARAMETERS = {"pspnet18": 14.2e6, "pspnet50": 46.7e6}
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}


def save_ranges(model: Path, path: Path) -> Path:
    """The largest values on one sample frame: all that random weights deserve."""
    graph, spec = load_model(model)
    plain = canonical(graph)
    ranges = to_ranges(collect(plain, spec, iter([sample_frames(spec, 1)]), 2), "minmax")
    write_cache(path, CalibrationCache(spec.name, graph_digest(graph), "ab" * 32, 1, "minmax", to_fit(spec), ranges))
    return path


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, type[Maker]]]:
    """Gives a network of random weights at full width, with ranges beside it, and a `Maker` of it; each made once.

    What that one lowers is the same for every precision: it is kept from one build to the next, and compared with the
    model once, at the end, by `build_engine` itself.
    """

    @lru_cache
    def made(arch: str) -> tuple[Path, type[Maker]]:
        graph, spec = full_width(arch)
        path = tmp_path_factory.mktemp("models") / f"{arch}.onnx"
        save_model(graph, spec, path)
        save_ranges(path, path.with_suffix(".json"))
        first: list[Maker] = []

        class Shared(Maker):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                first.append(self)
                self._lowered, self._answers = first[0]._lowered, first[0].answers

            def lowered(self, head: Head, batch: int = 1) -> ir.Model:
                if (head, batch) not in self._lowered:
                    self._lowered[head, batch] = lower(
                        self.graph, self.spec, batch, head=head, tail=self.tail, verify=False
                    )
                return self._lowered[head, batch]

        return path, Shared

    return made


def options(model: Path, precision: str, head: str, **given: Any) -> BuildOptions:
    int8 = Int8Options(cache=model.with_suffix(".json")) if precision == "int8" else Int8Options()
    return BuildOptions(precision, RTX, head=head, int8=int8, **given)  # type: ignore[arg-type]


@needs_rtx
@pytest.mark.parametrize(
    ("arch", "precision", "head"),
    [
        ("pspnet18", "fp32", "plain"),  # each precision with each head: tests/graph/test_tensorrt_rtx.py
        ("pspnet18", "fp16", "split"),
        ("pspnet18", "int8", "plain"),
        ("pspnet50", "int8", "split"),
    ],
)
def test_an_engine_ahead_of_time(
    full: Callable[[str], tuple[Path, type[Maker]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
    precision: str,
    head: str,
) -> None:
    """``pytest -s`` prints the table of sizes and times."""
    from tensorrt_rtx_bindings import __version__ as release

    model, shared = full(arch)
    monkeypatch.setattr(build, "Maker", shared)
    phases: list[tuple[int, float]] = []

    def tell(step: str, done: int, total: int) -> None:
        if step.startswith(f"{RTX}: "):
            phases.append((done, time.monotonic()))

    built = build_engine(model, tmp_path / "x.engine", options(model, precision, head), tell)
    file = read_engine_file(built.path)
    header, payload = file.header, file.payload()
    seconds = phases[-1][1] - phases[0][1]
    print(f"\n| {arch} | {precision} | {head} | {len(payload) / 1e6:.1f} MB | {seconds:.1f} s |", end="")
    assert header == built.header and (header.backend, header.precision) == (RTX, precision)
    assert header.versions[RTX] == release and header.options["plan"] == {}
    assert (header.target.gpu, header.target.compute_capabilities, header.target.or_later) == ("", RTX_DEFAULT, True)
    assert (header.options["head"], header.options["tail"], header.options["batch"]) == (head, "host", 1)
    if precision == "int8":
        told = header.options["int8"]
        assert (told["integers"], told["scales"]) == ("s8 data, 8-bit weights", "fp16")
    shares = [done for done, _ in phases]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 100 and len(set(shares)) > 5
    weights = BYTES[precision] * PARAMETERS[arch]
    assert 0.9 * weights < len(payload) < 1.2 * weights + 10e6, "in the type that was asked for"
    assert built.ran == "" and "hides every GPU" in built.why_not_run
    assert built.agreement > {"fp32": 0.9999, "fp16": 0.97, "int8": 0.75}[precision]


@pytest.fixture
def small(pspnet_model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A small PSPNet, and ranges of it."""
    return pspnet_model, save_ranges(pspnet_model, tmp_path / "small.json")


def quick(precision: str | None = "fp16", **given: Any) -> BuildOptions:
    return BuildOptions(precision, **{"backend": RTX, "head": "plain", "threads": 1, **given})  # type: ignore[arg-type]


@needs_rtx
def test_what_was_asked_of_the_builder_stands_in_the_header(small: tuple[Path, Path], tmp_path: Path) -> None:
    plan = PlanOptions(targets=("8.9",), workspace=1 << 28, tf32=True)
    built = build_engine(small[0], tmp_path / "x.engine", quick("fp32", plan=plan, batch=2, confidence=True))
    header = read_engine_file(built.path).header
    assert header.options["plan"] == {"targets": ["8.9"], "workspace": 1 << 28, "tf32": True}
    assert header.target.compute_capabilities == ("8.9",) and not header.target.or_later
    assert (header.options["batch"], header.options["confidence"]) == (2, True)
    assert built.agreement > 0.9999, "of both frames"


@needs_rtx
def test_of_a_large_batch_two_frames_are_compared(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: set[int] = set()

    def watched(model: ir.Model, threads: int) -> Any:
        session = open_session(model, threads)
        batches.add(session.get_inputs()[0].shape[0])
        return session

    monkeypatch.setattr("rtpsp.graph.verify.open_session", watched)
    asked = quick("int8", head="split", batch=64, int8=Int8Options(cache=small[1]))
    built = build_engine(small[0], tmp_path / "x.engine", asked)
    assert built.header.options["batch"] == 64 and built.agreement > build.MIN_AGREEMENT["int8"]
    assert batches == {1, 2}, "ONNX Runtime would hold all 64 at once"


@needs_rtx
def test_the_same_plan_comes_of_the_same_model(small: tuple[Path, Path], tmp_path: Path) -> None:
    files = [read_engine_file(build_engine(small[0], tmp_path / name, quick()).path) for name in ("a", "b")]
    assert files[0].payload() == files[1].payload() and files[0].header == files[1].header


@needs_rtx
def test_a_precision_that_nobody_asked_for(small: tuple[Path, Path], tmp_path: Path) -> None:
    built = build_engine(small[0], tmp_path / "x.engine", quick(None))
    assert built.header.precision == "fp16" and built.notes[0].startswith("FP16, the usual precision of a GPU")
    built = build_engine(small[0], tmp_path / "y.engine", quick(None, int8=Int8Options(cache=small[1])))
    assert built.header.precision == "int8" and built.notes[0] == "INT8, since frames or ranges were given for it"


@needs_rtx
def test_without_the_gpu_no_head_is_timed(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Maker, "race", None)
    monkeypatch.setattr("rtpsp.maker.why_not_here", lambda backend: "there is no GPU")
    built = build_engine(small[0], tmp_path / "x.engine", quick(head="auto"))
    assert built.header.options["head"] == "plain" and built.why_not_run == "there is no GPU"
    assert built.notes == ("plain head: it could not be timed against a split one here (--head split)",)


class OnAGpu(FakeEngine):
    """Stands for the engine of a plan on a machine that runs it: its answer is class 0 all over, in FP16."""

    plans: ClassVar[list[bytes]] = []

    def __init__(self, header: EngineHeader, payload: bytes, options: EngineOptions | None = None) -> None:
        super().__init__(header.spec, answer=lambda frames: np.zeros(frames.shape[:3], np.uint8))
        self.batch = int(header.options["batch"])
        self.plans.append(payload)

    def _open(self) -> str:
        return "f16"


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> type[OnAGpu]:
    """As if this machine ran what it builds."""
    monkeypatch.setattr(OnAGpu, "plans", [])
    monkeypatch.setattr("rtpsp.maker.why_not_here", lambda backend: None)
    monkeypatch.setattr("rtpsp.maker.judge", lambda header, package: Verdict())
    monkeypatch.setattr("rtpsp.maker.engine_class", lambda name: OnAGpu)
    return OnAGpu


@needs_rtx
def test_with_the_gpu_heads_are_raced_and_the_engine_itself_is_compared(
    small: tuple[Path, Path], tmp_path: Path, on_a_gpu: type[OnAGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BoundNotMet, match=r"tensorrt-rtx in f16 agrees with the FP32 graph on .* not to be trusted"):
        build_engine(small[0], tmp_path / "x.engine", quick())
    on_a_gpu.plans.clear()
    monkeypatch.setattr(build, "MIN_AGREEMENT", {"fp16": 0.0})
    twice = Ratio.of([2.0] * 10, [1.0] * 10)
    monkeypatch.setattr(Ratio, "of", lambda first, second: twice)
    built = build_engine(small[0], tmp_path / "x.engine", quick(head="auto", batch=2))
    plain, split, winner = on_a_gpu.plans
    assert plain != split and winner is split, "the winner is not built again"
    assert (built.ran, built.why_not_run, built.header.options["head"]) == ("f16", "", "split")
    assert built.notes[0].startswith("split head: 2.00x as fast as the plain one here")
    assert read_engine_file(built.path).payload() == split


@needs_rtx
def test_a_plan_that_does_not_open_here_is_for_elsewhere(
    small: tuple[Path, Path], tmp_path: Path, on_a_gpu: type[OnAGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: OnAGpu) -> str:
        raise EngineFileError("this GPU is of another kind")

    monkeypatch.setattr(on_a_gpu, "_open", refuse)
    built = build_engine(small[0], tmp_path / "x.engine", quick(head="auto"))
    assert (built.ran, built.why_not_run) == ("", "this GPU is of another kind") and built.agreement > 0.9
    assert built.notes[0].startswith("plain head: it could not be timed")


@needs_rtx
def test_int8_is_measured_part_by_part_without_the_gpu(
    pspnet_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ONNX Runtime, on the graph that TensorRT is given, and never by the plan of anything but the whole."""
    from rtpsp.engine.tensorrt_builder import build_plan

    plans: list[bytes] = []

    def counted(flavour: str, data: bytes, *rest: Any) -> Any:
        plans.append(data)
        return build_plan(flavour, data, *rest)

    monkeypatch.setattr("rtpsp.maker.build_plan", counted)
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    save_frames(tmp_path, 10)
    asked = Int8Options(calib=str(tmp_path / "images"), min_agreement=0.97)
    built = build_engine(pspnet_model, tmp_path / "x.engine", quick("int8", int8=asked))
    assert len(plans) == 1 and b"DequantizeLinear" in plans[0]
    header = read_engine_file(built.path).header
    told = header.options["int8"]
    assert told["integers"] == "s8 data, 8-bit weights" and told["cost"]["agreement"] >= 0.97
    assert any(not part["int8"] for part in told["parts"]), "some stay in float"
    assert built.quantised is not None and "by ONNX Runtime, 'rtpsp eval' tells" in built.quantised.notes[-1]
    (cache,) = (tmp_path / "calib").glob("small-*.json")
    again = Int8Options(cache=cache, min_agreement=0.97)
    second = build_engine(pspnet_model, tmp_path / "y.engine", quick("int8", int8=again))
    assert second.path.read_bytes() == built.path.read_bytes(), "what was measured is kept with the ranges"


@needs_rtx
def test_what_int8_is_measured_with_rounds_as_the_graph_says(small: tuple[Path, Path]) -> None:
    """8-bit weights and signed data saturate on some CPUs where they are multiplied as integers."""
    from rtpsp.calibration_cache import read_cache
    from rtpsp.graph.quantize import IntegerFormat, quantise
    from rtpsp.graph.verify import FloatArray, _interpolate, run
    from rtpsp.maker import Form

    graph, spec = load_model(small[0])
    frames = sample_frames(spec, 2)
    maker = Maker(graph, spec, build.to_header(spec, quick("int8", batch=2)), frames, "host", 1)
    maker.ranges, maker.integers = read_cache(small[1]), IntegerFormat()
    form = Form("int8", "split")
    exact = run(quantise(maker.lowered("split"), maker.ranges.ranges, maker.integers), spec, frames, 1).logits
    typed = run(maker.graph_of(form), spec, frames, 1).logits
    with maker.measured(form) as engine:
        assert (engine.header.backend, engine.batch, maker.measures_with) == ("onnxruntime", 1, "onnxruntime")
        answers = [engine.infer(frame[None]).scores for frame in frames]
    scores = _interpolate(np.concatenate([answer for answer in answers if answer is not None]), spec.size)
    floats = maker.answers.logits
    assert exact is not None and typed is not None and floats is not None

    def far(one: FloatArray, other: FloatArray) -> float:
        return float(np.abs(one - other).mean() / np.abs(other).mean())

    assert far(scores, exact) < 0.2 * far(exact, floats), "it is rounded, and in the same places"
    assert far(typed, exact) < far(exact, floats), "FP16 in between is the smaller change"


@needs_rtx
def test_a_graph_that_does_not_answer_alike_is_refused(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtpsp.graph import tensorrt
    from rtpsp.graph.editing import constant, set_constant

    right = tensorrt.to_tensorrt

    def wrong(model: ir.Model) -> ir.Model:
        spoiled = right(model)
        for value in spoiled.graph.initializers.values():
            array = constant(value)
            if array is not None and array.dtype.kind == "f" and array.ndim == 4:
                set_constant(value, -array)
        return spoiled

    monkeypatch.setattr(tensorrt, "to_tensorrt", wrong)
    with pytest.raises(BoundNotMet, match=r"the graph for tensorrt-rtx, by ONNX Runtime, agrees .* not to be trusted"):
        build_engine(small[0], tmp_path / "x.engine", quick())
    assert not (tmp_path / "x.engine").exists()


@needs_rtx
def test_a_parsers_error_comes_whole(small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtpsp.graph import tensorrt

    monkeypatch.setattr(tensorrt, "to_tensorrt", with_integer_bias)
    with pytest.raises(ModelError, match=r"(?s)bias.*DequantizeLinear.*Int32"):
        build_engine(small[0], tmp_path / "x.engine", quick("fp32"))
    assert not (tmp_path / "x.engine").exists()


def with_integer_bias(model: ir.Model) -> ir.Model:
    """What ONNX allows and TensorRT does not: the first convolution's bias of 32-bit integers."""
    from rtpsp.graph.editing import add_initializer, constant, typed

    model = model.clone()
    conv = next(node for node in model.graph if node.op_type == "Conv")
    bias = constant(conv.inputs[2])
    assert bias is not None
    stored = add_initializer(model, "bias/stored", np.rint(bias / 1e-6).astype(np.int32))
    scale = add_initializer(model, "bias/scale", np.full(len(bias), 1e-6, np.float32))
    full = typed("bias/full", ir.DataType.FLOAT, len(bias))
    node = ir.node("DequantizeLinear", [stored, scale], {"axis": 0}, outputs=[full], name="bias")
    model.graph.insert_before(model.graph[0], node)
    conv.replace_input_with(2, full)
    return model


def test_tensorrt_needs_its_gpu_before_it_needs_anything(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "engine_class", lambda name: None)
    monkeypatch.setattr(build, "load", lambda name: None)
    monkeypatch.setattr("rtpsp.graph.lower.load_model", None)
    monkeypatch.setattr(build, "why_no_gpu", lambda: "this machine has no NVIDIA GPU")
    says = "there is none here .this machine has no NVIDIA GPU.: build on that machine, or .*--backend tensorrt-rtx"
    with pytest.raises(MissingError, match=says):
        build_engine(small[0], tmp_path / "x.engine", BuildOptions("fp16", "tensorrt"))
