"""Cameras by name, against a double of the kernel: no test machine has three webcams."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtpsp.cli import cameras as cli
from rtpsp.errors import MissingError, SourceLost, UsageError
from rtpsp.stream import cameras
from rtpsp.stream.camera_info import nearest_sizes
from rtpsp.stream.camera_request import Granted
from rtpsp.stream.cameras import (
    CameraFormat,
    CameraInfo,
    formats_of,
    list_cameras,
    to_camera_uri,
    why_no_frame,
    why_no_list,
)
from rtpsp.stream.source import SourceOptions

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2")
if sys.platform.startswith("linux"):
    from rtpsp.stream import camera_v4l2 as v4l2

C920 = CameraInfo("/dev/video0", "HD Pro Webcam C920", (CameraFormat("MJPG", 1080, 1920, (30.0,)),))
INNER = CameraInfo("/dev/video2", "Integrated Camera: HD")
SECOND = CameraInfo("/dev/video4", "HD Pro Webcam C920")
LOCKED = CameraInfo("/dev/video6", "Locked [up]", problem="no right to use it: add yourself to group video")


class Node:
    """A device of the double: V4L2's answers, packed as the kernel packs them."""

    def __init__(
        self,
        card: str,
        own: int = 0x1,
        whole: int = 0x80000001 | 0x00800000,
        formats: Mapping[str, Mapping[Any, Sequence[tuple[int, ...]]]] | None = None,
        fails: dict[int, int] | None = None,
    ) -> None:
        self.card, self.own, self.whole = card, own, whole
        self.formats = formats or {}
        self.fails = fails or {}

    def answer(self, request: int, argument: bytearray) -> None:
        if request in self.fails:
            raise OSError(self.fails[request], os.strerror(self.fails[request]))
        if request == v4l2.QUERYCAP:
            card = self.card.encode()
            argument[:] = v4l2.CAPABILITY.pack(b"uvcvideo", card, b"usb-1", 0, self.whole, self.own, 0, 0, 0)
            return
        pixels = [int.from_bytes(fourcc.encode(), "little") for fourcc in self.formats]
        try:
            if request == v4l2.ENUM_FMT:
                index, kind, *_ = v4l2.FORMAT.unpack(argument)
                if kind != (1 if self.own & 0x1 else 9):
                    raise IndexError
                argument[:] = v4l2.FORMAT.pack(index, kind, 0, b"words", pixels[index], 0, 0, 0, 0)
            elif request == v4l2.ENUM_FRAMESIZES:
                index, fourcc, *_ = v4l2.FRAME_SIZE.unpack(argument)
                size = list(list(self.formats.values())[pixels.index(fourcc)])[index]
                rest = [1, *size[::-1], 0, 0, 0, 0] if len(size) == 2 else [3, *size]
                argument[:] = v4l2.FRAME_SIZE.pack(index, fourcc, *rest, 0, 0)
            else:
                index, fourcc, width, height, *_ = v4l2.FRAME_INTERVAL.unpack(argument)
                sizes = list(self.formats.values())[pixels.index(fourcc)]
                interval = sizes.get((height, width), next(iter(sizes.values())))[index]
                rest = [1, *interval, 0, 0, 0, 0] if len(interval) == 2 else [3, *interval]
                argument[:] = v4l2.FRAME_INTERVAL.pack(index, fourcc, width, height, *rest, 0, 0)
        except IndexError:
            raise OSError(errno.EINVAL, "past the end") from None


class Kernel:
    """A Linux kernel with some nodes; one that is an error number cannot be opened."""

    def __init__(self, root: Path, nodes: dict[int, Node | int]) -> None:
        self.dev, self.sysfs, self.nodes = root / "dev", root / "sys", nodes
        self.dev.mkdir()
        self.opened: list[int] = []
        for number in nodes:
            (self.dev / f"video{number}").touch()

    def open(self, path: Path) -> int:
        number = int(path.name.removeprefix("video"))
        node = self.nodes[number]
        if isinstance(node, int):
            raise OSError(node, os.strerror(node))
        self.opened.append(number)
        return number

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        node = self.nodes[descriptor]
        assert isinstance(node, Node)
        node.answer(request, argument)

    def close(self, descriptor: int) -> None:
        self.opened.remove(descriptor)

    def tell(self, number: int, **what: str) -> None:
        folder = self.sysfs / f"video{number}"
        folder.mkdir(parents=True)
        for name, text in what.items():
            (folder / name).write_text(text + "\n")


