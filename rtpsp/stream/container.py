"""A video file's container: opened, looked into, and decoded."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2  # isort: skip  # noqa: F401  (before av: the other order hangs OpenCV's windows, PyAV#1050)
import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtpsp.errors import SourceError
from rtpsp.stream.names import shown

OPEN_SECONDS = 5.0


def open_container(path: str, threads: int) -> tuple[InputContainer, VideoStream]:
    """Open a file and choose its first video stream that is not a cover picture.

    Raises:
        SourceError: It cannot be read, holds no video, or one that this FFmpeg cannot decode.
    """
    name = shown(path)
    try:
        # "file:" keeps a colon in a name from being taken for a protocol; the list keeps a playlist off the network.
        # A playlist that names itself is looked into for ever.
        limit = (OPEN_SECONDS, None)
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, timeout=limit)
    except (FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"{name} is not a video that can be read: {_reason(path, error)}") from error
    try:
        stream = video_stream(container, name)
    except SourceError:
        close_container(container)
        raise
    stream.thread_count = max(1, threads)
    stream.thread_type = "AUTO" if threads > 1 else "SLICE"
    return container, stream


def close_container(container: InputContainer | OutputContainer) -> None:
    """Close a container, and give back the memory of pictures that nobody holds any more.

    A picture of PyAV's whose side data was asked for, as that of the first one is (`rtpsp.stream.colours.Orientation`),
    is in a cycle with it, and stays with its pixels until Python looks for cycles by itself, which the few objects of a
    live loop seldom make it do. After 30 videos of 1280x720, closed one after another, 48 MB more were held than after
    the first; so it is 1 MB.
    """
    container.close()
    gc.collect(1)  # not the oldest objects: to walk a large heap holds up the last frame of a run


def video_stream(container: InputContainer, name: str, kind: str = "") -> VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        SourceError: There is none, or one that this FFmpeg cannot decode; `kind` is its kind.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    # FFmpeg draws text files as a terminal's screen.
    if not streams or container.format.name == "tty":
        found = "text" if streams else ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        hint = "give a video file, a folder of images or a camera"
        raise SourceError(f"{name} holds {found} and no video: {hint}", kind)
    if _lacks_decoder(streams[0]):
        told = f"{name}: FFmpeg {av.ffmpeg_version_info} has no decoder for its video: convert it to H.264"
        raise SourceError(told, kind)
    return streams[0]


def _lacks_decoder(stream: VideoStream) -> bool:
    context: object = stream.codec_context  # None where there is no decoder, though PyAV's stub does not say so
    return context is None


def _reason(path: str, error: Exception) -> str:
    said = str(getattr(error, "strerror", None) or error)
    try:
        with Path(path).open("rb") as file:
            head = file.read(12)
    except FileNotFoundError:
        return "it is no longer there"
    except (OSError, ValueError) as why:
        return f"{getattr(why, 'strerror', None) or said}: make sure that you may read it"
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp":
        return "its index is missing, so that it was cut short or is not yet finished: copy or record it again"
    return f"{said}: give a video that FFmpeg knows, such as .mp4 or .mkv"


def decode_all(
    container: InputContainer, stream: VideoStream, lost: Callable[[FFmpegError], None]
) -> Iterator[VideoFrame]:
    """All that can be decoded; `lost` is told of each part that cannot."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            lost(error)
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except FFmpegError as error:
            lost(error)


def time_of(picture: VideoFrame) -> float | None:
    """A picture's own time stamp in seconds, None where it has none."""
    return None if picture.pts is None or picture.time_base is None else float(picture.pts * picture.time_base)
