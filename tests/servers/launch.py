"""Starts the servers of this folder as processes of their own, and does to them what happens to real ones."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np

FOLDER = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"
PATIENCE = 30.0
Kind = Literal["rtsp", "mjpeg"]


@cache
def why_no_rtsp() -> str:
    """What is missing on this machine for `Server` of ``rtsp``; empty where nothing is, and on the build server."""
    if os.environ.get("CI"):
        return ""
    program = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer\n"
        "Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    )
    if not Path(SYSTEM_PYTHON).exists():
        return f"needs {SYSTEM_PYTHON} with GStreamer's bindings"
    done = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, check=False)
    return "needs python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-ugly" if done.returncode else ""


@dataclass(frozen=True)
class Camera:
    """What a server shows.

    Attributes:
        frames: Raw I420 pictures of this size (`save_frames`); a grey ramp where there are none.
        gop: Pictures from one key frame to the next.
        kilobits: A second, of H.264.
        account: ``name:password`` that a client has to give; empty for none.
    """

    width: int = 640
    height: int = 480
    fps: int = 30
    path: str = "street"
    frames: Path | None = None
    account: str = ""
    codec: Literal["h264", "jpeg"] = "h264"
    gop: int = 30
    kilobits: int = 2000


class Server:
    """A server under an address that stays the same; it runs from `start` to `kill` or the end of the ``with``.

    Args:
        kind: Which one.
        camera: What it shows.
    """

    def __init__(self, kind: Kind, camera: Camera) -> None:
        self.kind, self.camera = kind, camera
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **changes: Any) -> None:
        """Start it, with a camera that differs in these attributes, and wait until it can be dialled."""
        camera = self.camera = replace(self.camera, **changes)
        python, script = (SYSTEM_PYTHON, "rtsp_server.py") if self.kind == "rtsp" else (sys.executable, "mjpeg.py")
        names = ["path", "width", "height", "fps", "frames", "account"]
        names += ["codec", "gop", "kilobits"] if self.kind == "rtsp" else []
        command = [python, str(FOLDER / script), f"--port={self.port}"]
        command += [f"--{name}={value}" for name in names if (value := getattr(camera, name))]
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
            out = self._process.stdout
            assert out is not None
            if not select.select([out], [], [], PATIENCE)[0] or out.readline() != b"ready\n":
                self.kill()
                said.seek(0)
                raise RuntimeError(f"{script} did not start: {said.read().decode(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End it at once (SIGKILL): the system closes its connections, and nothing listens there any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def freeze(self) -> None:
        """Stop it (SIGSTOP): connections stay, new ones are accepted by the system, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def url(self, account: str | None = None, *, port: int | None = None, path: str | None = None) -> str:
        """Where it is; with the right account unless another is given, by another port through a proxy."""
        account = self.camera.account if account is None else account
        scheme = "rtsp" if self.kind == "rtsp" else "http"
        path = self.camera.path if path is None else path
        return f"{scheme}://{account + '@' if account else ''}127.0.0.1:{port or self.port}/{path}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


def free_port() -> int:
    """A port that nothing listens at; nobody keeps it free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def save_frames(video: Path, to: Path, width: int, height: int, most: int = 150) -> Path:
    """The first pictures of a video, scaled, as raw I420 for a `Camera`.

    Args:
        video: What OpenCV reads.
        to: The file to write: 1.5 bytes a pixel.
        width: Even.
        height: Even.
        most: Pictures.

    Returns:
        `to`.
    """
    reader = cv2.VideoCapture(str(video))
    with to.open("wb") as file:
        for _ in range(most):
            found, picture = reader.read()
            if not found:
                break
            scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            file.write(np.ascontiguousarray(cv2.cvtColor(scaled, cv2.COLOR_BGR2YUV_I420)).tobytes())
    reader.release()
    if not to.stat().st_size:
        raise ValueError(f"{video} holds no picture that OpenCV can read")
    return to
