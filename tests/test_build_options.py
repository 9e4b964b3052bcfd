"""What an engine is built to be where nobody says, what its file is called, and the command that builds it again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtpsp import build_options, engine, machine
from rtpsp.build_options import BuildOptions, default_precision, engine_name, to_header, usual_plan
from rtpsp.build_options import told as told_to
from rtpsp.engine import BACKENDS, what_to_do
from rtpsp.engine.compatibility import Verdict, judge
from rtpsp.engine.file import EngineFile, rebuild
from rtpsp.engine.tensorrt_options import RTX_DEFAULT, PlanOptions
from rtpsp.errors import UsageError
from rtpsp.header import EngineHeader, Precision, Target
from rtpsp.labels import CAMVID
from rtpsp.machine import Gpu
from rtpsp.spec import ModelSpec

SPEC = ModelSpec("pspnet50-camvid", "pspnet50", 720, 960, CAMVID)
H200 = Gpu("NVIDIA H200", "9.0", "580.65", 150 << 30, "13.0")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ())


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases of everything, and one GPU."""
    known = {"tensorrt": "11.4.0.106", "tensorrt-rtx": "1.7.1.116", "onnxruntime-gpu": "1.31.1", "openvino": "2026.4.1"}
    monkeypatch.setattr(build_options, "installed_version", lambda package: known.get(package, "1.0"))
    monkeypatch.setattr(machine, "gpus", lambda: (H200,))


@pytest.mark.parametrize(
    ("backend", "precision", "given", "ends"),
    [
        ("tensorrt", "int8", {}, "-int8-trt11.4-sm90"),
        ("tensorrt", "fp32", {"plan": PlanOptions(tf32=True)}, "-tf32-trt11.4-sm90"),
        ("tensorrt", "fp16", {"plan": PlanOptions(hardware="ampere+")}, "-fp16-trt11.4-sm80+"),
        ("tensorrt", "fp16", {"plan": PlanOptions(hardware="same")}, "-fp16-same-trt11.4-sm90"),
        ("tensorrt", "fp16", {"plan": PlanOptions(timing_cache=Path("x"), verbose=True)}, "-fp16-trt11.4-sm90"),
        (
            "tensorrt",
            "fp16",
            {"plan": PlanOptions(1 << 30, 0, 2, version_compatible=True)},
            "-fp16-level0-workspace1024-aux2-vc-trt11.4-sm90",
        ),
        ("tensorrt", "fp16", {"batch": 4, "confidence": True}, "-fp16-confidence-b4-trt11.4-sm90"),
        ("tensorrt-rtx", "fp16", {}, "-fp16-trtrtx1.7"),
        ("tensorrt-rtx", "int8", {"plan": PlanOptions(targets=("8.9",))}, "-int8-trtrtx1.7-sm89"),
        ("tensorrt-rtx", "int8", {"plan": PlanOptions(targets=("8.6", "12.0"))}, "-int8-trtrtx1.7-sm86-sm120"),
        ("onnxruntime-cuda", "fp16", {}, "-fp16-onnxruntime-cuda1.31"),
        ("openvino", "int8", {}, "-int8-openvino2026.4"),
        ("openvino", "fp32", {"batch": 2}, "-fp32-b2-openvino2026.4"),
    ],
)
def test_engines_are_named_after_what_they_are(
    versions: None, backend: str, precision: Precision, given: dict[str, Any], ends: str
) -> None:
    header = to_header(SPEC, BuildOptions(precision, backend, **given))
    assert engine_name(header) == f"pspnet50-camvid-720x960{ends}.engine"
    assert EngineHeader.from_dict(header.to_dict()) == header


def test_frames_of_ones_own_are_in_the_name(versions: None) -> None:
    header = to_header(SPEC, BuildOptions("int8", "tensorrt-rtx"))
    own = replace(header, calibration_digest="table:" + "ab" * 32, options={"int8": {"cache": "x.json"}})
    assert engine_name(own) == "pspnet50-camvid-720x960-int8-abababab-trtrtx1.7.engine"


