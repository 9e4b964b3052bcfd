"""``rtpsp build-engine --backend tensorrt-rtx`` through the real entry point, on a machine without a GPU."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from rtpsp import build
from rtpsp.build import BuildOptions
from rtpsp.engine.file import read_engine_file
from rtpsp.engine.tensorrt_options import PlanOptions
from rtpsp.errors import UsageError
from rtpsp.machine import Gpu
from rtpsp.maker import Maker
from tests.cli.conftest import Call
from tests.test_build_tensorrt import RTX, needs_rtx, with_integer_bias

NO_GPU = r"CUDA_VISIBLE_DEVICES= hides every GPU\b.*"
BUILD = ("build-engine", "x.onnx", "-o", "x.engine", "--threads", "1", "--fp16")
AHEAD = (*BUILD, "--backend", RTX)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pspnet_model: Path) -> Path:
    """A model ``x.onnx``, no GPU, and engines in a folder of this test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path / "engines"))
    (tmp_path / "x.onnx").symlink_to(pspnet_model)
    return tmp_path


@needs_rtx
def test_built_here_to_run_elsewhere(rtpsp: Call) -> None:
    done = rtpsp(*AHEAD, "--target", "sm89", "--target", "12.0")
    assert done.code == 0, done.err
    name, head, built, ran, then = done.out.splitlines()
    assert name == "x.engine" and head.startswith("  plain head: it could not be timed against a split one here")
    assert re.fullmatch(r"  tensorrt-rtx, fp16, [0-9.]+ MB, for compute capability 8\.9, 12\.0", built)
    assert re.match(rf"  could not be run here \({NO_GPU}\); its graph has, by ONNX Runtime, a class agreement ", ran)
    assert then.startswith("  next: copy it to the GPU machine; there: rtpsp run --camera --engine x.engine")
    assert read_engine_file(Path("x.engine")).header.target.compute_capabilities == ("8.9", "12.0")
    assert done.err.count("\n") == 1 and "4/4 done" in done.err
    done = rtpsp(*AHEAD, "--batch", "2")
    assert "copy it to the GPU machine; there: rtpsp.load_engine(...) in your own code, 2 frames at a time" in done.out
    ran_here = rtpsp("run", "--source", "sim://street?frames=3", "--no-show", "--engine", "x.engine")
    assert ran_here.code != 0 and "built for" in ran_here.err and "build one for this machine with" in ran_here.err


@needs_rtx
@pytest.mark.parametrize(
    "words",
    [
        ("run", "--source", "sim://street?frames=3", "--no-show", "--engine"),
        ("eval", "--data", "sim://street?frames=2"),
        ("bench",),
        ("compare", "x.engine"),
    ],
)
def test_an_engine_of_batches_is_for_its_owners_code(rtpsp: Call, words: tuple[str, ...]) -> None:
    built = rtpsp(*BUILD, "--backend", "openvino", "--batch", "2")
    assert built.code == 0 and "next: rtpsp.load_engine(...) in your own code, 2 frames at a time" in built.out
    assert "rtpsp run --camera" not in built.out
    done = rtpsp(*words, "x.engine")
    assert done.code == 2 and "takes batches of 2" in done.err and done.err.strip().count("\n") == 0, done.err


