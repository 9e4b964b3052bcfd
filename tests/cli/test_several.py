"""``rtpsp run`` with several sources, left running: sources, outputs, progress, report, state, hangs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpsp.cli import progress, run
from rtpsp.cli.run_sinks import check_recordings, paths_of, sinks_of
from rtpsp.cli.run_sources import check_use, sources_of, to_source_options
from rtpsp.cli.show import print_run, to_troubles
from rtpsp.errors import OutputError, UsageError
from rtpsp.live import open_pipeline
from rtpsp.outside import server
from rtpsp.redaction import scrub
from rtpsp.stream.frame import Absent, Frame, Rendered, Stamps
from rtpsp.stream.outer import Only
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.records import RleFile, StatsFile
from rtpsp.stream.report import FrameCounts, RunReport, SourceReport, ThreadPlan
from rtpsp.stream.sink import MaskFolder
from rtpsp.stream.source import Reconnect, SourceInfo
from rtpsp.stream.tiles import Tiled
from rtpsp.timing import summarise
from tests.cli.conftest import Call

SMALL = "sim://street?w=160&h=120&frames=6"


def given(*words: str) -> dict[str, Any]:
    return run.command.make_context("run", list(words)).params


# sources


def test_sources_are_counted_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(one.name, one.uri) for one in sources_of(given("--source", "a", "--source", "b"))] == [
        ("1", "a"), ("2", "b")
    ]  # fmt: skip
    assert sources_of(given("--camera"))[0].uri == "0"
    monkeypatch.setenv("CAMERA_PASSWORD", "open/sesame")
    (tmp_path / "list").write_text("gate = rtsp://u:${CAMERA_PASSWORD}@h\n0 # front\n")
    assert [one.name for one in sources_of(given("--sources", str(tmp_path / "list")))] == ["gate", "2"]
    assert "sesame" not in scrub("connecting with open/sesame or open%2Fsesame"), "it is known to be a secret"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--camera", "1", "--source", "x"), "got both --camera and --source"),
        (("--source", "x", "--sources", "y"), "got both --source and --sources"),
        ((), "got neither --camera nor --source nor --sources"),
    ],
)
def test_sources_are_given_one_way(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        sources_of(given(*words))


@pytest.mark.parametrize(
    ("words", "reconnect"),
    [
        ((), Reconnect()),
        (("--reconnect", "forever", "--wait"), Reconnect(at_start=True)),
        (("--reconnect", "7", "--reconnect-max-delay", "0.2"), Reconnect(7, 0.2, 0.2)),
        (("--reconnect", "off"), None),
    ],
)
def test_how_to_reconnect(words: tuple[str, ...], reconnect: Reconnect | None) -> None:
    assert to_source_options(given(*words)).reconnect == reconnect


def test_how_to_open_a_stream() -> None:
    options = to_source_options(
        given("--rtsp-transport", "udp", "--read-timeout", "3", "--open-timeout", "4", "--hwaccel", "auto")
    )
    assert (options.transport, options.read_timeout, options.open_timeout, options.hwaccel) == ("udp", 3, 4, "auto")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--reconnect", "off", "--wait"], "got --wait and --reconnect off"),
        (["--reconnect", "0"], "'0' is neither forever nor off nor a number of tries"),
        (["--reconnect", "never"], "'never' is neither"),
        (["--segment", "10m"], "--segment has no meaning without a recording"),
        (["--output", "x.mp4", "--keep", "1GB"], "add --segment"),
        (["--output", "x.mp4", "--segment", "ten"], "ten"),
        (["--output", "x.mp4", "--segment", "10m", "--keep", "much"], "much"),
        (["--save-masks", "masks"], "put {source} into its name"),
        (["--rle", "-"], "standard output is for --report alone"),
        (["--metrics", "nine"], "'nine' is no address"),
        (["--output", "rtmp://host/live/hunter2"], "--output is an address"),
        (["--output", "{source}/../x.mp4"], "is one place for several sources"),
        (["--output", "{source}-%a.mp4", "--segment", "10m"], "names of segments may hold"),
        (["--rtsp-transport", "udp"], "--rtsp-transport has no meaning for any of these sources: leave it out"),
        (["--hwaccel", "auto"], "--hwaccel has no meaning for"),
        (["--log-format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["--output", "{source}.mp4", "--rle", "2.mp4"], "--output and --rle both go to 2.mp4"),
    ],
)
def test_what_contradicts_is_one_line(
    words: list[str], says: str, rtpsp: Call, colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = rtpsp("run", "--no-show", "--engine", colour_engine, "--source", SMALL, "--source", SMALL, *words)
    assert done.code == 2 and says in done.err and "hunter2" not in done.err, done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sources", "words", "says"),
    [
        (["clip.mp4"], ["--reconnect", "3"], "--reconnect has no meaning for a video file: leave it out"),
        (["clip.mp4"], ["--wait"], "--wait has no meaning for a video file"),
        (["clip.mp4"], ["--read-timeout", "3"], "--read-timeout has no meaning for a video file"),
        (["http://h/x"], ["--rtsp-transport", "udp"], "no meaning for a stream that is not rtsp://"),
        (["0"], ["--open-timeout", "3"], "--open-timeout has no meaning for a camera"),
        (["clip.mp4"], ["--reconnect", "off", "--hwaccel", "off"], ""),
        (["clip.mp4", "rtsp://h/x"], ["--reconnect", "3", "--wait", "--rtsp-transport", "udp"], ""),
        (["not-there.mp4"], ["--wait"], ""),  # which is told later
        ([SMALL], ["--reconnect", "3"], ""),
    ],
)
def test_what_no_source_can_do_is_refused(
    sources: list[str], words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    line = [word for source in sources for word in ("--source", source)]
    with run.command.make_context("run", [*line, *words]) as context:
        if not says:
            return check_use(context.params, sources_of(context.params))
        with pytest.raises(UsageError, match=says):
            check_use(context.params, sources_of(context.params))


def test_a_file_of_options_may_say_more_than_one_run_needs(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    words = ["--source", str(tmp_path / "clip.mp4")]
    with run.command.make_context("run", words, default_map={"wait": True, "hwaccel": "auto"}) as context:
        assert context.params["wait"]
        check_use(context.params, sources_of(context.params))


def test_no_recording_removes_anothers_segments_or_a_source(tmp_path: Path) -> None:
    ring = ("--segment", "10m", "--keep", "1GB")
    words = given("--output", str(tmp_path / "%H-{source}.mp4"), *ring)
    with pytest.raises(UsageError, match="could be taken for those of"):
        check_recordings(words, paths_of(words, ("gate", "gate-2"))["--output"], ("rtsp://a", "rtsp://b"))
    words = given("--output", str(tmp_path / "out.mp4"), *ring)
    paths, old = paths_of(words, ("1", "2"))["--output"], str(tmp_path / "out-20261127-034052.mp4")
    with pytest.raises(UsageError, match="--keep would remove it"):
        check_recordings(words, paths, ("rtsp://a", old))
    check_recordings(words, paths, (old,))  # the recorder spares it itself


# outputs


def test_outputs_of_several_sources() -> None:
    words = (
        "--no-show",
        "--output",
        "o/{source}.mp4",
        "--save-masks",
        "m-{source}",
        "--rle",
        "r",
        "--stats",
        "{source}.s",
    )
    names = ("gate", "2")
    paths = paths_of(given(*words), names)
    assert paths["--output"] == (Path("o/gate.mp4"), Path("o/2.mp4")) and paths["--report"] == ()
    sinks, _ = sinks_of(given(*words), paths, names)
    kinds = [(type(sink), type(sink.inner)) if isinstance(sink, Only) else type(sink) for sink in sinks]
    assert kinds == [
        *[(Only, VideoFile)] * 2, *[(Only, MaskFolder)] * 2, RleFile, *[(Only, StatsFile)] * 2, progress.ProgressLine
    ]  # fmt: skip


def test_a_recording_without_a_source_in_its_name_is_tiled() -> None:
    words = given("--no-show", "--output", "o.mp4", "--segment", "10m", "--keep", "20GB")
    sinks, _ = sinks_of(words, paths_of(words, ("1", "2")), ("1", "2"))
    assert isinstance(sinks[0], Tiled) and isinstance(sinks[0].inner, VideoFile)
    words = given("--no-show", "--output", "{source}.mp4")
    paths = paths_of(words, ("1",))
    assert paths["--output"] == (Path("1.mp4"),) and isinstance(sinks_of(words, paths, ("1",))[0][0], VideoFile)


# progress


def shown(source: int) -> Rendered:
    frame = Frame(0, 0.0, 0.0, 2, 2, lambda out: np.zeros((2, 2, 3), np.uint8), source=source)
    return Rendered(frame, {}, np.zeros((2, 2), np.uint8), Stamps(0.0))


def gone(source: int) -> Absent:
    return Absent(source, 0.0, np.zeros((2, 2, 3), np.uint8), "NO SIGNAL")


def test_progress_says_who_gives_no_signal() -> None:
    line = progress.ProgressLine(("gate", "2", "yard"))
    line.write(shown(0))
    assert line.line() == "1 frames shown, 0.0 fps"
    line.absent(gone(0))
    line.absent(gone(2))
    assert line.words == "0.0 fps, no signal from gate, yard"
    line.absent(gone(1))
    assert line.words == "no signal from gate, 2, yard"
    line.write(shown(2))
    line.write(shown(0))
    assert line.words.endswith("fps, no signal from 2")
    alone = progress.ProgressLine()
    alone.absent(gone(0))
    assert alone.words == "no signal"


def test_a_log_that_nobody_reads_keeps_no_frame_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    full, emptied, told = threading.Event(), threading.Event(), []

    def blocked(text: str, **how: object) -> None:
        told.append(text)
        full.set()
        emptied.wait(20)

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "JOIN_SECONDS", 0.01)
    monkeypatch.setattr("rtpsp.cli.progress.stderr.print", blocked)
    line = progress.ProgressLine()
    line.open(SourceInfo("x", "sim", 2, 2), None)  # type: ignore[arg-type]
    assert full.wait(20)
    line.write(shown(0))
    line.close()
    assert not emptied.is_set() and told == ["0 frames shown, 0.0 fps"]
    emptied.set()


# the report


def source_report(**more: Any) -> SourceReport:
    info = SourceInfo("sim://street", "sim", 120, 160, live=True)
    counts = FrameCounts(10, 8, {"infer": 2, "render": 0}, 0, 1, 0)
    return SourceReport(info, "latest", counts, 25.0, summarise([0.04] * 8), **more)


def test_troubles_are_told_where_there_are_any() -> None:
    assert to_troubles(source_report()) == []
    suffered = source_report(
        reconnects=2, downtime=12.34, faults={"time-out": 3, "refused": 1}, stamps={"missing": 4}, late=5
    )
    assert to_troubles(suffered) == [
        "came back 2 times, away for 12.3 s", "faults: 1 refused, 3 time-out", "time stamps put in order: 4 missing",
        "5 frames too old to decode",
    ]  # fmt: skip


def test_each_source_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    sources = (source_report(ended="end of source"), source_report(reconnects=1, downtime=1.0))
    report = RunReport(
        source=sources[0].info,
        engine={"height": 1, "width": 2, "model": "m", "backend": "b", "precision": "fp32", "ran": "f32"},
        policy="latest",
        threads=ThreadPlan(1, 1, 1, 1, 1),
        frames=sources[0].frames + sources[1].frames,
        seconds=1.0,
        fps=50.0,
        stages={},
        age=None,
        outputs=("a.mp4", "b.mp4"),
        ended="every source has ended",
        sources=sources,
        sink_drops={"a.mp4": 7, "Window": 1},
    )
    print_run(report, ("gate", "2"))
    lines = capsys.readouterr().out.splitlines()
    assert "frames  20 in, 16 out, 4 dropped (4 waiting for infer), 2 missed or unreadable" in lines
    each = "10 in, 8 out, 2 dropped (2 waiting for infer), 1 missed or unreadable, 25.0 fps, age 40 ms (median)"
    assert f"source  gate: {each}; end of source" in lines
    assert f"source  2: {each}; came back once, away for 1.0 s" in lines
    assert "output  a.mp4, 7 pictures not recorded, it was too slow" in lines and "output  b.mp4" in lines
    assert "output  Window, 1 pictures not taken" in lines


# all of it


def test_two_sources_side_by_side(rtpsp: Call, colour_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"gate = {SMALL}\n{SMALL}&seed=2\n")
    report = tmp_path / "run.json"
    done = rtpsp(
        "run", "--no-show", "--sources", tmp_path / "list", "--engine", colour_engine, "--report", report,
        "--output", tmp_path / "both.mp4", "--save-masks", tmp_path / "m-{source}",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "source  gate = sim://" in done.err and "source  2 = sim://" in done.err
    told = json.loads(report.read_text())
    assert [(source["name"], source["frames"]["shown"]) for source in told["sources"]] == [("gate", 6), ("2", 6)]
    assert len(list((tmp_path / "m-gate").glob("*.png"))) == len(list((tmp_path / "m-2").glob("*.png"))) == 6
    import av

    with av.open(str(tmp_path / "both.mp4")) as container:
        frames = list(container.decode(video=0))
    assert (frames[0].height, frames[0].width, len(frames)) == (120, 320, 6)
    left, right = np.hsplit(frames[-1].to_ndarray(format="bgr24"), 2)
    assert left.std() > 10 and right.std() > 10 and np.abs(left.astype(int) - right).mean() > 5


def test_state_is_served_from_before_the_engine_is_there(
    rtpsp: Call, colour_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, answers = server.serve, []
    servers: list[server.Server] = []

    def serve(*words: Any) -> server.Server:
        servers.append(right(*words))
        return servers[0]

    def opened(*words: Any) -> Any:
        try:
            urllib.request.urlopen(f"http://{servers[0].address}/healthz", timeout=10)
        except urllib.error.HTTPError as error:
            answers.append((error.code, json.loads(error.read())["reasons"]))
        pipeline = open_pipeline(*words)
        with urllib.request.urlopen(f"http://{servers[0].address}/metrics", timeout=10) as answer:
            answers.append((answer.status, b"rtpsp_frames_received_total" in answer.read()))
        return pipeline

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr("rtpsp.cli.working.open_pipeline", opened)
    done = rtpsp("run", "--no-show", "--source", SMALL, "--engine", colour_engine, "--metrics", ":0")
    assert done.code == 0, done.err
    assert answers == [(503, ["the engine is not ready yet"]), (200, True)]
    assert f"metrics http://{servers[0].address}/metrics" in done.err
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{servers[0].address}/healthz", timeout=10)


def test_errors_are_json_where_that_was_asked_for(rtpsp: Call) -> None:
    done = rtpsp("run", "--log-format", "json", "--source", "rtps://u:hunter2@h/s?token=abcdef")
    told = [json.loads(line) for line in done.err.splitlines()]
    assert done.code == 3 and told[-1]["level"] == "error" and "rtps" in told[-1]["message"]
    assert "hunter2" not in done.err and "abcdef" not in done.err
    assert rtpsp("run").err.startswith("rtpsp: got neither"), "the next command is another one"


def test_what_is_printed_has_no_password(
    rtpsp: Call, tmp_path: Path, colour_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: Any) -> None:
        raise OutputError("user:hunter2 was refused")

    monkeypatch.setattr("rtpsp.cli.working.open_pipeline", broken)
    (tmp_path / "list").write_text("rtsp://user:hunter2@127.0.0.1/s\n")
    done = rtpsp("--debug", "run", "--no-show", "--engine", colour_engine, "--sources", tmp_path / "list")
    assert done.code == 7 and "Traceback" in done.err and "user:*** was refused" in done.err
    assert "hunter2" not in done.err + done.out


def test_a_process_that_hangs_is_ended_with_a_line() -> None:
    program = (
        "import threading, time\nfrom rtpsp.cli.working import _end_hung\n"
        "threading.Timer(0.05, _end_hung, ['sink of x.mp4 has not come back']).start()\ntime.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (7, "rtpsp: sink of x.mp4 has not come back\n")


def test_errors_of_sources_do_not_quote_the_list(rtpsp: Call, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("gate = rtsp://u:${NOT_SET_HERE}@h/hunter2\n")
    done = rtpsp("run", "--sources", tmp_path / "list")
    assert done.code == 3 and "line 1: the environment has no NOT_SET_HERE" in done.err and "hunter2" not in done.err
