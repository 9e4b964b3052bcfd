"""Network streams, from servers of a few lines in this process. RTSP has a real server in `test_rtsp.py`."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rtpsp.stream import network, network_dial, network_faults  # isort: skip  (OpenCV before av: see colours.py)
import av
from av.codec.context import CodecContext

from rtpsp.errors import SourceError, SourceLost
from rtpsp.stream.network import NetworkSource, open_network
from rtpsp.stream.network_lag import Lag
from rtpsp.stream.source import Source, SourceInfo, SourceOptions
from tests.stream.web import HEIGHT, WIDTH, Handler, encode, jpeg, serving

QUICK = SourceOptions(open_timeout=5.0, read_timeout=0.3)


def mjpeg(handler: Handler) -> None:
    handler.parts([jpeg(10 * i) for i in range(6)])


def mjpeg_that_hangs(handler: Handler) -> None:
    handler.parts([jpeg(10 * i) for i in range(6)])
    handler.hang()


def broken_mjpeg(handler: Handler) -> None:
    handler.parts([jpeg(0), jpeg(0), b"no picture at all" * 9, jpeg(200), jpeg(210), jpeg(220)])


def growing_mjpeg(handler: Handler) -> None:
    handler.parts([jpeg(0), jpeg(0), jpeg(0), jpeg(90, 48, 64), jpeg(90, 48, 64), jpeg(90, 48, 64)])


ANSWERS = {
    "/mjpeg": mjpeg,
    "/mjpeg-hangs": mjpeg_that_hangs,
    "/broken": broken_mjpeg,
    "/growing": growing_mjpeg,
    "/hangs": Handler.hang,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("web")
    encode(str(folder / "clip.mp4"), 12)
    encode(str(folder / "ended.m3u8"), 20, options={"hls_time": "0.4", "hls_list_size": "0"})
    playlist = (folder / "ended.m3u8").read_text()
    (folder / "live.m3u8").write_text(playlist.replace("#EXT-X-ENDLIST", ""))
    (folder / "local.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\n{(folder / 'clip.mp4').as_uri()}\n#EXT-X-ENDLIST\n"
    )
    (folder / "page.html").write_text("<html><body>Please log in</body></html>" * 50)
    with serving(folder, ANSWERS) as address:
        yield address


def drain(source: Source) -> tuple[list[float], SourceLost | None]:
    """The mean grey of every frame, and what ended them."""
    seen = []
    try:
        while (frame := source.read()) is not None:
            seen.append(float(frame.to_bgr(None).mean()))
    except SourceLost as error:
        return seen, error
    return seen, None


def opened(uri: str, options: SourceOptions = QUICK) -> NetworkSource:
    source = open_network(uri, options)
    assert isinstance(source, NetworkSource)
    return source


def test_mjpeg(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(f"{server}/mjpeg?token=opensesame") as source:
        assert source.info == SourceInfo(
            uri=f"http://***@{server.partition('@')[2]}/mjpeg?token=***",
            kind="network",
            height=HEIGHT,
            width=WIDTH,
            live=True,
            detail="mjpeg yuvj420p in mpjpeg",
        )
        frames = [source.read() for _ in range(3)]
        times = [frame.pts for frame in frames if frame]
        assert times[0] == 0 and times == sorted(set(times)) and [frame.index for frame in frames if frame] == [0, 1, 2]
        assert [round(frame.to_bgr(None).mean()) for frame in frames if frame] == [0, 10, 20]
        assert source.health.stamps == {}  # it has none: none is missing
        seen, lost = drain(source)
        assert len(seen) == 3 and lost is not None and lost.kind == "lost"
        with pytest.raises(SourceLost):
            source.read()
    assert source.read() is None
    assert capfd.readouterr() == ("", "")


def test_a_file_of_a_web_server_is_no_live_stream(server: str) -> None:
    with opened(f"{server}/clip.mp4") as source:
        assert not source.info.live and source.info.fps == 25 and source.info.frames == 12
        frames = list(iter(source.read, None))
    assert [frame.index for frame in frames if frame] == list(range(12))
    assert [frame.pts for frame in frames if frame] == pytest.approx([i / 25 for i in range(12)])


def test_a_playlist_that_is_complete_is_a_file(server: str) -> None:
    with opened(f"{server}/ended.m3u8") as source:
        assert not source.info.live and source.info.fps == 25
        assert len(drain(source)[0]) == 20


def test_segments_are_shown_at_the_rate_at_which_they_were_filmed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    clock = itertools.count(1000.0, 1e-4)
    monkeypatch.setattr(network, "now", lambda: next(clock))
    uri = f"{server}/live.m3u8"
    with NetworkSource(uri, network_dial.dial(uri, QUICK), 1e9, wait=waits.append) as source:
        assert source.info.live
        frames = [source.read() for _ in range(10)]
    # From the newest segment on; nobody really waits here, so that each has to wait longer than the one before.
    assert frames[0] is not None and frames[0].to_bgr(None).mean() == pytest.approx(100, abs=6)
    assert waits == pytest.approx([0.04 * i for i in range(1, 10)], abs=0.02)


def test_an_interrupt_ends_the_wait_for_a_segments_frame(server: str) -> None:
    source = opened(f"{server}/live.m3u8")
    with source:
        source.interrupt()
        assert len([source.read() for _ in range(10)]) == 10 and source._wait(600)


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("/401", "authentication", "user name or password is wrong or missing"),
        ("/403", "authentication", "this user may not see it"),
        ("/404", "not-found", "check the path"),
        ("/429", "server", "asked too often"),
        ("/400", "protocol", "does not take our request"),
        ("/503", "server", "has a fault of its own"),
        ("/page.html", "codec", "not a video"),
        ("/local.m3u8", "codec", "not a video"),  # a playlist may not read the files of this machine
        ("/hangs", "time-out", "no answer in time"),
    ],
)
def test_what_a_server_answers_is_told_in_words(server: str, path: str, kind: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_network(server + path + "?pwd=sesam2", SourceOptions(open_timeout=0.3 if path == "/hangs" else 5.0))
    assert caught.value.kind == kind and says in str(caught.value) and "\n" not in str(caught.value)
    assert "sesam" not in str(caught.value) and "joe" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__  # FFmpeg's error holds the whole URI


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_wrong_password_is_to_be_given_in_a_uri_of_that_scheme(scheme: str) -> None:
    fault = network_faults.fault_of(av.error.HTTPUnauthorizedError(1, "401"), opening=True, scheme=scheme)
    assert f"as in {scheme}://USER:PASSWORD@HOST" in fault.message("x")


@pytest.mark.parametrize("password", ["ses[ame", "ses]ame", "ses℀ame"])
def test_a_password_that_no_uri_can_hold_as_it_is(password: str) -> None:
    with pytest.raises(SourceError, match="names no host, or no port that can be") as caught:
        open_network(f"rtsp://joe:{password}@127.0.0.1/x", QUICK)
    assert password not in str(caught.value) and "%5B for [" in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for scheme in ("rtsp", "http", "rtmp", "tcp"):
        with pytest.raises(SourceError, match="nothing listens on that port") as caught:
            open_network(f"{scheme}://127.0.0.1:{port}/x", QUICK)
        assert caught.value.kind == "refused"


@pytest.mark.parametrize(
    ("uri", "kind", "says"),
    [
        ("rtsp:///stream", "", "names no host"),
        ("http://camera:99999/", "", "no port that can be"),
        ("rtsp://camera.invalid/1", "unreachable", "no host is called camera.invalid"),
        ("udp://@127.0.0.1:{free}", "time-out", "no answer in time"),
    ],
)
def test_what_cannot_be_reached(uri: str, kind: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("rtpsp.stream.network_faults.socket.getaddrinfo", resolve)
    if "{free}" in uri:
        monkeypatch.undo()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            uri = uri.format(free=free.getsockname()[1])
    with pytest.raises(SourceError, match=says) as caught:
        open_network(uri, SourceOptions(open_timeout=0.3))
    assert caught.value.kind == kind


@pytest.mark.parametrize("said", [b"", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n"])
def test_a_server_that_stops_in_the_middle_of_its_answer_has_not_answered(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:

        def answer() -> None:
            with frozen.accept()[0] as client, contextlib.suppress(OSError):
                client.sendall(said)
                while client.recv(1000):
                    pass

        talking = threading.Thread(target=answer)
        talking.start()
        with pytest.raises(SourceError, match="no answer in time") as caught:
            open_network(f"rtsp://127.0.0.1:{frozen.getsockname()[1]}/x", SourceOptions(open_timeout=0.3))
        talking.join(10)
    assert caught.value.kind == "time-out"


def test_a_name_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr("rtpsp.stream.network_faults.socket.getaddrinfo", lambda *_: answer.wait(10))
    with pytest.raises(SourceError, match=r"did not answer within 0\.05 s") as caught:
        open_network("rtsp://camera/1", SourceOptions(open_timeout=0.05))
    answer.set()
    assert caught.value.kind == "unreachable"


def test_a_protocol_that_this_ffmpeg_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: Any, **__: Any) -> None:
        raise av.error.ProtocolNotFoundError(1, "Protocol not found", "srt://joe:sesame@127.0.0.1:9")

    monkeypatch.setattr("rtpsp.stream.network_dial.av.open", without)
    with pytest.raises(SourceError, match="rtpsp doctor") as caught:
        open_network("SRT://joe:sesame@127.0.0.1:9", QUICK)
    assert caught.value.kind == "codec" and "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable"),
        (av.error.ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "lost"),
        (av.error.InvalidDataError(1, "Invalid data"), "protocol"),
        (av.error.ExitError(1, "Immediate exit requested"), "time-out"),
        (av.error.UnknownError(1313558101, "rtsp://joe:sesame@h"), "lost"),
    ],
)
def test_what_goes_wrong_while_reading(error: Exception, kind: str) -> None:
    fault = network_faults.fault_of(error, opening=False, scheme="rtsp")
    assert fault.kind == kind and fault.what and fault.hint and "sesame" not in fault.message("rtsp://h")


def test_a_stream_that_stops_is_lost_after_the_time_out(server: str) -> None:
    with opened(f"{server}/mjpeg-hangs") as source:
        seen, lost = drain(source)
    assert len(seen) == 6 and lost is not None and lost.kind == "time-out" and "(for 0.3 s)" in str(lost)


def test_sound_that_goes_on_does_not_hide_a_lack_of_pictures(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(f"{server}/mjpeg")
    source._first = None

    class Sound:
        stream_index, size = 99, 100

    clock = itertools.count(time.monotonic() + 60, 0.01)
    monkeypatch.setattr(network, "now", lambda: next(clock))
    monkeypatch.setattr(source, "_packets", itertools.repeat(Sound()))
    with source, pytest.raises(SourceLost, match="nothing comes any more") as caught:
        source.read()
    assert caught.value.kind == "time-out"


def test_a_damaged_picture_is_passed_over_and_counted(server: str) -> None:
    with opened(f"{server}/broken") as source:
        seen, _ = drain(source)
        assert source.missed == 1
    assert [round(level) for level in seen] == [0, 0, 200, 210, 220]


def test_pictures_may_change_their_size(server: str) -> None:
    with opened(f"{server}/growing") as source:
        frames = [source.read() for _ in range(6)]
    shapes = [frame.to_bgr(None).shape[:2] for frame in frames if frame]
    assert shapes == [(HEIGHT, WIDTH)] * 3 + [(48, 64)] * 3
    assert shapes == [(frame.height, frame.width) for frame in frames if frame]


def test_mpegts_by_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            encode(f"udp://127.0.0.1:{port}?pkt_size=1316", 20, form="mpegts")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with opened(f"udp://@127.0.0.1:{port}") as source:
            assert source.info.live and (source.info.height, source.info.width) == (HEIGHT, WIDTH)
            frames = [source.read() for _ in range(4)]
    finally:
        stop.set()
        sender.join()
    times = [frame.pts for frame in frames if frame]
    assert len(times) == 4 and times == sorted(set(times))


def test_without_a_gpu_the_cpu_decodes(
    server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def create(codec: str, mode: str, hwaccel: str) -> Any:
        tried.append(hwaccel)
        raise av.error.OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(network_dial, "hwdevices_available", lambda: ["cuda", "vaapi"])
    monkeypatch.setattr(network_dial, "HWAccel", lambda name, allow_software_fallback: name)
    monkeypatch.setattr(network_dial, "CodecContext", type("NoGpu", (), {"create": staticmethod(create)}))
    with caplog.at_level(logging.INFO, "rtpsp"), opened(f"{server}/clip.mp4", SourceOptions(hwaccel="auto")) as source:
        assert source.health.hardware == "" and len(drain(source)[0]) == 12
    assert tried == ["cuda", "vaapi"] and [record.message.split(") ")[1] for record in caplog.records] == [
        "is decoded on the CPU: no GPU here can"
    ]


def test_the_first_gpu_that_opens_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        @staticmethod
        def create(codec: str, mode: str, hwaccel: str) -> Any:
            return type("Opened", (), {"is_hwaccel": hwaccel == "vaapi"})

    assert CodecContext.create("h264", "r").is_hwaccel is False
    monkeypatch.setattr(network_dial, "hwdevices_available", lambda: ["cuda", "vaapi"])
    monkeypatch.setattr(network_dial, "HWAccel", lambda name, allow_software_fallback: name)
    monkeypatch.setattr(network_dial, "CodecContext", Context)
    assert network_dial._device() == "vaapi"


def test_what_decoding_is_too_slow_for_is_left_out_and_counted(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = iter([False, True, True, False, False, False])
    monkeypatch.setattr(Lag, "leaves", lambda *_: next(leave, False))
    with opened(f"{server}/mjpeg") as source:
        frames = [source.read() for _ in range(4)]
        assert source.health.late == source.missed == 2
    assert [round(frame.to_bgr(None).mean()) for frame in frames if frame] == [0, 30, 40, 50]
    assert [frame.index for frame in frames if frame] == [0, 3, 4, 5]
