"""Webcams by OpenCV: V4L2 on Linux, the system's own capture interface elsewhere.

A camera is asked for MJPG, since few deliver more than 640x480 at full rate without. Its JPEG is then taken as it is
and decoded in `to_bgr`: a dropped frame costs no decoding. It is copied out of the driver at once, for `grab` gives the
buffer back, and a `retrieve` in `to_bgr` would fetch another frame's picture.

`captured` is the driver's own time stamp: OpenCV gives V4L2's `buffer.timestamp` as CAP_PROP_POS_MSEC, which counts on
the clock of `time.monotonic` with nearly all drivers. One that cannot be that clock goes through `CaptureClock`, and
without any stamp the moment of arrival has to do. A `Timeline` puts them in order.

One that was unplugged is back under its path once it is plugged in and nobody holds the path: `open_camera` is then
called anew (`rtpsp.stream.reconnecting`), with the name, link or number that was given.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from rtpsp.errors import MissingError, SourceError, SourceLost
from rtpsp.stream.camera_device import FIRST_FRAME, Device, OpenCVDevice
from rtpsp.stream.camera_request import BUFFERS, ask, to_granted, to_refusal
from rtpsp.stream.cameras import formats_of, there_are, to_camera_uri
from rtpsp.stream.clock import CaptureClock
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.promise import Promise
from rtpsp.stream.source import Source, SourceInfo, SourceOptions
from rtpsp.stream.timeline import Timeline

_log = logging.getLogger(__name__)

PLAUSIBLE = 10.0  # seconds that a driver's stamp may lie back to be on our clock

READ_TIMEOUT = 2.0
"""Seconds that a read may take where `SourceOptions` does not say."""


def open_camera(uri: str, options: SourceOptions, opener: Callable[[int], Device] | None = None) -> Source:
    """Open a webcam. One that does not grant what was asked for is taken as it is, with a warning in the log.

    Args:
        uri: Its number, its path, which may be a link such as `/dev/v4l/by-id/…`, or its name or a part of that.
        options: `camera_size`, `camera_fps` and `read_timeout` are read.
        opener: Opens a device by its number; the real one by default.

    Raises:
        SourceError: The path is not that of a camera.
        MissingError: No such camera, no right to use it, or another program has it.
        SourceLost: It opens and then delivers nothing.
        UsageError: It is no name at all: a file, another source's URI, nothing.
    """
    uri = to_camera_uri(uri)
    found = re.fullmatch(r"(?:/dev/video)?(\d+)", uri if uri.isdigit() else os.path.realpath(uri))
    if found is None:
        if not os.path.exists(uri):
            raise MissingError(f"no camera {uri}: {there_are()}")
        raise SourceError(
            f"{uri} is not a camera: expected a number, a path such as /dev/video0 or a name; {there_are()}"
        )
    number = int(found[1])
    source = CameraSource(uri, (opener or OpenCVDevice)(number), options)
    if source.granted.differs_from(options):
        _log.warning("%s", to_refusal(uri, source.granted, options, formats_of(number)))
    return source


class CameraSource(Source):
    """Frames of a webcam; each has its own size, and its picture is decoded when it is asked for."""

    def __init__(self, uri: str, device: Device, options: SourceOptions) -> None:
        self._uri, self._device = uri, device
        self._timeout = READ_TIMEOUT if options.read_timeout is None else options.read_timeout
        self._interval = 0.0
        self._begin()
        self._size: tuple[int, int] | None = None
        self._ends_seen = self._started = self._closed = False
        try:
            ask(device, options)
            first = self._next(FIRST_FRAME)
        except (SourceLost, cv2.error) as error:
            device.release()
            kind = error.kind if isinstance(error, SourceLost) else "lost"
            raise SourceLost(f"{error}: see that no other program uses it, or try another camera", kind) from error
        self.granted = to_granted(device, first.height, first.width)
        self.info = SourceInfo(
            uri=uri,
            kind="camera",
            height=first.height,
            width=first.width,
            fps=self.granted.fps or None,
            live=True,
            detail=self.granted.to_detail(options),
        )
        self._promise = Promise(f"camera {uri}", self.info.fps, self.health)
        self._interval = 1 / self.info.fps if self.info.fps else 0.0

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
            self._begin()
        frame = self._next(self._timeout)
        self._promise.look(frame)
        return frame

    def close(self) -> None:
        """Give the device back."""
        self._closed = True
        self._device.release()

    def _begin(self) -> None:
        """What came before the next frame does not count."""
        self._index, self.missed = -1, 0
        self.health.stamps.clear()
        self._timeline = Timeline(self.health, _DriverClock())

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
                frame = self._frame(data, arrival) if ok and data is not None else None
                if frame is not None:
                    return frame
                self.missed += 1
            else:
                time.sleep(0.005)  # a device may say at once that it has nothing
            if time.monotonic() >= until:
                whole = "whole " if there else ""
                raise SourceLost(f"camera {self._uri} delivered no {whole}frame for {timeout:g} s", "time-out")

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
        if self._size not in (None, size):
            _log.warning("camera %s now gives %dx%d (HxW), before it was %dx%d", self._uri, *size, *self._size)
        self._size = size
        stamp = self._device.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._device.driver_stamps else 0.0
        pts, captured = self._timeline.place(stamp or None, arrival, self._interval)
        return Frame(self._index, pts, captured, size[0], size[1], convert)


class _DriverClock(CaptureClock):
    """A driver's, which with nearly all is our own; `CaptureClock` is for the others."""

    def captured(self, pts: float, arrival: float) -> float:
        """See `CaptureClock.captured`."""
        return pts if _plausible(pts, arrival) else super().captured(pts, arrival)

    def ahead(self, pts: float, arrival: float) -> float:
        """See `CaptureClock.ahead`."""
        return 0.0 if _plausible(pts, arrival) else super().ahead(pts, arrival)


def _plausible(stamp: float, arrival: float) -> bool:
    return arrival - PLAUSIBLE <= stamp <= arrival


def jpeg_size(jpeg: bytes) -> tuple[int, int] | None:
    """(height, width) from a JPEG's frame header (ITU-T T.81, B.2.2), or None where it has none."""
    at = 2
    while jpeg[:2] == b"\xff\xd8" and at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(jpeg[at + 5 : at + 7], "big"), int.from_bytes(jpeg[at + 7 : at + 9], "big")
            return (height, width) if height and width else None
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