@linux
def test_names_formats_sizes_and_rates_of_capture_nodes_only(tmp_path: Path) -> None:
    webcam = {
        "YUYV": {(480, 640): [(1, 30), (1, 24)], (1296, 2304): [(1, 2)]},
        "MJPG": {(1080, 1920): [(1001, 30000), (1, 15)]},
    }
    kernel = Kernel(
        tmp_path,
        {
            10: Node("Grabber", formats={"YUYV": {(576, 720): [(1, 25)]}}),
            0: Node("HD Pro Webcam C920", formats=webcam),
            1: Node("HD Pro Webcam C920", own=0x00800000),  # metadata, of a device that captures with its other node
            2: Node("old driver", own=0, whole=0x1),  # from before device_caps
            3: Node("decoder", own=0x8000, whole=0x80008000),
            4: Node("plane by plane", own=0x1000, whole=0x80001000, formats={"NV12": {(480, 640): []}}),
        },
    )
    (kernel.dev / "video-dec0").touch()
    found = v4l2.list_nodes(kernel)
    assert [Path(camera.uri).name for camera in found] == ["video0", "video2", "video4", "video10"]
    assert [camera.name for camera in found] == ["HD Pro Webcam C920", "old driver", "plane by plane", "Grabber"]
    assert found[0].formats == (
        CameraFormat("YUYV", 480, 640, (30.0, 24.0)),
        CameraFormat("YUYV", 1296, 2304, (2.0,)),
        CameraFormat("MJPG", 1080, 1920, (29.97, 15.0)),
    )
    assert found[1].formats == ()
    assert found[2].formats == (CameraFormat("NV12", 480, 640),)
    assert {camera.problem for camera in found} == {None}
    assert kernel.opened == []


@linux
def test_a_range_of_sizes_and_rates_is_told_by_its_ends_and_the_usual(tmp_path: Path) -> None:
    sizes = {(64, 1920, 16, 48, 1080, 8): [(1, 60, 1, 5, 1, 60)]}  # width from, to, by; height from, to, by
    kernel = Kernel(tmp_path, {0: Node("sensor", formats={"BGR3": sizes})})
    formats = v4l2.list_nodes(kernel)[0].formats
    assert [(item.height, item.width) for item in formats] == [(1080, 1920), (480, 640), (720, 1280), (48, 64)]
    assert {item.fps for item in formats} == {(60.0, 5.0)}


@linux
def test_a_list_without_an_end_is_cut(tmp_path: Path) -> None:
    class Endless(Node):
        def answer(self, request: int, argument: bytearray) -> None:
            if request == v4l2.ENUM_FRAMESIZES:
                argument[:] = v4l2.FRAME_SIZE.pack(0, 1, 1, 640, 480, 0, 0, 0, 0, 0, 0)
            elif request == v4l2.ENUM_FRAMEINTERVALS:
                argument[:] = v4l2.FRAME_INTERVAL.pack(0, 1, 640, 480, 1, 1, 30, 0, 0, 0, 0, 0, 0)
            else:
                super().answer(request, argument)

    kernel = Kernel(tmp_path, {0: Endless("endless", formats={"MJPG": {}})})
    assert v4l2.list_nodes(kernel)[0].formats == (CameraFormat("MJPG", 480, 640, (30.0,)),)


@linux
def test_why_a_camera_cannot_be_asked(tmp_path: Path) -> None:
    nodes: dict[int, Node | int] = {0: errno.EACCES, 1: errno.EACCES, 2: errno.EBUSY, 3: errno.EPERM, 4: errno.ENODEV}
    nodes[5] = Node("unplugged now", fails={v4l2.QUERYCAP: errno.ENODEV})
    nodes[6] = Node("bad cable", fails={v4l2.ENUM_FMT: errno.EIO})
    nodes[7] = Node("bad cable", fails={v4l2.QUERYCAP: errno.EIO})
    kernel = Kernel(tmp_path, nodes)
    kernel.tell(0, name="HD Pro Webcam C920", index="0")
    kernel.tell(1, name="HD Pro Webcam C920", index="1")  # the metadata node, most likely
    found = {int(Path(camera.uri).name[5:]): camera for camera in v4l2.list_nodes(kernel)}
    assert list(found) == [0, 2, 3, 6, 7]
    assert found[0].name == "HD Pro Webcam C920" and "no right to use it" in str(found[0].problem)
    assert (found[2].name, found[2].problem) == ("video2", "another program has it: end that program")
    assert "container or sandbox" in str(found[3].problem)
    assert (found[6].name, found[6].formats) == ("bad cable", ())
    assert found[6].problem == found[7].problem == f"it cannot be opened: {os.strerror(errno.EIO)}"
    assert all("\n" not in str(camera.problem) for camera in found.values())


