"""Class ids from PNG files: grey ones of 1 to 16 bits, and palette ones, whose indices are the ids.

OpenCV decodes a palette PNG into its colours and gives no access to the indices. But such a file is a grey PNG plus a
colour table (PNG specification, third edition, section 11.2.1), so it is decoded as that: the header's colour type is
set to grey and everything but the pixels is left out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rtpsp.arrays import ClassMap
from rtpsp.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
OTHER_COLOUR_TYPES = {2: "RGB", 4: "grey and alpha", 6: "RGB and alpha"}


def read_class_ids(path: Path) -> ClassMap:
    """Class ids as they are stored in a PNG file: samples of a grey one, indices of a palette one.

    Args:
        path: A single-channel PNG.

    Returns:
        [H, W] class ids: uint8, or int32 from a file of 16 bits.

    Raises:
        DataError: The file cannot be read, is damaged, is no PNG, or holds colours instead of class ids.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"label {path} cannot be read: {error.strerror}") from error
    if not data.startswith(SIGNATURE):
        raise DataError(f"label {path} is not a PNG file: class ids are read from single-channel PNG, 8 or 16 bit")
    try:
        grey, depth = _to_grey(data)
    except (struct.error, ValueError) as error:
        raise DataError(f"label {path} is damaged ({error}): copy or export it again") from error
    if isinstance(grey, int):
        kind = OTHER_COLOUR_TYPES.get(grey, f"colour type {grey}")
        raise DataError(
            f"label {path} holds colours ({kind}), expected class ids: save it as single-channel PNG, one id a pixel"
        )
    return _decode(path, grey, depth)


def _decode(path: Path, grey: bytes, depth: int) -> ClassMap:
    import cv2

    try:
        ids = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # e.g. more pixels than OpenCV's limit
        ids = None
    if ids is None or ids.ndim != 2:
        raise DataError(f"label {path} cannot be decoded: copy or export it again")
    if depth == 16:
        return ids.astype(np.int32)
    # The decoder stretches samples of 1, 2 and 4 bits to 0..255.
    stretch = 255 // (2**depth - 1)
    return np.asarray(ids if stretch == 1 else ids // stretch, np.uint8)


def _to_grey(data: bytes) -> tuple[bytes | int, int]:
    """The file as a grey PNG and its bits a sample; or, in place of the file, the colour type that forbids it."""
    pixels: list[bytes] = []
    header = b""
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            pixels.append(_chunk(kind, body))
    width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if colour_type not in (GREY, PALETTE):
        return colour_type, depth
    if depth not in (1, 2, 4, 8, 16):
        raise ValueError(f"{depth} bits a sample")
    grey = struct.pack(">IIBBBBB", width, height, depth, GREY, compression, filtering, interlace)
    return b"".join([SIGNATURE, _chunk(b"IHDR", grey), *pixels, _chunk(b"IEND", b"")]), depth


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk; checked here, because OpenCV writes of a damaged one to stderr."""
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if checksum != zlib.crc32(kind + body):
            raise ValueError("a checksum differs")
        yield kind, body
        position += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
