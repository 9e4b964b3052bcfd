"""Single images as a source: a folder, a pattern, or one file.

An image is decoded when it is read, not in `to_bgr`. A file's size and its EXIF orientation are only sure once it is
decoded, and so is whether it can be at all: found out by the consumer, a damaged file could no longer be passed over.
And in the capture thread, decoding one image overlaps with inference on the one before.
"""

from __future__ import annotations

import glob
import itertools
import logging
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from rtpsp.errors import SourceError, SourceLost
from rtpsp.planes import decode
from rtpsp.spec import Planes
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.names import nothing_at, shown
from rtpsp.stream.source import IMAGE_SUFFIXES, Source, SourceInfo, SourceOptions, no_fourth_plane

_log = logging.getLogger(__name__)

NOMINAL_FPS = 25.0
"""Frames a second that images without times of their own are taken to have."""


def open_images(uri: str, options: SourceOptions) -> Source:
    """Open a folder (not what lies in folders within it), a pattern such as `frames/*.png`, or one image.

    Args:
        uri: Path or pattern. Files are ordered as people count: 2.png before 10.png.
        options: `start`, `end`, `loop` and `planes` are read.

    Raises:
        SourceError: No image there, none that can be read, or one that lacks the fourth plane that is asked for.
    """
    paths = _find(uri)
    first, end = round(options.start * NOMINAL_FPS), options.end
    chosen = paths[first : None if end is None else max(0, round(end * NOMINAL_FPS))]
    if not chosen:
        raise SourceError(
            f"{shown(uri)} holds {len(paths)} images at {NOMINAL_FPS:g} a second, "
            "and none of them is in the part that was asked for: check --start and --end"
        )
    return ImageSource(uri, chosen, options.loop, planes=options.planes)


class ImageSource(Source):
    """Images in order, each with its own size; `captured` is the moment that it was decoded.

    One that cannot be read is passed over with a warning, in a loop with one for all rounds, and counts in `missed`: a
    long run is not lost to one file. One that is skipped is not even opened. One without the fourth plane that is asked
    for ends it: it is of another kind than the model's.
    """

    def __init__(
        self, uri: str, paths: Sequence[Path], loop: bool = False, fps: float = NOMINAL_FPS, planes: Planes = 3
    ) -> None:
        self._uri, self._fps, self._count, self._planes = shown(uri), fps, len(paths), planes
        self._files = _all(paths, loop)
        self._unread = 0
        self._told: set[Path] = set()
        self._untold: list[str] | None = []
        first = self._first(paths)
        self._next: Frame | None = first
        self.info = SourceInfo(
            uri=uri,
            kind="images",
            height=first.height,
            width=first.width,
            fps=fps,
            frames=None if loop else len(paths),
            detail="one image" if len(paths) == 1 else f"{len(paths)} images",
            planes=planes,
        )

    def read(self) -> Frame | None:
        """The next image that can be decoded, or None at the end.

        Raises:
            SourceLost: In a loop, when none of the files can be read any more.
            SourceError: It lacks the fourth plane that is asked for.
        """
        frame, self._next = self._next, None
        # The first was decoded when the source was opened, however long ago that is.
        return replace(frame, captured=time.monotonic()) if frame else self._decoded()

    def skip(self) -> bool:
        """Pass over the next file without opening it, so that nobody learns whether it can be decoded."""
        if self._next is not None:
            self._next = None
            return True
        return next(self._files, None) is not None

    def close(self) -> None:
        """End it: no file is held open between two reads."""
        self._next, self._files = None, iter(())

    def _first(self, paths: Sequence[Path]) -> Frame:
        try:
            first = self._decoded()
        except SourceLost:
            first = None
        if first is None and len(paths) == 1:
            raise SourceError(f"{shown(paths[0])} cannot be decoded as an image: give one of {_SUFFIXES}")
        if first is None:
            raise SourceError(f"{self._uri}: none of its {len(paths)} files can be decoded as an image")
        untold, self._untold = self._untold or [], None
        for warning in untold:
            _log.warning("%s", warning)
        return first

    def _decoded(self) -> Frame | None:
        for index, path, name in self._files:
            image = _decode(path, self._planes)
            if image is not None:
                if image.shape[2] < self._planes:
                    raise no_fourth_plane(str(path), f"an image of {image.shape[2]} plane(s)")
                self._unread = 0
                height, width = image.shape[:2]
                return Frame(index, index / self._fps, time.monotonic(), height, width, partial(_to_bgr, image), name)
            self._pass_over(path)
        return None

    def _pass_over(self, path: Path) -> None:
        self.missed += 1
        self._unread += 1
        why = "cannot be decoded as an image" if path.is_file() else "is no longer there"
        warning = f"{shown(path)} {why}: passed over"
        if self._untold is not None:
            # While it is being opened: where no file can be decoded, one error says so for all of them.
            self._untold.append(warning)
        elif path not in self._told:
            _log.warning("%s", warning)
        self._told.add(path)
        if self._unread > self._count:
            raise SourceLost(f"{self._uri}: none of its {self._count} images can be read any more")


def _all(paths: Sequence[Path], loop: bool) -> Iterator[tuple[int, Path, str]]:
    """Each file's number in the run, path and name."""
    numbers, names = itertools.count(), _names(paths)
    while True:
        for path, name in zip(paths, names, strict=True):
            yield next(numbers), path, name
        if not loop:
            return


def _find(uri: str) -> list[Path]:
    path = Path(uri)
    try:
        if path.is_dir():
            found, what = list(path.iterdir()), f"the folder {shown(repr(uri))}"
        elif path.exists():
            return [path]
        elif glob.has_magic(uri):
            found, what = [Path(name) for name in glob.glob(uri)], f"the pattern {shown(repr(uri))}"
        else:
            raise nothing_at(uri)
    except OSError as error:
        raise SourceError(f"{shown(uri)}: {error.strerror}: check the path") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{shown(uri)} is no path and no pattern: check it") from error
    images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if images:
        return sorted(images, key=_natural)
    if what.startswith("the pattern"):
        count = f"matches {_count(found)} and no image" if found else "matches no file"
    else:
        count = f"holds {_count(found)} and no image" if found else "is empty"
    raise SourceError(f"{what} {count}: expected images ({_SUFFIXES})")


def _count(paths: Sequence[Path]) -> str:
    return "1 file" if len(paths) == 1 else f"{len(paths)} files"


def _names(paths: Sequence[Path]) -> list[str]:
    """File names; numbered where two differ in folder or suffix only, since results are called after them."""
    stems = Counter(path.stem for path in paths)
    return [f"{n:06d}-{path.name}" if stems[path.stem] > 1 else path.name for n, path in enumerate(paths)]


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Order by the numbers within a name; a name's text and numbers never meet each other in a comparison."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts]


def _decode(path: Path, planes: Planes) -> Image | None:
    """See `rtpsp.planes.decode`; None too where the file cannot be read."""
    try:
        # Through NumPy: `imread` cannot open every name on Windows, and writes its own complaint to stderr.
        return decode(np.fromfile(path, np.uint8), planes)
    except (OSError, ValueError):
        return None


def _to_bgr(image: Image, out: Image | None) -> Image:
    if out is None:
        return image
    np.copyto(out, image)
    return out


_SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))
