"""What is shown while a source gives no frame: its last picture, darkened, and in words what is wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np

from rtpsp.arrays import Image
from rtpsp.drawing import row_height
from rtpsp.stream.health import Health

HEADLINE = "NO SIGNAL"
PLAIN_SIZE = 480, 640
"""(height, width) where there was no picture yet."""

_DARKENED = 0.3
_GREY = 40
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT = 22.0  # pixels that a capital of it measures at scale 1
_WHITE = (255, 255, 255)
_MOST_LINES = 8


def words_of(health: Health, at: float, last: float | None, ended: str = "") -> tuple[str, ...]:
    """What is wrong with a source, a line each.

    Args:
        health: How it fares.
        at: Now, in seconds of `time.monotonic`.
        last: When its last frame was captured, on the same clock; None where none came yet.
        ended: Why it gives no frame any more; empty where it may come back.
    """
    lines = [HEADLINE, "no frame so far" if last is None else f"last frame {_duration(at - last)} ago"]
    if not ended and not health.present:
        number = health.attempt + 1
        wait = None if health.next_try is None else health.next_try - at
        lines.append(f"try {number} in {_duration(wait)}" if wait is not None and wait > 0 else f"try {number} now")
    # Last, since it may be long: where a picture is small it is what does not fit.
    lines.append(ended or ("no frame comes" if health.present else health.reason or "it is not there yet"))
    return tuple(lines)


def darkened(picture: Image | None) -> Image:
    """A new picture to write on: uint8 [H, W, 3] BGR; a grey one of `PLAIN_SIZE` for None."""
    if picture is None:
        return np.full((*PLAIN_SIZE, 3), _GREY, np.uint8)
    return np.asarray(cv2.convertScaleAbs(picture, alpha=_DARKENED), np.uint8)


def write_on(picture: Image, words: Sequence[str]) -> Image:
    """The words on a copy of a picture: the first large, in the middle; the others small below it, as far as they fit.

    Args:
        picture: uint8 [H, W, 3] BGR; not changed.
        words: Lines; OpenCV's font has ASCII alone, whatever else there is becomes a question mark.
    """
    out = picture.copy()
    height, width = out.shape[:2]
    row = row_height(height)
    headline = _ascii(words[0])
    large = min(3 * row / _CAP_HEIGHT, 0.8 * width / max(1, _width_of(headline, 1.0)))
    small = 0.75 * row / _CAP_HEIGHT
    columns = max(12, int(0.9 * width / max(1.0, _width_of("n", small))))
    lines = [line for text in words[1:] for line in textwrap.wrap(_ascii(text), columns)][:_MOST_LINES]
    baseline = round(0.4 * height)
    _centred(out, headline, large, baseline, max(1, round(2 * large)))
    baseline += row
    for line in lines:
        baseline += round(1.3 * row)
        _centred(out, line, small, baseline, 1)
    return out


def _centred(picture: Image, text: str, scale: float, baseline: int, thickness: int) -> None:
    left = (picture.shape[1] - round(_width_of(text, scale))) // 2
    cv2.putText(picture, text, (left, baseline), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)


def _width_of(text: str, scale: float) -> float:
    return float(cv2.getTextSize(text, _FONT, scale, 1)[0][0])


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
