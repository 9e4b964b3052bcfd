"""Which H.264 encoder records: NVENC where the machine has one that works, else x264."""

from __future__ import annotations

import logging
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

import av
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

_log = logging.getLogger(__name__)

Codec = Literal["auto", "x264", "nvenc"]
CODECS: tuple[Codec, ...] = ("auto", "x264", "nvenc")

X264 = "libx264"
NVENC = "h264_nvenc"


class Encoding(NamedTuple):
    """An encoder by FFmpeg's name, and its options."""

    name: str
    options: dict[str, str]


def choose_encoding(codec: Codec, height: int, width: int, crf: int) -> Encoding:
    """The encoder for pictures of a size; ``auto`` and ``nvenc`` fall back to x264 where NVENC does not take them.

    Args:
        codec: What was asked for.
        height: Pixels, even.
        width: Pixels, even.
        crf: Quality on x264's scale, 0 (lossless) to 51; NVENC gets it as its constant quality, in which 0 has another
            meaning: x264 does what is lossless.
    """
    if codec != "x264" and crf > 0:
        why_not = why_no_nvenc(height, width)
        if why_not is None:
            return _nvenc(crf)
        # asked for by name it was found at first, so that only this size can be what it does not take
        log = _log.warning if codec == "nvenc" else _log.debug
        log("NVENC does not encode %dx%d (%s): x264 does", width, height, why_not)
    # The encoder shares its cores with inference: superfast takes 5 ms where the usual veryfast takes 13 (960x540, one
    # core) and shows the same picture in a larger file. Without zerolatency x264 holds 40 frames back, which is memory
    # on a file, and seconds of picture that a crash would lose on a live source.
    return Encoding(X264, {"preset": "superfast", "tune": "zerolatency", "crf": str(crf)})


@lru_cache(maxsize=16)
def why_no_nvenc(height: int = 480, width: int = 640) -> str | None:
    """Encode one black picture of a size by NVENC: FFmpeg has it compiled in on machines that have none.

    Returns:
        Why it failed, in FFmpeg's words; None where it did not.
    """
    try:
        context = av.CodecContext.create(NVENC, "w")
        assert isinstance(context, VideoCodecContext)
        context.height, context.width, context.pix_fmt = height, width, "yuv420p"
        context.time_base = Fraction(1, 30)
        context.options = _nvenc(20).options
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        packets = [*context.encode(frame), *context.encode(None)]
    except (FFmpegError, OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None if packets else "it gave no packet"


def _nvenc(crf: int) -> Encoding:
    """As x264 above: no picture held back (no B-frames, delay 0), and a key frame where we ask for one."""
    options = {"preset": "p4", "tune": "ll", "rc": "vbr", "cq": str(crf), "b": "0", "bf": "0", "delay": "0"}
    return Encoding(NVENC, options | {"zerolatency": "1", "forced-idr": "1"})