def test_no_gpu_is_one_line(rtpsp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    done = rtpsp(*BUILD, "--backend", "tensorrt")
    if find_spec("tensorrt") is None:
        assert "needs the package tensorrt, which is not installed: pip install tensorrt" in done.err
    assert done.code == 4 and done.err.count("\n") == 1 and done.err.startswith("rtpsp: ")
    monkeypatch.setattr(build, "engine_class", lambda name: None)
    monkeypatch.setattr(build, "load", lambda name: None)
    done = rtpsp(*BUILD, "--backend", "tensorrt")
    assert done.code == 4 and done.err.count("\n") == 1 and "--backend tensorrt-rtx" in done.err


@needs_rtx
def test_a_parsers_error_reaches_the_user_whole(rtpsp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtpsp.graph import tensorrt

    monkeypatch.setattr(tensorrt, "to_tensorrt", with_integer_bias)
    done = rtpsp(*AHEAD[:-3], "--fp32", *AHEAD[-2:])
    assert done.code == 3 and done.err.count("\n") == 1 and done.out == ""
    assert re.search(r"rtpsp: TensorRT-RTX's parser refuses the graph: .*bias.*DequantizeLinear.*Int32", done.err)
    assert not Path("x.engine").exists()


@needs_rtx
def test_ctrl_c_in_the_midst_of_a_build(rtpsp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.engine").write_text("as it was")
    phases: list[str] = []

    def interrupt(self: Maker, phase: str, share: float) -> None:
        phases.append(phase)
        if 0.05 < share < 0.9:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Maker, "_tell_phase", interrupt)
    done = rtpsp(*AHEAD)
    assert done.code == 130 and done.err == "rtpsp: stopped by Ctrl-C\n" and len(phases) > 1
    assert Path("x.engine").read_text() == "as it was" and sorted(os.listdir()) == ["x.engine", "x.onnx"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("rtpsp-")]


@needs_rtx
def test_the_builders_own_phases_move_the_bar(here: Path) -> None:
    """On a terminal, as a person sees it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rtpsp", *AHEAD], stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how a terminal says that nobody writes to it any more
            break
        if not part:
            break
        seen += part
    process.communicate()
    os.close(ours)
    assert process.returncode == 0
    bars = re.findall(r"(\d+)/100\D* tensorrt-rtx: (\w[\w ]+\w)", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()))
    shares = [int(share) for share, _ in bars]
    assert shares and shares == sorted(shares), "it never goes back"


def test_options_reach_the_builder(rtpsp: Call, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BuildOptions] = []

    def stop(model: Path, path: Path | None, options: BuildOptions, progress: object) -> None:
        seen.append(options)
        raise UsageError("enough: seen")

    monkeypatch.setattr(build, "build_engine", stop)
    words = "--workspace 512 --optimisation-level 5 --aux-streams 0 --hardware-compatible same --version-compatible"
    rtpsp(*BUILD[:-1], "--fp32", "--backend", "tensorrt", *words.split(), "--tf32", "--batch", "4")
    assert (seen[0].backend, seen[0].batch) == ("tensorrt", 4)
    timing = here / "engines" / "timing"
    assert seen[0].plan == PlanOptions(512 << 20, 5, 0, True, timing, "same", True)
    rtpsp(*BUILD, "--backend", "tensorrt", "--no-timing-cache")
    rtpsp(*AHEAD, "--target", "sm_75", "--target", "12.1")
    assert seen[1].plan == PlanOptions() and seen[2].plan == PlanOptions(targets=("7.5", "12.1"))
    Path("rtpsp.toml").write_text('[build-engine]\nbackend = "tensorrt-rtx"\ntarget = ["sm86"]\n')
    rtpsp(*BUILD, "--config", "rtpsp.toml")
    assert seen[3].plan.targets == ("8.6",)
    monkeypatch.setattr("rtpsp.engine.default_backend", lambda: "onnxruntime-cuda")
    rtpsp(*BUILD)
    assert (seen[4].backend, seen[4].plan) == ("onnxruntime-cuda", PlanOptions()), "this machine's best"
    turing = Gpu("Tesla T4", "7.5", "580.65", 16 << 30, "13.0")
    monkeypatch.setattr("rtpsp.machine.gpus", lambda: (turing,))
    rtpsp(*AHEAD)
    rtpsp(*AHEAD, "--target", "sm89")
    assert [options.plan.targets for options in seen[5:]] == [("7.5",), ("8.9",)], "what is asked for is done"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--target best", "'best' is not a compute capability: give one such as sm89 or 8.9"),
        ("--target sm890", "'sm890' is not a compute capability"),
        ("--backend openvino --tf32", "--tf32 is for TensorRT's builder, and the backend is openvino"),
        ("--backend onnxruntime --target sm89", "--target is for TensorRT's builder"),
        ("--backend openvino --timing-cache", "--timing-cache is for TensorRT's builder"),
        ("--backend tensorrt-rtx --tf32", "--tf32 is for engines in FP32, got fp16"),
        ("--backend tensorrt-rtx --timing-cache", "TensorRT-RTX has no option for a timing cache"),
        ("--backend tensorrt-rtx --hardware-compatible same", "no option for hardware compatibility"),
        ("--backend tensorrt --target sm89", "TensorRT has no option for a target compute capability"),
        ("--optimisation-level 6", "6 is not in the range"),
        ("--batch 0", "0 is not in the range"),
        ("--workspace 0", "0 is not in the range"),
        ("--workspace 99999999999999", "99999999999999 is not in the range 1<=x<=1048576"),
        ("--aux-streams 99999999999", "99999999999 is not in the range 0<=x<=128"),
    ],
)
def test_what_cannot_be_asked_for(rtpsp: Call, words: str, says: str) -> None:
    done = rtpsp(*BUILD, *words.split())
    assert done.code == 2 and says in done.err and "Traceback" not in done.err, done.err
    assert not Path("x.engine").exists()
