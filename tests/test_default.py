"""The engine that nobody asked for by name: built once, reused, rebuilt with a reason, by one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock

from rtpsp import build, default, failed_builds, machine, zoo
from rtpsp.build import BuildOptions, engines_folder
from rtpsp.calibrate import calibrate
from rtpsp.calibration_cache import read_cache, write_cache
from rtpsp.calibration_set import open_calibration
from rtpsp.default import default_engine, default_options, engine_of, to_engine_path, why_not
from rtpsp.doctor import probes
from rtpsp.engine import BACKENDS, load_engine
from rtpsp.engine.compatibility import Verdict
from rtpsp.engine.file import FORMAT_VERSION, MAGIC, read_engine_file, write_engine_file
from rtpsp.engine.tensorrt_options import PlanOptions
from rtpsp.errors import BoundNotMet, EngineFileError, MissingError, ModelError, OutputError, UsageError
from rtpsp.files import sha256_of
from rtpsp.machine import Gpu
from rtpsp.onnx_file import load_model
from tests.conftest import save_frames

NOBODY = 65534
PRECISION = build.default_precision


@pytest.fixture(autouse=True)
def shipped(colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the place of the shipped one, engines in a folder of this test."""
    monkeypatch.setattr("rtpsp.zoo.model_path", lambda: colour_model)
    digest = sha256_of(colour_model)
    monkeypatch.setattr("rtpsp.zoo.model_digest", lambda: digest)
    monkeypatch.setattr("rtpsp.zoo.model_spec", lambda: load_model(colour_model)[1])
    monkeypatch.setattr("rtpsp.default.default_precision", lambda backend="openvino": "fp32")  # it has nothing for INT8
    monkeypatch.setattr("rtpsp.build.default_precision", lambda backend="openvino": "fp32")
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return colour_model


def program(shipped: Path, *lines: str) -> list[str]:
    """A process that sees the same shipped model."""
    prelude = (
        "import logging, sys, time",
        "from pathlib import Path",
        "from rtpsp import default, zoo",
        "from rtpsp.onnx_file import load_model",
        "logging.basicConfig(level='INFO', format='%(message)s')",
        f"zoo.model_path = lambda: Path({str(shipped)!r})",
        f"zoo.model_digest = lambda: {sha256_of(shipped)!r}",
        "zoo.model_spec = lambda: load_model(zoo.model_path())[1]",
        "default.default_precision = lambda backend: 'fp32'",
    )
    return [sys.executable, "-c", "\n".join((*prelude, *lines))]


def options() -> BuildOptions:
    return BuildOptions(precision=build.default_precision())


def test_it_is_built_once(shipped: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rtpsp")
    steps: list[str] = []
    first = default_engine(lambda step, done, total: steps.append(step))
    assert "not there yet" in caplog.text and steps[-1] == "done"
    assert [record for record in caplog.records if record.levelname == "WARNING"] == [], "the first build is no news"
    stamp = first.stat().st_mtime_ns
    steps.clear()
    assert default_engine(lambda step, done, total: steps.append(step)) == first
    assert first.stat().st_mtime_ns == stamp and steps == [], "it is reused"
    assert why_not(first, sha256_of(shipped), options()) is None
    with_confidence = default_engine(confidence=True)
    assert with_confidence != first and read_engine_file(with_confidence).header.options["confidence"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "cut short"),
        (lambda data: data[:-1] + b"x", "payload is damaged"),
        (lambda data: MAGIC + bytes([FORMAT_VERSION - 1]) + data[len(MAGIC) + 1 :], "engine format 1"),
    ],
)
def test_a_rebuild_says_why(damage: object, says: str, caplog: pytest.LogCaptureFixture) -> None:
    assert callable(damage)
    path = default_engine()
    path.write_bytes(damage(path.read_bytes()))
    default_engine()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1 and says in told[0] and "\n" not in told[0]
    assert told[0].count(str(path)) == 1 and "build it again" not in told[0], "it is being built"
    assert read_engine_file(path).payload()


