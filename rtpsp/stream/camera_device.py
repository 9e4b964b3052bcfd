"""A camera as OpenCV drives it, behind what is needed of one."""

from __future__ import annotations

import math
import os
import sys
import time
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2

from rtpsp.errors import MissingError, SourceError
from rtpsp.stream.cameras import there_are

if TYPE_CHECKING:
    from rtpsp.stream.camera_v4l2 import Kernel

FIRST_FRAME = 5.0
"""Seconds that the first frame may take: many cameras need a second or two to start."""


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


class OpenCVDevice:
    """A camera behind `cv2.VideoCapture`."""

    def __init__(self, number: int, kernel: Kernel | None = None) -> None:
        """Open a camera.

        Args:
            number: As OpenCV counts.
            kernel: What to ask on Linux; the kernel that runs by default.

        Raises:
            SourceError: It is a node that gives no pictures.
            MissingError: No such camera, no right to use it, or another program has it.
        """
        linux = sys.platform.startswith("linux")
        self.driver_stamps = linux
        self._streaming = False  # the first grab starts the camera; until then there is nothing to wait for
        self._path = _checked(number, kernel) if linux else None
        if linux:
            # How long V4L2's first grab may block (10 s if not said); the only way to say it. Later ones go by `wait`.
            os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(FIRST_FRAME)))
        self._capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
        if not self._capture.isOpened():
            self._capture.release()
            users = users_of(self._path) if self._path else []
            if users:
                raise MissingError(f"camera {self._path} is in use by {', '.join(users)}: end that program")
            raise MissingError(
                f"camera {self._path or number} cannot be opened: another program may use it; {there_are()}"
            )
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
        if self._path and not self._path.exists():
            raise cv2.error(f"{self._path} is no longer there")
        while self.driver_stamps and self._streaming:
            rest = until - time.monotonic()
            if rest <= 0:
                return False
            _, ready = cv2.VideoCapture.waitAny([self._capture], int(rest * 1e9))
            if len(ready):
                break
            if self._path and not self._path.exists():  # unplugged: it takes its file along and wakes the poll
                raise cv2.error(f"{self._path} is no longer there")
            time.sleep(0.005)  # one that hangs up wakes the poll without having a frame
        self._streaming = bool(self._capture.grab())
        return self._streaming

    def retrieve(self) -> tuple[bool, Any]:
        """See `Device.retrieve`."""
        return self._capture.retrieve()

    def release(self) -> None:
        """See `Device.release`."""
        self._capture.release()


def users_of(path: Path) -> list[str]:
    """The programs that have a device file open, as ``name (pid 123)``, as far as we may see them."""
    found = {}
    for link in glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == str(path):
                process = Path(link).parents[1]
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found[int(process.name)] = f"{name} (pid {process.name})"
        except OSError:  # another user's, or gone by now
            continue
    return [found[pid] for pid in sorted(found)]


def _checked(number: int, kernel: Kernel | None) -> Path:
    from rtpsp.stream import camera_v4l2  # fcntl is not everywhere

    kernel = kernel or camera_v4l2.LinuxKernel()
    path = kernel.dev / f"video{number}"
    if not path.exists():
        raise MissingError(f"no camera {path}: {there_are()}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise MissingError(f"camera {path}: {camera_v4l2.no_right(path)}")
    info = camera_v4l2.ask(path, kernel)
    if info is None:
        raise SourceError(f"{path} gives no pictures (of a webcam's two numbers only the first does): {there_are()}")
    if info.problem:
        users = users_of(path)
        raise MissingError(f"camera {path}: {info.problem}" + (f"; in use by {', '.join(users)}" if users else ""))
    return path
