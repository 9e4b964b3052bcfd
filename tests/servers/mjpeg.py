"""An HTTP server of one camera that sends multipart JPEG, as many network cameras do; `rtsp_server` says the rest."""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

from rtpsp.arrays import Image
from rtpsp.sim.timecode import draw_timecode

BOUNDARY = "picture"


class Camera:
    """Exposes pictures at its rate; whoever waits gets the newest."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._interval = 1 / options.fps
        if options.frames:
            planes = np.fromfile(options.frames, np.uint8).reshape(-1, options.height * 3 // 2, options.width)
            pictures = [cv2.cvtColor(plane, cv2.COLOR_YUV2BGR_I420) for plane in planes]
        else:
            ramp = np.linspace(40, 200, options.width).astype(np.uint8)
            pictures = [np.broadcast_to(ramp[None, :, None], (options.height, options.width, 3)).copy()]
        self._pictures: list[Image] = [np.asarray(picture, np.uint8) for picture in pictures]
        self._fresh = threading.Condition()
        self._number, self._jpeg = 0, b""

    def expose(self) -> None:
        """Never ends. A camera that was stopped exposes what it sees then: nothing is made up for."""
        due = time.monotonic()
        for picture in itertools.cycle(self._pictures):
            due = max(due + self._interval, time.monotonic() - self._interval)
            time.sleep(max(due - time.monotonic(), 0))
            draw_timecode(picture, time.monotonic_ns() // 1000)
            jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
            with self._fresh:
                self._number, self._jpeg = self._number + 1, jpeg
                self._fresh.notify_all()

    def after(self, number: int) -> tuple[int, bytes]:
        """The newest picture, as soon as there is another than that."""
        with self._fresh:
            self._fresh.wait_for(lambda: self._number != number)
            return self._number, self._jpeg


class Handler(BaseHTTPRequestHandler):
    """Answers GET with pictures for as long as the client takes them."""

    camera: Camera
    path_served = ""
    account = ""

    def do_GET(self) -> None:
        """One client."""
        wanted = "Basic " + base64.b64encode(self.account.encode()).decode()
        if self.account and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.path != self.path_served:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        number = 0
        try:
            while True:
                number, jpeg = self.camera.after(number)
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:  # the client is gone
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: stderr is for what is wrong with the server itself."""


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
    parser.add_argument("--frames", type=Path, help="raw I420 pictures of that size, shown again and again")
    parser.add_argument("--account", default="", help="name:password that a client has to give")
    options = parser.parse_args()

    cv2.setNumThreads(1)
    Handler.camera, Handler.account, Handler.path_served = Camera(options), options.account, f"/{options.path}"
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    threading.Thread(target=Handler.camera.expose, daemon=True).start()
    threading.Thread(target=end_with_stdin, daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
