"""Every verb through the real entry point: what it prints, what it writes, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtpsp.cli import main
from rtpsp.cli._verbs import VERBS
from rtpsp.errors import OutputError
from rtpsp.labels import CAMVID, to_label_set
from rtpsp.onnx_file import load_model
from tests.stream.doubles import Collector

PALETTE_BGR = np.array(CAMVID.palette, np.uint8)[:, ::-1]


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Call = Callable[..., Outcome]


@pytest.fixture
def rtpsp(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def call(*words: str | Path) -> Outcome:
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as exit_:
                main([str(word) for word in words])
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twenty frames of 96x128 at 10 fps: left half Car, right half Road, and a Sky bar that moves down."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(20):
            ids = np.full((96, 128), 8, np.uint8)
            ids[:, 64:] = 3
            ids[4 * index : 4 * index + 4] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(PALETTE_BGR[ids], format="bgr24")))
        container.mux(stream.encode(None))
    return path


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_a_video_in_a_video_and_masks_out(rtpsp: Call, clip: Path, colour_engine: Path, tmp_path: Path) -> None:
    out, masks, report = tmp_path / "out.mp4", tmp_path / "masks", tmp_path / "run.json"
    done = rtpsp(
        "run", "--source", clip, "--engine", colour_engine, "--output", out, "--save-masks", masks, "--view", "mask",
        "--report", report,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "no window: neither DISPLAY nor WAYLAND_DISPLAY is set" in done.err
    assert "20 in, 20 out, 0 dropped" in done.out
    told = json.loads(report.read_text())
    assert told["frames"] == {
        "received": 20, "shown": 20, "dropped": {"infer": 0, "render": 0}, "discarded": 0, "missed": 0, "skipped": 0
    }  # fmt: skip
    assert told["engine"]["ran"] == "f32" and told["ended"] == "end of source"
    assert set(told["stages_ms"]) == {"capture", "preprocess", "infer", "render", "sink", "encode"}
    assert len(list(masks.glob("*.png"))) == 20
    assert to_label_set(str(masks / "classes.txt")).palette == CAMVID.palette
    mask = cv2.imread(str(masks / "000010.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None and mask.shape == (96, 128) and mask.dtype == np.uint8
    assert (mask[:30, 5:59] == 8).all() and (mask[50:, 69:123] == 3).all() and (mask[41:43] == 0).all()
    frames = decoded(out)
    assert len(frames) == 20
    assert np.abs(frames[10][20, 20].astype(int) - PALETTE_BGR[8]).max() <= 8


@pytest.mark.parametrize(
    ("options", "frames", "skipped"),
    [
        (["--max-frames", "7"], 7, 0),
        (["--every", "4"], 5, 15),
        (["--max-fps", "5"], 10, 10),
        (["--start", "0.5", "--end", "1.0"], 5, 0),
        (["--loop", "--max-frames", "45"], 45, 0),
        (["--policy", "every", "--threads", "1", "--depth", "2"], 20, 0),
    ],
)
def test_a_part_of_a_source(
    rtpsp: Call, clip: Path, colour_engine: Path, tmp_path: Path, options: list[str], frames: int, skipped: int
) -> None:
    report = tmp_path / "run.json"
    done = rtpsp("run", "--source", clip, "--engine", colour_engine, "--report", report, *options)
    assert done.code == 0, done.err
    counts = json.loads(report.read_text())["frames"]
    assert (counts["shown"], counts["skipped"]) == (frames, skipped)
    asked = "--max-frames" in options
    assert json.loads(report.read_text())["ended"] == (
        f"{frames} frames, as many as were asked for" if asked else "end of source"
    )


def test_the_pace_of_the_source_is_kept(rtpsp: Call, clip: Path, colour_engine: Path, tmp_path: Path) -> None:
    report = tmp_path / "run.json"
    words = ["run", "--source", clip, "--engine", colour_engine, "--report", report, "--max-frames", "8"]
    assert rtpsp(*words, "--pace", "source").code == 0
    assert json.loads(report.read_text())["fps"] == pytest.approx(10, rel=0.1)


def test_images_keep_their_names(rtpsp: Call, colour_engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, size in (("a2", (60, 80)), ("a10", (90, 70))):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((*size, 3), PALETTE_BGR[8], np.uint8))
    done = rtpsp("run", "--source", folder, "--engine", colour_engine, "--save-masks", tmp_path / "masks")
    assert done.code == 0, done.err
    for name, size in (("a2", (60, 80)), ("a10", (90, 70))):
        mask = cv2.imread(str(tmp_path / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None and mask.shape == size and (mask == 8).all()
    pattern = str(folder / "a1*.png")
    assert "1 in, 1 out" in rtpsp("run", "--source", pattern, "--engine", colour_engine).out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run"], 2, "neither --camera nor --source"),
        (["run", "--camera", "--source", "x.mp4"], 2, "both --camera and --source"),
        (["run", "--camera", ""], 2, "--camera is empty, expected a number"),
        (["run", "--camera", "no such camera"], 4, "no camera is called 'no such camera'"),
        (["run", "--source", "none.mp4", "--engine", "ENGINE"], 3, "no file 'none.mp4'"),
        (["run", "--source", "rtsp://u:pw@127.0.0.1:1/s", "--engine", "ENGINE"], 3, "nothing listens"),
        (["run", "--source", "gopher://u:pw@h/s", "--engine", "ENGINE"], 3, "not supported"),
        (["run", "--source", "sim://street?sed=2", "--engine", "ENGINE"], 3, "seed"),
        (["run", "--camera", "/dev/video77", "--engine", "ENGINE"], 4, "/dev/video77"),
        (["run", "--source", "CLIP", "--engine", "none.engine"], 3, "No such file or directory: an engine is made by"),
        (["run", "--source", "CLIP", "--engine", "m.onnx"], 2, "rtpsp build-engine m.onnx"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--start", "1.5", "--end", "1"], 2, "the end is at 1 s"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--show"], 4, "leave --show out"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--output", "CLIP"], 2, "source itself"),
        (["run", "--source", "CLIP", "--engine", "CLIP"], 3, "is a video or sound, an engine was expected"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--output", "out.avi"], 2, ".mp4, .mkv, .mov"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--output", "/proc/out.mp4"], 7, "--output"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--start", "90"], 3, "90"),
        (["run", "--camera-size", "720"], 2, "HEIGHTxWIDTH"),
        (["build-engine", "none.onnx"], 3, "none.onnx"),
        (["build-engine", "CLIP"], 3, "is a video or sound, an ONNX model was expected"),
        (["build-engine", "--fp32", "--fp16"], 2, "got --fp32 and --fp16, expected one"),
        (["run", "--source", "CLIP", "--engine", "ENGINE", "--report", "/proc/run.json"], 7, "for the report"),
        (["build-engine", "--backend", "tensorflow"], 2, "openvino"),
        (
            ["export", "none.pth", "--arch", "pspnet18", "--size", "9x9", "--labels", "camvid", "-o", "x.onnx"],
            3,
            "none",
        ),
        (["export", "CLIP", "--arch", "pspnet18", "--size", "9x9", "--labels", "nolabels", "-o", "x"], 2, "nolabels"),
        (["eval", "ENGINE", "--data", "nowhere"], 3, "nowhere"),
        (["segment"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    rtpsp: Call,
    clip: Path,
    colour_engine: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"CLIP": str(clip), "ENGINE": str(colour_engine)}
    done = rtpsp(*[given.get(word, word) for word in words])
    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err and "pw@" not in done.err + done.out
    assert sum(line.startswith("rtpsp: ") for line in done.err.splitlines()) == 1


def test_debug_shows_where_it_happened(rtpsp: Call) -> None:
    done = rtpsp("--debug", "run")
    assert done.code == 2 and "Traceback" in done.err and "neither --camera" in done.err


def test_a_bug_is_a_traceback_and_seventy(rtpsp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("rtpsp.cli.working.sources_of", broken)
    done = rtpsp("run", "--source", "x")
    assert done.code == 70 and "Traceback" in done.err and "bug in rtpsp" in done.err


def test_a_stage_that_hangs_at_the_end_does_not_cost_the_exit_code(
    rtpsp: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter would tear down a running engine's library: *terminate called*, and 134 for a code."""
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    assert rtpsp("run").code == 2 and codes == []
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="rtpsp-infer", daemon=True)
    thread.start()
    try:
        rtpsp("run")
    finally:
        release.set()
        thread.join()
    assert codes == [2]