@linux
def test_no_right_names_the_files_own_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    path = tmp_path / "video0"
    path.touch()
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name="cameras"))
    path.chmod(0o660)
    assert "add yourself to group cameras (sudo usermod -aG cameras $USER), log in anew" in v4l2.no_right(path)
    path.chmod(0o600)
    assert "gives no group that right" in v4l2.no_right(path)


@linux
def test_the_real_kernel_says_that_ordinary_files_are_no_cameras(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    (tmp_path / "video1").mkdir()
    (tmp_path / "video2").symlink_to("/dev/null")
    (tmp_path / "video3").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "video4")
    real = v4l2.LinuxKernel(tmp_path, tmp_path)
    found = v4l2.list_nodes(real)
    assert [camera.uri for camera in found] == [str(tmp_path / "video1")]  # a folder: there, and cannot be opened
    assert found[0].problem == f"it cannot be opened: {os.strerror(errno.EISDIR)}"
    assert v4l2.ask(tmp_path / "video9", real) is None


DRIVER = r"""
// A camera for one process, loaded before libc: a file called video0 answers V4L2's ioctls and streams JPEGs. It is
// written against the kernel's own header, so that numbers and layouts are not our own word.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/videodev2.h>

enum { BUFFERS = 8, BYTES = 1 << 20, NEVER = 1 << 30 };
static char ours[1024];
static void *memory[BUFFERS];
static unsigned queued[BUFFERS], head, tail;
static int width = 640, height = 480, rate = 30, frames, gone;

static int when(const char *name) { return getenv(name) ? atoi(getenv(name)) : NEVER; }

static char *file(const char *name)
{
    static char path[500];
    snprintf(path, sizeof path, "%s/%s", getenv("CAMERA_FOLDER"), name);
    return path;
}

#define OPEN(NAME)                                                                     \
    int NAME(const char *path, int flags, ...)                                         \
    {                                                                                  \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME);                 \
        if (strcmp(path, "/dev/video0") && strcmp(path, file("dev/video0"))) return real(path, flags, mode); \
        int fd = eventfd(1, EFD_NONBLOCK); /* one that can always be read */           \
        ours[fd] = 1;                                                                  \
        return fd;                                                                     \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < (int)sizeof ours) ours[fd] = 0;
    return real(fd);
}

#define MMAP(NAME, OFFSET)                                                             \
    void *NAME(void *at, size_t length, int rights, int flags, int fd, OFFSET offset)  \
    {                                                                                  \
        void *(*real)(void *, size_t, int, int, int, OFFSET) = dlsym(RTLD_NEXT, #NAME); \
        if (fd < 0 || fd >= (int)sizeof ours || !ours[fd]) return real(at, length, rights, flags, fd, offset); \
        return memory[offset / BYTES] = real(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
    if (count != 1 || fds->fd < 0 || fds->fd >= (int)sizeof ours || !ours[fds->fd] || !gone)
        return real(fds, count, timeout);
    fds->revents = POLLERR | POLLHUP;
    return 1;
}

static int take(struct v4l2_buffer *b)
{
    char name[32];
    struct timespec t;
    if (head == tail) { errno = EAGAIN; return -1; }
    usleep(5000);
    if (frames == when("CAMERA_CHANGES")) { width = 320; height = 240; }
    snprintf(name, sizeof name, "%dx%d.jpg", height, width);
    b->index = queued[tail++ % BUFFERS];
    FILE *jpeg = fopen(file(name), "rb");
    b->length = BYTES;
    b->bytesused = fread(memory[b->index], 1, BYTES, jpeg);
    fclose(jpeg);
    clock_gettime(CLOCK_MONOTONIC, &t);
    b->timestamp.tv_sec = t.tv_sec;
    b->timestamp.tv_usec = t.tv_nsec / 1000;
    if (++frames == when("CAMERA_GOES")) { unlink(file("dev/video0")); gone = 1; }
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest; va_start(rest, request); void *arg = va_arg(rest, void *); va_end(rest);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    if (fd < 0 || fd >= (int)sizeof ours || !ours[fd]) return real(fd, request, arg);
    if (gone) { errno = ENODEV; return -1; }
    errno = EINVAL;
    switch (request & 0xffffffff) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *c = arg;
        strcpy((char *)c->card, "C by the header");
        c->capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_META_CAPTURE;
        c->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *f = arg;
        __u32 pixels[] = {V4L2_PIX_FMT_MJPEG, V4L2_PIX_FMT_YUYV};
        if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || f->index > 1) return -1;
        f->pixelformat = pixels[f->index];
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *s = arg;
        if (s->index) return -1;
        if (s->pixel_format == V4L2_PIX_FMT_MJPEG) {
            s->type = V4L2_FRMSIZE_TYPE_DISCRETE; s->discrete.width = 640; s->discrete.height = 480;
        } else {
            s->type = V4L2_FRMSIZE_TYPE_STEPWISE;
            s->stepwise.min_width = 32; s->stepwise.max_width = 800; s->stepwise.step_width = 16;
            s->stepwise.min_height = 24; s->stepwise.max_height = 600; s->stepwise.step_height = 8;
        }
        return 0;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *i = arg;
        if (i->index) return -1;
        if (i->pixel_format == V4L2_PIX_FMT_MJPEG && i->width == 640 && i->height == 480) {
            i->type = V4L2_FRMIVAL_TYPE_DISCRETE; i->discrete.numerator = 1; i->discrete.denominator = 30;
        } else {
            i->type = V4L2_FRMIVAL_TYPE_CONTINUOUS;
            i->stepwise.min.numerator = 1; i->stepwise.min.denominator = 60;
            i->stepwise.max.numerator = 1; i->stepwise.max.denominator = 5;
        }
        return 0;
    }
    case VIDIOC_S_FMT:
        if (getenv("CAMERA_BUSY")) { errno = EBUSY; return -1; } // fall through
    case VIDIOC_G_FMT: {
        struct v4l2_format *f = arg;
        if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return -1;
        f->fmt.pix.width = width; f->fmt.pix.height = height;
        f->fmt.pix.pixelformat = V4L2_PIX_FMT_MJPEG;
        f->fmt.pix.sizeimage = BYTES;
        return 0;
    }
    case VIDIOC_S_PARM: case VIDIOC_G_PARM: {
        struct v4l2_streamparm *p = arg;
        p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        p->parm.capture.timeperframe.numerator = 1; p->parm.capture.timeperframe.denominator = rate;
        return 0;
    }
    case VIDIOC_ENUMINPUT: return ((struct v4l2_input *)arg)->index ? -1 : 0;
    case VIDIOC_G_INPUT: *(int *)arg = 0; return 0;
    case VIDIOC_S_INPUT: case VIDIOC_STREAMON: return 0;
    case VIDIOC_STREAMOFF: head = tail = 0; return 0;
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *r = arg;
        if (r->count > BUFFERS) r->count = BUFFERS;
        head = tail = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *b = arg;
        b->length = BYTES; b->m.offset = b->index * BYTES;
        return 0;
    }
    case VIDIOC_QBUF: queued[head++ % BUFFERS] = ((struct v4l2_buffer *)arg)->index; return 0;
    case VIDIOC_DQBUF: return take(arg);
    }
    return -1;
}
"""

