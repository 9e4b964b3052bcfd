"""What a person may give to calibrate with, and how frames are chosen of each kind."""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from rtpsp.calibration_frames import HINT, record, survey_frames
from rtpsp.data import simulated
from rtpsp.data.calibration import Kind, Progress, digest_of
from rtpsp.data.calibration_files import Survey, read_list, survey_images, survey_pairs, survey_simulated
from rtpsp.data.files import IMAGE_SUFFIXES, FilePair, find_images, find_pairs, find_split
from rtpsp.errors import DataError, OutputError, SourceError
from rtpsp.labels import LabelSet
from rtpsp.recognise import near
from rtpsp.stream.names import shown
from rtpsp.stream.source import Source, open_source

SPLITS = ("train", "val")
"""Parts of a labelled folder that are looked for, in this order: what a model is tested on is better not fitted to."""


@dataclass(frozen=True)
class Chosen:
    """Frames that were chosen of a source.

    Attributes:
        kind: What sort of source.
        source: Path or URI for people, without credentials.
        root: Where the paths of the entries start, absolute; or the path or URI to read.
        survey: The frames.
        split: Which part of a labelled folder.
    """

    kind: Kind
    source: str
    root: str
    survey: Survey
    split: str | None = None

    @property
    def stem(self) -> str:
        """What files about this set are called: the source's name and the digest's beginning."""
        return f"{_plain(self.source, self.split)}-{digest_of(self.survey.entries)[:8]}"


def choose(
    given: str, count: int, split: str | None, folder: Path, tell: Progress, labels: LabelSet | None = None
) -> Chosen:
    """Look at the frames of a source and choose.

    Args:
        given: See `rtpsp.calibration_set.open_calibration`; a ``~`` is expanded.
        count: How many frames at most.
        split: Which part of a folder.
        folder: Where a camera's frames are saved, in a folder of their own.
        tell: Told of each frame.
        labels: What label files hold, as `rtpsp.data.dataset.open_dataset` takes it.
    """
    if "://" in given:
        if _is_simulated_set(given):
            return Chosen("simulator", given, given, survey_simulated(simulated.find_frames(given), count, tell))
        return _of_source(given, count, folder, tell)
    path = Path(given)
    if os.path.isdir(given):
        return _of_folder(path, count, split, tell, labels)
    if os.path.isfile(given):
        listed = (path,) if path.suffix.lower() in IMAGE_SUFFIXES else read_list(path)
        if listed is None:
            return _of_source(given, count, folder, tell)
        return _of_files(given, listed, path.parent, count, tell, labels=labels)
    if glob.has_magic(given) and not os.path.exists(given):
        return _of_pattern(given, count, tell)
    return _of_source(_to_uri(given), count, folder, tell)


def _is_simulated_set(uri: str) -> bool:
    """Whether it is a labelled set of the simulator; one with other parameters is a source, such as a camera."""
    if not uri.startswith(simulated.SCHEME):
        return False
    try:
        return {key for key, _ in parse_qsl(urlsplit(uri).query, keep_blank_values=True)} <= set(simulated.DEFAULTS)
    except ValueError:
        return True  # no URI at all, which the set has the words for


def _of_folder(path: Path, count: int, split: str | None, tell: Progress, labels: LabelSet | None) -> Chosen:
    found = find_split(path, (split,) if split else SPLITS)
    if found is None and split is not None and (path / split).is_dir():
        return _of_folder(path / split, count, None, tell, labels)
    if found is None and split is None:
        return _of_files(str(path), find_images(path), path, count, tell)
    part = found or split or SPLITS[0]
    return _of_files(str(path), find_pairs(path, part), path, count, tell, part, labels)


def _of_pattern(pattern: str, count: int, tell: Progress) -> Chosen:
    names = sorted(glob.glob(pattern, recursive=True))
    images = tuple(Path(name) for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(name))
    if not images:
        raise DataError(f"the pattern {shown(repr(pattern))} matches {len(names)} file(s) and no image: check it")
    return _of_files(pattern, images, Path(os.path.commonpath([image.parent for image in images])), count, tell)


def _of_files(
    source: str,
    files: Sequence[Path] | Sequence[FilePair],
    root: Path,
    count: int,
    tell: Progress,
    split: str | None = None,
    labels: LabelSet | None = None,
) -> Chosen:
    pairs = [replace(file, labels=labels) for file in files if isinstance(file, FilePair)]
    images = [file for file in files if isinstance(file, Path)]
    survey = survey_pairs(pairs, root, count, tell) if pairs else survey_images(images, root, count, tell)
    return Chosen("pairs" if pairs else "images", source, os.path.abspath(root), survey, split)


def _of_source(uri: str, count: int, folder: Path, tell: Progress) -> Chosen:
    with open_source(uri) as source:
        name = _without_credentials(source.info.uri)
        if source.info.live:
            return _recorded(source, name, count, folder, tell)
        root = uri if "://" in uri else os.path.abspath(uri)
        return Chosen("frames", name, root, survey_frames(source, count, tell))


def _recorded(source: Source, name: str, count: int, folder: Path, tell: Progress) -> Chosen:
    making = folder / f".camera-{secrets.token_hex(8)}"
    try:
        making.mkdir(parents=True)
        survey = record(source, making, count, tell)
        place = folder / Chosen("camera", name, "", survey).stem
        shutil.rmtree(place, ignore_errors=True)  # the very same frames, from a simulated camera
        os.replace(making, place)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"{folder}: a camera's frames cannot be saved there ({why}): {HINT}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Chosen("camera", name, os.path.abspath(place), survey)


def _to_uri(given: str) -> str:
    """A camera's URI from its name; numbers and devices are what they are."""
    if not given.strip():
        raise SourceError("--calib is empty, expected a folder of images, a list, a video, a camera or sim://street")
    if given.isdigit() or given.startswith("/dev/"):
        return given
    from rtpsp.stream.cameras import list_cameras, to_camera_uri

    cameras = list_cameras()
    if any(given.strip().casefold() in camera.name.casefold() for camera in cameras):
        return to_camera_uri(given, cameras)
    meant = near(Path(given))
    hint = f"did you mean {shown(meant)}?" if meant else "check the path, or give sim://street"
    raise SourceError(f"no folder, file or camera is called {shown(repr(given))}: {hint}")


def _without_credentials(uri: str) -> str:
    """A URI that may be written down: no user, no password, and no query of a network address, which may hold both."""
    if "://" not in uri or uri.startswith(simulated.SCHEME):
        return uri
    scheme, _, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2].partition('?')[0]}{slash}{path.partition('?')[0].partition('#')[0]}"


def _plain(source: str, split: str | None) -> str:
    if "://" in source:
        name = re.split(r"[?#]", source.partition("://")[2])[0]
    elif glob.has_magic(source) and not os.path.exists(source):
        name = os.path.basename(os.path.dirname(re.split(r"[*?\[]", source)[0] + "x"))
    else:
        name = f"camera-{source}" if source.isdigit() else Path(os.path.abspath(source)).stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{name}-{split}" if split else name).strip("-")
    return name[:60] or "set"
