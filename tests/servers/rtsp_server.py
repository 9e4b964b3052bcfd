"""An RTSP server of one camera, run by the system's Python: its GStreamer bindings are no wheel, nor is NumPy there.

Each picture carries the time code of `rtpsp.sim.timecode`: when it was exposed, in microseconds of CLOCK_MONOTONIC,
which all processes of a machine share. It prints ``ready`` when it can be dialled, and ends when its stdin does.
"""

from __future__ import annotations

import argparse
import binascii
import mmap
import os
import sys
import threading
import time
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

COLUMNS, ROWS, CELLS_ACROSS, CELLS_DOWN = 20, 4, 40, 30  # as rtpsp.sim.timecode lays it out
MARKER = 0b10100110
BLACK, WHITE, GREY = 16, 235, 128  # studio range

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate={kilobits} key-int-max={gop} threads=1 "
    "! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=1",
    "jpeg": "jpegenc quality=80 ! rtpjpegpay name=pay0 pt=26",
}
# A client that does not read must not make the camera wait: the newest picture replaces the one that waits.
CAMERA = (
    "appsrc name=camera is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream "
    "caps=video/x-raw,format=I420,width={width},height={height},framerate={fps}/1,interlace-mode=progressive "
)


def draw_code(frame: bytearray, width: int, height: int, microseconds: int) -> None:
    """Draws a time code into the top left corner of an I420 picture, in place."""
    value = microseconds.to_bytes(7, "big")
    code = int.from_bytes(bytes([MARKER]) + value + binascii.crc_hqx(value, 0).to_bytes(2, "big"), "big")
    across, down = round(COLUMNS * width / CELLS_ACROSS), round(ROWS * height / CELLS_DOWN)
    lines = []
    for row in range(ROWS):
        bits = code >> COLUMNS * (ROWS - 1 - row)
        cells = [WHITE if bits >> COLUMNS - 1 - column & 1 else BLACK for column in range(COLUMNS)]
        lines.append(bytes(cells[min(x * CELLS_ACROSS // width, COLUMNS - 1)] for x in range(across)))
    for y in range(down):
        frame[y * width : y * width + across] = lines[min(y * CELLS_DOWN // height, ROWS - 1)]
    grey = bytes([GREY]) * (across // 2)
    for plane in (width * height, width * height * 5 // 4):
        for y in range(down // 2):
            begin = plane + y * (width // 2)
            frame[begin : begin + across // 2] = grey


class Camera:
    """Exposes pictures at its rate, whether anybody looks or not, and gives each to every stream there is."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._width, self._height, self._fps = options.width, options.height, options.fps
        self._size = options.width * options.height * 3 // 2
        self._sources: list[Any] = []
        if options.frames:
            with open(options.frames, "rb") as file:
                self._pictures: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        else:
            line = bytes(40 + 160 * x // options.width for x in range(options.width))
            chroma = bytes([GREY]) * (options.width * options.height // 4)
            self._pictures = line * options.height + chroma * 2

    def add(self, factory: Any, media: Any) -> None:
        """A client came, and its media was made."""
        source = media.get_element().get_by_name("camera")
        media.connect("unprepared", lambda _: self._sources.remove(source))
        self._sources.append(source)

    def expose(self) -> None:
        """Never ends. A camera that was stopped exposes what it sees then: nothing is made up for."""
        count, due = len(self._pictures) // self._size, time.monotonic()
        number = 0
        while True:
            due = max(due + 1 / self._fps, time.monotonic() - 1 / self._fps)
            time.sleep(max(due - time.monotonic(), 0))
            begin = number % count * self._size
            number += 1
            if self._sources:
                frame = bytearray(self._pictures[begin : begin + self._size])
                draw_code(frame, self._width, self._height, time.monotonic_ns() // 1000)
                for source in list(self._sources):
                    source.emit("push-buffer", Gst.Buffer.new_wrapped(bytes(frame)))


def guard(server: Any, factory: Any, account: str) -> None:
    """Asks every client for a user name and a password, ``name:password``."""
    role = "viewer"
    auth, token, permissions = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken(), GstRtspServer.RTSPPermissions()
    token.set_string("media.factory.role", role)
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role(role, permission, True)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*account.split(":", 1)), token)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def end_with_stdin() -> None:
    """The process that started us is gone, or wants us to be."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="street")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--gop", type=int, default=30)
    parser.add_argument("--kilobits", type=int, default=2000)
    parser.add_argument("--codec", choices=sorted(ENCODERS), default="h264")
    parser.add_argument("--frames", help="raw I420 pictures of that size, shown again and again")
    parser.add_argument("--account", help="name:password that a client has to give")
    options = parser.parse_args()

    Gst.init(None)
    camera = Camera(options)
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    factory.set_launch(f"( {CAMERA} ! {ENCODERS[options.codec]} )".format(**vars(options)))
    factory.set_shared(True)
    factory.connect("media-configure", camera.add)
    server.get_mount_points().add_factory(f"/{options.path}", factory)
    if options.account:
        guard(server, factory, options.account)
    if not server.attach(None):
        sys.exit(f"port {options.port} is taken")
    GLib.timeout_add_seconds(2, lambda: server.get_session_pool().cleanup() >= 0)
    threading.Thread(target=camera.expose, daemon=True).start()
    threading.Thread(target=end_with_stdin, daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