compiler = pytest.mark.skipif(
    not os.environ.get("CI")  # which has them, or fails
    and (
        not sys.platform.startswith("linux")
        or shutil.which("cc") is None
        or not Path("/usr/include/linux/videodev2.h").exists()
    ),
    reason="needs a C compiler and Linux's headers: apt-get install gcc libc6-dev",
)


def run_with_driver(folder: Path, program: str, **settings: str) -> str:
    """What a program prints that finds the driver's camera as ``folder/dev/video0``; `kernel` is there for it."""
    import cv2

    (folder / "driver.c").write_text(DRIVER)
    build: list[str | Path] = [
        "cc",
        "-shared",
        "-fPIC",
        "-Wall",
        "-o",
        folder / "driver.so",
        folder / "driver.c",
        "-ldl",
    ]
    subprocess.run(build, check=True)
    (folder / "dev").mkdir()
    (folder / "dev" / "video0").touch()
    for height, width in ((480, 640), (240, 320)):
        cv2.imwrite(str(folder / f"{height}x{width}.jpg"), np.full((height, width, 3), 90, np.uint8))
    head = (
        "from pathlib import Path; from rtpsp.stream import camera_v4l2; "
        f"kernel = camera_v4l2.LinuxKernel(Path({str(folder / 'dev')!r}), Path({str(folder / 'sys')!r}))\n"
    )
    environment = {**os.environ, "LD_PRELOAD": str(folder / "driver.so"), "CAMERA_FOLDER": str(folder), **settings}
    command = [sys.executable, "-c", head + program]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


