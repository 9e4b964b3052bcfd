"""The check for GPU machines: its course without a GPU, on the driver's double, and when a part of it breaks."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.double import LIBRARY, compile_double, environment

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "bench" / "gpu_check.py"
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
WITHOUT_A_DEVICE = {"facts", "kernels-compile", "models-pspnet18", "floors"}
ON_THE_DOUBLE = ("ceilings-copies", "kernels-cuda-python", "runtime-cuda-python", "tests-cuda", "kernels-times")
BUILT = tuple(f"build-tensorrt-rtx-pspnet18-{precision}-split-scores" for precision in ("fp32", "fp16", "int8"))


def check(folder: Path, *options: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs the script; it has to end well, whatever becomes of its parts."""
    out = folder / "gpu.json"
    environ = {**os.environ, **NO_GPU, "RTPSP_ENGINES": str(folder / "engines"), **(environ or {})}
    command = [sys.executable, str(SCRIPT), "--quick", "--out", str(out), *options]
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert len(done.stdout.splitlines()) >= len(found["parts"])
    return found


def test_without_a_gpu_each_part_runs_or_says_why_not(tmp_path: Path) -> None:
    found = check(tmp_path)
    parts = found["parts"]
    names = subprocess.run(
        [sys.executable, str(SCRIPT), "--list"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.split()[0] for line in names] == list(parts), "every part is recorded, in order"
    ran = {name for name, part in parts.items() if part["status"] == "ok"}
    built = {*BUILT, *(f"accepts-tensorrt-rtx-{target}" for target in ("default", "sm80", "sm89"))}
    rtx = importlib.util.find_spec("tensorrt_rtx_bindings") is not None
    assert ran == WITHOUT_A_DEVICE | (built if rtx else set())
    for part in parts.values():
        assert part["status"] in ("ok", "skipped")
        assert ("reason" in part) == (part["status"] == "skipped")
        assert part["status"] == "skipped" or (part["seconds"] > 0 and isinstance(part["data"], dict))
    assert "libcuda" in parts["runtime-cuda-python"]["reason"] or "no device" in parts["runtime-cuda-python"]["reason"]
    assert parts["facts"]["data"]["device"] is None
    assert {"sm_75", "sm_90", "sm_120"} <= {name.split()[-1] for name in parts["kernels-compile"]["data"]}
    if rtx:
        fp32, fp16, int8 = (parts[name]["data"]["plan_mib"] for name in BUILT)
        assert int8 < fp16 < fp32
        for target, capability in {"sm80": "8.0", "sm89": "8.9"}.items():
            asked = parts[f"accepts-tensorrt-rtx-{target}"]["data"]
            assert asked["built_for"] == [capability] and not asked["runs"] and asked["refused"] == "there is no GPU"
    text = json.dumps(found)
    assert not any(place in text for place in (str(ROOT), str(tmp_path), str(Path.home()) + "/", socket.gethostname()))


SABOTAGE = """
import os, sys, types

def facts(job):
    job.keep(before_m=1)
    {action}
    return dict(after=2)

sys.modules["gpu.facts"] = types.SimpleNamespace(facts=facts, nvml=dict)
"""


@pytest.mark.parametrize(
    ("action", "status", "others"),
    [
        ("import ctypes; ctypes.string_at(0)", "crashed", {"signal": "SIGSEGV", "exit_code": -11}),
        ("os.kill(os.getpid(), 9)", "crashed", {"signal": "SIGKILL"}),
        ("os._exit(3)", "crashed", {"exit_code": 3}),
        ("raise ValueError('two frames')", "failed", {"error": "ValueError: two frames", "exit_code": 1}),
        ("from gpu.part import Skip; raise Skip('not today')", "skipped", {"reason": "not today"}),
    ],
    ids=["crash", "kill", "exit", "raise", "skip"],
)
def test_what_a_part_does_is_recorded_and_the_next_goes_on(
    action: str, status: str, others: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE.format(action=action), encoding="utf-8")
    environ = {"PYTHONPATH": str(tmp_path)}
    found = check(tmp_path, "--only", "facts", "--only", "floors", environ=environ)["parts"]
    assert found["facts"]["status"] == status and found["facts"]["data"] == {"before_m": 1}
    assert found["facts"] | others == found["facts"]
    assert ("tail" in found["facts"]) == (status != "skipped")
    assert found["floors"]["status"] == "ok"


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    action = (
        f"import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"child = subprocess.Popen(['sleep', '600']); open({str(started)!r}, 'w').write(str(child.pid)); child.wait()"
    )
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE.format(action=action), encoding="utf-8")
    environ = {"PYTHONPATH": str(tmp_path)}
    options = ("--only", "facts", "--only", "floors", "--budget", "7.6")
    found = check(tmp_path, *options, environ=environ)["parts"]
    assert found["facts"]["status"] == "timeout" and found["facts"]["data"] == {"before_m": 1}
    assert found["floors"] == {"status": "skipped", "reason": found["floors"]["reason"]}
    assert "no time" in found["floors"]["reason"]
    state = Path(f"/proc/{started.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.fixture(scope="module")
def double() -> dict[str, str]:
    """The environment of the driver's double."""
    if LIBRARY in os.environ:
        pytest.skip("on the double already")
    if shutil.which("g++") is None:
        assert not os.environ.get("CI"), "the build server has a C++ compiler"
        pytest.skip("the driver's double needs g++")
    return {name: value for name, value in environment(compile_double()).items() if name not in NO_GPU}


def test_on_the_double_all_runs_that_is_not_tensorrts_or_torchs(tmp_path: Path, double: dict[str, str]) -> None:
    parts = check(tmp_path, *(f"--only={name}" for name in ON_THE_DOUBLE), environ=double)["parts"]
    expected = dict.fromkeys(("facts", *ON_THE_DOUBLE), "ok")
    assert {name: part["status"] for name, part in parts.items()} == expected, json.dumps(parts, indent=1)
    assert parts["facts"]["data"]["device"]["name"] == "Double"
    kernels, runtime = parts["kernels-cuda-python"]["data"], parts["runtime-cuda-python"]["data"]
    assert kernels["cases"] and not kernels["wrong"] and kernels["largest_level_error"] <= 1
    assert runtime["wrong_pixels"] == 0 and runtime["memory_after_mib"]["lost_mib"] == 0
    assert all(not found["alive"] and not found["freed_too_late"] for found in runtime["after_failures"].values())
    assert parts["tests-cuda"]["data"]["counts"]["passed"] > 20
    assert parts["tests-cuda"]["data"]["last"].startswith("test_kernels.py::"), "kept test by test"


ENGINES = """
import json, sys
from pathlib import Path

import numpy as np

sys.path.insert(0, {bench!r})
from gpu import engines, loop
from gpu.part import Job
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.file import read_engine_file, write_engine_file
from rtpsp.engine.standin import StandIn, standin_plan
from rtpsp.engine.tensorrt_backend import TensorRTEngine
from rtpsp.header import EngineHeader
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec

work, name = Path(sys.argv[1]), "fp16-split-scores"
spec = ModelSpec("pspnet18", "any", 48, 64, CAMVID)
header = EngineHeader(spec, "tensorrt", "fp16", "", options=dict(batch=1, tail="host"))
write_engine_file(work / f"pspnet18-{{name}}.tensorrt.engine", header, standin_plan(header, 1000))
frames = np.random.default_rng(1).integers(0, 255, (2, 48, 64, 3), np.uint8)
np.savez(work / "pspnet18.npz", frames=frames, class_map=frames.argmax(3))

def opened(path, **options):
    file, standin = read_engine_file(path), StandIn()
    options = EngineOptions(**dict(device_io="off") | options)
    return TensorRTEngine(file.header, file.payload(), options, trt=standin, device=standin.device)

engines.open_engine = loop.open_engine = opened
found = {{}}
for part, work_of in dict(engine=engines.alone, race=engines.race, loop=loop.loop).items():
    arguments = ("tensorrt", "pspnet18", *([name] if part == "engine" else []))
    job = Job(arguments, work, found, quick=True)
    data = work_of(job)
    key = "-".join((part, *arguments))
    found[key] = dict(status="ok", data=job.data | data)
np.savez(work / "pspnet18.npz", frames=frames, class_map=frames.argmin(3))
try:
    engines.alone(Job(("tensorrt", "pspnet18", name), work, {{}}, quick=True))
except AssertionError as error:
    found["wrong"] = f"AssertionError: {{error}}"
print(json.dumps(found))
"""


def test_engines_are_measured_alone_in_turn_and_in_the_loop(tmp_path: Path, double: dict[str, str]) -> None:
    program = ENGINES.format(bench=str(SCRIPT.parent))
    environ = {**double, "PYTHONPATH": str(ROOT), "RTPSP_ENGINES": str(tmp_path / "engines")}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wrong = found.pop("wrong")
    alone, race, loop = (part["data"] for part in found.values())
    assert alone["agreement"] == 1 and alone["pixels_of_class"] == alone["pixels_of_class_expected"]
    assert sum(alone["pixels_of_class"]) == 2 * 48 * 64 and alone["pixels_of_class"][3:] == [0] * 8
    for figure in ("device_graph", "device", "wall_depth_1", "wall_depth_1_without_graph", "device_io_depth_2"):
        assert 0 < alone[figure]["min_ms"] <= alone[figure]["median_ms"]
    assert alone["fps_depth_2"] > 0
    assert race["device_graph"]["fp16-split-scores"]["runs"] == 10 and "CUDA device" in race["without_torch"]
    assert race["torch_over"] == {}
    assert loop["engine"] == "fp16-split-scores" and loop["device_io_on_depth_2"]["shown"] == 20
    assert wrong == "AssertionError: 0.0 of the pixels are as the FP32 graph has them, less than 0.99"


def test_floors_are_the_larger_of_arithmetic_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    floors = importlib.import_module("gpu.floors")
    counted: dict[str, Any] = {
        "gmac": 100.0,
        "weights": 10_000_000,
        "layers": [[60e9, 1_000_000, 5_000_000], [40e9, 800e6, 5_000_000]],
    }
    rates = {"fp16_tflop_s": 400.0, "device_copy_gb_s": 2000.0}
    found = floors.floor_of(counted, "pspnet18", "fp16", rates)
    assert found["arithmetic_ms"] == 0.5  # 2 x 100e9 / 400e12
    assert found["bytes_ms"] == pytest.approx((20e6 + 360 * 480 * 3) / 2e12 * 1e3, rel=1e-3)
    assert found["floor_ms"] == 0.5
    assert found["layers_ms"] == pytest.approx(0.3 + 805e6 * 2 / 2e12 * 1e3, rel=1e-3)  # the second moves more
    assert floors.floor_of(counted, "pspnet18", "int8", rates) == {}, "no rate, no floor"
    results: dict[str, Any] = {
        "ceilings-matrices": {"data": rates},
        "models-pspnet18": {"data": {"work_plain": counted}},
        "engine-tensorrt-rtx-pspnet18-fp16-plain-scores": {"data": {"device_graph": {"median_ms": 1.0}}},
    }
    part = importlib.import_module("gpu.part")
    job = part.Job((), Path(), results)
    (ratio,) = floors.floors(job)["ratios"]
    assert ratio["over_floor"] == 2.0 and ratio["floor"] == "fp16-plain"
    results["engine-tensorrt-rtx-pspnet18-fp16-plain-scores"]["status"] = "failed"
    assert floors.floors(job)["ratios"] == [], "wrong answers have no speed"


def test_packages_that_are_not_there_are_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    table, part = importlib.import_module("gpu.table"), importlib.import_module("gpu.part")
    assert table.package("no_such_package.module")({}) == "no_such_package.module is not installed"
    assert table.package("no_such_package.module", "json")({}) == ""

    def breaks(results: Any) -> str:
        raise ImportError("half installed")

    assert "half installed" in part.Part("any", "facts:facts", 1, (breaks,)).why_not({})


def test_every_part_looks_only_at_parts_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    before: set[str] = set()
    for part in importlib.import_module("gpu.table").PARTS:
        assert before.issuperset(part.after) and part.name not in before
        assert callable(part.load())
        before.add(part.name)


def test_a_flavour_is_used_for_the_targets_that_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    table = importlib.import_module("gpu.table")
    asked: dict[str, Any] = {
        "accepts-tensorrt-rtx-default": {"status": "ok", "data": {"runs": False, "refused": "compute capability 9.0"}},
        "accepts-tensorrt-rtx-sm80": {"status": "crashed", "data": {"runs": False, "refused": "it did not end"}},
    }
    assert table.runs_on(asked, "tensorrt-rtx") == []
    assert "compute capability 9.0; it did not end" in table.accepted("tensorrt-rtx")(asked)
    asked["accepts-tensorrt-rtx-sm89"] = {"status": "timeout", "data": {"runs": True}}
    assert table.runs_on(asked, "tensorrt-rtx") == ["sm89"] and table.accepted("tensorrt-rtx")(asked) == ""
    assert "nobody asked" in table.accepted("tensorrt")(asked)
