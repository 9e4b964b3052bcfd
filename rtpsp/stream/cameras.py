"""Which cameras there are, by name, and how a name becomes a URI.

Linux is asked by V4L2 (camera_v4l2.py). Elsewhere OpenCV numbers cameras in an order of its own, which
cv2-enumerate-cameras follows; it gives names and no formats.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from rtpsp.errors import MissingError, RtpspError, UsageError
from rtpsp.stream.camera_info import NO_CAMERA as NO_CAMERA
from rtpsp.stream.camera_info import CameraFormat as CameraFormat
from rtpsp.stream.camera_info import CameraInfo as CameraInfo
from rtpsp.stream.camera_info import to_line
from rtpsp.stream.names import shown
from rtpsp.stream.source import SourceOptions


def list_cameras() -> tuple[CameraInfo, ...]:
    """The cameras of this machine, in the order of their numbers; none is started.

    Empty where there is none, and where this system cannot list them: `why_no_list` tells the two apart.
    """
    return _look()[0]


def why_no_list() -> str | None:
    """Why this system cannot list its cameras, and what to do; None where it can."""
    return _look()[1]


def to_camera_uri(given: str, cameras: Sequence[CameraInfo] | None = None) -> str:
    """What `rtpsp.open_source` takes, from what a person calls a camera.

    Args:
        given: A number or a device's path, which stay as they are, or a name or a part of it in any case: ``c920``.
        cameras: The cameras there are; asked for where they are needed.

    Raises:
        MissingError: No camera has that name, or several have; the message names those that there are.
        UsageError: It is empty, a file, or a URI of another source.
    """
    if given.isdigit() or given.startswith("/dev/"):
        return given
    if "://" in given or os.path.isfile(given):
        raise UsageError(
            f"--camera is {shown(repr(given))}, expected a camera's number, path or name: give it to --source"
        )
    if not given.strip():
        raise UsageError("--camera is empty, expected a number, a path such as /dev/video2, or a part of a name")
    cameras = list_cameras() if cameras is None else cameras
    part = given.strip().casefold()
    found = [camera for camera in cameras if part in camera.name.casefold()]
    whole = [camera for camera in found if part == camera.name.casefold()]
    found = whole if len(whole) == 1 else found
    if len(found) == 1:
        return found[0].uri
    if found:
        raise MissingError(
            f"{len(found)} cameras are called {shown(repr(given))}: say which, {' or '.join(map(str, found))}"
        )
    raise MissingError(f"no camera is called {shown(repr(given))}: {to_line(cameras, why_no_list())}")


def there_are() -> str:
    """The cameras by name, for the end of a message."""
    cameras, reason = _look()
    return to_line(cameras, reason)


def formats_of(number: int) -> tuple[CameraFormat, ...]:
    """What a camera offers, by its number; empty where this system does not say."""
    uris = (str(number), f"/dev/video{number}")
    return next((camera.formats for camera in list_cameras() if camera.uri in uris), ())


def why_no_frame(uri: str) -> str | None:
    """Open a camera, read one frame, decode it, close: why that fails, in one line, or None. It may take some seconds.

    Args:
        uri: As for ``--camera``: a number, a path, or a name or a part of it.
    """
    from rtpsp.stream.camera import open_camera  # it needs this module

    try:
        with open_camera(uri, SourceOptions()) as source:
            frame = source.read()
            if frame is not None:
                frame.to_bgr(None)
    except RtpspError as error:
        return str(error)
    return None


def _look() -> tuple[tuple[CameraInfo, ...], str | None]:
    """The cameras, and why there can be no list of them."""
    system: str = sys.platform
    if system.startswith("linux"):
        from rtpsp.stream.camera_v4l2 import list_nodes  # fcntl is not everywhere

        return list_nodes(), None
    if system in ("darwin", "win32"):
        return _numbered()
    return (), f"cameras cannot be listed on {system}: give a number, 0 is the first"


def _numbered() -> tuple[tuple[CameraInfo, ...], str | None]:
    import cv2

    try:
        library: Any = importlib.import_module("cv2_enumerate_cameras")
        # The one that OpenCV tries first: of each the numbers are others.
        backends = [item for item in cv2.videoio_registry.getCameraBackends() if item in library.supported_backends]
        found = (
            [(int(item.index), str(item.name)) for item in library.enumerate_cameras(backends[0])] if backends else []
        )
    except ImportError:
        return (), "cameras have no names here without cv2-enumerate-cameras: pip install it, or give a number"
    except Exception as error:  # whatever the system's own interface raises through it
        return (), f"the cameras cannot be listed ({error}): give a number, 0 is the first"
    if not backends:
        return (), "this OpenCV has no camera interface that can be listed: give a number, 0 is the first"
    return tuple(CameraInfo(str(index), name or f"camera {index}") for index, name in sorted(found)), None
