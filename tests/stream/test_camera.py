"""Webcams, against a double of the device: no test machine has a camera that misbehaves on request."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import av
import cv2
import numpy as np
import pytest

from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError, SourceError, SourceLost
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.stream import camera, cameras
from rtpsp.stream.camera import CameraSource, jpeg_size, open_camera
from rtpsp.stream.camera_device import OpenCVDevice
from rtpsp.stream.camera_request import BUFFERS
from rtpsp.stream.cameras import CameraFormat, CameraInfo
from rtpsp.stream.frame import Frame
from rtpsp.stream.reconnecting import Reconnecting
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.sink import MaskFolder
from rtpsp.stream.source import Reconnect, Source, SourceOptions
from tests.stream.test_cameras import Kernel, Node, compiler, run_with_driver

MJPG = cv2.VideoWriter.fourcc(*"MJPG")
LOST = BUFFERS + 1  # the frame that opening looks at, and those that lay in the driver

C920 = CameraInfo(
    "/dev/video0",
    "HD Pro Webcam C920",
    (
        CameraFormat("YUYV", 480, 640, (30.0, 15.0)),
        CameraFormat("YUYV", 720, 1280, (10.0,)),
        CameraFormat("MJPG", 480, 640, (60.0, 30.0)),
        CameraFormat("MJPG", 1080, 1920, (30.0, 24.0)),
        CameraFormat("MJPG", 720, 1280, (30.0, 24.0)),
        CameraFormat("MJPG", 240, 320, (60.0,)),
        CameraFormat("MJPG", 120, 160, (30.0,)),
    ),
)


def jpeg(value: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    return cv2.imencode(".jpg", np.full((height, width, 3), value, np.uint8))[1].reshape(1, -1)


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), value, np.uint8)


class Double:
    """A device that delivers what `frames` yields: data, None for a frame that does not come, or an error to raise.

    `stamp` says what the driver stamps a frame with, in seconds, when it is taken out. What it `refuses` to be
    asked for keeps its value.
    """

    def __init__(
        self,
        frames: Iterator[Any],
        stamp: Callable[[], float] = time.monotonic,
        mjpg: bool = True,
        refuses: tuple[int, ...] = (),
    ) -> None:
        self.driver_stamps = True
        self.frames, self.stamp = frames, stamp
        self.properties: dict[int, float] = {cv2.CAP_PROP_FPS: 30.0}
        self.asked: list[int] = []
        self.mjpg, self.refuses = mjpg, refuses
        self.held: Any = None
        self.released = 0

    def set(self, prop: int, value: float) -> bool:
        self.asked.append(prop)
        if prop in self.refuses:
            return False
        if prop == cv2.CAP_PROP_FOURCC and not self.mjpg:
            value = cv2.VideoWriter.fourcc(*"YUYV")
        self.properties[prop] = value
        return True

    def get(self, prop: int) -> float:
        return self.properties.get(prop, 0.0)

    def wait(self, seconds: float) -> bool:
        self.held = next(self.frames, None)
        if isinstance(self.held, Exception):
            raise self.held
        if self.held is None:
            time.sleep(seconds)
            return False
        self.properties[cv2.CAP_PROP_POS_MSEC] = 1000 * self.stamp()
        return True

    def retrieve(self) -> tuple[bool, Any]:
        return True, self.held

    def release(self) -> None:
        self.released += 1


def opened(double: Double, **options: Any) -> CameraSource:
    source = open_camera("0", SourceOptions(**options), lambda _: double)
    assert isinstance(source, CameraSource)
    return source


def read(source: CameraSource) -> Frame:
    frame = source.read()
    assert frame is not None
    return frame


def value_of(frame: Frame) -> int:
    return int(frame.to_bgr(None)[0, 0, 0])


def test_jpeg_is_asked_for_first_and_decoded_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double(jpeg(10 * i) for i in range(9))
    source = opened(double, camera_size=(48, 64), camera_fps=30)
    assert double.asked[0] == cv2.CAP_PROP_FOURCC
    assert double.properties[cv2.CAP_PROP_BUFFERSIZE] == BUFFERS
    assert double.properties[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert (source.info.kind, source.info.live, source.info.height, source.info.width) == ("camera", True, 48, 64)
    assert (source.info.fps, source.info.detail) == (30, "MJPG 64x48 at 30 fps")
    decoded: list[int] = []
    real = cv2.imdecode

    def counted(data: Any, flags: int) -> Any:
        decoded.append(flags)
        return real(data, flags)

    monkeypatch.setattr(cv2, "imdecode", counted)
    frames = [read(source) for _ in range(3)]
    assert decoded == []
    out = np.empty((48, 64, 3), np.uint8)
    assert frames[1].to_bgr(out) is out
    assert out == pytest.approx(10 * (LOST + 1), abs=2)
    assert len(decoded) == 1


def test_frames_that_lay_in_the_driver_are_not_delivered() -> None:
    source = opened(Double(jpeg(10 * i) for i in range(9)))
    first = read(source)
    assert value_of(first) == pytest.approx(10 * LOST, abs=2)
    assert (first.index, first.pts, source.missed) == (0, 0.0, 0)


@pytest.fixture
def a_c920(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_look", lambda: ((C920,), None))


WIDTH, HEIGHT, FPS = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS
ANY_SIZE = (
    "nearest that it offers: 1080x1920 at 30/24 fps, 720x1280 at 30/24 fps, 480x640 at 60/30 fps, 240x320 at 60 fps"
)


@pytest.mark.usefixtures("a_c920")
@pytest.mark.parametrize(
    ("asked", "delivers", "refuses", "detail", "warning"),
    [
        ({"camera_size": (720, 1280), "camera_fps": 30}, (720, 1280), (), "MJPG 1280x720 at 30 fps", None),
        ({}, (480, 640), (FPS, WIDTH), "MJPG 640x480 at 30 fps", None),
        ({"camera_fps": 29.97}, (480, 640), (FPS,), "MJPG 640x480 at 30 fps", None),
        (  # it takes the request and delivers something else
            {"camera_size": (1200, 2000), "camera_fps": 30},
            (720, 1280),
            (),
            "MJPG 1280x720 at 30 fps (asked for 2000x1200 at 30 fps)",
            f"camera 0: asked for 1200x2000 at 30 fps, it gives 720x1280 (HxW) at 30 fps; {ANY_SIZE}",
        ),
        (  # it says that it does not
            {"camera_size": (1200, 2000)},
            (480, 640),
            (WIDTH, HEIGHT),
            "MJPG 640x480 at 30 fps (asked for 2000x1200)",
            f"camera 0: asked for 1200x2000, it gives 480x640 (HxW) at 30 fps; {ANY_SIZE}",
        ),
        (
            {"camera_size": (720, 1280), "camera_fps": 60},
            (720, 1280),
            (FPS,),
            "MJPG 1280x720 at 30 fps (asked for 1280x720 at 60 fps)",
            "camera 0: asked for 720x1280 at 60 fps, it gives 720x1280 (HxW) at 30 fps; "
            "it offers 720x1280 at 30/24 fps, and 60 fps at 480x640, 240x320",
        ),
        (
            {"camera_fps": 90},
            (480, 640),
            (FPS,),
            "MJPG 640x480 at 30 fps (asked for 90 fps)",
            "camera 0: asked for 90 fps, it gives 480x640 (HxW) at 30 fps; it offers 480x640 at 60/30 fps",
        ),
    ],
)
def test_what_was_granted_is_told(
    asked: dict[str, Any],
    delivers: tuple[int, int],
    refuses: tuple[int, ...],
    detail: str,
    warning: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = opened(Double((jpeg(0, *delivers) for _ in range(9)), refuses=refuses), **asked)
    assert (source.info.height, source.info.width) == delivers
    assert source.info.detail == detail
    assert [record.getMessage() for record in caplog.records] == ([] if warning is None else [warning])
    assert (read(source).height, source.info.fps) == (delivers[0], 30)


@pytest.mark.usefixtures("a_c920")
def test_without_mjpg_the_offer_is_that_of_the_format_that_came(caplog: pytest.LogCaptureFixture) -> None:
    double = Double((picture(0, 480, 640) for _ in range(9)), mjpg=False)
    double.properties[FPS] = 0
    source = opened(double, camera_size=(1080, 1920))
    assert source.info.detail == "YUYV 640x480 (asked for 1920x1080)" and source.info.fps is None
    assert caplog.records[0].getMessage() == (
        "camera 0: asked for 1080x1920, it gives 480x640 (HxW) at a rate that it does not tell; "
        "nearest that it offers: 720x1280 at 10 fps, 480x640 at 30/15 fps"
    )


def test_a_refusal_where_nobody_knows_what_it_offers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cameras, "_look", lambda: ((), "no list here"))
    opened(Double(jpeg(0) for _ in range(9)), camera_size=(1080, 1920))
    assert (
        caplog.records[0]
        .getMessage()
        .endswith("it gives 48x64 (HxW) at 30 fps; what it offers cannot be asked here: try another")
    )


def test_a_camera_without_jpeg_gives_pictures() -> None:
    double = Double((picture(10 * i) for i in range(9)), mjpg=False)
    source = opened(double)
    assert cv2.CAP_PROP_CONVERT_RGB not in double.properties
    assert "YUYV" in source.info.detail
    frame = read(source)
    out = np.empty((48, 64, 3), np.uint8)
    assert frame.to_bgr(out) is out and out[0, 0, 0] == 10 * LOST


def test_captured_is_the_drivers_stamp() -> None:
    source = opened(Double((jpeg(0) for _ in range(9)), stamp=lambda: time.monotonic() - 0.5))
    before = time.monotonic()
    frame = read(source)
    assert -0.5 <= frame.captured - before <= -0.5 + (time.monotonic() - before)


def test_a_stamp_of_another_clock_still_shows_lateness() -> None:
    # A driver that counts from its own start: the second frame read is stamped 1 ms after the first, and 150 ms late.
    stamps = iter([1 + i / 1000 for i in range(LOST + 2)])

    def frames() -> Iterator[Any]:
        yield from [jpeg(0)] * (LOST + 1)
        time.sleep(0.15)
        yield jpeg(0)

    source = opened(Double(frames(), stamp=lambda: next(stamps)))
    first, second = read(source), read(source)
    assert second.captured - first.captured == pytest.approx(0.001, abs=1e-4)
    assert time.monotonic() - second.captured > 0.14


def test_without_a_stamp_arrival_has_to_do() -> None:
    source = opened(Double((jpeg(0) for _ in range(9)), stamp=lambda: 0.0))
    before = time.monotonic()
    frames = [read(source) for _ in range(3)]
    assert all(before <= f.captured <= time.monotonic() for f in frames)


def test_a_new_size_in_mid_run_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    sizes = [(48, 64)] * (LOST + 1) + [(96, 128)] * 2 + [(48, 64)]
    source = opened(Double(jpeg(9, *size) for size in sizes))
    frames = [read(source) for _ in range(4)]
    assert [(f.height, f.width) for f in frames] == [(48, 64), (96, 128), (96, 128), (48, 64)]
    assert [f.to_bgr(None).shape for f in frames] == [(f.height, f.width, 3) for f in frames]
    assert [record.getMessage() for record in caplog.records] == [
        "camera 0 now gives 96x128 (HxW), before it was 48x64",
        "camera 0 now gives 48x64 (HxW), before it was 96x128",
    ]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("between", [(96, 128), (36, 64), (47, 63), (128, 48)], ids=str)
def test_the_loop_and_its_sinks_bear_a_new_size(tmp_path: Path, between: tuple[int, int], raw: bool) -> None:
    sizes = [(48, 64)] * (LOST + 2) + [between] * 2 + [(48, 64)]
    make = picture if raw else jpeg
    double = Double((make(40, *size) for size in sizes), stamp=itertools.count(1, 0.04).__next__, mjpg=not raw)
    film, masks = tmp_path / "out.mp4", tmp_path / "masks"
    options = RunOptions(policy="every", max_frames=5, threads=1)
    sinks = [VideoFile(film, "side-by-side"), MaskFolder(masks)]
    report = open_pipeline(opened(double), FakeEngine(), sinks, options).run()
    assert (report.frames.received, report.frames.shown) == (5, 5)
    written = [np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).shape for path in sorted(masks.glob("*.png"))]
    assert written == [(48, 64), (48, 64), between, between, (48, 64)]
    with av.open(str(film)) as container:
        recorded = [(frame.height, frame.width) for frame in container.decode(video=0)]
    assert recorded == [(48, 128)] * 5  # a file has one size: the first picture's
    assert double.released == 1


@pytest.mark.parametrize("end", [cv2.error("POLLERR"), None], ids=["gone", "silent"])
def test_a_camera_lost_in_mid_run_leaves_a_whole_recording(tmp_path: Path, end: Exception | None) -> None:
    double = Double(iter([*[jpeg(40)] * (LOST + 3), end]), stamp=itertools.count(1, 0.04).__next__)
    film = tmp_path / "out.mp4"
    options = RunOptions(policy="every", threads=1)
    pipeline = open_pipeline(opened(double, read_timeout=0.2), FakeEngine(), [VideoFile(film)], options)
    with pytest.raises(SourceLost, match=r"camera 0 (went away: reconnect|delivered no frame for)") as error:
        pipeline.run()
    assert error.value.exit_code == 5
    assert double.released == 1 and pipeline.report().frames.shown == 3
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_damaged_frames_are_passed_over_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    whole = [jpeg(0)] * (LOST + 1)
    cut, garbage = jpeg(0)[:, :-40], np.zeros((1, 500), np.uint8)
    source = opened(Double(iter([*whole, cut, garbage, jpeg(200)])))
    assert read(source).index == 0
    with caplog.at_level(logging.WARNING):
        frame = read(source)
    assert (frame.index, source.missed) == (3, 2)
    assert value_of(frame) == pytest.approx(200, abs=2)
    assert caplog.text.count("damaged frame") == 1


def test_a_camera_that_never_ends_its_jpeg_is_served() -> None:
    source = opened(Double(jpeg(120)[:, :-2] for _ in range(9)))
    assert value_of(read(source)) == pytest.approx(120, abs=2)


def test_a_picture_that_cannot_be_decoded_is_black(caplog: pytest.LogCaptureFixture) -> None:
    data = jpeg(255)
    start = bytes(data[0]).index(b"\xff\xc4")  # keep the frame header, break the tables after it
    data[0, start + 2 : start + 4] = 0xEE
    source = opened(Double(data for _ in range(9)))
    frame = read(source)
    with caplog.at_level(logging.WARNING):
        bgr = frame.to_bgr(None)
    assert bgr.shape == (48, 64, 3) and not bgr.any()
    assert "cannot be decoded" in caplog.text


def test_silence_is_a_loss_within_the_time_out() -> None:
    source = opened(Double(iter([jpeg(0)] * (LOST + 1))), read_timeout=0.2)
    read(source)
    began = time.monotonic()
    with pytest.raises(SourceLost, match=r"camera 0 delivered no frame for 0\.2 s") as lost:
        source.read()
    assert lost.value.kind == "time-out"
    assert time.monotonic() - began < 0.4


def test_a_camera_that_goes_away_is_a_loss() -> None:
    source = opened(Double(iter([*[jpeg(0)] * (LOST + 1), cv2.error("POLLERR")])))
    read(source)
    with pytest.raises(SourceLost, match="went away: reconnect"):
        source.read()
    source.close()


def test_an_unplugged_camera_comes_back_under_its_path() -> None:
    before = Double(iter([*[jpeg(0)] * (LOST + 2), cv2.error("POLLERR")]))
    plugs: Iterator[Double | MissingError]
    plugs = iter([before, MissingError("no camera /dev/video0"), Double(jpeg(0, 96, 128) for _ in range(9))])

    def opener(_: int) -> Double:
        plug = next(plugs)
        if isinstance(plug, MissingError):
            raise plug
        return plug

    released: list[int] = []

    def wait(seconds: float) -> bool:
        released.append(before.released)
        return False

    def plugged() -> Source:
        return open_camera("0", SourceOptions(), opener)

    source = Reconnecting(plugged, Reconnect(), plugged(), uri="0", wait=wait)
    frames = [source.read() for _ in range(4)]
    assert [(frame.index, frame.height) for frame in frames if frame] == [(0, 48), (1, 48), (2, 96), (3, 96)]
    assert released == [1, 1], "given back before the wait: else it would come back under another number"
    assert (source.health.reconnects, source.health.faults) == (1, {"lost": 2})
    assert (source.info.height, source.info.width) == (96, 128)


def test_drivers_stamps_are_put_in_order_and_counted() -> None:
    now = time.monotonic()
    late = [0.5, 0.4, 0.4, 0.45, None, 0.3]  # before now, after those of opening
    stamps = iter([now - 1] * LOST + [0.0 if ago is None else now - ago for ago in late])
    source = opened(Double((jpeg(0) for _ in range(20)), stamp=lambda: next(stamps)))
    frames = [read(source) for _ in late]
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    assert [frame.captured for frame in frames[:2]] == pytest.approx([now - 0.5, now - 0.4])
    assert source.health.stamps == {"duplicate": 1, "backwards": 1, "missing": 1}


def test_a_camera_that_gives_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "FIRST_FRAME", 0.05)
    double = Double(iter([]))
    with pytest.raises(SourceLost, match=r"delivered no frame .* no other program uses it"):
        opened(double)
    assert double.released == 1


def test_a_path_may_be_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "realpath", lambda path: "/dev/video7")
    numbers: list[int] = []

    def opener(number: int) -> Double:
        numbers.append(number)
        return Double(jpeg(0) for _ in range(9))

    assert open_camera("/dev/v4l/by-id/some-webcam", SourceOptions(), opener).info.uri.endswith("some-webcam")
    assert numbers == [7]


def test_what_is_no_camera_is_refused() -> None:
    with pytest.raises(SourceError, match="/dev/null is not a camera"):
        open_camera("/dev/null", SourceOptions())
    with pytest.raises(MissingError, match="no camera /dev/frontdoor"):
        open_camera("/dev/frontdoor", SourceOptions())


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2")


@linux
def test_a_missing_camera_is_told_with_those_there_are_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_look", lambda: ((C920,), None))
    with pytest.raises(MissingError, match=r"no camera /dev/video98765: there is HD Pro Webcam C920 \(/dev/video0\)"):
        open_camera("98765", SourceOptions())
    monkeypatch.setattr(cameras, "_look", lambda: ((), None))
    with pytest.raises(MissingError, match=r"no camera /dev/video98765: this machine has none; plug one in"):
        open_camera("/dev/video98765", SourceOptions())


def test_a_camera_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_look", lambda: ((CameraInfo("/dev/video7", "HD Pro Webcam C920"),), None))
    numbers: list[int] = []

    def opener(number: int) -> Double:
        numbers.append(number)
        return Double(jpeg(0) for _ in range(9))

    assert open_camera("c920", SourceOptions(), opener).info.uri == "/dev/video7"
    assert numbers == [7]
    with pytest.raises(MissingError, match="no camera is called 'brio': there is HD Pro"):
        open_camera("brio", SourceOptions(), opener)


class Capture:
    """What `OpenCVDevice` uses of `cv2.VideoCapture`."""

    opens = True
    polls: ClassVar[list[bool]] = []
    last: Capture

    def __init__(self, number: int, backend: int) -> None:
        self.grabs = self.released = 0
        Capture.last = self

    def isOpened(self) -> bool:
        return self.opens

    def release(self) -> None:
        self.released += 1

    def grab(self) -> bool:
        self.grabs += 1
        return True

    @staticmethod
    def waitAny(streams: list[Any], timeout: int) -> tuple[bool, list[int]]:
        ready = Capture.polls.pop(0) if Capture.polls else False
        time.sleep(0 if ready else min(timeout / 1e9, 0.05))
        return ready, [0] if ready else []


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Two nodes of one webcam, the second for metadata; and one that another program has."""
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(Capture, "opens", True)
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")
    monkeypatch.setattr(cameras, "_look", lambda: ((C920,), None))
    return Kernel(tmp_path, {0: Node("C920"), 1: Node("C920", own=0x00800000), 2: errno.EBUSY, 3: errno.EACCES})


