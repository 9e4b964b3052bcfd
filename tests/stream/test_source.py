"""The contract that every source keeps; and which source a URI opens."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2  # isort: skip
import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtpsp.errors import MissingError, SourceError, SourceLost, UsageError
from rtpsp.redaction import scrub
from rtpsp.stream.camera import CameraSource
from rtpsp.stream.frame import Image
from rtpsp.stream.reconnecting import Reconnecting
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import Reconnect, Source, SourceOptions, open_source
from tests.stream.web import Handler, jpeg, serving

HEIGHT, WIDTH = 120, 160

# The contract: a new source adds its maker to the list. Each gives at least three frames of 120x160 at 25 fps.


def a_video(folder: Path) -> Source:
    path = folder / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(3):
            frame = VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 80 * i, np.uint8), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return open_source(str(path))


def some_images(folder: Path) -> Source:
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((HEIGHT, WIDTH, 3), 80 * i, np.uint8))
    return open_source(str(folder))


def a_simulated_file(folder: Path) -> Source:
    return open_source(f"sim://street?w={WIDTH}&h={HEIGHT}&fps=25&frames=3")


def a_simulated_camera(folder: Path) -> Source:
    return open_source(f"sim://street?w={WIDTH}&h={HEIGHT}&fps=25&frames=3&live=1&fifo=9")


class SteadyDevice:
    """A camera that delivers for ever."""

    driver_stamps = True

    def set(self, prop: int, value: float) -> bool:
        return True

    def get(self, prop: int) -> float:
        return {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_POS_MSEC: 1000 * time.monotonic()}.get(prop, 0.0)

    def wait(self, seconds: float) -> bool:
        time.sleep(0.001)
        return True

    def retrieve(self) -> tuple[bool, Image]:
        return True, np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def release(self) -> None:
        pass


def a_webcam(folder: Path) -> Source:
    return CameraSource("0", SteadyDevice(), SourceOptions())


def a_network_file(folder: Path) -> Source:
    a_video(folder).close()
    with serving(folder) as address:  # read to its end before the server goes: it is small
        return open_source(f"{address}/clip.mp4")


def a_selection(folder: Path) -> Source:
    return Selection(a_simulated_file(folder), pace="source")


@pytest.fixture(
    params=[a_video, some_images, a_simulated_file, a_simulated_camera, a_webcam, a_selection, a_network_file]
)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    make: Callable[[Path], Source] = request.param
    return make(tmp_path)


def test_contract_of_every_source(source: Source) -> None:
    info = source.info
    assert (info.height, info.width) == (HEIGHT, WIDTH)
    assert info.fps == pytest.approx(25)
    assert info.frames == (None if info.kind == "camera" else 3)
    with source as entered:
        assert entered is source
        frames = [source.read() for _ in range(3)]
        read_at = time.monotonic()
        assert info.kind == "camera" or (source.read() is None and source.read() is None)
    source.close()
    whole = [frame for frame in frames if frame is not None]
    assert [frame.index for frame in whole] == [0, 1, 2]
    assert source.missed == 0
    assert whole[0].pts == 0
    assert whole[0].pts < whole[1].pts < whole[2].pts
    # On the monotonic clock, not in the future, and of this run.
    assert all(read_at - 5 < frame.captured <= read_at for frame in whole)
    out = np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    assert whole[1].to_bgr(out) is out
    assert not (out == 77).all()
    made = whole[2].to_bgr(None)
    assert made.shape == (whole[2].height, whole[2].width, 3) and made.dtype == np.uint8
    assert made.flags.c_contiguous and made.flags.writeable


def test_contract_of_reading_after_close(source: Source) -> None:
    source.read()
    source.close()
    assert source.read() is None


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("rtps://user:password@host/stream", "did you mean rtsps://?"),
        ("file:///user:password@clip.mp4", "give the path alone"),
        ("gopher://user:password@host/", "gopher:// sources are not supported: use a camera"),
        ("rtsp://user:password@/stream", "rtsp://***@/stream names no host"),
        ("absent.mp4", "no file 'absent.mp4'"),
        ("absent/*.png", "absent/*.png"),
        ("sim://beach", "sim://street"),
    ],
)
def test_what_cannot_be_opened_is_said_without_secrets(uri: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(uri)
    assert says in str(caught.value) and "password" not in str(caught.value)


@pytest.mark.parametrize("uri", ["97", "/dev/video97"])
def test_a_number_is_a_camera(uri: str) -> None:
    with pytest.raises(MissingError, match="/dev/video97"):
        open_source(uri)


def test_a_folder_with_a_star_in_its_name_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run*1"
    folder.mkdir()
    assert some_images(folder).info.kind == "images"


@pytest.mark.parametrize(
    ("uri", "options", "says"),
    [
        ("97", {"start": 1.0}, "--start has no meaning for a camera"),
        ("/dev/video97", {"end": 1.0}, "--end has no meaning for a camera"),
        ("97", {"loop": True}, "--loop has no meaning for a camera"),
        ("FOLDER", {"camera_size": (480, 640)}, "--camera-size has no meaning for images"),
        ("FOLDER/0.png", {"camera_fps": 30.0}, "--camera-fps has no meaning for images"),
        ("sim://street", {"camera_fps": 30.0}, "--camera-fps has no meaning for the simulator"),
        ("rtsp://camera/1", {"loop": True}, "--loop has no meaning for a network stream"),
        ("http://host/clip.mp4", {"start": 1.0}, "--start has no meaning for a network stream"),
        ("sim://street?live=1", {"start": 1.0}, "--start has no meaning for a live simulator"),
    ],
)
def test_an_option_without_meaning_is_refused(tmp_path: Path, uri: str, options: dict[str, Any], says: str) -> None:
    some_images(tmp_path).close()
    with pytest.raises(UsageError, match=says):
        open_source(uri.replace("FOLDER", str(tmp_path)), SourceOptions(**options))


def test_options_with_a_meaning_are_taken(tmp_path: Path) -> None:
    some_images(tmp_path).close()
    part = SourceOptions(start=0.04, end=0.08)
    for uri in (str(tmp_path), "sim://street?w=160&h=120&fps=25&frames=9"):
        with open_source(uri, part) as source:
            assert source.info.frames == 1
    with open_source("sim://street?w=160&h=120&live=1&frames=2", SourceOptions(loop=True)) as source:
        assert source.info.frames is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": float("nan")}, "the start is nan"),
        ({"start": float("inf")}, "the start is inf"),
        ({"start": -1.0}, "the start is -1"),
        ({"end": float("nan")}, "the end is nan"),
        ({"end": float("inf")}, "the end is inf"),
        ({"camera_fps": float("nan")}, "the camera's rate is nan"),
        ({"camera_fps": 0.0}, "the camera's rate is 0"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(options: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SourceOptions(**options)  # type: ignore[arg-type]


def test_a_misspelt_name_is_told_the_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "Drive.mp4").touch()
    for name, says in (
        ("clips/drvie.mp4", "did you mean clips/Drive.mp4?"),
        ("clips/holiday.mkv", "check the path"),
        ("clip/Drive.mp4", "there is no folder clip"),
        ("clops", "did you mean clips?"),
    ):
        with pytest.raises(SourceError) as caught:
            open_source(name)
        assert says in str(caught.value).replace("\\", "/")


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    some_images(tmp_path).close()
    with open_source("~/0.png") as source:
        assert source.info.uri == str(Path("~/0.png").expanduser())


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no files below /dev")
def test_a_file_below_dev_is_no_camera() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        with some_images(Path(name)) as source:
            assert source.info.kind == "images"
        with a_video(Path(name)) as source:
            assert source.info.kind == "video"


def six_pictures(handler: Handler) -> None:
    handler.parts([jpeg(10 * i) for i in range(6)])


@pytest.mark.parametrize("reconnect", [Reconnect(attempts=20, first=0.001, longest=0.001), None])
def test_a_live_source_is_opened_anew_unless_that_is_not_asked_for(tmp_path: Path, reconnect: Reconnect | None) -> None:
    options = SourceOptions(reconnect=reconnect)
    with serving(tmp_path, {"/cam": six_pictures}) as at, open_source(f"{at}/cam?pwd=sesam2", options) as source:
        frames = [source.read() for _ in range(6)]
        if reconnect is None:
            with pytest.raises(SourceLost):
                source.read()
        else:
            frames += [source.read() for _ in range(2)]
            assert isinstance(source, Reconnecting) and source.health.reconnects == 1
        assert source.info.uri == f"http://***@{at.partition('@')[2]}/cam?pwd=***"
    assert scrub("sesame or sesam2") == "*** or ***"
    assert [frame.index for frame in frames if frame] == list(range(len(frames)))


def test_what_is_not_there_yet_is_waited_for_if_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wait = SourceOptions(reconnect=Reconnect(attempts=20, first=0.001, longest=0.001, at_start=True))
    there = iter([False, False])

    def late(handler: Handler) -> None:
        if next(there, True):
            six_pictures(handler)
        else:
            handler.send_error(503)

    with serving(tmp_path, {"/cam": late}) as address:
        with open_source(f"{address}/cam", wait) as source:
            assert (source.info.height, source.info.live) == (0, True) and "waiting for it" in caplog.text
            assert source.read() is not None and (source.info.height, source.health.reconnects) == (HEIGHT, 0)
        with pytest.raises(SourceError, match="404"):
            open_source(f"{address}/404", wait)  # which no waiting cures
    with open_source("/dev/video97", wait) as source:
        assert source.info.live and source.info.kind == "camera"
    with pytest.raises(SourceError):
        open_source("absent.mp4", wait)
