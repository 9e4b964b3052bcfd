"""Each check: what is there, what is absent, what is broken."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rtpsp import machine
from rtpsp.doctor import CHECKS, Finding, diagnose, gpu, hardware, media, software
from rtpsp.doctor.check import Check, Context
from rtpsp.doctor.finding import without_names
from rtpsp.runtimes import installed_version
from tests.doctor.doubles import CAMERA, HEALTHY, Probes, broken, install, look

CPU = machine.Cpu("AMD EPYC", "x86_64", frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}), 8, 16, 16, None)


@pytest.fixture(autouse=True)
def with_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run."""
    version = lambda package: "2026.4.1" if package == "openvino" else installed_version(package)  # noqa: E731
    monkeypatch.setattr(software, "installed_version", version)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    def be(**fields: Any) -> None:
        monkeypatch.setattr(machine, "cpu", lambda: replace(CPU, **fields))

    return be


def test_the_processor(cpu: Any) -> None:
    cpu()
    found = look(hardware.processor)
    assert found["cores"].found == "AMD EPYC: 8 cores, 16 threads" and found["cores"].state == "ok"
    assert found["instructions"].found == "AVX2, AVX-512, VNNI for INT8, bf16 for FP16"


def test_fewer_cores_than_there_are(cpu: Any) -> None:
    cpu(allowed=4)
    found = look(hardware.processor)["cores"]
    assert found.state == "ok" and found.found.endswith("16 threads, 4 of them for this process")
    cpu(quota=1.5)
    found = look(hardware.processor)["cores"]
    assert found.state == "warning" and "CPU time for 1.5 only" in found.found and "--threads 2" in found.fix
    assert found.details["usable"] == 2


@pytest.mark.parametrize(
    ("architecture", "features", "state", "told"),
    [
        ("x86_64", {"avx2"}, "ok", "AVX2; no units for INT8 or FP16"),
        ("x86_64", {"sse4_2"}, "warning", "no AVX2: slow; no units for INT8 or FP16"),
        ("x86_64", {"avx2", "avx_vnni"}, "ok", "AVX2, VNNI for INT8; no units for FP16"),
        ("AMD64", {"avx2", "avx512f", "amx_int8", "amx_bf16"}, "ok", "AVX2, AVX-512, AMX for INT8, bf16 for FP16"),
        ("aarch64", {"asimd", "asimddp", "asimdhp"}, "ok", "NEON, dot product for INT8, f16 for FP16"),
        ("riscv64", set(), "ok", "they cannot be read on this system (riscv64)"),
    ],
)
def test_instruction_sets(cpu: Any, architecture: str, features: set[str], state: str, told: str) -> None:
    cpu(architecture=architecture, features=frozenset(features))
    found = look(hardware.processor)["instructions"]
    assert (found.state, found.found) == (state, told)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(16 << 30, 8 << 30, None))
    assert look(hardware.memory)["memory"].found == "16.0 GiB, 8.0 GiB available"
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(16 << 30, 1 << 29, 2 << 30))
    low = look(hardware.memory)["memory"]
    assert low.state == "warning" and "limited to 2.0 GiB" in low.found and low.fix


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("rtpsp.build.engines_folder", lambda: tmp_path / "not" / "yet" / "engines")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_disk(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 << 30))
    found = look(hardware.disk)
    assert [finding.state for finding in found.values()] == ["ok", "ok"]
    assert found["current folder"].found == "3.0 GiB free in ."
    assert list(folders.iterdir()) == [], "looking makes nothing"


def test_a_full_disk(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100 << 20))
    found = look(hardware.disk)
    assert {finding.state for finding in found.values()} == {"warning"}
    assert all("0.1 GiB free" in finding.found and finding.fix for finding in found.values())


def test_folders_that_cannot_be_written(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_is_writable", lambda folder: False)
    found = look(hardware.disk)
    assert {finding.state for finding in found.values()} == {"warning"}, "a run keeps its engine elsewhere"
    assert "RTPSP_ENGINES" in found["engines"].fix and found["current folder"].fix
    monkeypatch.setenv("RTPSP_ENGINES", "named")
    assert look(hardware.disk)["engines"].state == "error", "there is no stand-in for a folder that was named"
    (folders / "not" / "yet" / "engines").mkdir(parents=True)
    (folders / "not" / "yet" / "engines" / "there.engine").touch()
    assert look(hardware.disk)["engines"].state == "warning", "an engine that is there can be run"


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda name: ["av>=17", "click>=8.2", "absent>=1", "torch>=2.9; extra == 'train'"],
    )
    install(monkeypatch, av="16.0", click="8.5.1")
    found = look(software.requirements)["packages"]
    assert found.state == "warning" and "av 16.0, absent missing" in found.found
    assert found.fix == "pip install 'av>=17' 'absent>=1'"


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        ({"model": None, "engines": {}}, "error", "it is not in this installation"),
        ({"model": "m", "engines": {}, "backend": "openvino"}, "ok", "the first run builds its engine, in seconds"),
        ({"model": "m", "engines": {}, "backend": "tensorrt"}, "ok", "the first run builds its engine, in minutes"),
        ({"model": "m", "engines": {"a": None, "b": "too old"}}, "ok", "1 engine of it built"),
        ({"model": "m", "engines": {"b": "too old"}}, "ok", "builds it anew (too old)"),
    ],
)
def test_the_shipped_model(answer: dict[str, Any], state: str, told: str) -> None:
    found = look(software.model, default_engine=answer)["shipped model"]
    assert found.state == state and told in found.found


