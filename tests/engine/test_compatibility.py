"""Every field of a header that decides where an engine runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtpsp.engine import judge_file, load_engine
from rtpsp.engine.compatibility import Verdict, judge
from rtpsp.engine.file import read_engine_file, write_engine_file
from rtpsp.errors import EngineFileError
from rtpsp.header import EngineHeader, Target
from rtpsp.labels import CAMVID
from rtpsp.machine import Gpu
from rtpsp.spec import ModelSpec

SPEC = ModelSpec("tiny", "test", 12, 20, CAMVID)
CPU = EngineHeader(SPEC, "openvino", "fp16", "", {"openvino": "2026.1.0"})
PLAN = EngineHeader(
    SPEC, "tensorrt", "fp16", "", {"tensorrt": "11.4.0"}, target=Target("x86_64", "NVIDIA H200", ("9.0",))
)
H200 = Gpu("NVIDIA H200", "9.0", "580.65.06", 139 << 30, "13.0")


def here(header: EngineHeader, version: str | None, *gpus: Gpu) -> Verdict:
    return judge(header, header.backend, lambda package: version, lambda: gpus)


@pytest.mark.parametrize("version", ["2026.1.0", "2026.4.1", "2027.0.0", None])
def test_a_newer_cpu_runtime_never_refuses(version: str | None) -> None:
    assert here(CPU, version) == Verdict()


def test_an_older_cpu_runtime_warns() -> None:
    assert here(CPU, "2025.3.0") == Verdict((), ("it was built with openvino 2026.1.0, here is the older 2025.3.0",))


def test_a_cpu_engine_does_not_ask_for_gpus() -> None:
    def ask() -> tuple[Gpu, ...]:
        raise AssertionError("NVML was asked")

    assert judge(CPU, "openvino", lambda package: "2026.1.0", ask) == Verdict()


def test_the_machine_that_built_it_runs_it() -> None:
    assert here(PLAN, "11.4.0", H200) == Verdict()


@pytest.mark.parametrize(
    ("change", "version", "gpus", "says"),
    [
        ({}, "11.4.0", (), r"built for NVIDIA H200 \(compute capability 9\.0\), and this machine has no NVIDIA GPU"),
        ({}, "11.3.0", (H200,), r"needs tensorrt exactly 11\.4\.0, here is 11\.3\.0"),
        ({}, "11.5.0", (H200,), "exactly"),
        ({}, "11.4.1.2", (H200,), r"needs tensorrt exactly 11\.4\.0, here is 11\.4\.1\.2"),
        ({"version_compatible": True}, "11.3.0", (H200,), r"needs tensorrt 11\.4\.0 or later"),
        ({}, "11.4.0", (replace(H200, compute_capability="8.6"),), "with compute capability 8.6"),
        ({"or_later": True}, "11.4.0", (replace(H200, compute_capability="8.6"),), "9.0.* or later"),
        (
            {"compute_capabilities": ("8.0", "8.9", "12.0"), "or_later": True},
            "11.4.0",
            (H200,),
            r"8\.0, 8\.9, 12\.0\) or later, here is NVIDIA H200 with compute capability 9\.0",
        ),
        ({}, "11.4.0", (replace(H200, compute_capability="0.0"),), "capability 0.0"),
        ({"driver": "590.1"}, "11.4.0", (H200,), r"needs the NVIDIA driver 590\.1 or later, here is 580\.65"),
    ],
)
def test_refusals(change: dict[str, object], version: str, gpus: tuple[Gpu, ...], says: str) -> None:
    header = replace(PLAN, target=replace(PLAN.target, **change))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=says):
        assert here(header, version, *gpus).refusals == ()


@pytest.mark.parametrize(
    ("change", "version", "gpu"),
    [
        ({"version_compatible": True}, "11.5.0", H200),
        ({"or_later": True}, "11.4.0", replace(H200, compute_capability="12.0")),
        (
            {"or_later": True, "compute_capabilities": ("8.0", "9.0")},
            "11.4.0",
            replace(H200, compute_capability="10.0"),
        ),
        ({}, "11.4.0.106", H200),  # the package names the build too
        ({"compute_capabilities": ("8.6", "9.0")}, "11.4.0", H200),
        ({"driver": "580.65"}, "11.4.0", H200),
        ({"driver": H200.driver}, "11.4.0", H200),
        ({"gpu": ""}, "11.4.0", replace(H200, name="NVIDIA H100")),
    ],
)
def test_what_is_allowed(change: dict[str, object], version: str, gpu: Gpu) -> None:
    header = replace(PLAN, target=replace(PLAN.target, **change))  # type: ignore[arg-type]
    assert here(header, version, gpu) == Verdict()


def test_of_several_gpus_the_first_counts() -> None:
    other = replace(H200, compute_capability="8.6")
    assert here(PLAN, "11.4.0", H200, other) == Verdict()
    assert here(PLAN, "11.4.0", other, H200).refusals


def test_a_plan_of_an_untold_release_is_refused() -> None:
    assert here(replace(PLAN, versions={}), "11.4.0", H200).refusals == (
        "its header does not tell which tensorrt built it",
    )


def test_another_gpu_of_the_same_kind_warns() -> None:
    verdict = here(PLAN, "11.4.0", replace(H200, name="NVIDIA H100"))
    assert verdict.refusals == () and "built on NVIDIA H200, here is NVIDIA H100" in verdict.warnings[0]


def test_all_reasons_are_told_at_once() -> None:
    old = Gpu("Old", "8.6", "500.1", 8 << 30, "12.0")
    header = replace(PLAN, target=replace(PLAN.target, driver="580.65"))
    assert len(here(header, "11.3.0", old).refusals) == 3


def test_a_plan_for_a_gpu_is_refused_here_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: ())
    path = tmp_path / "x.engine"
    write_engine_file(path, replace(PLAN, options={"model": "my.onnx"}), b"plan")
    with pytest.raises(EngineFileError, match=r"built for NVIDIA H200.*'rtpsp build-engine my\.onnx --fp16") as caught:
        load_engine(path)
    assert "\n" not in str(caught.value)
    refusals = judge_file(read_engine_file(path)).refusals
    assert "needs the package tensorrt: pip install tensorrt" in refusals[-1]
    write_engine_file(path, replace(PLAN, backend="tensorrt-next"), b"plan")
    refusals = judge_file(read_engine_file(path)).refusals
    assert len(refusals) == 2 and "'tensorrt-next' is unknown" in refusals[1]


def test_a_plan_of_the_other_flavour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = {"tensorrt-rtx": "1.7.1.116"}
    verdict = judge(PLAN, "tensorrt", rtx.get, lambda: (H200,))
    assert verdict.refusals == ("it is a plan of tensorrt 11.4.0, here is tensorrt-rtx 1.7.1.116 alone",)
    other = replace(
        PLAN, backend="tensorrt-rtx", versions=rtx, target=replace(PLAN.target, compute_capabilities=("8.9",))
    )
    ada = replace(H200, compute_capability="8.9")
    assert judge(other, "tensorrt-rtx", {"tensorrt": "11.4.0"}.get, lambda: (ada,)).refusals == (
        "it is a plan of tensorrt-rtx 1.7.1.116, here is tensorrt 11.4.0 alone",
    )
    assert judge(other, "tensorrt-rtx", rtx.get, lambda: (ada,)).refusals == ()
    path = tmp_path / "x.engine"
    write_engine_file(path, PLAN, b"plan")
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: (H200,))
    monkeypatch.setattr("rtpsp.engine.choice.gpus", lambda: (H200,))
    with pytest.raises(
        EngineFileError, match=r"build one for this machine with 'rtpsp build-engine MODEL\.onnx --fp16 -o"
    ):
        load_engine(path)


def test_a_flavour_that_does_not_run_on_this_generation() -> None:
    header = replace(
        PLAN, backend="tensorrt-rtx", versions={"tensorrt-rtx": "1.7.1"},
        target=Target("x86_64", "", ("9.0",)),  # which nobody builds today
    )  # fmt: skip
    verdict = judge(header, "tensorrt-rtx", {"tensorrt-rtx": "1.7.1"}.get, lambda: (H200,))
    assert len(verdict.refusals) == 1 and "or 12.0 and later, here is NVIDIA H200 with 9.0" in verdict.refusals[0]


def test_an_onnx_graph_for_the_cuda_provider_needs_a_gpu_and_no_release() -> None:
    header = replace(CPU, backend="onnxruntime-cuda", versions={"onnxruntime-gpu": "1.31.1"}, precision="int8")
    header = replace(header, options={"int8": {"weight_bits": 8}})  # no byte of which the processor adds

    def found(version: str, *gpus: Gpu) -> Verdict:
        return judge(header, "onnxruntime-gpu", {"onnxruntime-gpu": version}.get, lambda: gpus, lambda: False)

    assert found("1.32.0", H200) == Verdict()
    assert found("1.30.0", H200).warnings == ("it was built with onnxruntime-gpu 1.31.1, here is the older 1.30.0",)
    assert "this machine has no NVIDIA GPU" in found("1.31.1").refusals[0]
    assert "compute capability 7.5 or later" in found("1.31.1", replace(H200, compute_capability="6.1")).refusals[0]


def test_a_missing_package_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.engine"
    write_engine_file(path, CPU, b"graph")
    monkeypatch.setattr("rtpsp.engine.installed_version", lambda package: "2026.4.1")
    assert judge_file(read_engine_file(path)) == Verdict()
    monkeypatch.setattr("rtpsp.engine.installed_version", lambda package: None)
    assert "pip install openvino" in judge_file(read_engine_file(path)).refusals[0]


@pytest.mark.parametrize("bits", [8, 7])
def test_integers_that_saturate_on_another_cpu(bits: int) -> None:
    int8 = replace(CPU, precision="int8", options={"int8": {"weight_bits": bits}})
    versions = lambda package: "2026.1.0"  # noqa: E731
    assert judge(int8, "openvino", versions, adds_rightly=lambda: True) == Verdict()
    found = judge(int8, "openvino", versions, adds_rightly=lambda: False)
    assert found.refusals == () and len(found.warnings) == (1 if bits == 8 else 0)
    assert all("8 bits, whose products saturate on this CPU" in warning for warning in found.warnings)


def test_other_engines_do_not_ask_for_the_processor() -> None:
    def ask() -> bool:
        raise AssertionError("the processor was asked")

    assert judge(CPU, "openvino", lambda package: "2026.1.0", adds_rightly=ask) == Verdict()
