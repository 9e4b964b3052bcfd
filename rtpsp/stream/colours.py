"""Decoded pictures as BGR: their colour matrix, their range, and the way up that the file says."""

from __future__ import annotations

import threading
from typing import Any

import cv2  # isort: skip  (before av: the other order hangs OpenCV's windows, PyAV#1050)
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from rtpsp.arrays import Image

_TAGGED = frozenset({1, 4, 5, 6, 7, 9})
"""AVColorSpace values (ITU-T H.273) of which swscale has the matrix: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020."""


class Colours:
    """Turns decoded pictures into BGR by one swscale context, which costs as much to make as a picture to convert."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._lock = threading.Lock()

    def to_bgr(self, picture: VideoFrame, how: tuple[bool, int | None], out: Image | None) -> Image:
        """Convert and turn a picture into `out`, or into a new uint8 [height, width, 3] array."""
        matrix = None
        if picture.colorspace not in _TAGGED and not picture.format.is_rgb:
            # What encoders mean by no tag, and players assume: high definition by the standard made for it.
            matrix = Colorspace.ITU709 if picture.height >= 720 else Colorspace.ITU601
        with self._lock:
            # One thread: swscale's default starts and joins a pool of them in each call, twice as slow at 960x540.
            bgr = self._reformatter.reformat(
                picture, format="bgr24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG, threads=1
            ).to_ndarray()
        transposed, flip = how
        if out is None:
            # A copy even here: swscale hands a raw BGR picture through as it is, and that one is the decoder's.
            out = np.empty((bgr.shape[1], bgr.shape[0], 3) if transposed else bgr.shape, np.uint8)
        if transposed:
            cv2.transpose(bgr, out)
        else:
            np.copyto(out, bgr)
        if flip is not None:
            cv2.flip(out, flip, out)
        return out


class Orientation:
    """How to show the pictures of a stream, see `display_matrix`.

    It is read anew where a picture's size or rotation is another one, and not of each picture: PyAV's view of side data
    and its picture refer to each other, so that each one asked keeps its pixels until Python looks for cycles, and
    those that live long enough to be passed over by that make a run grow for days.
    """

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._matrix: tuple[bool, int | None] = False, None

    def of(self, picture: VideoFrame) -> tuple[bool, int | None]:
        """As `display_matrix`."""
        seen = picture.width, picture.height, picture.rotation
        if seen != self._seen:
            self._seen, self._matrix = seen, display_matrix(picture)
        return self._matrix


def display_matrix(picture: VideoFrame) -> tuple[bool, int | None]:
    """How to show a picture: whether to transpose it, and then which way to flip it by `cv2.flip`, None for not at all.

    The matrix itself is read, not `VideoFrame.rotation`, which says 180 degrees for a mirrored picture.
    """
    side_data: Any = picture.side_data  # PyAV's stub knows no key but the motion vectors
    try:
        raw = side_data["DISPLAYMATRIX"]
    except KeyError:
        return False, None
    # [a b u; c d v; x y w] maps (p, q) to (a p + c q, b p + d q) (libavutil/display.h).
    a, b, _, c, d = np.frombuffer(bytes(raw), np.int32)[:5].tolist()
    transposed = abs(b) > abs(a)
    mirrored, upside_down = (c < 0, b < 0) if transposed else (a < 0, d < 0)
    return transposed, {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}[
        mirrored, upside_down
    ]
