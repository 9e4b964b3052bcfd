"""Single images as a source: a folder, a pattern, or one file.

An image is decoded when it is read, not in `to_bgr`. A file's size and its EXIF orientation are only sure once it is
decoded, and so is whether it can be at all: found out by the consumer, a damaged file could no longer be passed over.
And in the capture thread, decoding one image overlaps with inference on the one before.
"""

from __future__ import annotations

import glob
import logging
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtpsp.errors import SourceError, SourceLost
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.source import IMAGE_SUFFIXES, Source, SourceInfo, SourceOptions

_log = logging.getLogger(__name__)

NOMINAL_FPS = 25.0
"""Frames a second that images without times of their own are taken to have."""


def open_images(uri: str, options: SourceOptions) -> Source:
    """Open a folder (not what lies in folders within it), a pattern such as `frames/*.png`, or one image.

    Args:
        uri: Path or pattern. Files are ordered as people count: 2.png before 10.png.
        options: `start`, `end` and `loop` are read.

    Raises:
        SourceError: No image there, or none that can be read.
    """
    paths = _find(uri)
    first, end = round(options.start * NOMINAL_FPS), options.end
    chosen = paths[first : None if end is None else max(0, round(end * NOMINAL_FPS))]
    if not chosen:
        raise SourceError(f"{uri} holds {len(paths)} images, and none of them is in the part that was asked for")
    return ImageSource(uri, chosen, options.loop)


class ImageSource(Source):
    """Images in order, each with its own size; `captured` is the moment that it was decoded.

    One that cannot be read is passed over with a warning and counts in `missed`: a long run is not lost to one file.
    """

    def __init__(self, uri: str, paths: Sequence[Path], loop: bool = False, fps: float = NOMINAL_FPS) -> None:
        self._uri, self._fps = uri, fps
        self._frames = self._all(paths, loop)
        self._next = next(self._frames, None)
        if self._next is None:
            if len(paths) == 1:
                raise SourceError(f"{paths[0]} cannot be decoded as an image")
            raise SourceError(f"{uri}: none of its {len(paths)} files can be decoded as an image")
        self.info = SourceInfo(
            uri=uri,
            kind="images",
            height=self._next.height,
            width=self._next.width,
            fps=fps,
            frames=None if loop else len(paths),
            detail="one image" if len(paths) == 1 else f"{len(paths)} images",
        )

    def read(self) -> Frame | None:
        """The next image that can be decoded, or None at the end.

        Raises:
            SourceLost: In a loop, when none of the files can be read any more.
        """
        frame, self._next = self._next, None
        # The first was decoded when the source was opened, however long ago that is.
        return replace(frame, captured=time.monotonic()) if frame else next(self._frames, None)

    def close(self) -> None:
        """End it: no file is held open between two reads."""
        self._next, self._frames = None, iter(())

    def _all(self, paths: Sequence[Path], loop: bool) -> Iterator[Frame]:
        index, names = 0, _names(paths)
        while True:
            missed_before = self.missed
            for path, name in zip(paths, names, strict=True):
                image = _decode(path)
                if image is None:
                    _log.warning("%s cannot be decoded as an image: passed over", path)
                    self.missed += 1
                else:
                    height, width = image.shape[:2]
                    pts, now = index / self._fps, time.monotonic()
                    yield Frame(index, pts, now, height, width, partial(_to_bgr, image), name)
                index += 1
            if not loop or index == self.missed:
                return
            if self.missed - missed_before == len(paths):
                raise SourceLost(f"{self._uri}: none of its {len(paths)} images can be read any more")


def _find(uri: str) -> list[Path]:
    path = Path(uri)
    if path.is_dir():
        found, where = list(path.iterdir()), "the folder"
    elif path.exists():
        return [path]
    elif glob.has_magic(uri):
        found, where = [Path(name) for name in glob.glob(uri)], "the pattern"
    else:
        raise SourceError(f"no file {uri!r}: check the path")
    images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not images:
        raise SourceError(f"{where} {uri!r} matches {len(found)} files, none of them one of {_SUFFIXES}")
    return sorted(images, key=_natural)


def _names(paths: Sequence[Path]) -> list[str]:
    """File names; numbered where two differ in folder or suffix only, since results are called after them."""
    stems = Counter(path.stem for path in paths)
    return [f"{n:06d}-{path.name}" if stems[path.stem] > 1 else path.name for n, path in enumerate(paths)]


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Order by the numbers within a name; a name's text and numbers never meet each other in a comparison."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts]


def _decode(path: Path) -> Image | None:
    """The image as uint8 [height, width, 3] BGR, turned as its EXIF orientation says, or None."""
    try:
        # Through NumPy: `imread` cannot open every name on Windows, and writes its own complaint to stderr.
        image: Any = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _to_bgr(image: Image, out: Image | None) -> Image:
    if out is None:
        return image
    np.copyto(out, image)
    return out


_SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))
