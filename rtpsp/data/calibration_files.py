"""The calibration set of image files: look at each once, pass over what cannot be read, choose."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from mimetypes import guess_type
from pathlib import Path

from rtpsp.data.calibration import CalibrationEntry, Progress, sha256_of_pixels
from rtpsp.data.calibration_choice import CANDIDATES, Description, describe, farthest_points
from rtpsp.data.files import SHOWN, FilePair, decode_image, find_pairs, read_bytes
from rtpsp.data.simulated import SimulatedFrame
from rtpsp.errors import DataError
from rtpsp.files import sha256_of

_log = logging.getLogger(__name__)

MAX_UNREADABLE = 0.1
"""Share of the files that may be unreadable: more are no accident, and what is left is not the set that was meant."""

_HEAD = 4096  # bytes of a file that tell text from pictures

STEP = "look at the frames"


@dataclass(frozen=True)
class Skipped:
    """A file that was passed over, and why, in words."""

    name: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """What was found in a source, and what was chosen of it.

    Attributes:
        entries: The chosen frames, in the source's order.
        candidates: How many were looked at.
        skipped: Those that could not be read.
    """

    entries: tuple[CalibrationEntry, ...]
    candidates: int
    skipped: tuple[Skipped, ...] = ()


def read_list(path: Path) -> tuple[Path, ...] | tuple[FilePair, ...] | None:
    """The images of a text file, or its pairs if its lines have two paths; None for a file that is no text.

    Args:
        path: One image path a line, or an `image label` pair (`rtpsp.data.files`); paths start at the list's folder. A
            line that begins with ``#`` is a comment.

    Raises:
        DataError: The file cannot be read, lists nothing, or pairs of which a file is missing.
    """
    if (guess_type(path.name)[0] or "").startswith("video/"):  # whose own words for text and for nothing are better
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        # a playlist is text too, and FFmpeg's
        if head.startswith(b"#EXTM3U") or any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
            return None
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise DataError(f"list {path} cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DataError(f"{path} lists no images: expected one path a line, or one `image label` pair of paths")
    # a name may have blanks in it
    if len(lines[0].split()) > 1 and not (path.parent / lines[0]).is_file():
        return find_pairs(path, "")
    return tuple(path.parent / line for line in lines)


def survey_images(files: Sequence[Path], root: Path, count: int, tell: Progress) -> Survey:
    """Choose of image files.

    Args:
        files: Them, in order.
        root: Where the entries' paths start.
        count: How many to choose at most.
        tell: Told of each file.

    Raises:
        DataError: More than `MAX_UNREADABLE` of them cannot be read.
    """
    return _survey([(path, None) for path in files], root, count, tell)


def survey_pairs(pairs: Sequence[FilePair], root: Path, count: int, tell: Progress) -> Survey:
    """Choose of image files with labels. A pair of which one file cannot be read is passed over.

    Raises:
        DataError: An image and its label differ in size, or more than `MAX_UNREADABLE` of the pairs cannot be read.
    """
    return _survey([(pair.image, pair) for pair in pairs], root, count, tell)


def survey_simulated(frames: Sequence[SimulatedFrame], count: int, tell: Progress) -> Survey:
    """Choose of the simulator's frames."""
    found: list[tuple[CalibrationEntry, Description]] = []
    chosen = spread(len(frames), count)
    for done, number in enumerate(chosen):
        tell(STEP, done, len(chosen))
        frame = frames[number]
        image = frame.drive.scene.draw(frame.index)
        entry = CalibrationEntry(frame.name, sha256_of_pixels(image), number, round(frame.index / frame.drive.fps, 6))
        found.append((entry, describe(image)))
    return choose(found, count)


def choose(found: Sequence[tuple[CalibrationEntry, Description]], count: int) -> Survey:
    """Of candidates, those that differ most."""
    numbers = farthest_points([description for _, description in found], count)
    return Survey(tuple(found[number][0] for number in numbers), len(found))


def limit_of(count: int) -> int:
    """How many candidates are described where `count` are to be chosen."""
    return max(CANDIDATES, 2 * count)


def spread(length: int, count: int) -> range:
    """The candidates among a known number of frames, evenly spaced."""
    return range(0, length, -(-length // limit_of(count)) or 1)


def _survey(files: Sequence[tuple[Path, FilePair | None]], root: Path, count: int, tell: Progress) -> Survey:
    found: list[tuple[CalibrationEntry, Description]] = []
    skipped: list[Skipped] = []
    tried = spread(len(files), count)
    for done, number in enumerate(tried):
        tell(STEP, done, len(tried))
        path, pair = files[number]
        name = _from(root, path)
        try:
            data = read_bytes(path)
            image = decode_image(data, path)
            truth = pair.read_truth() if pair else None
        except DataError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        entry = CalibrationEntry(name, hashlib.sha256(data).hexdigest())
        if pair and truth is not None:
            pair.check_size(image, truth)
            entry = replace(entry, label=_from(root, pair.label), label_sha256=sha256_of(pair.label))
        found.append((entry, describe(image)))
    _check_share(skipped, len(tried))
    if skipped:
        _log.warning(
            "%d of %d images cannot be read and are left out of the calibration set: %s",
            len(skipped), len(tried), _listed(skipped),
        )  # fmt: skip
    survey = choose(found, count)
    return Survey(survey.entries, len(tried), tuple(skipped))


def _check_share(skipped: Sequence[Skipped], total: int) -> None:
    if len(skipped) > MAX_UNREADABLE * total:
        raise DataError(
            f"{len(skipped)} of {total} images cannot be read, expected {MAX_UNREADABLE:.0%} at most: "
            f"{_listed(skipped)}; the first: {skipped[0].reason}"
        )


def _from(root: Path, path: Path) -> str:
    """A path as a manifest says it, from its root, alike on every system."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def _listed(skipped: Sequence[Skipped]) -> str:
    more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    return ", ".join(one.name for one in skipped[:SHOWN]) + more