def test_what_does_not_fit_is_named(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = default_engine()
    wanted = options()
    assert "gives no confidence" in str(
        why_not(path, sha256_of(shipped), BuildOptions(wanted.precision, confidence=True))
    )
    assert "is one for openvino" in str(
        why_not(path, sha256_of(shipped), BuildOptions(wanted.precision, "onnxruntime"))
    )
    other = tmp_path / "other.onnx"
    other.write_bytes(shipped.read_bytes())
    assert why_not(path, sha256_of(other), wanted) is None, "the same bytes elsewhere are the same model"
    other.write_bytes(shipped.read_bytes() + b"\x12\x00")  # an empty producer name
    assert "another version of the model" in str(why_not(path, sha256_of(other), wanted))
    monkeypatch.setattr(default, "package_versions", lambda backend: {"rtpsp": "99.0"})
    assert "was built by rtpsp" in str(why_not(path, sha256_of(shipped), wanted))


@pytest.fixture
def quantised(pspnet_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small PSPNet in the place of the shipped model, with ranges; gives their file."""
    model, spec = load_model(pspnet_model)
    save_frames(tmp_path / "data", 4)
    frames = open_calibration(str(tmp_path / "data" / "images"), folder=tmp_path / "calib")
    path = tmp_path / "small.ranges.json"
    write_cache(path, calibrate(model, spec, frames, folder=tmp_path / "calib", threads=1)[0])
    monkeypatch.setattr(default, "default_precision", lambda backend="openvino": "int8")
    monkeypatch.setattr(zoo, "NAMES", ("small",))
    monkeypatch.setattr(zoo, "model_spec", lambda: spec)
    monkeypatch.setattr(zoo, "model_path", lambda name="small": pspnet_model)
    monkeypatch.setattr(zoo, "model_digest", lambda name="small": sha256_of(pspnet_model))
    monkeypatch.setattr(zoo, "cache_path", lambda name="small": path)
    return path


def test_the_shipped_ranges_make_an_int8_engine_without_data(
    quantised: Path, pspnet_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = default_engine()
    header = read_engine_file(path).header
    cache = read_cache(quantised)
    assert header.precision == "int8" and header.calibration_digest == cache.frames and "-int8-" in path.name
    stamp = path.stat().st_mtime_ns
    assert default_engine() == path and path.stat().st_mtime_ns == stamp
    write_cache(quantised, replace(cache, frames="cd" * 32))
    reason = why_not(path, sha256_of(pspnet_model), BuildOptions("int8"))
    assert reason == "its INT8 ranges are not those that come with the model"
    assert default_engine() == path and reason in caplog.text
    assert read_engine_file(path).header.calibration_digest == "cd" * 32
    write_cache(quantised, replace(cache, frames="cd" * 32, method="minmax"))
    assert why_not(path, sha256_of(pspnet_model), BuildOptions("int8")) == reason, "the same frames by another method"


def test_the_default_is_int8_where_that_pays() -> None:
    assert (PRECISION("openvino"), PRECISION("onnxruntime")) == ("int8", "fp32")


@pytest.mark.parametrize(
    ("backend", "capability", "expected"),
    [
        ("openvino", "8.9", BuildOptions("int8", "openvino", True)),
        ("onnxruntime-cuda", "8.9", BuildOptions("fp16", "onnxruntime-cuda", True)),
        ("tensorrt-rtx", "8.9", BuildOptions("fp16", "tensorrt-rtx", True)),
        ("tensorrt-rtx", "7.5", BuildOptions("fp16", "tensorrt-rtx", True, plan=PlanOptions(targets=("7.5",)))),
    ],
)
def test_the_default_is_for_the_best_that_there_is(
    monkeypatch: pytest.MonkeyPatch, backend: str, capability: str, expected: BuildOptions
) -> None:
    monkeypatch.setattr(default, "default_precision", PRECISION)
    monkeypatch.setattr(default, "default_backend", lambda: backend)
    monkeypatch.setattr(machine, "gpus", lambda: (Gpu("a GPU", capability, "580.65", 1 << 33, "13.0"),))
    assert default_options(confidence=True) == expected


def test_tensorrts_timings_are_kept_beside_the_default_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(default, "default_backend", lambda: "tensorrt")
    assert default_options().plan == PlanOptions(timing_cache=tmp_path / "engines" / "timing")


def test_without_a_gpu_nothing_changes() -> None:
    assert default_options() == options() == BuildOptions("fp32", "openvino")
    assert default_engine().name.startswith("colours-48x64-fp32-openvino20")


class Gpus:
    """A machine with backends for GPUs, of which some cannot build an engine, and some do not run theirs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver, self.why_not_run = "580.65", ""
        self.fails: dict[str, Exception] = {"tensorrt-rtx": ModelError("the builder refuses it")}
        self.tried: list[str] = []
        monkeypatch.setattr(default, "default_backend", lambda present=None: "openvino" if present else "tensorrt-rtx")
        monkeypatch.setattr(default, "why_not_here", lambda name: None if name == "onnxruntime-cuda" else "not here")
        monkeypatch.setattr(default, "build_engine", self.build)
        monkeypatch.setattr(machine, "gpus", self.gpus)
        monkeypatch.setattr(failed_builds, "gpus", self.gpus)

    def gpus(self) -> tuple[Gpu, ...]:
        return (Gpu("a GPU", "8.9", self.driver, 1 << 33, "13.0"),)

    def build(self, model: Path, path: Path, options: BuildOptions, progress: object = None) -> build.Built:
        self.tried.append(options.backend)
        if options.backend in self.fails:
            raise self.fails[options.backend]
        built = build.build_engine(model, path, replace(options, backend="onnxruntime"))
        write_engine_file(path, replace(built.header, backend=options.backend), read_engine_file(path).payload())
        return replace(built, why_not_run=self.why_not_run if BACKENDS[options.backend].gpu else "")


@pytest.fixture
def machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return Gpus(monkeypatch)


def test_a_backend_that_fails_leaves_the_next_of_the_gpu(
    machine_with_gpus: Gpus, caplog: pytest.LogCaptureFixture
) -> None:
    path = default_engine()
    assert read_engine_file(path).header.backend == "onnxruntime-cuda" == default_options().backend
    assert machine_with_gpus.tried == ["tensorrt-rtx", "onnxruntime-cuda"]
    says = (
        "the builder refuses it: another backend is taken, until 'rtpsp build-engine --backend tensorrt-rtx' succeeds"
    )
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [says]


def test_what_failed_is_not_tried_at_every_start(machine_with_gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    gpus, tried = machine_with_gpus, machine_with_gpus.tried
    gpus.fails["onnxruntime-cuda"] = MissingError("the GPU ran out of memory")
    assert read_engine_file(default_engine()).header.backend == "openvino"
    assert tried == ["tensorrt-rtx", "onnxruntime-cuda", "openvino"]
    tried.clear()
    caplog.clear()
    assert read_engine_file(default_engine()).header.backend == "openvino" and tried == []
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(":")[0] for line in said] == ["the builder refuses it", "the GPU ran out of memory"]
    with pytest.raises(BoundNotMet, match="another confidence"):
        gpus.fails["openvino"] = BoundNotMet("another confidence")
        default_engine(confidence=True)
    assert tried == ["tensorrt-rtx", "onnxruntime-cuda", "openvino"], "another engine"
    assert not list(engines_folder().glob("*-openvino*.failed")), "a CPU's is tried again"
    tried.clear()
    gpus.driver = "590.1"
    gpus.fails.clear()
    assert read_engine_file(default_engine()).header.backend == "tensorrt-rtx" and tried == ["tensorrt-rtx"]


def test_what_does_not_run_is_not_kept(
    machine_with_gpus: Gpus, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As where the driver is too old for what was built ahead of time."""
    machine_with_gpus.fails.clear()
    machine_with_gpus.why_not_run = "the driver is too old"
    path = default_engine()
    assert "tensorrt-rtx does not run its engine: the driver is too old: another backend is taken" in caplog.text
    assert list((tmp_path / "engines").glob("*.engine")) == [path] and "openvino" in path.name


def test_a_build_that_succeeds_makes_good_what_failed(machine_with_gpus: Gpus, shipped: Path, tmp_path: Path) -> None:
    default_engine()
    (failed,) = (tmp_path / "engines").glob("*.failed")
    assert "trtrtx" in failed.name and default_options().backend == "onnxruntime-cuda"
    built = build.build_engine(shipped, tmp_path / "engines" / "cpu.engine")
    assert failed.exists(), "another engine"
    built.path.rename(failed.with_suffix(".engine"))
    build.build_engine(shipped, failed.with_suffix(".engine"))
    assert not failed.exists() and default_options().backend == "tensorrt-rtx"


@pytest.mark.parametrize("text", ["", "[]", '{"why": 3}', "{}", "\0"])
def test_a_damaged_memory_is_none(machine_with_gpus: Gpus, tmp_path: Path, text: str) -> None:
    default_engine()
    (failed,) = (tmp_path / "engines").glob("*.failed")
    assert failed_builds.why_failed(failed.with_suffix(".engine"), "tensorrt-rtx") == "the builder refuses it"
    failed.write_text(text)
    assert failed_builds.why_failed(failed.with_suffix(".engine"), "tensorrt-rtx") is None


def test_a_memory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    as_nobody(tmp_path / "x")
    failed_builds.remember(tmp_path / "x" / "y.engine", "openvino", "why")
    failed_builds.forget(tmp_path / "x" / "y.engine")


@pytest.mark.parametrize("plan", [{"optimisation_level": 0}, {"optimisation_level": 0, "tf32": True}, [], "--tf32"])
def test_an_engine_that_was_built_otherwise_is_not_the_default_one(shipped: Path, plan: object) -> None:
    path = default_engine()
    file = read_engine_file(path)
    header = replace(file.header, options={**file.header.options, "plan": plan})
    write_engine_file(path, header, file.payload())
    reason = why_not(path, sha256_of(shipped), options())
    assert reason is not None and reason.startswith("it was built with another --")
    if plan == {"optimisation_level": 0}:
        assert reason == "it was built with another --optimisation-level"


def test_an_engine_of_batches_is_not_the_default_one(shipped: Path) -> None:
    path = build.build_engine(shipped, default_engine(), replace(options(), batch=2)).path
    assert why_not(path, sha256_of(shipped), options()) == "it takes 2 frames at a time"


def test_the_doctor_tells_of_the_engine_that_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes.default_engine()["engines"] == {}
    path = default_engine()
    path.with_name(f"{zoo.DEFAULT}-of-another-release.engine").write_bytes(b"left behind")
    assert probes.default_engine()["engines"] == {path.name: None}
    monkeypatch.setattr(default, "package_versions", lambda backend: {"rtpsp": "99.0"})
    assert "was built by rtpsp" in probes.default_engine()["engines"][path.name]


def test_what_would_only_warn_builds_it_anew(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = default_engine()
    older = Verdict(warnings=("it was built with openvino 9, here is the older 8",))
    monkeypatch.setattr(default, "judge_file", lambda file: older)
    assert why_not(path, sha256_of(shipped), options()) == older.warnings[0]


def test_two_at_once_build_it_once(tmp_path: Path, shipped: Path) -> None:
    slow = program(
        shipped,
        "right = default.build_engine",
        "def slow(*args): print('BUILDS', file=sys.stderr); time.sleep(1.0); return right(*args)",
        "default.build_engine = slow",
        "print(default.default_engine())",
    )
    both = [subprocess.Popen(slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0], "both use one engine"
    assert sum("BUILDS" in err for _, err in told) == 1, told
    assert {entry.name for entry in (tmp_path / "engines").iterdir()} == {".lock", Path(told[0][0].strip()).name}


def test_one_that_is_killed_while_it_builds_does_not_stop_the_next(shipped: Path) -> None:
    stuck = program(
        shipped,
        "def stuck(*args): print('BUILDS', flush=True); time.sleep(600)",
        "default.build_engine = stuck",
        "default.default_engine()",
    )
    process = subprocess.Popen(stuck, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "BUILDS\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert default_engine().exists()


def as_nobody(folder: Path) -> None:
    """Nothing can be written there, for root neither: the folder's parent is a file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")


def test_a_cache_that_cannot_be_written_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RTPSP_ENGINES")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    as_nobody(tmp_path / "cache" / "rtpsp")
    path = default_engine()
    assert path.parent.parent.parent == tmp_path and path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert "cannot be written (" in caplog.text and "set RTPSP_ENGINES" in caplog.text
    stamp = path.stat().st_mtime_ns
    assert default_engine() == path and path.stat().st_mtime_ns == stamp, "the stand-in is reused"
    path.parent.parent.chmod(0o777)
    with pytest.raises(OutputError, match="RTPSP_ENGINES"):
        default_engine()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a system without user ids")
@pytest.mark.parametrize("planted", ["another user's", "a link", "a file"])
def test_a_stand_in_that_somebody_else_laid_out_is_refused(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / f"rtpsp-{os.getuid()}"
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    if planted == "a link":
        stand_in.symlink_to(mine)
    elif planted == "a file":
        stand_in.touch(mode=0o600)
    else:
        stand_in = stand_in.with_name(f"rtpsp-{NOBODY}")
        stand_in.mkdir(mode=0o700)
        monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    monkeypatch.delenv("RTPSP_ENGINES")
    monkeypatch.setattr(default, "_why_not_writable", lambda folder: "Read-only file system")
    monkeypatch.setattr(default, "engines_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OutputError, match=r"cannot be written \(Read-only file system\), nor can .*RTPSP_ENGINES"):
        default_engine()
    assert list(mine.iterdir()) == []


def test_a_named_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    as_nobody(tmp_path / "engines")
    with pytest.raises(OutputError, match="RTPSP_ENGINES name another folder"):
        default_engine()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_home_that_may_not_be_entered_has_a_stand_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = zoo.model_spec()
    monkeypatch.setattr("rtpsp.zoo.model_spec", lambda: spec)
    monkeypatch.setattr(default, "build_engine", lambda *_: SimpleNamespace(why_not_run=""))
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    default_engine()  # imports what another user may not be able to
    monkeypatch.delenv("RTPSP_ENGINES")
    with tempfile.TemporaryDirectory() as place:  # pytest's own are for root alone
        os.chmod(place, 0o777)
        closed = Path(place, "closed")
        closed.mkdir(mode=0o700)
        monkeypatch.setattr(tempfile, "tempdir", place)
        monkeypatch.setenv("XDG_CACHE_HOME", str(closed / "cache"))
        monkeypatch.chdir(closed)
        build.engines_folder()
        os.seteuid(NOBODY)
        try:
            path = default_engine()
        finally:
            os.seteuid(0)
        monkeypatch.undo()
        assert path.parent == Path(place, f"rtpsp-{NOBODY}", "engines")
    assert "cannot be written (Permission denied)" in caplog.text


def test_a_user_without_a_home_has_a_stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RTPSP_ENGINES")
    monkeypatch.chdir(tmp_path)
    for answer in ([Path("~/.cache/rtpsp")], RuntimeError("could not determine the home directory")):
        monkeypatch.setattr("platformdirs.user_cache_path", Mock(side_effect=answer))
        assert build.engines_folder() == Path("/.cache/rtpsp/engines")


def test_a_folder_of_a_user_that_there_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTPSP_ENGINES", "~nobody-of-that-name/engines")
    assert build.engines_folder() == Path("~nobody-of-that-name/engines")
    assert to_engine_path("~nobody-of-that-name/x.engine") == Path("~nobody-of-that-name/x.engine")


@pytest.mark.parametrize("why_not", [PermissionError(13, "Permission denied"), NotImplementedError("no flock here")])
def test_a_lock_that_cannot_be_had_stops_nobody(
    why_not: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FileLock, "acquire", Mock(side_effect=why_not))
    assert default_engine().is_file()
    assert f"engines cannot be locked ({getattr(why_not, 'strerror', why_not)}): another rtpsp may" in caplog.text


def test_others_may_use_the_lock(tmp_path: Path) -> None:
    default_engine()
    assert (tmp_path / "engines" / ".lock").stat().st_mode & 0o777 == 0o666


def test_a_disk_that_fills_up_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OutputError("full: name another file with -o") from OSError(28, "No space left on device")

    monkeypatch.setattr(default, "build_engine", full)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\): let RTPSP_ENGINES name"):
        default_engine()


def test_an_engine_that_fits_is_used_from_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    path = default_engine()
    monkeypatch.setattr(default, "_why_not_writable", lambda folder: "Read-only file system")
    assert default_engine() == path


def test_waiting_for_another_can_be_stopped(tmp_path: Path, shipped: Path) -> None:
    (tmp_path / "engines").mkdir()
    with FileLock(tmp_path / "engines" / ".lock"):
        waiting = program(shipped, "default.default_engine()")
        process = subprocess.Popen(waiting, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None and any("waiting for it" in line for line in process.stderr)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]


def test_what_is_not_an_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rtpsp build-engine model\.onnx"):
        to_engine_path("model.onnx")
    with pytest.raises(EngineFileError, match="build-engine"):
        load_engine(to_engine_path(str(tmp_path / "none.engine")))


def test_the_shipped_model_at_another_size(shipped: Path) -> None:
    small = engine_of(options(), size=(24, 32))
    stamp, header = small.stat().st_mtime_ns, read_engine_file(small).header
    assert small != engine_of(options()) and "24x32" in small.name
    assert header.spec.size == (24, 32)
    assert why_not(small, sha256_of(shipped), options()) is None
    assert "shipped" not in header.options, "a build without a model does not give it again"
    assert engine_of(options(), size=(24, 32)).stat().st_mtime_ns == stamp, "it is reused"
    with load_engine(small) as engine:
        assert engine.infer(np.zeros((1, 24, 32, 3), np.uint8)).class_map.shape == (1, 24, 32)