@compiler
def test_numbers_and_layouts_are_those_of_the_kernels_own_header(tmp_path: Path) -> None:
    printed = run_with_driver(tmp_path, "print(camera_v4l2.list_nodes(kernel))")
    found = eval(printed, {"CameraInfo": CameraInfo, "CameraFormat": CameraFormat})
    ranged = [CameraFormat("YUYV", *size, (60.0, 5.0)) for size in ((600, 800), (480, 640), (24, 32))]
    expected = (CameraFormat("MJPG", 480, 640, (30.0,)), *ranged)
    assert found == (CameraInfo(str(tmp_path / "dev" / "video0"), "C by the header", expected),)


def test_this_machine_answers() -> None:
    assert all(isinstance(camera, CameraInfo) for camera in list_cameras())
    assert why_no_list() is None or "number" in str(why_no_list())


class Library:
    """cv2-enumerate-cameras, as far as it is used."""

    supported_backends = (200, 1800)

    def __init__(self, found: list[tuple[int, str]] | Exception) -> None:
        self.found = found
        self.asked: list[int] = []

    def enumerate_cameras(self, backend: int) -> list[Any]:
        self.asked.append(backend)
        if isinstance(self.found, Exception):
            raise self.found
        return [SimpleNamespace(index=index, name=name) for index, name in self.found]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_numbers_and_names_are_those_of_the_interface_that_opencv_tries_first(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    import cv2

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(cv2.videoio_registry, "getCameraBackends", lambda: [1900, 1800, 200])
    library = Library([(1, "USB camera"), (0, "FaceTime HD Camera")])
    monkeypatch.setitem(sys.modules, "cv2_enumerate_cameras", library)
    assert list_cameras() == (CameraInfo("0", "FaceTime HD Camera"), CameraInfo("1", "USB camera"))
    assert library.asked == [1800] and why_no_list() is None
    assert to_camera_uri("usb") == "1"


def test_where_there_can_be_no_list_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert list_cameras() == () and "cannot be listed on freebsd14" in str(why_no_list())
    with pytest.raises(MissingError, match="no camera is called 'c920': cameras cannot be listed on freebsd14"):
        to_camera_uri("c920")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "cv2_enumerate_cameras", None)
    assert list_cameras() == () and "pip install" in str(why_no_list())
    monkeypatch.setitem(sys.modules, "cv2_enumerate_cameras", Library(RuntimeError("COM broke")))
    monkeypatch.setattr(cv2.videoio_registry, "getCameraBackends", lambda: [200])
    assert list_cameras() == () and "cannot be listed (COM broke)" in str(why_no_list())
    monkeypatch.setattr(cv2.videoio_registry, "getCameraBackends", list)
    assert list_cameras() == () and "no camera interface" in str(why_no_list())


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("0", "0"),
        ("17", "17"),
        ("/dev/video2", "/dev/video2"),
        ("/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0", None),
        ("c920", "/dev/video0"),
        ("C920", "/dev/video0"),
        (" pro webcam ", "/dev/video0"),
        ("integrated", "/dev/video2"),
        ("locked [UP]", "/dev/video6"),
    ],
)
def test_what_people_call_a_camera(given: str, uri: str | None) -> None:
    assert to_camera_uri(given, [C920, INNER, LOCKED]) == (uri or given)


def test_a_name_that_does_not_say_which() -> None:
    with pytest.raises(MissingError, match="2 cameras are called 'c920'") as error:
        to_camera_uri("c920", [C920, INNER, SECOND])
    assert "HD Pro Webcam C920 (/dev/video0) or HD Pro Webcam C920 (/dev/video4)" in str(error.value)
    whole = CameraInfo("/dev/video8", "HD")
    assert to_camera_uri("hd", [C920, INNER, whole]) == "/dev/video8"  # all three have it, one is called so
    with pytest.raises(MissingError, match=r"no camera is called 'c930': there are HD Pro .*, Integrated Camera"):
        to_camera_uri("c930", [C920, INNER])
    with pytest.raises(MissingError, match=r"there is HD Pro Webcam C920 \(/dev/video0\)$"):
        to_camera_uri("c930", [C920])


