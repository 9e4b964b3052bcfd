"""The window: shows the newest picture and answers keys."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from rtpsp.arrays import Image
from rtpsp.errors import MissingError
from rtpsp.stream.frame import VIEWS, Absent, Rendered, View
from rtpsp.stream.sink import Sink

PROBE_SECONDS = 20.0
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1); cv2.destroyAllWindows()"

_ESCAPE = 27
_QUIT_KEYS = frozenset({ord("q"), ord("Q"), _ESCAPE})
_FREEZE_KEY = ord(" ")
_VIEW_KEYS = frozenset({ord("m"), ord("M")})


def why_no_display() -> str | None:
    """None where a window can be opened, else the reason in words.

    It is tried in a process of its own: OpenCV does not raise where the display is missing, Qt aborts the process.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no window opened within {PROBE_SECONDS:.0f} s"
    if probe.returncode:
        lines = [line for line in probe.stderr.strip().splitlines() if line]
        python = bool(lines) and lines[0].startswith("Traceback")  # its last line is the one that tells
        return lines[-1 if python else 0] if lines else f"opening a window ended the process with {probe.returncode}"
    return None


class Window(Sink):
    """A window on the display: q or Esc quits, space freezes the view, m goes through the views.

    Of several sources 1 to 9 choose one and 0 all of them, for `rtpsp.stream.tiles.Tiled`, which draws them.

    Open it before a video file: where PyAV's libraries are loaded first, OpenCV's first window hangs (PyAV#1050). The
    window itself opens in the constructor for that reason.

    Args:
        title: In the title bar.
        view: What to show first.

    Attributes:
        frozen: Whether the view stands still.
        chosen: Number of the source that is to be seen alone, from 0; None for all.

    Raises:
        MissingError: No display, or an OpenCV without windows.
    """

    def __init__(self, title: str = "rtpsp", view: View = "overlay") -> None:
        self.view: View = view
        self.frozen = False
        self.chosen: int | None = None
        self._title = title
        self._stop = False
        self._shape: tuple[int, ...] = ()
        # opencv-python's Qt comes without fonts and says so five times; nothing here is written with them.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise MissingError(
                f"this OpenCV cannot open windows ({error.err or error}): install opencv-python instead of "
                "opencv-python-headless, or run without a window"
            ) from error

    def write(self, item: Rendered) -> None:
        """Show the picture, unless the view is frozen."""
        self._show(item.pictures[self.view])

    def absent(self, item: Absent) -> None:
        """Show what is wrong, unless the view is frozen."""
        self._show(item.picture)

    def _show(self, picture: Image) -> None:
        if not self.frozen:
            if picture.shape != self._shape:  # side by side is twice as wide: in the old window it would be squeezed
                self._shape = picture.shape
                cv2.resizeWindow(self._title, picture.shape[1], picture.shape[0])
            cv2.imshow(self._title, picture)
        self.poll()

    def poll(self) -> None:
        """Let the window draw itself, and answer one key."""
        key = cv2.waitKey(1)
        if key >= 0:
            self._answer(key & 0xFF)

    @property
    def wants_to_stop(self) -> bool:
        """True after q or Esc, or when the window was closed."""
        return self._stop or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1

    def close(self) -> None:
        """Take the window away."""
        if cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 0:
            cv2.destroyWindow(self._title)
        cv2.waitKey(1)

    def _answer(self, key: int) -> None:
        if key in _QUIT_KEYS:
            self._stop = True
        elif key == _FREEZE_KEY:
            self.frozen = not self.frozen
        elif key in _VIEW_KEYS:
            self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]
        elif ord("0") <= key <= ord("9"):
            self.chosen = key - ord("1") if key > ord("0") else None
