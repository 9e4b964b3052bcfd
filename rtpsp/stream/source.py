"""Where frames come from: one base for every source, and `open_source`, which picks by URI.

0, 1, /dev/video2          a webcam                              (camera.py)
drive.mp4                  a video file                          (video.py)
frames/, 'frames/*.png'    a folder or a pattern of images       (images.py)
sim://street?w=640&h=480   the built-in simulator                (simulated.py)
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from rtpsp.errors import SourceError, UsageError
from rtpsp.stream.frame import Frame

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
    """

    uri: str
    kind: Kind
    height: int
    width: int
    fps: float | None = None
    frames: int | None = None
    live: bool = False
    detail: str = ""


@dataclass(frozen=True)
class SourceOptions:
    """What to ask of a source.

    Attributes:
        camera_size: (height, width) to ask a camera for.
        camera_fps: Frames a second to ask a camera for.
        loop: Start again at the end (files, images, a simulator with an end).
        start: Seconds into a file to begin at.
        end: Seconds into a file to stop at.
        read_timeout: Seconds that one read may take before the source counts as lost.
        decoder_threads: Threads that a decoder may use.

    Raises:
        UsageError: `end` is not after `start`.
    """

    camera_size: tuple[int, int] | None = None
    camera_fps: float | None = None
    loop: bool = False
    start: float = 0.0
    end: float | None = None
    read_timeout: float = 2.0
    decoder_threads: int = 1

    def __post_init__(self) -> None:
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
        uri: See the table at the head of this module. A webcam's number is its own URI: ``0``.
        options: What to ask of it.

    Raises:
        SourceError: Nothing there, or not a source that rtpsp can read.
        MissingError: The camera device does not exist on this machine.
    """
    module, name = _room_of(uri)
    opener = getattr(importlib.import_module(f"rtpsp.stream.{module}"), name)
    source: Source = opener(uri, options or SourceOptions())
    return source


def _room_of(uri: str) -> tuple[str, str]:
    if uri.startswith("sim://"):
        return "simulated", "open_simulator"
    if uri.isdigit() or uri.startswith("/dev/"):
        return "camera", "open_camera"
    if "://" in uri:
        scheme = uri.split("://")[0]
        raise SourceError(f"{scheme}:// sources are not supported: use a camera, a file, a folder of images or sim://")
    if any(letter in uri for letter in "*?[") and not Path(uri).exists():
        return "images", "open_images"
    path = Path(uri)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return "images", "open_images"
    if not path.exists():
        raise SourceError(f"no file {uri!r}: check the path, or use --camera or sim://street")
    return "video", "open_video"


IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
