"""Cameras as Linux knows them: names and formats by V4L2's ioctls, without starting one.

Numbers and layouts are those of linux/videodev2.h, for the architectures whose _IOC is asm-generic's: x86, ARM, RISC-V.
What is asked here a driver answers also while another program has the camera. A library would be welcome: the one that
gives formats, linuxpy, is under the GPL; FFmpeg's list has a webcam's metadata node, and no formats.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from rtpsp.stream.camera_info import CameraFormat, CameraInfo

QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
CAPABILITY = struct.Struct("=16s32s32s6I")
FORMAT = struct.Struct("=3I32s5I")
FRAME_SIZE = struct.Struct("=11I")
FRAME_INTERVAL = struct.Struct("=13I")
CAPTURE, CAPTURE_MPLANE, DEVICE_CAPS = 0x1, 0x1000, 0x80000000
BUFFER_TYPE, BUFFER_TYPE_MPLANE = 1, 9  # V4L2_BUF_TYPE_VIDEO_CAPTURE and its MPLANE
DISCRETE = 1

USUAL_SIZES = ((480, 640), (720, 1280), (1080, 1920))
MOST = 256  # a driver that never ends its list must not hang us


class Kernel(Protocol):
    """What is needed of the system; `LinuxKernel` is the real one."""

    dev: Path
    """Where the device files lie."""
    sysfs: Path
    """Where the kernel tells of video devices, also to those without the right to open one."""

    def open(self, path: Path) -> int:
        """A descriptor for questions only: not blocking.

        Raises:
            OSError: It cannot be opened.
        """

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Ask; the answer is written into `argument`.

        Raises:
            OSError: The driver refuses, or has no such question.
        """

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""


class LinuxKernel:
    """The kernel that runs."""

    def __init__(self, dev: Path = Path("/dev"), sysfs: Path = Path("/sys/class/video4linux")) -> None:
        self.dev, self.sysfs = dev, sysfs

    def open(self, path: Path) -> int:
        """See `Kernel.open`."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """See `Kernel.ioctl`."""
        fcntl.ioctl(descriptor, request, argument, True)

    def close(self, descriptor: int) -> None:
        """See `Kernel.close`."""
        os.close(descriptor)


def list_nodes(kernel: Kernel | None = None) -> tuple[CameraInfo, ...]:
    """Every capture node, by number; a webcam's metadata node is none."""
    kernel = kernel or LinuxKernel()
    numbers = sorted(
        int(found[1]) for path in kernel.dev.glob("video*") if (found := re.fullmatch(r"video(\d+)", path.name))
    )
    asked = (ask(kernel.dev / f"video{number}", kernel) for number in numbers)
    return tuple(info for info in asked if info is not None)


def ask(path: Path, kernel: Kernel | None = None) -> CameraInfo | None:
    """What a node says of itself; None where it is no capture device."""
    kernel = kernel or LinuxKernel()
    try:
        descriptor = kernel.open(path)
    except OSError as error:
        # Of a device's nodes the first captures; which of the others do cannot be asked.
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV) or _told(kernel, path, "index") not in (None, "0"):
            return None
        return CameraInfo(str(path), _told(kernel, path, "name") or path.name, problem=to_problem(error, path))
    try:
        return _capture(kernel, descriptor, path)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ENODEV):  # no video device at all, or just unplugged
            return None
        return CameraInfo(str(path), _told(kernel, path, "name") or path.name, problem=to_problem(error, path))
    finally:
        kernel.close(descriptor)


def to_problem(error: OSError, path: Path) -> str:
    """Why a node cannot be opened or asked, and what to do."""
    if error.errno == errno.EBUSY:
        return "another program has it: end that program"
    if error.errno == errno.EACCES:
        return no_right(path)
    if error.errno == errno.EPERM:
        return "no right to use it although its file's mode gives it: a container or sandbox keeps it from us"
    return f"it cannot be opened: {os.strerror(error.errno) if error.errno else error}"