@linux
def test_a_node_without_pictures_is_refused(kernel: Kernel) -> None:
    with pytest.raises(SourceError, match=r"video1 gives no pictures \(of a webcam's two.*there is HD Pro Webcam C920"):
        OpenCVDevice(1, kernel)


@linux
def test_no_right_names_the_group(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name="video"))
    (kernel.dev / "video3").chmod(0o660)
    with pytest.raises(MissingError, match=r"video3: no right to use it: add yourself to group video \(sudo usermod"):
        OpenCVDevice(3, kernel)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MissingError, match=r"video0: no right to use it: add yourself|gives no group that right"):
        OpenCVDevice(0, kernel)


@linux
def test_a_camera_in_use_names_the_program(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match=r"video2: another program has it: end that program$"):
        OpenCVDevice(2, kernel)
    monkeypatch.setattr(Capture, "opens", False)
    with pytest.raises(MissingError, match=r"video0 cannot be opened: another program may use it; there is HD Pro"):
        OpenCVDevice(0, kernel)
    assert Capture.last.released == 1
    program = "import sys, time; held = open(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    holding = [sys.executable, "-c", program, str(kernel.dev / "video0")]
    with subprocess.Popen(holding, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            with pytest.raises(MissingError, match=rf"video0 is in use by \S+ \(pid {process.pid}\): end that program"):
                OpenCVDevice(0, kernel)
        finally:
            process.kill()


@linux
def test_the_real_device_polls_and_grabs_only_what_is_there(kernel: Kernel) -> None:
    Capture.polls[:] = [False, True]
    device = OpenCVDevice(0, kernel)
    assert device.wait(0.2)  # the first starts the stream, without a poll
    assert (Capture.last.grabs, Capture.polls) == (1, [False, True])
    assert device.wait(0.2)
    assert (Capture.last.grabs, Capture.polls) == (2, [])
    assert not device.wait(0.1)
    assert Capture.last.grabs == 2


@linux
def test_an_unplugged_camera_is_noticed_before_the_time_out(kernel: Kernel) -> None:
    Capture.polls[:] = []
    device = OpenCVDevice(0, kernel)
    assert device.wait(1)
    (kernel.dev / "video0").unlink()
    with pytest.raises(cv2.error, match="no longer there"):
        device.wait(5)


STREAM = """
import logging, sys
from dataclasses import replace
from rtpsp.errors import RtpspError
from rtpsp.stream import camera_device, cameras
from rtpsp.stream.camera import open_camera
from rtpsp.stream.source import SourceOptions

logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
cameras._look = lambda: (tuple(replace(node, uri="/dev/video0") for node in camera_v4l2.list_nodes(kernel)), None)
try:
    options = SourceOptions(camera_size=(720, 1280), camera_fps=60, read_timeout=60)
    source = open_camera("0", options, lambda number: camera_device.OpenCVDevice(number, kernel))
    print(source.info.detail, source.info.fps)
    last = 0
    while True:
        frame = source.read()
        picture = frame.to_bgr(None)
        print(frame.index, frame.captured > last, picture.shape, round(float(picture.mean())))
        last = frame.captured
except RtpspError as error:
    print(type(error).__name__, error)
"""


@compiler
def test_opencv_streams_from_a_driver_that_refuses_changes_and_goes(tmp_path: Path) -> None:
    lines = run_with_driver(tmp_path, STREAM, CAMERA_CHANGES="8", CAMERA_GOES="12").splitlines()
    assert lines[:2] == [
        "camera 0: asked for 720x1280 at 60 fps, it gives 480x640 (HxW) at 30 fps; "
        "nearest that it offers: 480x640 at 30 fps",
        "MJPG 640x480 at 30 fps (asked for 1280x720 at 60 fps) 30.0",
    ]
    assert lines[-1] == "SourceLost camera 0 went away: reconnect it and start again"  # long before the time-out
    change = lines.index("camera 0 now gives 240x320 (HxW), before it was 480x640")
    before, after = lines[2:change], lines[change + 1 : -1]
    assert before == [f"{index} True (480, 640, 3) 90" for index in range(len(before))]
    assert after == [f"{index} True (240, 320, 3) 90" for index in range(len(before), len(before) + len(after))]
    assert len(before) >= 2 and len(after) >= 2  # OpenCV may take a frame more or less for itself


@compiler
def test_opencv_and_a_driver_that_is_busy(tmp_path: Path) -> None:
    last = run_with_driver(tmp_path, STREAM, CAMERA_BUSY="1").splitlines()[-1]
    assert last.startswith("MissingError camera ") and "cannot be opened: another program may use it" in last


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_the_size_in_a_jpeg(flags: list[int]) -> None:
    data = cv2.imencode(".jpg", np.zeros((37, 51, 3), np.uint8), flags)[1].tobytes()
    assert jpeg_size(data) == (37, 51)
    assert jpeg_size(data[:20]) is None
    assert jpeg_size(b"") is None
    assert jpeg_size(b"\xff\xd8\xff" * 9) is None
