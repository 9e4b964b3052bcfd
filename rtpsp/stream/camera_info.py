"""What is known of a camera before it is opened, and how it is told in a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NO_CAMERA = (
    "this machine has none; plug one in (a container or WSL must be given it), or try --source 'sim://street?live=1'"
)


@dataclass(frozen=True)
class CameraFormat:
    """One pixel format at one size.

    Attributes:
        fourcc: The format's four letters, e.g. ``MJPG``.
        height: Pixels.
        width: Pixels.
        fps: Frames a second that can be asked for, highest first; empty where the driver does not say.
    """

    fourcc: str
    height: int
    width: int
    fps: tuple[float, ...] = ()


@dataclass(frozen=True)
class CameraInfo:
    """A camera of this machine.

    Attributes:
        uri: What ``--camera`` and `rtpsp.open_source` take: ``/dev/video0`` on Linux, ``0`` elsewhere.
        name: The device's own name, e.g. ``HD Pro Webcam C920``.
        formats: What it offers; empty where the system does not say. Of a range of sizes its ends and the usual ones.
        problem: Why it cannot be asked, in one line; None where it can.
    """

    uri: str
    name: str
    formats: tuple[CameraFormat, ...] = ()
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.uri})"


def to_line(cameras: Sequence[CameraInfo], reason: str | None = None) -> str:
    """The cameras that there are, for the end of a message.

    Args:
        cameras: From `list_cameras`.
        reason: Why this system cannot list them, if it cannot.
    """
    if cameras:
        return f"there {'is' if len(cameras) == 1 else 'are'} {', '.join(map(str, cameras))}"
    return reason or NO_CAMERA


def nearest_sizes(formats: Sequence[CameraFormat], size: tuple[int, int]) -> list[tuple[int, int]]:
    """The (height, width) on offer, those with the most similar number of pixels and shape first.

    The measure is |log(height ratio)| + |log(width ratio)|, as factors: half and double are equally far.
    """

    def distance(offer: tuple[int, int]) -> float:
        ratios = [max(a / b, b / a) for a, b in zip(offer, size, strict=True)]
        return ratios[0] * ratios[1]

    return sorted({(item.height, item.width) for item in formats}, key=lambda offer: (distance(offer), offer))