def no_right(path: Path) -> str:
    """What to do about a device file that we may not open: its group, where that one may."""
    import grp

    with contextlib.suppress(OSError, KeyError):
        state = path.stat()
        group = grp.getgrgid(state.st_gid).gr_name
        if state.st_mode & 0o060 == 0o060 and group != "root":
            return f"no right to use it: add yourself to group {group} (sudo usermod -aG {group} $USER), log in anew"
    return "no right to use it, and its file gives no group that right: ask who looks after this machine"


def _capture(kernel: Kernel, descriptor: int, path: Path) -> CameraInfo | None:
    answer = bytearray(CAPABILITY.size)
    kernel.ioctl(descriptor, QUERYCAP, answer)
    _, card, _, _, capabilities, device_caps, *_ = CAPABILITY.unpack(answer)
    # `capabilities` are those of all nodes of the device together, a webcam's metadata node has the camera's too.
    own = device_caps if capabilities & DEVICE_CAPS else capabilities
    if not own & (CAPTURE | CAPTURE_MPLANE):
        return None
    buffers = BUFFER_TYPE if own & CAPTURE else BUFFER_TYPE_MPLANE
    name = card.split(b"\0")[0].decode("utf-8", "replace").strip()
    try:
        formats, problem = tuple(_formats(kernel, descriptor, buffers)), None
    except OSError as error:
        formats, problem = (), to_problem(error, path)
    return CameraInfo(str(path), name or path.name, formats, problem)


def _formats(kernel: Kernel, descriptor: int, buffers: int) -> Iterator[CameraFormat]:
    for index in range(MOST):
        found = _answer(kernel, descriptor, ENUM_FMT, FORMAT, index, buffers, 0, b"", *[0] * 5)
        if found is None:
            return
        pixels = found[4]
        fourcc = (pixels & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip()  # bit 31: big-endian
        for height, width in dict.fromkeys(_sizes(kernel, descriptor, pixels)):
            yield CameraFormat(fourcc, height, width, tuple(_rates(kernel, descriptor, pixels, height, width)))


def _sizes(kernel: Kernel, descriptor: int, pixels: int) -> Iterator[tuple[int, int]]:
    for index in range(MOST):
        found = _answer(kernel, descriptor, ENUM_FRAMESIZES, FRAME_SIZE, index, pixels, *[0] * 9)
        if found is None:
            return
        kind, values = found[2], found[3:9]
        if kind == DISCRETE:
            yield values[1], values[0]
            continue
        least_width, most_width, step_width, least_height, most_height, step_height = values
        for height, width in ((most_height, most_width), *USUAL_SIZES, (least_height, least_width)):
            in_range = least_height <= height <= most_height and least_width <= width <= most_width
            on_step = (height - least_height) % (step_height or 1) == 0 == (width - least_width) % (step_width or 1)
            if in_range and on_step:
                yield height, width
        return


def _rates(kernel: Kernel, descriptor: int, pixels: int, height: int, width: int) -> list[float]:
    """Frames a second, highest first; of a range its two ends."""
    rates: set[float] = set()
    for index in range(MOST):
        found = _answer(kernel, descriptor, ENUM_FRAMEINTERVALS, FRAME_INTERVAL, index, pixels, width, height, *[0] * 9)
        if found is None:
            break
        kind, values = found[4], found[5:9]
        intervals = [values[:2]] if kind == DISCRETE else [values[:2], values[2:]]
        rates.update(round(below / above, 3) for above, below in intervals if above)
        if kind != DISCRETE:
            break
    return sorted(rates, reverse=True)


def _answer(
    kernel: Kernel, descriptor: int, request: int, layout: struct.Struct, *question: int | bytes
) -> tuple[int, ...] | None:
    """The answer to one question of a list; None past its end, or where the driver has no such list."""
    argument = bytearray(layout.pack(*question))
    try:
        kernel.ioctl(descriptor, request, argument)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
            return None
        raise
    return layout.unpack(argument)


def _told(kernel: Kernel, path: Path, what: str) -> str | None:
    try:
        return (kernel.sysfs / path.name / what).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
