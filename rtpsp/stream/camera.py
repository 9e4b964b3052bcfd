"""Webcams by OpenCV: V4L2 on Linux, the system's own capture interface elsewhere.

A camera is asked for MJPG, since few deliver more than 640x480 at full rate without. Its JPEG is then taken as it is
and decoded in `to_bgr`: a dropped frame costs no decoding. It is copied out of the driver at once, for `grab` gives the
buffer back, and a `retrieve` in `to_bgr` would fetch another frame's picture.

`captured` is the driver's own time stamp: OpenCV gives V4L2's `buffer.timestamp` as CAP_PROP_POS_MSEC, which counts on
the clock of `time.monotonic` with nearly all drivers. One that cannot be that clock goes through `CaptureClock`, and
without any stamp the moment of arrival has to do.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from glob import glob
from typing import Any, Protocol

import cv2
import numpy as np

from rtpsp.errors import MissingError, SourceError, SourceLost
from rtpsp.stream.clock import CaptureClock
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.source import Source, SourceInfo, SourceOptions

_log = logging.getLogger(__name__)

BUFFERS = 2
"""Frames in the driver. With one it has nowhere to put a frame while the one before is copied, and many cameras fall
to half their rate; more only add age where we read too slowly."""

FIRST_FRAME = 5.0  # seconds that the first frame may take: many cameras need a second or two to start
PLAUSIBLE = 10.0  # seconds that a driver's stamp may lie back to be on our clock
_MJPG = cv2.VideoWriter.fourcc(*"MJPG")


class Device(Protocol):
    """What is needed of a camera; `OpenCVDevice` is the real one."""

    driver_stamps: bool
    """POS_MSEC is when the driver stamped the frame, and CONVERT_RGB=0 gives JPEG as it came: V4L2."""

    def set(self, prop: int, value: float) -> bool:
        """Ask for a property of `cv2.CAP_PROP_*`; whether it was understood."""

    def get(self, prop: int) -> float:
        """A property as it is, 0 where there is none."""

    def wait(self, seconds: float) -> bool:
        """Wait for a frame for at most so long and take it from the driver; whether there was one.

        Raises:
            cv2.error: The device went away.
        """

    def retrieve(self) -> tuple[bool, Any]:
        """A copy of the frame that was waited for: BGR, or JPEG as an array of bytes."""

    def release(self) -> None:
        """Give the device back."""


def open_camera(uri: str, options: SourceOptions, opener: Callable[[int], Device] | None = None) -> Source:
    """Open a webcam.

    Args:
        uri: Its number, or its path, which may be a link such as `/dev/v4l/by-id/…`.
        options: `camera_size`, `camera_fps` and `read_timeout` are read.
        opener: Opens a device by its number; the real one by default.

    Raises:
        SourceError: The path is not that of a camera.
        MissingError: No such camera, no right to use it, or another program has it.
        SourceLost: It opens and then delivers nothing.
    """
    number = re.fullmatch(r"(?:/dev/video)?(\d+)", uri if uri.isdigit() else os.path.realpath(uri))
    if number is None:
        if not os.path.exists(uri):
            raise MissingError(f"no camera {uri}: {_cameras()}")
        raise SourceError(f"{uri} is not a camera: expected a number or a path such as /dev/video0; {_cameras()}")
    return CameraSource(uri, (opener or OpenCVDevice)(int(number[1])), options)


class CameraSource(Source):
    """Frames of a webcam; each has its own size, and its picture is decoded when it is asked for."""

    def __init__(self, uri: str, device: Device, options: SourceOptions) -> None:
        self._uri, self._device, self._timeout = uri, device, options.read_timeout
        self._clock = CaptureClock()
        self._origin: float | None = None
        self._last_stamp = 0.0
        self._index = -1
        self._ends_seen = self._started = self._closed = False
        try:
            _ask(device, options)
            first = self._next(FIRST_FRAME)
        except SourceLost as error:
            device.release()
            raise SourceLost(f"{error}: see that no other program uses it, or try another camera") from error
        self.info = SourceInfo(
            uri=uri,
            kind="camera",
            height=first.height,
            width=first.width,
            fps=max(0.0, device.get(cv2.CAP_PROP_FPS)) or None,
            live=True,
            detail=_granted(device, first, options),
        )
        self._index, self._origin, self.missed = -1, None, 0

    def read(self) -> Frame | None:
        """The next frame, or None once closed.

        Raises:
            SourceLost: None came within the read time-out, or the camera went away.
        """
        if self._closed:
            return None
        if not self._started:
            self._started = True
            for _ in range(BUFFERS):  # they lay in the driver since the camera was opened, however long that is ago
                self._next(self._timeout)
            self._index, self._origin, self.missed = -1, None, 0
        return self._next(self._timeout)

    def close(self) -> None:
        """Give the device back."""
        self._closed = True
        self._device.release()

    def _next(self, timeout: float) -> Frame:
        until = time.monotonic() + timeout
        while True:
            try:
                there = self._device.wait(max(0.001, until - time.monotonic()))
                arrival = time.monotonic()
                ok, data = self._device.retrieve() if there else (False, None)
            except cv2.error as error:
                raise SourceLost(f"camera {self._uri} went away: reconnect it and start again") from error
            if there:
                self._index += 1
                frame = self._frame(data, arrival) if ok else None
                if frame is not None:
                    return frame
                self.missed += 1
            else:
                time.sleep(0.005)  # a device may say at once that it has nothing
            if time.monotonic() >= until:
                whole = "whole " if there else ""
                raise SourceLost(f"camera {self._uri} delivered no {whole}frame for {timeout:g} s")

    def _frame(self, data: Any, arrival: float) -> Frame | None:
        data = np.asarray(data, np.uint8)
        size, convert = data.shape[:2], partial(_copy, data)
        if data.ndim != 3 or data.shape[2] != 3:
            jpeg = data.tobytes()
            # Some cameras never write an end mark; where there was one before, the rest got lost on the way.
            whole = jpeg.rfind(b"\xff\xd9", max(0, len(jpeg) - 4096)) >= 0
            self._ends_seen |= whole
            found = jpeg_size(jpeg)
            if found is None or (self._ends_seen and not whole):
                if not self.missed:
                    _log.warning("camera %s sent a damaged frame: such frames are passed over", self._uri)
                return None
            size, convert = found, partial(_decode, jpeg if whole else jpeg + b"\xff\xd9", found)
        captured = self._captured(arrival)
        if self._origin is None:
            self._origin = captured
        return Frame(self._index, captured - self._origin, captured, size[0], size[1], convert)

    def _captured(self, arrival: float) -> float:
        stamp = self._device.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._device.driver_stamps else 0.0
        rises, self._last_stamp = stamp > self._last_stamp, stamp
        if not rises:
            return arrival
        if arrival - PLAUSIBLE <= stamp <= arrival:
            return stamp
        return self._clock.captured(stamp, arrival)


class OpenCVDevice:
    """A camera behind `cv2.VideoCapture`."""

    def __init__(self, number: int) -> None:
        linux = sys.platform.startswith("linux")
        self.driver_stamps = linux
        self._streaming = False  # the first grab starts the camera; until then there is nothing to wait for
        if linux:
            _check(number)
            # How long V4L2's first grab may block (10 s if not said); the only way to say it. Later ones go by `wait`.
            os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(FIRST_FRAME)))
        self._capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
        if not self._capture.isOpened():
            why = "another program may use it, or it gives no pictures (of a webcam's two numbers only the first does)"
            raise MissingError(f"camera {number} cannot be opened: {why}; {_cameras()}")
        if not linux:
            self._capture.set(cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * FIRST_FRAME)  # where the system has one

    def set(self, prop: int, value: float) -> bool:
        """See `Device.set`."""
        return bool(self._capture.set(prop, value))

    def get(self, prop: int) -> float:
        """See `Device.get`."""
        return float(self._capture.get(prop))

    def wait(self, seconds: float) -> bool:
        """See `Device.wait`; `grab` alone would block for as long as V4L2 likes."""
        until = time.monotonic() + seconds
        while self.driver_stamps and self._streaming:
            rest = until - time.monotonic()
            if rest <= 0:
                return False
            _, ready = cv2.VideoCapture.waitAny([self._capture], int(rest * 1e9))
            if len(ready):
                break
            time.sleep(0.005)  # one that hangs up wakes the poll without having a frame
        self._streaming = bool(self._capture.grab())
        return self._streaming

    def retrieve(self) -> tuple[bool, Any]:
        """See `Device.retrieve`."""
        return self._capture.retrieve()

    def release(self) -> None:
        """See `Device.release`."""
        self._capture.release()


def _check(number: int) -> None:
    path = f"/dev/video{number}"
    if not os.path.exists(path):
        raise MissingError(f"no camera {path}: {_cameras()}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise MissingError(
            f"no right to use {path}: add yourself to its group (sudo usermod -aG video $USER), log in anew"
        )


def _cameras() -> str:
    found = sorted(glob("/dev/video*"))
    return f"there are {', '.join(found)}" if found else "this machine has none; sim://street needs none"


def _ask(device: Device, options: SourceOptions) -> None:
    """Ask for format, size, rate and buffers; the format first, for it decides which sizes and rates there are."""
    device.set(cv2.CAP_PROP_FOURCC, _MJPG)
    if options.camera_size is not None:
        device.set(cv2.CAP_PROP_FRAME_WIDTH, options.camera_size[1])
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, options.camera_size[0])
    if options.camera_fps is not None:
        device.set(cv2.CAP_PROP_FPS, options.camera_fps)
    device.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)
    if device.driver_stamps and int(device.get(cv2.CAP_PROP_FOURCC)) == _MJPG:
        device.set(cv2.CAP_PROP_CONVERT_RGB, 0)


def _granted(device: Device, first: Frame, options: SourceOptions) -> str:
    code = int(device.get(cv2.CAP_PROP_FOURCC))
    name = code.to_bytes(4, "little").decode("ascii", "replace").strip() if 0 < code < 2**32 else "frames"
    fps, size, rate = max(0.0, device.get(cv2.CAP_PROP_FPS)), options.camera_size, options.camera_fps
    granted = f"{name} {first.width}x{first.height}" + (f" at {fps:g} fps" if fps else "")
    differs = [f"{size[1]}x{size[0]}"] if size and size != (first.height, first.width) else []
    if rate is not None and abs(fps - rate) > 0.5:
        differs.append(f"{rate:g} fps")
    return granted + (f" (asked for {' at '.join(differs)})" if differs else "")


def jpeg_size(jpeg: bytes) -> tuple[int, int] | None:
    """(height, width) from a JPEG's frame header (ITU-T T.81, B.2.2), or None where it has none."""
    at = 2
    while jpeg[:2] == b"\xff\xd8" and at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(jpeg[at + 5 : at + 7], "big"), int.from_bytes(jpeg[at + 7 : at + 9], "big")
        at += 2 + length
    return None


def _copy(image: Image, out: Image | None) -> Image:
    if out is None:
        return image
    np.copyto(out, image)
    return out


def _decode(jpeg: bytes, size: tuple[int, int], out: Image | None) -> Image:
    # Turned by nothing: a webcam's JPEG says its size as it is.
    image: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape[:2] != size:
        _log.warning("a camera's frame of %d bytes cannot be decoded: shown black", len(jpeg))
        image = np.zeros((*size, 3), np.uint8)
    return _copy(np.asarray(image, np.uint8), out)
