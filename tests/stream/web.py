"""A web server in a thread, as cameras and media servers have them, and the small media that it serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2  # isort: skip
import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

HEIGHT, WIDTH = 120, 160
Answer = Callable[["Handler"], None]


def encode(path: str, frames: int, rate: int = 25, options: dict[str, str] | None = None, form: str = "") -> None:
    """An H.264 video of grey pictures, which get lighter by 10; a key frame every ten."""
    with av.open(path, "w", format=form or None, options=options or {}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"g": "10", "tune": "zerolatency"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(frames):
            frame = VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 10 * i % 250, np.uint8), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def jpeg(level: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), level, np.uint8))[1].tobytes()


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, an error for its number (``/404``), and whatever else `answers` has."""

    answers: dict[str, Answer]
    released: threading.Event

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        if name in self.answers:
            self.answers[name](self)
        elif name[1:].isdigit():
            self.send_error(int(name[1:]))
        else:
            super().do_GET()

    def begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def parts(self, pictures: list[bytes], pause: float = 0.0) -> None:
        """An MJPEG stream."""
        self.begin("multipart/x-mixed-replace; boundary=frame")
        for data in pictures:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(pause)

    def hang(self) -> None:
        self.released.wait(10)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, answers: dict[str, Answer] | None = None) -> Iterator[str]:
    """The address of a server, with user and password."""
    released = threading.Event()
    names = {"answers": answers or {}, "released": released}

    class Here(Handler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

    for name, value in names.items():
        setattr(Here, name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a client that hangs up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://joe:sesame@127.0.0.1:{server.server_port}"
    finally:
        released.set()
        server.shutdown()
        server.server_close()
        thread.join()
