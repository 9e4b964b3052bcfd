"""Where frames come from: one base for every source, and `open_source`, which picks by URI.

0, 1, /dev/video2          a webcam                              (camera.py)
drive.mp4                  a video file                          (video.py)
frames/, 'frames/*.png'    a folder or a pattern of images       (images.py)
sim://street?w=640&h=480   the built-in simulator                (simulated.py)
rtsp://camera/stream       a network stream, or a file by HTTP   (network.py)
"""

from __future__ import annotations

import importlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, get_args

from rtpsp import redaction
from rtpsp.errors import MissingError, SourceError, SourceLost, UsageError
from rtpsp.spec import Planes
from rtpsp.stream.frame import Frame
from rtpsp.stream.health import PERMANENT, Health
from rtpsp.stream.names import expanded, shown
from rtpsp.stream.rooms import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from rtpsp.stream.rooms import IMAGES, room_of

_log = logging.getLogger(__name__)

Kind = Literal["camera", "video", "images", "sim", "network"]
Transport = Literal["tcp", "udp", "auto"]
Hardware = Literal["auto", "off"]


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
class Reconnect:
    """How a live source is opened anew after it was lost: exponential back-off with jitter.

    The n-th try comes after a random time of 0.5 to 1 times ``min(longest, first * 2 ** n)``.

    Attributes:
        attempts: Tries after which it counts as lost for good; None goes on for ever.
        first: Seconds of the first wait.
        longest: Seconds of the longest wait.
        at_start: Also wait for a source that is not there when the run begins, instead of failing.

    Raises:
        UsageError: A number that is not positive.
    """

    attempts: int | None = None
    first: float = 0.5
    longest: float = 30.0
    at_start: bool = False

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise UsageError(f"reconnect attempts are {self.attempts}, expected at least 1; or never reconnect at all")
        if not 0 < self.first <= self.longest < math.inf:
            raise UsageError(
                f"the waits before a new try are {self.first:g} to {self.longest:g} s, expected seconds above 0, "
                "the first not longer than the longest"
            )


@dataclass(frozen=True)
class SourceOptions:
    """What to ask of a source. One that cannot do what is asked refuses it: nothing is passed over in silence.

    Attributes:
        camera_size: (height, width) to ask a camera for.
        camera_fps: Frames a second to ask a camera for.
        loop: Start again at the end (files, images, a simulator with an end).
        start: Seconds into a file, images (25 a second) or a simulator that is not live to begin at.
        end: Seconds into it to stop at.
        read_timeout: Seconds that one read may take before the source counts as lost; None is what suits its kind: 2
            for cameras and the simulator, 5 for network streams, 15 for those that come in segments (HLS).
        open_timeout: Seconds that a network stream may take to be there.
        reconnect: What to do when a live source is lost; None ends the run with it.
        transport: How RTSP brings its packets: ``tcp`` loses none, ``udp`` never waits for a lost one, ``auto`` tries
            UDP first.
        hwaccel: ``auto`` decodes network streams on a GPU where one can, ``off`` on the CPU.
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
    read_timeout: float | None = None
    open_timeout: float = 10.0
    reconnect: Reconnect | None = field(default_factory=Reconnect)
    transport: Transport = "tcp"
    hwaccel: Hardware = "off"
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
    health: Health
    """How it fares; each source has one of its own from `__new__` on."""

    def __new__(cls, *args: object, **options: object) -> Source:
        source = super().__new__(cls)
        source.health = Health()
        return source

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

    def successor(self) -> Source | None:
        """What takes over when a `read` of this source does not come back; None where it cannot be opened anew.

        Called by the watchdog while that read still hangs in its thread, which is left behind. The successor goes on
        with the health, the numbers and the time line of this source; this one gives nothing any more.
        """
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
    """Open a camera, file, folder of images, simulator or network stream by its URI.

    A live one comes wrapped: it is opened anew whenever it is lost, as `SourceOptions.reconnect` says.

    Args:
        uri: See the table at the head of this module. A webcam's number is its own URI: ``0``. A ``~`` is the home.
            Its secrets are kept out of every message from now on (`rtpsp.redaction`).
        options: What to ask of it.

    Raises:
        SourceError: Nothing there, not a source that rtpsp can read, or one without the fourth plane that is asked for.
        UsageError: An option that has no meaning for this source.
        MissingError: The camera device does not exist on this machine.
    """
    options = options or SourceOptions()
    redaction.register(uri)
    if "://" not in uri:
        uri = expanded(uri)
    room = room_of(uri)
    refuse_others(options, room.what, room.options)
    if options.planes == 4 and room is not IMAGES:
        raise no_fourth_plane(uri, room.what)
    opener: Callable[[str, SourceOptions], Source]
    opener = getattr(importlib.import_module(f"rtpsp.stream.{room.module}"), room.opener)
    reconnect = options.reconnect
    first: Source | None
    try:
        first = opener(uri, options)
    except (SourceError, SourceLost, MissingError) as error:
        waits = reconnect is not None and reconnect.at_start and room.live
        if not waits or getattr(error, "kind", "lost") in PERMANENT:
            raise
        _log.warning("%s; waiting for it", error)
        first = None
    if first is not None and (reconnect is None or not first.info.live):
        return first
    assert reconnect is not None
    from rtpsp.stream.reconnecting import Reconnecting  # which is made of what stands here

    return Reconnecting(lambda: opener(uri, options), reconnect, first, uri=shown(uri))


def kind_of(uri: str) -> Kind:
    """The kind of a live source that is not there, by its URI alone."""
    return "sim" if uri.startswith("sim:") else "network" if "://" in uri else "camera"


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
