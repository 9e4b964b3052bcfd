"""A recording in parts: how long each is, what it is called, and which of the oldest go when there is no more room."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from rtpsp.errors import UsageError
from rtpsp.stream.names import shown

_log = logging.getLogger(__name__)

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1} | {
    f"{letter}{kind}B": base**power
    for power, letter in enumerate("KMGT", 1)
    for kind, base in (("", 1000), ("i", 1024))
}
_NUMBER = re.compile(r"(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})\s*([A-Za-z]{1,3})", re.ASCII)
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "j": 3, "y": 2}
"""Codes of `datetime.strftime` that a name may hold, and how many digits each becomes."""

AHEAD_SECONDS = 3600.0
"""A segment that was changed so far in the future dates from before the clock was put back: no file server's clock is
so wrong, and beside one from next year each new segment would be the oldest."""
LEAST_SECONDS = 1
LEAST_BYTES = 1_000_000


@dataclass(frozen=True)
class Segment:
    """Where one part of a recording ends: after so long or at such a size.

    Attributes:
        seconds: Of the source's time; None where the size decides.
        bytes: In the file, reached or passed by one picture; None where the time decides.
    """

    seconds: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.bytes is None):
            raise UsageError("a segment has either seconds or bytes: give one of them")
        if self.seconds is not None and self.seconds < LEAST_SECONDS:
            raise UsageError(f"segments of {self.seconds:g} s are too short: give --segment 1s or more")
        if self.bytes is not None and self.bytes < LEAST_BYTES:
            raise UsageError(f"segments of {self.bytes} bytes are too small: give --segment 1MB or more")

    @classmethod
    def parse(cls, text: str) -> Segment:
        """``30s``, ``10m``, ``2h`` and ``1d``, or ``500MB`` and ``2GB``.

        Raises:
            UsageError: It is neither, or too short.
        """
        number, unit = _split(text)
        if number is not None and unit in _SECONDS:
            return cls(seconds=number * _SECONDS[unit])
        size = _bytes(text)
        if size is None:
            raise UsageError(
                f"--segment {shown(repr(text))} is neither a time nor a size: give for example 30s, 10m, 2h or 500MB"
            )
        return cls(bytes=size)


def parse_bytes(text: str, option: str = "--keep") -> int:
    """``500MB`` and ``20GB``, by thousands, or ``20GiB``, by 1024.

    Args:
        text: As typed.
        option: Whose value it is, for the error.

    Raises:
        UsageError: It is none of these.
    """
    size = _bytes(text)
    if size is None:
        raise UsageError(f"{option} {shown(repr(text))} is no size: give for example 500MB or 20GB")
    return size


def _split(text: str) -> tuple[float | None, str]:
    match = _NUMBER.fullmatch(text.strip())
    return (float(match[1]), match[2]) if match else (None, "")


def _bytes(text: str) -> int | None:
    number, unit = _split(text)
    factor = next((value for name, value in _BYTES.items() if name.lower() == unit.lower()), None)
    return None if number is None or factor is None or number * factor < 1 else round(number * factor)


class _Part(NamedTuple):
    dated: bool
    changed: int
    name: str
    size: int


class SegmentNames:
    """The names of a recording's parts: local wall-clock time, in the name given or behind it.

    ``out.mp4`` becomes ``out-20261127-034052.mp4``; a name with codes of strftime (``%Y %m %d %H %M %S %j %y``) becomes
    what they say. Where that name is taken, ``-2`` and so on stand before the suffix.

    Args:
        path: As given, its home expanded.

    Attributes:
        pattern: What all of them look like, with ``*`` for the times.

    Raises:
        UsageError: The name holds another code.
    """

    def __init__(self, path: Path) -> None:
        self._folder, self._suffix = path.parent, path.suffix
        stem = path.stem if "%" in path.stem else f"{path.stem}-%Y%m%d-%H%M%S"
        self._pieces = re.split(r"(%.?)", stem)
        wrong = [code for code in self._pieces[1::2] if code[1:] not in {*_DIGITS, "%"}]
        if wrong:
            known = " ".join(f"%{code}" for code in _DIGITS)
            raise UsageError(f"{shown(repr(path.name))} holds {wrong[0]}: names of segments may hold {known} and %%")
        look, star = "", ""
        for number, piece in enumerate(self._pieces):
            code = piece[1:] if number % 2 else ""
            look += rf"\d{{{_DIGITS[code]}}}" if code in _DIGITS else re.escape("%" if code else piece)
            star += "*" if code in _DIGITS else "%" if code else piece
        self._mounted = False
        self._told: set[str] = set()
        self._look = re.compile(rf"{look}(-[2-9]|-[1-9]\d+)?{re.escape(self._suffix)}", re.ASCII)
        self.pattern = self._folder / (re.sub(r"\*([-_.]?\*)+", "*", star) + self._suffix)

    def takes(self, path: str | Path) -> bool:
        """Whether a file would count as one of these parts."""
        own = Path(path)
        return self._look.fullmatch(own.name) is not None and own.parent.resolve() == self._folder.resolve()

    def mixes_with(self, other: SegmentNames) -> bool:
        """Whether parts of one recording may have names that are taken for parts of the other."""
        moment = datetime(2026, 11, 22, 23, 24, 25)  # with digits that may also be a count behind a name
        stem = other._stem(moment)
        names = (other._folder / f"{stem}{count}{other._suffix}" for count in ("", "-2"))
        return any(map(self.takes, names))

    def _stem(self, moment: datetime) -> str:
        return "".join(
            piece if number % 2 == 0 else "%" if piece == "%%" else moment.strftime(piece)
            for number, piece in enumerate(self._pieces)
        )

    def create(self, moment: float) -> Path:
        """Make an empty file under a name that nobody has.

        Args:
            moment: Of its first picture, in seconds since the epoch.

        Raises:
            OSError: It cannot be made, or the disk that the first one went to is no longer mounted.
        """
        # An unplugged disk leaves its folder behind, in which days of pictures would fill the system's own disk.
        mounted = os.stat(self._folder).st_dev != os.stat(self._folder.absolute().anchor).st_dev
        if self._mounted and not mounted:
            raise OSError(errno.ENODEV, "its disk is no longer mounted")
        self._mounted = mounted
        stem = self._stem(datetime.fromtimestamp(moment))
        count = 1
        while True:
            path = self._folder / f"{stem}{'' if count == 1 else f'-{count}'}{self._suffix}"
            try:
                with path.open("xb"):
                    return path
            except FileExistsError:
                count += 1

    def prune(self, keep: int, spared: Collection[Path]) -> list[Path]:
        """Remove the segments that were changed longest ago, until the others hold at most `keep` bytes together.

        Those from the future go first (`AHEAD_SECONDS`).

        Only a regular file whose whole name is one that this recording gives is ever removed.

        Args:
            keep: Bytes; those that are spared count too.
            spared: Never removed: the one being written, the source.

        Returns:
            What was removed.
        """
        parts = sorted(self._parts())
        total = sum(part.size for part in parts)
        removed = []
        for part in parts:
            if total <= keep:
                break
            path = self._folder / part.name
            if any(_same(path, other) for other in spared):
                continue
            try:
                path.unlink()
            except OSError as error:
                told = _log.debug if part.name in self._told else _log.warning  # it is tried again every few seconds
                told("%s cannot be removed to make room: %s", shown(path), error.strerror)
                self._told.add(part.name)
                continue
            _log.info("%s was removed to make room", shown(path))
            total -= part.size
            removed.append(path)
        if total > keep and not self._told:
            self._told.add(self.pattern.name)
            _log.warning("%s: one segment takes more than is to be kept: make them shorter", shown(self.pattern))
        return removed

    def _parts(self) -> list[_Part]:
        found = []
        ahead = time.time_ns() + round(AHEAD_SECONDS * 1e9)
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if self._look.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):  # removed by somebody else meanwhile
                        status = entry.stat(follow_symlinks=False)
                        dated = status.st_mtime_ns <= ahead
                        found.append(_Part(dated, status.st_mtime_ns, entry.name, status.st_size))
        return found


def _same(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return path.samefile(other)
    return False