def test_openvino() -> None:
    assert look(software.openvino)["OpenVINO"].found == "2026.4.1 runs; FP16 engines run in bf16"
    without = HEALTHY["openvino"] | {"half": None}
    assert "no half precision" in look(software.openvino, openvino=without)["OpenVINO"].found


def test_without_openvino_the_other_backend_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "installed_version", lambda package: None)
    found = look(software.openvino, openvino=RuntimeError("must not be tried"))["OpenVINO"]
    assert (found.state, found.fix) == ("warning", "pip install openvino") and "ONNX Runtime instead" in found.found


def test_onnxruntime_by_its_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["onnxruntime>=1.23"])
    install(monkeypatch, onnxruntime_gpu="1.31.1")
    assert look(software.requirements)["packages"].state == "ok"
    install(monkeypatch, onnxruntime_gpu="1.20.0")
    assert look(software.requirements)["packages"].state == "warning"


@pytest.mark.parametrize(
    ("saturates", "why", "state", "told"),
    [
        (False, None, "ok", "weights of 8 bits: products are exact"),
        (True, "openvino saturates", "ok", "weights of 7 bits: openvino saturates"),
        (None, "RuntimeError: no", "warning", "cannot be tried: RuntimeError: no"),
    ],
)
def test_int8(saturates: bool | None, why: str | None, state: str, told: str) -> None:
    int8 = {"int8": {"saturates": saturates, "why": why}}
    found = look(software.openvino, openvino=HEALTHY["openvino"] | int8)
    assert (found["INT8"].state, found["INT8"].found) == (state, told)
    assert found["OpenVINO"].state == "ok", "FP32 runs in any case"
    other = look(software.onnxruntime, onnxruntime=HEALTHY["onnxruntime"] | int8)["ONNX Runtime"]
    assert other.state == "ok" and ("7 bits" in other.found) == bool(saturates)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_backend_that_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = getattr(software, name)
    install(monkeypatch, **{name: "1.0"})
    crashed: dict[str, Any] = {name: broken("the process that tried it crashed with SIGILL")}
    (found,) = look(check, **crashed).values()
    assert found.state == "error" and "SIGILL" in found.found
    assert found.fix == f"pip install --force-reinstall --no-deps {name}"
    install(monkeypatch)
    absent: dict[str, Any] = {name: broken(f"ModuleNotFoundError: No module named '{name}'")}
    (found,) = look(check, **absent).values()
    assert found.fix == f"pip install {name}"


def test_torch_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, torch="2.13.0")
    found = look(software.torch)["PyTorch"]
    assert found.state == "missing" and found.fix == "pip install onnxscript"
    install(monkeypatch, torch="2.13.0", onnxscript="0.7")
    assert look(software.torch)["PyTorch"].state == "ok"


def test_video() -> None:
    found = look(media.video)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["streams"].found == "FFmpeg has RTSP, RTSPS, HTTP, HTTPS, MJPEG, HLS, RTP, UDP, TCP; not RTMP, SRT"
    assert found["GPU decoders"].found == "cuda decodes H.264: --hwaccel auto takes it"
    assert "h264_nvenc works" in found["GPU encoders"].found


def test_video_that_fails_or_lacks_something() -> None:
    found = look(media.video, video=broken("EOFError: 5 frames were recorded, 3 came back"))
    assert found["recording"].state == "error" and "3 came back" in found["recording"].found and len(found) == 1
    poor = HEALTHY["video"] | {
        "decoders": {"H.264": True, "AV1": False},
        "protocols": ["http"],
        "hardware_encoders": {"h264_nvenc": "Operation not permitted"},
        "hardware_decoders": {"cuda": "it is not there"},
    }
    found = look(media.video, video=poor)
    assert found["reads"].state == "warning" and "not AV1" in found["reads"].found and found["reads"].fix
    assert found["streams"].state == "missing" and found["streams"].fix
    assert found["GPU encoders"].state == found["GPU decoders"].state == "missing"


def test_one_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, opencv_python="5.0.0.93")
    found = look(media.opencv)["OpenCV"]
    assert (found.state, found.found) == ("ok", "opencv-python 5.0.0.93, windows by QT5")


def test_two_opencvs(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, opencv_python="5.0.0.93", opencv_python_headless="4.12.0.88")
    found = look(media.opencv)["OpenCV"]
    assert found.state == "warning" and "opencv-python-headless 4.12.0.88" in found.found
    assert found.fix == "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"