def test_no_camera_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_look", lambda: ((), None))
    with pytest.raises(MissingError, match="no camera is called 'c920': this machine has none; plug one in"):
        to_camera_uri("c920")
    assert formats_of(0) == ()


def test_what_is_no_name_is_a_usage_error(tmp_path: Path) -> None:
    film = tmp_path / "drive.mp4"
    film.touch()
    for given in (str(film), "sim://street", "rtsp://door/1"):
        with pytest.raises(UsageError, match="give it to --source"):
            to_camera_uri(given, [C920])
    for given in ("", "  "):
        with pytest.raises(UsageError, match="--camera is empty"):
            to_camera_uri(given, [C920])


def test_formats_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = CameraInfo("3", "USB camera", (CameraFormat("NV12", 480, 640),))
    monkeypatch.setattr(cameras, "_look", lambda: ((INNER, C920, elsewhere), None))
    assert formats_of(0) == C920.formats
    assert formats_of(3) == elsewhere.formats
    assert formats_of(2) == formats_of(9) == ()


def test_why_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    from rtpsp.stream import camera
    from tests.stream.test_camera import Double, jpeg

    assert "no camera /dev/video98765" in str(why_no_frame("98765")) or not sys.platform.startswith("linux")
    assert "--source" in str(why_no_frame("sim://street"))
    devices = iter([Double(jpeg(9) for _ in range(9)), Double(iter([jpeg(9)]))])
    made = []

    def opener(number: int) -> Double:
        made.append(next(devices))
        return made[-1]

    monkeypatch.setattr(camera, "OpenCVDevice", opener)
    monkeypatch.setattr(cameras, "SourceOptions", lambda: SourceOptions(read_timeout=0.1))
    assert why_no_frame("0") is None
    assert why_no_frame("0") == "camera 0 delivered no frame for 0.1 s"
    assert [device.released for device in made] == [1, 1]
    assert SourceLost.exit_code == 5


def test_nearest_sizes() -> None:
    formats = [CameraFormat("MJPG", *size) for size in ((240, 320), (480, 640), (1080, 1920), (1200, 1600))]
    assert nearest_sizes(formats * 2, (1080, 1900)) == [(1080, 1920), (1200, 1600), (480, 640), (240, 320)]


def test_the_table_and_what_is_printed_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    monkeypatch.setattr(cli, "stdout", Console(width=80, highlight=False))
    monkeypatch.setattr(cli, "stderr", Console(width=80, stderr=True, highlight=False))
    sizes = ((480, 640, (30.0, 15.0)), (1080, 1920, (30.0,)), (720, 1280, (60.0, 30.0)), (240, 320, (60.0,)))
    many = [CameraFormat("MJPG", *size) for size in sizes] + [CameraFormat("GREY", 400, 400)]
    cli.print_cameras([CameraInfo("/dev/video0", "HD Pro Webcam C920", tuple(many)), INNER, LOCKED])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= 80 and printed.err == ""
    assert "MJPG 1080x1920 at 30 fps" in printed.out and "MJPG 720x1280 at 60 fps" in printed.out
    assert "480x640" not in printed.out and "240x320" not in printed.out
    assert "GREY 400x400" in printed.out and "not told by this system" in printed.out
    assert "Locked [up]" in printed.out
    assert lines[-1] == "/dev/video6: no right to use it: add yourself to group video"
    cli.print_cameras([])
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "sim://street" in printed.err


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0", "a\nb", "\ud800"])
def test_no_name_is_too_strange_for_one_line(name: str) -> None:
    with pytest.raises(MissingError, match="no camera is called") as caught:
        to_camera_uri(name, ())
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize(("given", "differs"), [(30.0, False), (29.97, False), (25.0, True), (31.0, True), (0.0, True)])
def test_a_rate_counts_as_refused_beyond_its_rounding(given: float, differs: bool) -> None:
    assert Granted("MJPG", 720, 1280, given).differs_from(SourceOptions(camera_fps=30)) is differs
