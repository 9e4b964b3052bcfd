"""Every field of a header that decides where an engine runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtpsp.engine import judge_file, load_engine
from rtpsp.engine.compatibility import Verdict, judge
from rtpsp.engine.file import read_engine_file, write_engine_file
from rtpsp.errors import EngineFileError, MissingError
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
    return judge(header, header.backend, lambda package: version, lambda: gpus, built_for=lambda package: 13)


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
        ({}, "11.4.0", (), r"built for NVIDIA H200 \(compute capability 9\.0\), and "),
        ({}, "11.3.0", (H200,), r"needs tensorrt exactly 11\.4\.0, here is 11\.3\.0"),
        ({}, "11.5.0", (H200,), "exactly"),
        ({}, "11.4.1.2", (H200,), r"needs tensorrt exactly 11\.4\.0, here is 11\.4\.1\.2"),
        ({"version_compatible": True}, "11.3.0", (H200,), r"needs tensorrt 11\.4\.0 or a later 11, here is 11\.3"),
        ({"version_compatible": True}, "12.0.0", (H200,), r"needs tensorrt 11\.4\.0 or a later 11, here is 12\.0"),
        ({}, "11.4.0", (replace(H200, compute_capability="8.6"),), "with compute capability 8.6"),
        ({"or_later": True}, "11.4.0", (replace(H200, compute_capability="8.6"),), "9.0.* or later"),
        (
            {"compute_capabilities": ("8.0", "8.9", "12.0"), "or_later": True},
            "11.4.0",
            (H200,),
            r"8\.0, 8\.9, 12\.0 or later\), here is NVIDIA H200 with compute capability 9\.0",
        ),
        ({}, "11.4.0", (replace(H200, compute_capability="0.0"),), "capability 0.0"),
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
        ({"driver": "580.105"}, "11.4.0", H200),  # another release of the same branch
        ({"driver": "550.54"}, "11.4.0", H200),
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
    h100 = replace(H200, name="NVIDIA H100")
    verdict = here(PLAN, "11.4.0", h100)
    assert verdict.refusals == () and "built on NVIDIA H200, here is NVIDIA H100" in verdict.warnings[0]
    assert "errors or deadlock" in verdict.warnings[0], "in TensorRT's own words"
    for_its_like = replace(PLAN, options={"plan": {"hardware": "same"}})
    assert here(for_its_like, "11.4.0", h100) == Verdict()


def test_an_older_branch_of_the_driver_warns() -> None:
    built = replace(PLAN, target=replace(PLAN.target, driver="590.1"))
    verdict = here(built, "11.4.0", H200)
    assert verdict == Verdict((), ("it was built under the NVIDIA driver 590.1, here is the older 580.65.6",))


def test_a_driver_for_an_older_cuda_lacks_what_every_plan_needs() -> None:
    old = replace(H200, driver="550.54.14", cuda="12.4")
    verdict = here(PLAN, "11.4.0", old)
    assert verdict.refusals == ("tensorrt 11.4.0 is built for CUDA 13, driver 550.54.14 is for CUDA 12.4",)
    assert verdict.missing is not None and verdict.missing.startswith("upgrade NVIDIA's driver, or pip ")
    assert verdict.missing.endswith("pip install tensorrt-cu12")
    for_12 = judge(PLAN, "tensorrt", lambda package: "11.4.0", lambda: (old,), built_for=lambda package: 12)
    assert for_12 == Verdict()


def test_all_reasons_are_told_at_once() -> None:
    old = Gpu("Old", "8.6", "525.1", 8 << 30, "12.0")
    verdict = here(PLAN, "11.3.0", old)
    assert len(verdict.refusals) == 3 and verdict.missing


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: ())
    monkeypatch.setattr("rtpsp.engine.compatibility.why_no_gpu", lambda: "this machine has no NVIDIA GPU")


def write_plan(path: Path, header: EngineHeader = PLAN) -> Path:
    write_engine_file(path, replace(header, options={"model": "my.onnx"}), b"plan")
    return path


def test_a_plan_without_a_gpu_is_not_to_be_written_over(no_gpu: None, tmp_path: Path) -> None:
    """It was built ahead of time, as likely as not: then it lies where it was made."""
    path = write_plan(tmp_path / "x.engine")
    with pytest.raises(MissingError, match=r"built for NVIDIA H200 \(compute capability 9\.0\), and this") as caught:
        load_engine(path)
    told = str(caught.value)
    assert "\n" not in told and "copy it to a GPU of compute capability 9.0, or build one for this machine" in told
    assert f"'rtpsp build-engine my.onnx --fp16 -o {tmp_path / 'x-here.engine'}'" in told


def test_a_broken_driver_is_to_be_mended(no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "1 NVIDIA card on the bus, and no driver (NVML: no): install NVIDIA's driver"
    monkeypatch.setattr("rtpsp.engine.compatibility.why_no_gpu", lambda: why)
    path = write_plan(tmp_path / "x.engine")
    with pytest.raises(
        MissingError, match=r"and no driver \(NVML: no\).*: install NVIDIA's driver, or build one .*x-here\.engine"
    ):
        load_engine(path)


def test_a_backend_of_a_later_rtpsp(no_gpu: None, tmp_path: Path) -> None:
    path = write_plan(tmp_path / "x.engine", replace(PLAN, backend="tensorrt-next"))
    refusals = judge_file(read_engine_file(path)).refusals
    assert len(refusals) == 2 and "'tensorrt-next' is unknown" in refusals[1]
    with pytest.raises(EngineFileError, match="upgrade rtpsp"):
        load_engine(path)


def test_what_does_not_fit_is_built_again_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plan(tmp_path / "x.engine")
    monkeypatch.setattr("rtpsp.engine.installed_version", lambda package: "11.5.0")
    monkeypatch.setattr("rtpsp.engine.compatibility.installed_version", lambda package: "11.5.0")
    monkeypatch.setattr("rtpsp.engine.compatibility.built_for_cuda", lambda package: 13)
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: (H200,))
    monkeypatch.setattr("rtpsp.engine.why_not_here", lambda name: None)
    with pytest.raises(EngineFileError, match=r"exactly 11\.4\.0, here is 11\.5\.0: build it again .*x\.engine'"):
        load_engine(path)
    monkeypatch.setattr("rtpsp.engine.why_not_here", lambda name: "it does not load")
    with pytest.raises(EngineFileError, match=r"copy it to a GPU of .* or build one for this machine .*-here\.engine'"):
        load_engine(path)


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
    path = write_plan(tmp_path / "x.engine")
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: (H200,))
    monkeypatch.setattr("rtpsp.engine.compatibility.installed_version", rtx.get)
    monkeypatch.setattr("rtpsp.engine.installed_version", rtx.get)
    with pytest.raises(MissingError, match=r"alone; it needs the package tensorrt, which is not installed: pip"):
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
    assert "it was built for an NVIDIA GPU, and " in found("1.31.1").refusals[0]
    assert "compute capability 7.5 or later" in found("1.31.1", replace(H200, compute_capability="6.1")).refusals[0]


def test_a_missing_package_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.engine"
    write_engine_file(path, CPU, b"graph")
    monkeypatch.setattr("rtpsp.engine.installed_version", lambda package: "2026.4.1")
    assert judge_file(read_engine_file(path)) == Verdict()
    monkeypatch.setattr("rtpsp.engine.installed_version", lambda package: None)
    verdict = judge_file(read_engine_file(path))
    assert verdict.refusals == ("it needs the package openvino, which is not installed",)
    assert verdict.missing == "pip install openvino"


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
