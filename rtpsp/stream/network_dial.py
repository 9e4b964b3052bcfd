"""Opens a network stream by FFmpeg: what is asked of each protocol, what it may not do, and what decodes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import cv2  # isort: skip  # noqa: F401  (before av: the other order hangs OpenCV's windows, PyAV#1050)
import av
from av.codec.context import CodecContext, Flags
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from rtpsp.errors import SourceError
from rtpsp.stream.container import close_container, video_stream
from rtpsp.stream.names import shown
from rtpsp.stream.network_faults import NO_ANSWER, fault_of, look_up
from rtpsp.stream.source import SourceOptions
from rtpsp.timing import now

_log = logging.getLogger(__name__)

READ_TIMEOUT, SEGMENT_TIMEOUT = 5.0, 15.0
SEGMENTED = frozenset({"hls", "dash"})
STAMPLESS = frozenset({"mpjpeg", "mjpeg", "jpeg_pipe", "h264", "hevc", "m4v", "mpegvideo", "obu"})
"""Formats without time stamps, for which FFmpeg counts frames at a rate that nobody promised."""

_PROTOCOLS = {
    "rtsp": "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https",
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "rtmp": "rtmp,rtmps,tcp,tls",
    "srt": "srt,udp",
    "rtp": "rtp,srtp,udp",
    "udp": "udp",
    "tcp": "tcp",
}
"""What a scheme may use on its way, redirections and playlists included: files of this machine in no case."""

_FORMATS = (
    "rtsp,sdp,rtp,mpegts,hls,dash,mpjpeg,mjpeg,jpeg_pipe,mov,mp4,matroska,webm,avi,flv,live_flv,asf,ogg,nut,mpeg,"
    "mpegvideo,m4v,h264,hevc,obu,ivf"
)
"""Containers of video. Others, such as a web page that FFmpeg would draw as a terminal's screen, are none."""


@dataclass(frozen=True)
class Dialled:
    """An open stream.

    Attributes:
        container: Owned by whoever gets this.
        video: Of `container`, ready to be decoded.
        format: FFmpeg's name of what it came in.
        hardware: What decodes; empty for the CPU.
        read_timeout: Seconds that one packet may take.
    """

    container: InputContainer
    video: VideoStream
    format: str
    hardware: str
    read_timeout: float


def dial(uri: str, options: SourceOptions) -> Dialled:
    """Open a stream once.

    Raises:
        SourceError: It is not there, or not a video that can be decoded; with the kind of fault.
    """
    scheme, _, rest = uri.partition("://")
    uri, scheme, begun = f"{scheme.lower()}://{rest}", scheme.lower(), now()
    look_up(uri, options.open_timeout)
    hardware = _device() if options.hwaccel == "auto" else None
    segmented = scheme in ("http", "https") and rest.partition("?")[0].lower().endswith((".m3u8", ".mpd"))
    timeout = options.read_timeout or (SEGMENT_TIMEOUT if segmented else READ_TIMEOUT)
    left = max(options.open_timeout - (now() - begun), 0.1)
    try:
        container = av.open(
            uri,
            options=_options(scheme, options),
            timeout=(left, timeout),
            hwaccel=HWAccel(hardware, allow_software_fallback=True) if hardware else None,
            metadata_errors="replace",
        )
    except (FFmpegError, OSError, ValueError) as error:
        fault = fault_of(error, opening=True, scheme=scheme)
        if now() - begun >= options.open_timeout:  # FFmpeg takes an answer that was cut off by that for a wrong one
            fault = NO_ANSWER
        # Without the cause: FFmpeg's error holds the URI as it is, with its secrets.
        raise SourceError(fault.message(shown(uri)), fault.kind) from None
    try:
        video = video_stream(container, shown(uri), kind="codec")
    except SourceError:
        close_container(container)
        raise
    video.thread_count, video.thread_type = max(1, options.decoder_threads), "SLICE"  # frame threads keep frames back
    context = video.codec_context
    if not context.has_b_frames:
        context.flags |= int(Flags.low_delay)
    hardware = hardware if hardware and context.is_hwaccel else None
    if options.hwaccel == "auto":
        _log.info("%s (%s) is decoded on the %s", shown(uri), context.name, hardware or "CPU: no GPU here can")
    return Dialled(container, video, container.format.name, hardware or "", timeout)


def _options(scheme: str, options: SourceOptions) -> dict[str, str]:
    protocols = next(allowed for known, allowed in _PROTOCOLS.items() if scheme.startswith(known))
    asked = {
        "protocol_whitelist": protocols,
        "format_whitelist": _FORMATS,
        # What is looked at before the first frame: parameters, not the rate, which takes twenty frames.
        "analyzeduration": "1000000",
        "fpsprobesize": "0",
    }
    if scheme in ("rtsp", "rtsps"):
        asked |= {"allowed_media_types": "video", "user_agent": "rtpsp", "buffer_size": str(1 << 20)}
        if options.transport != "auto":
            asked["rtsp_transport"] = options.transport
    elif scheme in ("http", "https"):
        # From the newest segment on: the third but newest, FFmpeg's own choice, is three segments old already.
        asked |= {"user_agent": "rtpsp", "live_start_index": "-1"}
    elif scheme in ("rtmp", "rtmps"):
        asked |= {"rtmp_live": "live", "rtmp_buffer": "100"}
    elif scheme in ("udp", "rtp"):
        asked |= {"overrun_nonfatal": "1", "buffer_size": str(1 << 20)}
    return asked


def _device() -> str | None:
    """The first kind of GPU that decodes here."""
    return next((name for name in hwdevices_available() if why_not_decode(name) is None), None)


def why_not_decode(device: str) -> str | None:
    """Why a kind of GPU does not decode H.264 here, None where it does; it is opened."""
    try:
        context: Any = CodecContext.create("h264", "r", hwaccel=HWAccel(device, allow_software_fallback=False))
    except (FFmpegError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None if context.is_hwaccel else "it is not there, or decodes no H.264"
