"""The contract that every source keeps; and which source a URI opens."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2  # isort: skip
import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtpsp.errors import MissingError, SourceError
from rtpsp.stream.camera import CameraSource
from rtpsp.stream.frame import Image
from rtpsp.stream.selection import Selection
from rtpsp.stream.source import Source, SourceOptions, open_source

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


def a_selection(folder: Path) -> Source:
    return Selection(a_simulated_file(folder), pace="source")


@pytest.fixture(params=[a_video, some_images, a_simulated_file, a_simulated_camera, a_webcam, a_selection])
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
        ("rtsp://user:password@host/stream", "rtsp:// sources are not supported"),
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
