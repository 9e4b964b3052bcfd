"""The window, on a virtual display of its own: what it shows is read from the display's frame buffer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from rtpsp.labels import CAMVID
from rtpsp.stream.display import Window, why_no_display
from rtpsp.stream.frame import Absent

SCREEN_HEIGHT, SCREEN_WIDTH = 480, 640
CAR_RGB = CAMVID.palette[CAMVID.names.index("Car")]

PROGRAM = """
import json, sys
import numpy as np
import rtpsp
car = np.full((1, 120, 160), 8, np.uint8)
spec = rtpsp.ModelSpec("fake", "fake", 120, 160, __import__("rtpsp.labels").labels.CAMVID)
window = rtpsp.Window(view="mask")
engine = rtpsp.FakeEngine(spec, latency=0.02, answer=lambda frames: car)
report = rtpsp.run("sim://street?w=160&h=120&frames=2000&live=1", engine, [window, rtpsp.VideoFile(sys.argv[1])])
window = {name: getattr(window, name) for name in ("view", "frozen", "chosen")}
print(json.dumps({**window, "ended": report.ended, "shown": report.frames.shown}))
"""


@dataclass(frozen=True)
class Display:
    number: str
    buffer: Path

    def pixels(self) -> np.ndarray:
        """uint8 [height, width, 3] RGB, from Xvfb's frame buffer in XWD format (X11's XWDFile.h)."""
        data = self.buffer.read_bytes()
        header = np.frombuffer(data[:100], ">u4")
        header_size, width, height, line, colours = (int(header[i]) for i in (0, 4, 5, 12, 19))
        start = header_size + colours * 12
        rows = np.frombuffer(data[start : start + line * height], np.uint8).reshape(height, line)
        return rows.reshape(height, line // 4, 4)[:, :width, 2::-1]

    def press(self, key: str) -> None:
        windows = self._xdotool("search", "--name", "rtpsp").split()
        self._xdotool("key", "--window", windows[-1], key)

    def _xdotool(self, *words: str) -> str:
        environment = {**os.environ, "DISPLAY": self.number}
        return subprocess.run(
            ["xdotool", *words], env=environment, capture_output=True, text=True, check=True, timeout=20
        ).stdout


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def display(tmp_path: Path) -> Iterator[Display]:
    missing = [program for program in ("Xvfb", "xdotool", "openbox") if shutil.which(program) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{', '.join(missing)} missing: apt-get install xvfb xdotool openbox")
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(write),
            "-screen",
            "0",
            f"{SCREEN_WIDTH}x{SCREEN_HEIGHT}x24",
            "-fbdir",
            str(tmp_path),
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        # Without a window manager Qt 5 misses the first expose event one time in ten, and then paints nothing.
        manager = subprocess.Popen(
            ["openbox", "--sm-disable"], env={**os.environ, "DISPLAY": f":{number}"}, stderr=subprocess.DEVNULL
        )
        try:
            yield Display(f":{number}", tmp_path / "Xvfb_screen0")
        finally:
            manager.terminate()
            manager.wait(10)
    finally:
        server.terminate()
        server.wait(10)


def share_of(pixels: np.ndarray, rgb: tuple[int, int, int]) -> float:
    return float((pixels == rgb).all(axis=2).mean())


def test_the_window_opens_draws_answers_keys_and_closes(display: Display, tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(video)],
        env={**os.environ, "DISPLAY": display.number},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert until(lambda: share_of(display.pixels(), CAR_RGB) > 0.05), "the mask is one class: its palette colour"
        display.press("m")  # side by side
        assert until(lambda: 0 < share_of(display.pixels(), CAR_RGB) < 0.01 or not share_of(display.pixels(), CAR_RGB))
        display.press("m")  # the frame as it is
        display.press("2")
        display.press("space")
        time.sleep(0.5)
        frozen = display.pixels()
        time.sleep(0.7)
        assert (display.pixels() == frozen).all(), "a frozen view does not move"
        display.press("space")
        assert until(lambda: bool((display.pixels() != frozen).any())), "and goes on"
        display.press("Escape")
        out, errors = run.communicate(timeout=20)
    finally:
        run.kill()
        run.communicate()
    assert run.returncode == 0, errors
    assert errors == ""
    told = json.loads(out)
    assert told["ended"] == "quit" and told["view"] == "frame" and told["frozen"] is False
    assert told["chosen"] == 1, "the second source, where there are several"
    with av.open(str(video)) as container:
        recorded = [float(frame.time or 0.0) for frame in container.decode(video=0)]
    assert len(recorded) == told["shown"]
    assert max(np.diff(recorded)) < 0.4, "recording went on while the view was frozen"
    assert until(lambda: display.pixels().max() == 0 or share_of(display.pixels(), (0, 0, 0)) > 0.99), "it is gone"


def test_q_quits_too(display: Display, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "out.mp4")],
        env={**os.environ, "DISPLAY": display.number},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert until(lambda: share_of(display.pixels(), CAR_RGB) > 0.05)
        display.press("q")
        out, _ = run.communicate(timeout=20)
    finally:
        run.kill()
        run.communicate()
    assert json.loads(out)["ended"] == "quit"


def test_q_quits_while_the_engine_still_opens(display: Display, tmp_path: Path) -> None:
    slow = PROGRAM.replace(
        "report = ",
        "import time\nright = engine._open\n"
        "engine._open = lambda: (print('OPENING', flush=True), time.sleep(3), right())[2]\n"
        "report = ",
    )
    video = tmp_path / "out.mp4"
    run = subprocess.Popen(
        [sys.executable, "-c", slow, str(video)],
        env={**os.environ, "DISPLAY": display.number},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout is not None and run.stdout.readline() == "OPENING\n"
        display.press("q")
        out, _ = run.communicate(timeout=20)
    finally:
        run.kill()
        run.communicate()
    told = json.loads(out)
    assert run.returncode == 0 and (told["ended"], told["shown"]) == ("quit", 0)
    assert not video.exists() and not list(tmp_path.glob(".*")), "no picture came: there is no recording"


def test_a_display_is_found(display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", display.number)
    assert why_no_display() is None


def test_no_display_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert why_no_display() == "neither DISPLAY nor WAYLAND_DISPLAY is set"
    monkeypatch.setenv("DISPLAY", ":54321")  # where nothing listens: OpenCV's Qt would abort this very process
    reason = why_no_display()
    assert reason and "display" in reason.lower()


def test_an_opencv_without_windows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":54321")
    monkeypatch.setattr("rtpsp.stream.display._PROBE", "raise RuntimeError('rebuild with GTK')")
    assert why_no_display() == "RuntimeError: rebuild with GTK"


def test_what_is_wrong_is_shown_and_keys_choose_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    keys = [-1]
    monkeypatch.setattr("cv2.namedWindow", lambda *given: None)
    monkeypatch.setattr("cv2.resizeWindow", lambda *given: None)
    monkeypatch.setattr("cv2.imshow", lambda title, picture: shown.append(int(picture[0, 0, 0])))
    monkeypatch.setattr("cv2.waitKey", lambda delay: keys[-1])
    window = Window()
    for key, chosen in ((ord("9"), 8), (ord("a"), 8), (ord("1"), 0), (ord("0"), None), (ord(" "), None)):
        keys.append(key)
        window.poll()
        assert window.chosen == chosen
    keys.append(-1)
    window.absent(Absent(0, 0.0, np.full((2, 2, 3), 7, np.uint8), "NO SIGNAL"))
    assert shown == [], "a frozen view stands still"
    window.frozen = False
    window.absent(Absent(0, 0.0, np.full((2, 2, 3), 9, np.uint8), "NO SIGNAL"))
    assert shown == [9]
