"""Image files as training, evaluation and calibration read them; how a file comes to its planes: `rtpsp.planes`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtpsp.arrays import Image
from rtpsp.errors import DataError
from rtpsp.planes import decode
from rtpsp.spec import Planes

_ORIENTATION = 0x0112  # EXIF
_FOUR = "RGBA"  # Pillow's mode of a file with a fourth plane


def read_image(path: Path, planes: Planes = 3) -> Image:
    """An image file as uint8 [H, W, planes]: grey, BGR or BGRX, turned as `rtpsp.planes.decode` says.

    Args:
        path: The file.
        planes: 1, 3 or 4.

    Raises:
        DataError: It cannot be read or decoded, or has no fourth plane where that is asked for.
    """
    return decode_image(read_bytes(path), path, planes)


def read_bytes(path: Path) -> bytes:
    """What an image file holds, not yet decoded.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()  # OpenCV's imread cannot open every path on Windows
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in its name
        raise DataError(f"image {path!r:.200} cannot be read: no path can look like this") from error


def decode_image(data: bytes, path: Path, planes: Planes = 3) -> Image:
    """Decode what `read_bytes` gave.

    Raises:
        DataError: It is damaged, of an unknown format, or has no fourth plane where that is asked for.
    """
    image = decode(np.frombuffer(data, np.uint8), planes)
    if image is None:
        raise DataError(f"image {path} cannot be decoded: it is damaged or of an unknown format; copy it again")
    if image.shape[2] != planes:
        raise DataError(
            f"image {path} has planes {image.shape[2]}, the model takes 4: give files with a fourth plane in the place "
            "of alpha, as RGBA PNG or TIFF"
        )
    return image


def read_size(path: Path, planes: Planes = 3) -> tuple[int, int]:
    """Rows and columns of the picture that `read_image` gives, from the file's head unless it may be turned.

    Raises:
        DataError: As `read_image`, but for damage that only decoding all of the file shows.
    """
    from PIL import Image as Pillow

    try:
        with Pillow.open(path) as file:
            width, height, mode = file.width, file.height, file.mode
            # Of a PNG without EXIF before its pixels Pillow would decode all of them to look behind.
            png = file.format == "PNG" and "exif" not in file.info
            turned = b"eXIf" in path.read_bytes() if png else file.getexif().get(_ORIENTATION, 1) != 1
    except (OSError, ValueError, SyntaxError, TypeError, Pillow.DecompressionBombError):
        mode, turned = "", False
    if not mode or turned or (planes == 4 and mode != _FOUR):
        shape = read_image(path, planes).shape  # it has the words for what is wrong, if anything is
        return shape[0], shape[1]
    return height, width
