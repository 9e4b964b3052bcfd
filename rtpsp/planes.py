"""The planes of a picture, and how an image file or a picture of other planes comes to those that a model takes.

    1   [H, W, 1]   grey
    3   [H, W, 3]   B, G, R
    4   [H, W, 4]   B, G, R, X: X is what lies in the place of a file's alpha, such as a thermal camera's picture

Grey of a colour is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, as OpenCV rounds it (`COLOR_BGR2GRAY`); the
colour of a grey is B = G = R, and from there the same grey comes back. A fourth plane is left out where none is asked
for, and is never made up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import Image
from rtpsp.errors import InputError

_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT
_BYTES_OF_WORD = 256


def to_planes(image: Image, planes: int) -> Image:
    """A picture in other planes.

    Args:
        image: uint8 [H, W, 1, 3 or 4]; not changed.
        planes: 1, 3 or 4.

    Returns:
        uint8 [H, W, planes]: `image` itself if it has these planes, else a new array.

    Raises:
        InputError: It has none that are known, or no fourth one where that is asked for.
    """
    has = image.shape[2] if image.ndim == 3 else None
    if has == planes:
        return image
    if has not in (1, 3, 4) or planes not in (1, 3):
        raise InputError(
            f"picture is {image.dtype} {list(image.shape)}, expected uint8 [H, W, {planes}]: give images that have "
            f"these planes" + (", such as RGBA PNG files" if planes == 4 else "")
        )
    import cv2

    if has == 1:
        code = cv2.COLOR_GRAY2BGR
    elif has == 3:
        code = cv2.COLOR_BGR2GRAY
    else:
        code = cv2.COLOR_BGRA2GRAY if planes == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(image, code), np.uint8).reshape(*image.shape[:2], planes)


def decode(data: NDArray[np.uint8], planes: int = 3) -> Image | None:
    """An image file's picture, turned as its EXIF orientation says (with a fourth plane only if it is a TIFF).

    Of samples of 16 bits the upper eight are taken: whatever a picture holds, a value stays the same in all of them.
    One of 12 or 14 bits that fills their lower ones comes out dark: it has to be stretched to all 16 first.

    Args:
        data: The file's bytes, uint8 [n].
        planes: 1, 3 or 4.

    Returns:
        uint8 [H, W, planes]; with four asked for, fewer where the file has no fourth one. None where it cannot be
        decoded: it is damaged, empty, of an unknown format, or larger than OpenCV takes.
    """
    import cv2

    log: Any = getattr(cv2.utils, "logging", cv2)  # where OpenCV 4 has these two itself
    level = log.getLogLevel()
    log.setLogLevel(_SILENT)  # what is wrong, the caller says
    colour = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # or else it rounds the 16 bits of a TIFF and cuts those of a PNG
    try:
        found: Any = cv2.imdecode(data, cv2.IMREAD_UNCHANGED if planes == 4 else colour)
    except cv2.error:
        return None
    finally:
        log.setLogLevel(level)
    if found is None or found.dtype not in (np.uint8, np.uint16):
        return None
    image: Image = found if found.dtype == np.uint8 else (found // _BYTES_OF_WORD).astype(np.uint8)
    if image.ndim == 2:
        image = image[..., np.newaxis]
    return image if planes == 4 else to_planes(image, planes)