def test_an_opencv_without_windows_and_one_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, opencv_python_headless="4.12.0.88")
    headless = HEALTHY["opencv"] | {"windows": None}
    found = look(media.opencv, opencv=headless)["OpenCV"]
    assert found.state == "missing" and "without windows" in found.found and "uninstall" in found.fix
    reason = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    found = look(media.opencv, opencv=broken(reason))["OpenCV"]
    assert found.state == "error" and "apt-get install libgl1" in found.fix


def test_the_window() -> None:
    assert look(media.window)["window"].state == "ok"
    found = look(media.window, display="neither DISPLAY nor WAYLAND_DISPLAY is set")["window"]
    assert found.state == "missing" and "neither" in found.found and "--output" in found.fix


def test_cameras() -> None:
    assert look(media.cameras)["camera"].found == "HD Webcam (/dev/video0), up to 1920x1080 at 30 fps MJPG: delivers"
    assert look(media.cameras, cameras={"cameras": [], "why_no_list": None})["camera"].state == "missing"
    found = look(media.cameras, cameras={"cameras": [], "why_no_list": "no list on plan9"})["camera"]
    assert (found.state, found.found) == ("missing", "no list on plan9")


@pytest.mark.parametrize(
    ("camera", "answer", "told"),
    [
        (CAMERA, "/dev/video0: no frame within 2 s", "no frame within 2 s"),
        (CAMERA, broken("no answer within 20 s"), "no answer within 20 s"),
        (CAMERA | {"problem": "it is busy"}, RuntimeError("must not be tried"), "it is busy"),
        (CAMERA | {"problem": "Permission denied", "formats": []}, None, "Permission denied"),
    ],
)
def test_a_camera_that_delivers_nothing(camera: dict[str, Any], answer: Any, told: str) -> None:
    found = look(media.cameras, cameras={"cameras": [camera], "why_no_list": None}, camera=answer)["camera"]
    assert found.state == "warning" and told in found.found
    assert ("usermod" in found.fix) == (told == "Permission denied")


def test_quick_opens_no_camera() -> None:
    probes = Probes(camera=RuntimeError("must not be tried"))
    (found,) = media.cameras(Context(probes, quick=True))
    assert found.state == "ok" and "not tried" in found.found and ("camera", "/dev/video0") not in probes.calls


def crash(context: Context) -> list[Finding]:
    raise ZeroDivisionError("a bug of ours")


@pytest.mark.parametrize(("essential", "state"), [(True, "error"), (False, "warning")])
def test_a_check_that_raises_is_reported(essential: bool, state: str) -> None:
    seen: list[str] = []
    diagnosis = diagnose(
        checks=[Check("disk", "mine", crash, essential), Check("rtpsp", "rtpsp", software.rtpsp)],
        context=Context(Probes()),
        progress=lambda title, done, total: seen.append(f"{title} {done}/{total}"),
    )
    first, second = diagnosis.findings
    assert first.state == state and "ZeroDivisionError: a bug of ours" in first.found and "report it" in first.fix
    assert second.name == "rtpsp" and diagnosis.ready != essential
    assert seen == ["mine 0/2", "rtpsp 1/2"]


def test_every_check_bears_probes_that_all_fail() -> None:
    diagnosis = diagnose(context=Context(Probes(**dict.fromkeys(HEALTHY, broken()))))
    assert not diagnosis.ready and diagnosis.verdict.startswith("rtpsp cannot do its work")
    assert "OpenVINO" in diagnosis.verdict and len(diagnosis.findings) >= len(CHECKS)


def test_the_verdict(cpu: Any, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu()
    monkeypatch.setattr("importlib.metadata.requires", lambda name: [])
    install(monkeypatch, rtpsp="0.1.0", torch="2.13.0", onnxscript="0.7", opencv_python="5.0.0.93")
    monkeypatch.setattr(gpu, "installed_version", {"tensorrt": "11.4.0", "cuda-bindings": "13.5.0"}.get)
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(16 << 30, 8 << 30, None))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9 << 30))
    whole = diagnose(context=Context(Probes()))
    assert whole.verdict == (
        "This machine can run the shipped model on its GPU by tensorrt, on its CPU in bf16, and read and record video."
    )
    bare = Probes(
        gpus={"gpus": [], "why_none": "none"},
        display="no display",
        cameras={"cameras": [], "why_no_list": None},
        openvino=HEALTHY["openvino"] | {"half": None},
    )
    cpu(quota=1.0)
    assert diagnose(context=Context(bare)).verdict == (
        "This machine can run the shipped model on its CPU in FP32, and read and record video. "
        "No GPU, no camera, no window. 1 warning above."
    )


def test_a_report_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    finding = Finding(
        "disk",
        "engines",
        "ok",
        "9 GiB in /home/alice/.cache, /home/alicelike/x",
        "ls '/home/alice'",
        {"paths": ["/media/alice/usb"], "count": 3, "alice": None},
    )
    clean = without_names(finding)
    assert clean.found == "9 GiB in ~/.cache, /home/alicelike/x"
    assert clean.fix == "ls '~'"
    assert clean.details == {"paths": ["/media/USER/usb"], "count": 3, "alice": None}
