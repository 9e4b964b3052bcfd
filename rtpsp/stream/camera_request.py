"""What a camera is asked for, what it grants, and how a refusal is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from rtpsp.stream.camera_device import Device
from rtpsp.stream.camera_info import CameraFormat, nearest_sizes
from rtpsp.stream.source import SourceOptions

BUFFERS = 2
"""Frames in the driver. With one it has nowhere to put a frame while the one before is copied, and many cameras fall
to half their rate; more only add age where we read too slowly."""

SHOWN = 4  # sizes that a message names
_MJPG = cv2.VideoWriter.fourcc(*"MJPG")


@dataclass(frozen=True)
class Granted:
    """What a camera delivers.

    Attributes:
        fourcc: The format's four letters; empty where it does not say.
        height: Pixels.
        width: Pixels.
        fps: Frames a second; 0 where it does not say.
    """

    fourcc: str
    height: int
    width: int
    fps: float

    def to_detail(self, options: SourceOptions) -> str:
        """For a report: what is delivered, and what was asked for where that is something else."""
        rate = f" at {self.fps:g} fps" if self.fps else ""
        differs = _asked(options, "{1}x{0}") if self.differs_from(options) else ""
        return f"{self.fourcc or 'frames'} {self.width}x{self.height}{rate}" + (
            f" (asked for {differs})" if differs else ""
        )

    def differs_from(self, options: SourceOptions) -> bool:
        """Whether something else was asked for."""
        size, fps = options.camera_size, options.camera_fps
        return (size is not None and size != (self.height, self.width)) or (
            fps is not None and not _same(fps, self.fps)
        )


def ask(device: Device, options: SourceOptions) -> None:
    """Ask for format, size, rate and buffers; the format first, for it decides which sizes and rates there are.

    Whether `set` was understood says little: drivers take a size and give the nearest. The first frame tells.
    """
    device.set(cv2.CAP_PROP_FOURCC, _MJPG)
    if options.camera_size is not None:
        device.set(cv2.CAP_PROP_FRAME_WIDTH, options.camera_size[1])
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, options.camera_size[0])
    if options.camera_fps is not None:
        device.set(cv2.CAP_PROP_FPS, options.camera_fps)
    device.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)
    if device.driver_stamps and int(device.get(cv2.CAP_PROP_FOURCC)) == _MJPG:
        device.set(cv2.CAP_PROP_CONVERT_RGB, 0)


def to_granted(device: Device, height: int, width: int) -> Granted:
    """What the device says that it grants; the size is that of its first frame."""
    code = int(device.get(cv2.CAP_PROP_FOURCC))
    fourcc = code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ") if 0 < code < 2**32 else ""
    return Granted(fourcc, height, width, max(0.0, device.get(cv2.CAP_PROP_FPS)))


def to_refusal(uri: str, granted: Granted, options: SourceOptions, formats: Sequence[CameraFormat]) -> str:
    """One line for a request that was not granted: what was asked for, what came, what to ask for instead.

    Args:
        uri: The camera.
        granted: What it delivers, which differs from what was asked for.
        options: What was asked for.
        formats: What it offers, as far as the system says.
    """
    size = f"{granted.height}x{granted.width}"
    rate = f"{granted.fps:g} fps" if granted.fps else "a rate that it does not tell"
    offer = "what it offers cannot be asked here: try another" if not formats else _offer(granted, options, formats)
    return f"camera {uri}: asked for {_asked(options, '{}x{}')}, it gives {size} (HxW) at {rate}; {offer}"


def _asked(options: SourceOptions, size: str) -> str:
    words = [size.format(*options.camera_size)] if options.camera_size else []
    words += [f"{options.camera_fps:g} fps"] if options.camera_fps else []
    return " at ".join(words)


def _offer(granted: Granted, options: SourceOptions, formats: Sequence[CameraFormat]) -> str:
    delivered = [item for item in formats if item.fourcc == granted.fourcc] or list(formats)
    fps, size = options.camera_fps, options.camera_size or (granted.height, granted.width)
    if fps is None or size != (granted.height, granted.width):
        near = nearest_sizes(delivered, size)[:SHOWN]
        return f"nearest that it offers: {', '.join(_at(delivered, offer) for offer in near)}"
    fast = [item for item in delivered if any(_same(fps, rate) for rate in item.fps)]
    elsewhere = [f"{height}x{width}" for height, width in nearest_sizes(fast, size) if (height, width) != size][:SHOWN]
    here = f"it offers {_at(delivered, size)}"
    return f"{here}, and {fps:g} fps at {', '.join(elsewhere)}" if elsewhere else here


def _at(formats: Sequence[CameraFormat], size: tuple[int, int]) -> str:
    rates = sorted({rate for item in formats if (item.height, item.width) == size for rate in item.fps}, reverse=True)
    return f"{size[0]}x{size[1]}" + (f" at {'/'.join(f'{rate:g}' for rate in rates)} fps" if rates else "")


def _same(fps: float, other: float) -> bool:
    return abs(fps - other) <= 0.5  # 29.97 is 30
