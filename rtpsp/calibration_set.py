"""What to calibrate INT8 with: images, a labelled set, a video, a camera, the simulator, or an earlier manifest.

`open_calibration` looks at each frame once, chooses those that differ most (`rtpsp.data.calibration_choice`) and writes
a manifest, from which `load_manifest` has the same set again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rtpsp.calibration_frames import HINT, reader_of
from rtpsp.calibration_sources import Chosen, choose
from rtpsp.data.calibration import CalibrationEntry as CalibrationEntry
from rtpsp.data.calibration import CalibrationSet as CalibrationSet
from rtpsp.data.calibration import FileReader, Progress, digest_of
from rtpsp.data.calibration_manifest import Manifest, from_json, to_json
from rtpsp.errors import DataError, UsageError
from rtpsp.files import check_writable, write_atomically
from rtpsp.labels import LabelSet
from rtpsp.places import CALIB_VARIABLE as CALIB_VARIABLE
from rtpsp.places import calibration_folder as calibration_folder
from rtpsp.stream.names import expanded

_log = logging.getLogger(__name__)

DEFAULT_COUNT = 300
FEW = 100
"""Frames below which ranges depend on which ones they are."""


def open_calibration(
    given: str,
    count: int = DEFAULT_COUNT,
    split: str | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    labels: LabelSet | None = None,
) -> CalibrationSet:
    """Choose the frames to calibrate with and write their manifest; the same source gives the same set.

    Args:
        given: A folder of images (not those in folders within it) or a pattern such as ``frames/**/*.png``; a labelled
            folder or list of pairs (`rtpsp.data.files`); a text file with one image path a line; a video; a camera's
            number, path or name; a simulator URI, labelled where `rtpsp.data.simulated` knows all its parameters; or a
            manifest, whose frames are taken as they are.
        count: How many frames to take at most; all are taken of a source that has no more.
        split: Which part of a folder, by default ``train``, or ``val`` where there is no such part.
        folder: Where the manifest goes, and a camera's frames; `calibration_folder` by default.
        progress: Told of each frame that is looked at.
        labels: What label files hold, as `rtpsp.data.dataset.open_dataset` takes it.

    Raises:
        SourceError: Nothing there, or not a source that rtpsp can read.
        DataError: No images, too many that cannot be read, or images and labels that do not fit together.
        MissingError: No such camera.
        SourceLost: The camera went away.
        OutputError: The manifest cannot be written.
        UsageError: `count` is less than 1.
    """
    if count < 1:
        raise UsageError(f"{count} calibration images are asked for, expected 1 or more, such as {DEFAULT_COUNT}")
    given = given if "://" in given else expanded(given)
    if _is_manifest(given):
        found = load_manifest(Path(given), labels)
    else:
        folder = folder or calibration_folder()
        check_writable(folder / "manifest.json", hint=HINT)
        chosen = choose(given, count, split, folder, progress or (lambda step, done, total: None), labels)
        found = _keep(chosen, count, folder, labels)
    if len(found) < FEW:
        _log.warning(
            "calibration set %s has %d frame(s), expected %d or more: ranges from few frames clip what others hold",
            found.source, len(found), FEW,
        )  # fmt: skip
    return found


def load_manifest(path: Path, labels: LabelSet | None = None) -> CalibrationSet:
    """The set that a manifest lists. That frames are what they were is checked when they are read.

    Args:
        path: The manifest.
        labels: What label files hold, as `rtpsp.data.dataset.open_dataset` takes it.

    Raises:
        DataError: It is no manifest, is damaged, or its frames are no longer where they were.
    """
    try:
        manifest = from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"calibration manifest {path} cannot be read ({error}): give the set's source") from error
    except DataError as error:
        raise DataError(f"{path} {error}: give the set's source to --calib to make it again") from error
    root = manifest.root if "://" in manifest.root else os.path.normpath(path.absolute().parent / manifest.root)
    found = CalibrationSet(
        manifest.source, manifest.kind, manifest.split, manifest.entries, reader_of(manifest.kind, root, labels), path
    )
    if found.digest != manifest.digest:
        raise DataError(f"{path} is damaged: its entries are not those of its digest; make the set again")
    files = [Path(root, name) for entry in found.entries for name in (entry.name, entry.label) if name]
    files = files if isinstance(found.reader, FileReader) else [] if "://" in root else [Path(root)]
    absent = [file for file in files if not os.path.isfile(file)]
    if absent:
        raise DataError(
            f"{path} lists {len(files)} file(s), of which {len(absent)} are not there, such as {absent[0]}: put them "
            "back, or give the set's source where it lies now"
        )
    return found


def _keep(chosen: Chosen, asked: int, folder: Path, labels: LabelSet | None) -> CalibrationSet:
    """Write the manifest."""
    root, base = chosen.root, os.path.abspath(folder)
    if "://" not in root and Path(root).is_relative_to(os.path.dirname(base)):  # so that a checkout can be moved
        root = Path(os.path.relpath(root, base)).as_posix()
    survey, path = chosen.survey, folder / f"{chosen.stem}.json"
    manifest = Manifest(
        source=chosen.source,
        kind=chosen.kind,
        split=chosen.split,
        root=root,
        asked=asked,
        candidates=survey.candidates,
        digest=digest_of(survey.entries),
        entries=survey.entries,
        skipped=survey.skipped,
    )
    write_atomically(path, to_json(manifest).encode(), hint=HINT, make_folder=True)
    reader = reader_of(chosen.kind, chosen.root, labels)
    return CalibrationSet(chosen.source, chosen.kind, chosen.split, survey.entries, reader, path)


def _is_manifest(given: str) -> bool:
    return Path(given).suffix.lower() == ".json" and os.path.isfile(given)