def test_a_library_that_the_system_lacks_is_named(rtpsp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("rtpsp.cli.working.sources_of", broken)
    done = rtpsp("run", "--source", "x")
    assert done.code == 4 and "apt-get install libgl1" in done.err and "Traceback" not in done.err


def test_help_is_quick_and_whole(rtpsp: Call) -> None:
    done = rtpsp("--help")
    assert done.code == 0
    for verb in VERBS:
        assert verb in done.out
        assert rtpsp(verb, "--help").code == 0
    program = "import sys, rtpsp.cli; print([n for n in ('openvino', 'cv2', 'av', 'torch') if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_build_and_eval(rtpsp: Call, colour_model: Path, tmp_path: Path) -> None:
    engine = tmp_path / "x.engine"
    done = rtpsp("build-engine", colour_model, "--fp32", "--backend", "onnxruntime", "-o", engine)
    assert done.code == 0 and str(engine) in done.out and "runs in f32" in done.out
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    ids = np.arange(48 * 64).reshape(48, 64).astype(np.uint8) // 8 % 11
    cv2.imwrite(str(tmp_path / "images" / "1.png"), PALETTE_BGR[ids])
    truth = ids.copy()
    truth[:, :32] = 11  # void: what is said there does not count
    truth[ids == 4] = 5  # and one class is always called another
    truth[:, :32] = 11
    cv2.imwrite(str(tmp_path / "labels" / "1.png"), truth)
    figures = tmp_path / "eval.json"
    done = rtpsp("eval", engine, "--data", tmp_path, "--json", figures)
    assert done.code == 0, done.err
    told = json.loads(figures.read_text())
    wrong, right = int((ids[:, 32:] == 4).sum()), int((ids[:, 32:] == 5).sum())
    assert told["per_class_iou"]["Pavement"] == 0  # called so, and never true
    assert told["per_class_iou"]["Tree"] == pytest.approx(100 * right / (right + wrong), abs=0.01)
    assert told["miou"] == pytest.approx((9 * 100 + 0 + 100 * right / (right + wrong)) / 11, abs=0.01)
    assert told["images"] == 1 and told["ran"] == "f32" and told["split"] == "val"


def test_eval_on_the_simulator(rtpsp: Call, colour_engine: Path) -> None:
    done = rtpsp("eval", colour_engine, "--data", "sim://street?frames=2&w=160&h=120")
    assert done.code == 0 and "mIoU" in done.out and "2 images" in done.out


def test_a_report_that_cannot_be_written_does_not_hide_why_the_run_failed(
    rtpsp: Call, clip: Path, colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, values: object) -> None:
        raise OutputError(f"{path}: No space left on device; give another place for the report")

    monkeypatch.setattr("rtpsp.cli.working.write_json", full)
    report = tmp_path / "run.json"
    stalls = "sim://street?w=160&h=120&live=1&stall=9s&stall_at=0s"
    words = ("--engine", colour_engine, "--report", report)
    done = rtpsp("run", "--source", stalls, "--reconnect", "off", *words)
    assert done.code == 5 and "delivered no frame" in done.err and "another place for the report" in done.err
    done = rtpsp("run", "--source", clip, "--engine", colour_engine, "--report", report)
    assert done.code == 7 and "20 in, 20 out" in done.out, "the figures are told all the same"


def test_to_quit_before_the_first_frame_is_no_error(
    rtpsp: Call, colour_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Collector(stop_at=0)
    monkeypatch.setattr("rtpsp.cli.working.sinks_of", lambda *words: ([sink], ""))
    done = rtpsp("run", "--source", "sim://street", "--engine", colour_engine)
    assert done.code == 0 and "quit" in done.out and not sink.items


def test_a_reader_that_hangs_up_costs_neither_the_report_nor_the_exit_code(
    clip: Path, colour_engine: Path, tmp_path: Path
) -> None:
    report = tmp_path / "run.json"
    words = ["run", "--no-show", "--source", str(clip), "--engine", str(colour_engine), "--report", str(report)]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rtpsp", *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert done.returncode == 7, done.stderr
    assert "standard output was closed" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(report.read_text())["frames"]["shown"] == 20


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_finishes_the_recording(
    number: signal.Signals, code: int, colour_engine: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "run.json"
    uri = "sim://street?w=160&h=120&live=1"
    words = ["run", "--source", uri, "--engine", str(colour_engine), "--output", str(out), "--report", str(report)]
    environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
    run = subprocess.Popen(
        [sys.executable, "-m", "rtpsp", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 30
        while not (out.exists() and out.stat().st_size > 0) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(1.0)
        begin = time.monotonic()
        run.send_signal(number)
        _, errors = run.communicate(timeout=20)
        took = time.monotonic() - begin
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == code, errors
    assert "Traceback" not in errors
    assert took < 3
    told = json.loads(report.read_text())
    assert told["ended"] == {130: "Ctrl-C", 143: "SIGTERM", 129: "SIGHUP"}[code]
    assert len(decoded(out)) == told["frames"]["shown"] > 5


@pytest.mark.parametrize("other", ["--rle", "--stats", "--report"])
def test_two_outputs_to_one_place_are_refused(rtpsp: Call, tmp_path: Path, other: str) -> None:
    out = tmp_path / "x.mp4"
    ran = rtpsp("run", "--source", "sim://street", "--output", out, other, f"{tmp_path}/./x.mp4")
    assert ran.code == 2 and f"--output and {other} both go to" in ran.err
    assert not out.exists()


def test_eval_takes_the_shipped_model_where_no_engine_is_given(
    rtpsp: Call, tmp_path: Path, colour_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path))
    monkeypatch.setattr("rtpsp.zoo.model_path", lambda: colour_model)
    monkeypatch.setattr("rtpsp.zoo.model_spec", lambda: load_model(colour_model)[1])
    monkeypatch.setattr("rtpsp.default.default_precision", lambda backend: "fp32")  # colours have nothing for INT8
    ran = rtpsp("eval", "--data", "sim://street?w=160&h=120&frames=2")
    assert ran.code == 0, ran.err
    assert "colours-48x64-" in ran.out and "mIoU" in ran.out
    ran = rtpsp("eval", colour_model, "--data", "sim://street?w=160&h=120&frames=2")
    assert ran.code == 2 and "is a model, an engine was expected" in ran.err
