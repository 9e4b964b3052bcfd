"""Webcams, against a double of the device: no test machine has a camera that misbehaves on request."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from rtpsp.errors import MissingError, SourceError, SourceLost
from rtpsp.stream import camera
from rtpsp.stream.camera import BUFFERS, CameraSource, OpenCVDevice, jpeg_size, open_camera
from rtpsp.stream.frame import Frame
from rtpsp.stream.source import SourceOptions

MJPG = cv2.VideoWriter.fourcc(*"MJPG")
LOST = BUFFERS + 1  # the frame that opening looks at, and those that lay in the driver


def jpeg(value: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    return cv2.imencode(".jpg", np.full((height, width, 3), value, np.uint8))[1].reshape(1, -1)


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), value, np.uint8)


class Double:
    """A device that delivers what `frames` yields: data, None for a frame that does not come, or an error to raise.

    `stamp` says what the driver stamps a frame with, in seconds, when it is taken out.
    """

    def __init__(self, frames: Iterator[Any], stamp: Callable[[], float] = time.monotonic, mjpg: bool = True) -> None:
        self.driver_stamps = True
        self.frames, self.stamp = frames, stamp
        self.properties: dict[int, float] = {cv2.CAP_PROP_FPS: 30.0}
        self.asked: list[int] = []
        self.mjpg = mjpg
        self.held: Any = None
        self.released = 0

    def set(self, prop: int, value: float) -> bool:
        self.asked.append(prop)
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


def test_what_was_granted_is_told() -> None:
    source = opened(Double(picture(i, 720, 1280) for i in range(9)), camera_size=(1080, 1920), camera_fps=60)
    assert (source.info.height, source.info.width) == (720, 1280)
    assert source.info.detail == "MJPG 1280x720 at 60 fps (asked for 1920x1080)"


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


def test_a_new_size_in_mid_run() -> None:
    sizes = [(48, 64)] * (LOST + 1) + [(96, 128)]
    source = opened(Double(jpeg(9, *size) for size in sizes))
    assert [(f.height, f.width) for f in (read(source), read(source))] == [(48, 64), (96, 128)]


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
    with pytest.raises(SourceLost, match=r"camera 0 delivered no frame for 0\.2 s"):
        source.read()
    assert time.monotonic() - began < 0.4


def test_a_camera_that_goes_away_is_a_loss() -> None:
    source = opened(Double(iter([*[jpeg(0)] * (LOST + 1), cv2.error("POLLERR")])))
    read(source)
    with pytest.raises(SourceLost, match="went away: reconnect"):
        source.read()
    source.close()


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
def test_a_missing_camera_is_named_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match=r"no camera /dev/video98765"):
        open_camera("98765", SourceOptions())
    monkeypatch.setattr(camera, "glob", lambda _: ["/dev/video2", "/dev/video0"])
    with pytest.raises(MissingError, match=r"there are /dev/video0, /dev/video2"):
        open_camera("98765", SourceOptions())


@linux
def test_a_camera_without_the_right_or_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MissingError, match="no right to use /dev/video98765: add yourself"):
        open_camera("98765", SourceOptions())
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    with pytest.raises(MissingError, match="another program may use it"):
        open_camera("98765", SourceOptions())


class Capture:
    """What `OpenCVDevice` uses of `cv2.VideoCapture`."""

    polls: list[bool]

    def __init__(self, number: int, backend: int) -> None:
        self.grabs = 0
        Capture.last = self

    last: Capture

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        self.grabs += 1
        return True

    @staticmethod
    def waitAny(streams: list[Any], timeout: int) -> tuple[bool, list[int]]:
        ready = Capture.polls.pop(0) if Capture.polls else False
        time.sleep(0 if ready else min(timeout / 1e9, 0.05))
        return ready, [0] if ready else []


@linux
def test_the_real_device_polls_and_grabs_only_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")
    Capture.polls = [False, True]
    device = OpenCVDevice(0)
    assert device.wait(0.2)  # the first starts the stream, without a poll
    assert (Capture.last.grabs, Capture.polls) == (1, [False, True])
    assert device.wait(0.2)
    assert (Capture.last.grabs, Capture.polls) == (2, [])
    began = time.monotonic()
    assert not device.wait(0.1)
    assert Capture.last.grabs == 2
    assert 0.1 <= time.monotonic() - began < 0.2


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_the_size_in_a_jpeg(flags: list[int]) -> None:
    data = cv2.imencode(".jpg", np.zeros((37, 51, 3), np.uint8), flags)[1].tobytes()
    assert jpeg_size(data) == (37, 51)
    assert jpeg_size(data[:20]) is None
    assert jpeg_size(b"") is None
    assert jpeg_size(b"\xff\xd8\xff" * 9) is None
