"""Class ids from PNG files: grey ones of 1 to 16 bits, palette ones, whose indices are the ids, and RGB ones by colour.

OpenCV decodes a palette PNG into its colours and gives no access to the indices. But such a file is a grey PNG plus a
colour table (PNG specification, third edition, section 11.2.1), so it is decoded as that: the header's colour type is
set to grey and everything but the pixels is left out. What is left out does not count in an RGB file either: no gamma,
orientation or transparency changes a label.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap
from rtpsp.data import coding
from rtpsp.errors import DataError
from rtpsp.labels import LabelSet

SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
GREY, RGB, PALETTE, RGB_ALPHA = 0, 2, 3, 6
OTHER_COLOUR_TYPES = {RGB: "RGB", 4: "grey and alpha", RGB_ALPHA: "RGB and alpha"}


def read_class_ids(path: Path, labels: LabelSet | None = None) -> ClassMap:
    """Class ids as they are stored in a PNG file: samples of a grey one, indices of a palette one.

    Args:
        path: A PNG.
        labels: What it holds: of an RGB file, which colours are which class (alpha is passed over); of the others,
            which ids, where they are not the classes' positions (`LabelSet.ids`). None: ids, taken as they are.

    Returns:
        [H, W] class ids: uint8, or int32 from a file of 16 bits or for a set of more than 256 ids.

    Raises:
        DataError: The file cannot be read, is damaged, is no PNG, holds colours and there is no label set to know them
            by, or holds a colour or an id that the set does not list.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"label {path} cannot be read: {error.strerror}") from error
    if data.startswith(JPEG):
        raise DataError(f"label {path} is not a PNG file but a JPEG, whose compression changes ids: export it as PNG")
    if not data.startswith(SIGNATURE):
        raise DataError(f"label {path} is not a PNG file: class ids are read from single-channel PNG, 8 or 16 bit")
    try:
        bare, colour_type, depth = _to_bare(data)
    except (struct.error, ValueError) as error:
        raise DataError(f"label {path} is damaged ({error}): copy or export it again") from error
    if colour_type == GREY:
        ids = _decode_ids(path, bare, depth)
        return ids if labels is None else coding.from_ids(ids, labels, path)
    if labels is None or colour_type not in (RGB, RGB_ALPHA) or depth != 8:
        kind = OTHER_COLOUR_TYPES.get(colour_type, f"colour type {colour_type}") + (", 16 bits" if depth == 16 else "")
        by_colour = "" if labels is None else ", or RGB of 8 bits"
        raise DataError(
            f"label {path} holds colours ({kind}), expected class ids: save it as single-channel PNG, one id a pixel"
            + by_colour
        )
    return coding.from_colours(_decode(path, bare, 3), labels, path)


def _decode(path: Path, bare: bytes, planes: int) -> NDArray[Any]:
    import cv2

    try:
        picture: Any = cv2.imdecode(
            np.frombuffer(bare, np.uint8), cv2.IMREAD_COLOR if planes == 3 else cv2.IMREAD_UNCHANGED
        )
    except cv2.error:  # e.g. more pixels than OpenCV's limit
        picture = None
    if picture is None or picture.ndim != (3 if planes == 3 else 2):
        raise DataError(f"label {path} cannot be decoded: copy or export it again")
    return np.asarray(picture)


def _decode_ids(path: Path, grey: bytes, depth: int) -> ClassMap:
    ids = _decode(path, grey, 1)
    if depth == 16:
        return ids.astype(np.int32)
    # The decoder stretches samples of 1, 2 and 4 bits to 0..255.
    stretch = 255 // (2**depth - 1)
    return np.asarray(ids if stretch == 1 else ids // stretch, np.uint8)


def _to_bare(data: bytes) -> tuple[bytes, int, int]:
    """The file with nothing but its pixels, its colour type and its bits a sample; a palette one as grey."""
    pixels: list[bytes] = []
    header = b""
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            pixels.append(_chunk(kind, body))
    width, height, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if depth not in (1, 2, 4, 8, 16):
        raise ValueError(f"{depth} bits a sample")
    colour_type = GREY if colour_type == PALETTE else colour_type
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, compression, filtering, interlace)
    bare = b"".join([SIGNATURE, _chunk(b"IHDR", header), *pixels, _chunk(b"IEND", b"")])
    return bare, colour_type, depth


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
