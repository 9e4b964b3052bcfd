"""Makers of awkward files, by PyAV, OpenCV and NumPy.

Every picture shows four classes of CamVid in their palette colours, one a quarter, so that the mask of a run tells
whether the right picture was segmented, and the right way up.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2  # isort: skip  (before av, as in rtpsp.stream.video)
import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtpsp.arrays import Image
from rtpsp.labels import CAMVID

PALETTE = np.array(CAMVID.palette, np.uint8)[:, ::-1]  # BGR
QUARTERS = ((8, 3), (0, 5))
"""Class ids of the picture: Car and Road above, Sky and Tree below."""
ENCODERS = {"libx264": {"crf": "4", "preset": "ultrafast"}}


def ids(height: int, width: int) -> Image:
    """The picture's class ids, uint8 [height, width]."""
    ids = np.empty((height, width), np.uint8)
    for row, names in enumerate(QUARTERS):
        for column, name in enumerate(names):
            rows = slice(0, height // 2) if row == 0 else slice(height // 2, height)
            columns = slice(0, width // 2) if column == 0 else slice(width // 2, width)
            ids[rows, columns] = name
    return ids


def picture(height: int = 48, width: int = 64) -> Image:
    """The picture, uint8 [height, width, 3] BGR."""
    return PALETTE[ids(height, width)]


def video(
    path: Path,
    count: int = 5,
    size: tuple[int, int] = (48, 64),
    *,
    stamps: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    noise: bool = False,
) -> Path:
    """A video of `count` pictures at 25 fps, or at `stamps` in seconds; with `noise` its frames are some kilobytes."""
    random = np.random.default_rng(1)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=ENCODERS.get(codec, {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if stamps else Fraction(1, 25)
        stream.gop_size = 5
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(count):
            image = random.integers(0, 255, (*size, 3), np.uint8) if noise else picture(*size)
            frame = VideoFrame.from_ndarray(image, format="bgr24")
            base = stream.codec_context.time_base
            frame.pts, frame.time_base = (round(stamps[i] / base) if stamps else i), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float, *, index_first: bool) -> Path:
    """An mp4 of 50 frames of which only the first `share` was copied; its index stood at the front or at the end."""
    whole = video(path, 50, noise=True, options={"movflags": "faststart"} if index_first else {})
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def patched(path: Path, *changes: tuple[bytes, int, bytes]) -> Path:
    """Write bytes so many places behind the first occurrence of a tag: a box of an mp4 that does not tell the truth."""
    data = bytearray(path.read_bytes())
    for tag, offset, new in changes:
        at = data.index(tag) + offset
        data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def sound(path: Path) -> Path:
    """A tenth of a second of silence in an mp4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def no_frames(path: Path) -> Path:
    """A whole mp4 with a video track in which there is not one frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.open()
        container.start_encoding()
    return path


def joined(path: Path, *sizes: tuple[int, int]) -> Path:
    """A transport stream of H.264 whose size changes after every five pictures."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = None
        for number, size in enumerate(sizes):
            source = video(path.with_suffix(".h264"), 5, size)
            with av.open(str(source)) as given:
                stream = stream or container.add_stream_from_template(given.streams.video[0])
                for i, packet in enumerate(p for p in given.demux(video=0) if p.size):
                    packet.stream, packet.time_base = stream, Fraction(1, 25)
                    packet.pts = packet.dts = 5 * number + i
                    container.mux(packet)
            source.unlink()
    return path


def backward(path: Path) -> Path:
    """A Matroska file two of whose time stamps do not rise: it stores presentation times alone."""
    source = video(path.with_suffix(".h264"), 8)
    with av.open(str(source)) as given, av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(p for p in given.demux(video=0) if p.size):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.dts = number - 100  # behind any of the others, which the muxer makes sure of
            packet.pts = (0, 40, 80, 60, 160, 160, 240, 280)[number]
            container.mux(packet)
    source.unlink()
    return path


def image(path: Path, value: np.ndarray[Any, Any] | None = None) -> Path:
    """An image file by OpenCV, in the form that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given: Any = picture() if value is None else value
    done, data = cv2.imencode(path.suffix, given)
    assert done
    path.write_bytes(data.tobytes())
    return path


def grey(bits: int) -> np.ndarray[Any, Any]:
    """The picture in grey, uint8 or uint16 [height, width]; which class each quarter then is, nobody asks."""
    value = cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY)
    return value.astype(np.uint16) * 257 if bits == 16 else value


def transparent() -> Image:
    """The picture with a fourth channel that makes its left half invisible."""
    image = np.dstack([picture(), np.full((48, 64), 255, np.uint8)])
    image[:, :32, 3] = 0
    return image


def cmyk_jpeg(path: Path) -> Path:
    """The picture as an image setter writes it: a JPEG (ITU-T T.81) of four inks, stored inverted as Adobe does.

    Nothing here writes such files, so this codes flat blocks of 8x8 pixels, of which only the mean (DC) is not zero.
    """
    inks = np.dstack([picture()[::8, ::8, ::-1], np.full((6, 8), 255, np.uint8)]).astype(int) - 128
    bits, before = "", np.zeros(4, int)
    lengths = (2, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9)  # of the usual code for how many bits a difference has
    codes = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110", "1111110", "11111110", "111111110")
    for block in inks.reshape(-1, 4):
        for value in block - before:
            size = int(abs(value)).bit_length()
            coded = value if value > 0 else value + 2**size - 1
            bits += codes[size] + (f"{coded:0{size}b}" if size else "") + "0"  # and that no other coefficient follows
        before = block
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + (2 + len(content)).to_bytes(2, "big") + content

    counts = bytes(lengths.count(length) for length in range(1, 17))
    path.write_bytes(
        b"\xff\xd8"
        + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
        + segment(0xDB, b"\0" + b"\x08" * 64)
        + segment(0xC0, b"\x08\0\x30\0\x40\x04" + b"".join(bytes([number, 0x11, 0]) for number in range(1, 5)))
        + segment(0xC4, b"\0" + counts + bytes(range(12)))
        + segment(0xC4, b"\x10\x01" + bytes(15) + b"\0")
        + segment(0xDA, b"\x04\x01\0\x02\0\x03\0\x04\0" + b"\0\x3f\0")
        + data
        + b"\xff\xd9"
    )
    return path


def with_exif_orientation(path: Path, orientation: int) -> Path:
    """A JPEG that says by EXIF how it is to be turned: 6 is by 90 degrees clockwise."""
    jpeg = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    # One entry of IFD0: tag 0x0112, a short.
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (8 + len(tiff)).to_bytes(2, "big") + b"Exif\0\0" + tiff
    path.write_bytes(jpeg[:2] + exif + jpeg[2:])
    return path


def huge_png(path: Path, side: int = 60_000) -> Path:
    """A PNG whose header says `side` pixels a side: a decompression bomb, but for the data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path
