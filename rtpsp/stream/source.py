"""Where frames come from: one base for every source, and `open_source`, which picks by URI.

0, 1, /dev/video2          a webcam                              (camera.py)
drive.mp4                  a video file                          (video.py)
frames/, 'frames/*.png'    a folder or a pattern of images       (images.py)
sim://street?w=640&h=480   the built-in simulator                (simulated.py)
"""

from __future__ import annotations

import difflib
import importlib
import math
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

from rtpsp.errors import SourceError, UsageError
from rtpsp.spec import Planes
from rtpsp.stream.frame import Frame
from rtpsp.stream.names import expanded, nothing_at, shown, status_of

Kind = Literal["camera", "video", "images", "sim"]


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source once it is open.

    Attributes:
        uri: As a report may show it: without credentials.
        kind: Which sort of source.
        height: Pixels; a later frame may differ and says so itself.
        width: Pixels.
        fps: Nominal frames a second, None where the source does not say.
        frames: How many frames are to come, None where unknown or endless.
        live: Frames are lost if nobody takes them: the default policy is ``latest``.
        detail: What else a person would want to know, e.g. the pixel format that a camera granted.
        planes: Of its pictures: 3 (BGR), or from images 1 (grey) and 4 (BGRX) where that was asked for.
    """

    uri: str
    kind: Kind
    height: int
    width: int
    fps: float | None = None
    frames: int | None = None
    live: bool = False
    detail: str = ""
    planes: Planes = 3


@dataclass(frozen=True)
class SourceOptions:
    """What to ask of a source. One that cannot do what is asked refuses it: nothing is passed over in silence.

    Attributes:
        camera_size: (height, width) to ask a camera for.
        camera_fps: Frames a second to ask a camera for.
        loop: Start again at the end (files, images, a simulator with an end).
        start: Seconds into a file, images (25 a second) or a simulator that is not live to begin at.
        end: Seconds into it to stop at.
        read_timeout: Seconds that one read may take before the source counts as lost.
        decoder_threads: Threads that a decoder may use.
        planes: What the model takes (`rtpsp.planes`). Images are read so; whatever else there is gives BGR, of which a
            model of grey frames gets the grey, and is refused where the model takes a fourth plane.

    Raises:
        UsageError: `end` is not after `start`, or one of the numbers is none that can be meant.
    """

    camera_size: tuple[int, int] | None = None
    camera_fps: float | None = None
    loop: bool = False
    start: float = 0.0
    end: float | None = None
    read_timeout: float = 2.0
    decoder_threads: int = 1
    planes: Planes = 3

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and self.start >= 0):
            raise UsageError(f"the start is {self.start:g}, expected seconds from 0 on, such as 12.5")
        if self.end is not None and not math.isfinite(self.end):
            raise UsageError(f"the end is {self.end:g}, expected seconds; leave it out to go on to the end")
        if self.camera_fps is not None and not 0 < self.camera_fps < math.inf:
            raise UsageError(f"the camera's rate is {self.camera_fps:g}, expected frames a second")
        if self.planes not in get_args(Planes):
            raise UsageError(f"planes is {self.planes}, expected 1, 3 or 4: those of the model")
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"the end is at {self.end:g} s and the start at {self.start:g} s: give an end after it")


class Source(ABC):
    """An open source of frames. It is read and closed by one thread, which need not be the one that opened it."""

    info: SourceInfo
    missed: int = 0
    """Frames that the device or network lost before we could read them, as far as timestamps or numbers tell."""
    ended: str = "end of source"
    """Why `read` gave None, in words."""

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame, or None at the end; waits for at most the read time-out.

        Raises:
            SourceLost: Nothing came within the time-out, or the device went away.
        """

    def skip(self) -> bool:
        """Pass over the next frame, where that is possible without the work of reading it; False at the end.

        Raises:
            SourceLost: As `read`.
        """
        return self.read() is not None

    def interrupt(self) -> None:
        """Ask a `read` that waits to come back soon; may be called from any thread. By default its time-out does it."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of the device or file; may be called twice."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_source(uri: str, options: SourceOptions | None = None) -> Source:
    """Open a camera, file, folder of images or simulator by its URI.

    Args:
        uri: See the table at the head of this module. A webcam's number is its own URI: ``0``. A ``~`` is the home.
        options: What to ask of it.

    Raises:
        SourceError: Nothing there, not a source that rtpsp can read, or one without the fourth plane that is asked for.
        UsageError: An option that has no meaning for this source.
        MissingError: The camera device does not exist on this machine.
    """
    options = options or SourceOptions()
    if "://" not in uri:
        uri = expanded(uri)
    room = _room_of(uri)
    refuse_others(options, room.what, room.options)
    if options.planes == 4 and room is not _IMAGES:
        raise no_fourth_plane(uri, room.what)
    opener = getattr(importlib.import_module(f"rtpsp.stream.{room.module}"), room.opener)
    source: Source = opener(uri, options)
    return source


def refuse_others(options: SourceOptions, what: str, known: tuple[str, ...]) -> None:
    """Make sure that nothing is asked for but what a source can do.

    Raises:
        UsageError: Another option is set.
    """
    nothing_asked = SourceOptions()
    for name in ("camera_size", "camera_fps", "loop", "start", "end"):
        if name not in known and getattr(options, name) != getattr(nothing_asked, name):
            raise UsageError(f"--{name.replace('_', '-')} has no meaning for {what}: leave it out")


def no_fourth_plane(uri: str, what: str) -> SourceError:
    """The error for a source that cannot give what a model of four planes takes."""
    return SourceError(
        f"{shown(uri)} is {what} without a fourth plane, and the model takes one beside B, G and R: give a folder of "
        f"images that have it, such as RGBA PNG files"
    )


IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class _Room:
    module: str
    opener: str
    what: str
    options: tuple[str, ...]
    """Those of `SourceOptions` that have a meaning."""


_PART = ("loop", "start", "end")
_CAMERA = _Room("camera", "open_camera", "a camera", ("camera_size", "camera_fps"))
_VIDEO = _Room("video", "open_video", "a video file", _PART)
_IMAGES = _Room("images", "open_images", "images", _PART)
_SIMULATOR = _Room("simulated", "open_simulator", "the simulator", _PART)


def _room_of(uri: str) -> _Room:
    if uri.startswith("sim://"):
        return _SIMULATOR
    if "://" in uri:
        raise _no_scheme(uri.split("://")[0])
    if not uri.strip():
        raise SourceError("the source's name is empty: give a video, a folder of images, a camera or sim://street")
    if uri.isascii() and uri.isdigit() and len(uri) < 10:
        return _CAMERA
    pattern = any(letter in uri for letter in "*?[")
    try:
        status = status_of(uri)
    except SourceError:
        if not pattern:  # which Windows refuses as a name
            raise
        status = None
    mode = 0 if status is None else status.st_mode
    if status is None and shown(uri) != uri and (not pattern or uri.startswith("/dev/")):  # no camera is called so
        raise nothing_at(uri)
    if uri.startswith("/dev/") and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return _CAMERA
    if status is None:
        if uri.startswith("sim:"):
            raise SourceError(f"no file {shown(repr(uri))}: did you mean sim://street?")
        if not pattern:
            raise nothing_at(uri)
        return _IMAGES
    if stat.S_ISDIR(mode):
        return _IMAGES
    if not stat.S_ISREG(mode):
        kind = "named pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise SourceError(f"{shown(uri)} is a {kind}: give a file, a folder of images or a camera such as /dev/video0")
    return _IMAGES if Path(uri).suffix.lower() in IMAGE_SUFFIXES else _VIDEO


def _no_scheme(scheme: str) -> SourceError:
    hint = "use a camera, a file, a folder of images or sim://"
    if scheme.lower() == "file":
        hint = "give the path alone"
    elif difflib.get_close_matches(scheme.lower(), ["sim"]):
        hint = "did you mean sim://street?"
    return SourceError(f"{shown(scheme)}:// sources are not supported: {hint}")