def test_the_gpu_is_known_before_anything_is_built(versions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert to_header(SPEC, BuildOptions("fp16", "tensorrt")).target == Target(
        gpu="NVIDIA H200", compute_capabilities=("9.0",), driver="580.65"
    )
    ahead = Target(compute_capabilities=RTX_DEFAULT, or_later=True)
    assert to_header(SPEC, BuildOptions("fp16", "tensorrt-rtx")).target == ahead
    assert to_header(SPEC, BuildOptions("fp16", "onnxruntime-cuda")).target == Target(), "its payload is ONNX"
    monkeypatch.setattr(machine, "gpus", lambda: ())
    assert to_header(SPEC, BuildOptions("fp16", "tensorrt")).target == Target()


def test_a_gpu_is_given_fp16_and_a_cpu_what_pays_there() -> None:
    assert {name: default_precision(name) for name in BACKENDS} == {
        "tensorrt": "fp16", "tensorrt-rtx": "fp16", "onnxruntime-cuda": "fp16", "openvino": "int8",
        "onnxruntime": "fp32",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch": 0}, "batch is 0, expected 1 to"),
        ({"batch": 100_000}, "batch is 100000, expected 1 to"),
        ({"plan": PlanOptions(tf32=True)}, "--tf32 is for TensorRT's builder, and the backend is openvino: leave it"),
        ({"backend": "onnxruntime-cuda", "plan": PlanOptions(workspace=1 << 30)}, "--workspace is for TensorRT's"),
        ({"plan": PlanOptions(timing_cache=Path("x"), targets=("8.9",))}, "--timing-cache, --target is for TensorRT's"),
        (
            {"backend": "tensorrt", "precision": "fp16", "plan": PlanOptions(tf32=True)},
            "--tf32 is for engines in FP32, got fp16: leave it out, or add --fp32",
        ),
        ({"backend": "tensorrt-rtx", "precision": None, "plan": PlanOptions(tf32=True)}, "got no precision"),
        ({"backend": "tensorrt-rtx", "plan": PlanOptions(hardware="same")}, "no option for hardware compatibility"),
        ({"backend": "tensorrt", "plan": PlanOptions(targets=("8.9",))}, "no option for a target"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        BuildOptions(**given)


def test_what_the_builder_was_told_and_no_more(tmp_path: Path) -> None:
    assert told_to(PlanOptions(timing_cache=tmp_path, verbose=True, detailed=False)) == {}, "the engine is the same"
    assert told_to(PlanOptions(targets=("8.9",), workspace=1 << 30)) == {"targets": ["8.9"], "workspace": 1 << 30}


@pytest.mark.parametrize(
    ("backend", "given", "words"),
    [
        (
            "tensorrt",
            {"plan": PlanOptions(1 << 30, 5, 0, True, None, "ampere+", True), "batch": 4},
            "--batch 4 --backend tensorrt --workspace 1024 --optimisation-level 5 --aux-streams 0 "
            "--hardware-compatible ampere+ --version-compatible --tf32",
        ),
        (
            "tensorrt-rtx",
            {"plan": PlanOptions(targets=("8.9", "12.0"))},
            "--backend tensorrt-rtx --target sm89 --target sm120",
        ),
        ("openvino", {}, "--backend openvino"),
    ],
)
def test_the_command_that_builds_it_again(
    versions: None, monkeypatch: pytest.MonkeyPatch, backend: str, given: dict[str, Any], words: str
) -> None:
    """As the verb itself reads it."""
    import click

    from rtpsp.cli.build import _plan, command

    options = BuildOptions("fp32", backend, **given)
    header = to_header(SPEC, options, model="x.onnx")
    monkeypatch.setattr(machine, "gpus", lambda: ())
    again = shlex.split(rebuild(header, Path("y.engine")).partition("'")[2].removesuffix("'"))
    assert again == ["rtpsp", "build-engine", "x.onnx", "--fp32", *words.split(), "-o", "y.engine"]
    parsed = command.make_context("build-engine", [*again[2:], "--no-timing-cache"]).params
    assert _plan(parsed, backend) == options.plan and parsed["batch"] == options.batch
    assert isinstance(command, click.Command)
    elsewhere = rebuild(header, Path("y.engine"), for_this_machine=True)
    assert "--backend" not in elsewhere and "--target" not in elsewhere and "--tf32" not in elsewhere


def gpu(name: str, capability: str) -> Gpu:
    return Gpu(name, capability, "580.65", 16 << 30, "13.0")


T4, RTX4090, RTX5090 = gpu("Tesla T4", "7.5"), gpu("RTX 4090", "8.9"), gpu("RTX 5090", "12.0")


@pytest.mark.parametrize(
    ("backend", "plan", "built_on", "here"),
    [
        ("tensorrt", PlanOptions(), RTX4090, H200),
        ("tensorrt", PlanOptions(hardware="same", optimisation_level=1), RTX4090, H200),
        ("tensorrt", PlanOptions(hardware="ampere+"), RTX4090, T4),
        ("tensorrt", PlanOptions(hardware="ampere+", version_compatible=True), H200, T4),
        ("tensorrt-rtx", PlanOptions(targets=("8.9",), workspace=1 << 30), None, RTX5090),
        ("tensorrt-rtx", PlanOptions(targets=("7.5", "8.9")), None, RTX5090),
        ("tensorrt-rtx", PlanOptions(targets=("12.0",)), None, T4),
        ("tensorrt-rtx", PlanOptions(), None, T4),
    ],
)
def test_building_it_again_cures_the_refusal(
    versions: None, monkeypatch: pytest.MonkeyPatch, backend: str, plan: PlanOptions, built_on: Gpu | None, here: Gpu
) -> None:
    from rtpsp.cli.build import _plan, command

    def judged(header: EngineHeader) -> Verdict:
        package = BACKENDS[backend].package
        return judge(header, package, header.versions.get, lambda: (here,), built_for=lambda package: None)

    monkeypatch.setattr(machine, "gpus", lambda: (built_on,) if built_on else ())
    header = to_header(SPEC, BuildOptions("fp16", backend, plan=plan), model="x.onnx")
    verdict = judged(header)
    assert len(verdict.refusals) == 1 and verdict.refusals[0].startswith("it was built for")
    monkeypatch.setattr(machine, "gpus", lambda: (here,))
    monkeypatch.setattr(engine, "why_not_here", lambda name: None)
    told = what_to_do(EngineFile(Path("y.engine"), header, 0, 0, ""), verdict)
    again = shlex.split(told.partition("'")[2].rpartition("'")[0])
    parsed = command.make_context("build-engine", again[2:]).params
    options = BuildOptions("fp16", parsed["backend"], plan=_plan(parsed, parsed["backend"]))
    assert options.backend == backend and judged(to_header(SPEC, options)).refusals == ()
    kept = {name: value for name, value in told_to(plan).items() if name not in ("targets", "hardware")}
    assert kept.items() <= told_to(options.plan).items(), "all else that was asked for"
    assert set(plan.targets) <= set(options.plan.targets), "and it still runs where it was to run"


def test_what_nobody_asked_for_is_for_the_gpu_that_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path))
    monkeypatch.setattr(machine, "gpus", lambda: (T4,))
    assert usual_plan("tensorrt-rtx") == PlanOptions(targets=("7.5",))
    assert usual_plan("tensorrt") == PlanOptions(timing_cache=tmp_path / "timing")
    assert usual_plan("openvino") == usual_plan("onnxruntime-cuda") == PlanOptions()
    monkeypatch.setattr(machine, "gpus", lambda: (RTX5090,))
    assert usual_plan("tensorrt-rtx") == PlanOptions()


def test_a_header_that_anybody_wrote_gives_no_command_of_theirs() -> None:
    plan = {
        "targets": ["8.9; rm", 3, "8.9"], "workspace": "1", "aux_streams": True, "hardware": "--help", "tf32": "yes",
    }  # fmt: skip
    header = EngineHeader(SPEC, "tensorrt-rtx", "fp32", "", options={"plan": plan, "model": "x.onnx"})
    assert "--backend tensorrt-rtx --target sm89 -o y.engine'" in rebuild(header, Path("y.engine"))
    for plan in (None, [], "--tf32"):  # type: ignore[assignment]
        header = EngineHeader(SPEC, "tensorrt-rtx", "fp16", "", options={"plan": plan})
        assert "--backend tensorrt-rtx -o y.engine'" in rebuild(header, Path("y.engine"))
