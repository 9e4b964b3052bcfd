"""Data sets in files: four ways to lay out images and labels, and how one pair of files is read.

    ROOT/SPLIT/ and ROOT/SPLITannot/      SegNet's CamVid: same stems in both
    ROOT/SPLIT.txt                        a list: one `image label` pair of paths a line, relative to the list
    ROOT/images/ and ROOT/labels/         same stems in both; each may have folders train, val … inside
    ROOT/leftImg8bit/SPLIT/ and           Cityscapes: the train ids of CITY/NAME_leftImg8bit.png are in
    ROOT/gtFine/SPLIT/                    CITY/NAME_gtFine_labelTrainIds.png

They are tried in this order. A list may also be named itself, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtpsp.arrays import ClassMap, Image
from rtpsp.data.class_ids import read_class_ids
from rtpsp.data.images import decode_image as decode_image
from rtpsp.data.images import read_bytes as read_bytes
from rtpsp.data.images import read_image as read_image
from rtpsp.data.images import read_size
from rtpsp.data.sample import Sample
from rtpsp.errors import DataError
from rtpsp.labels import LabelSet
from rtpsp.spec import Planes

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
LABEL_SUFFIXES = frozenset({".png"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"})
CITYSCAPES = ("leftImg8bit", "gtFine")
SHOWN = 5  # names in one error message


@dataclass(frozen=True)
class FilePair:
    """An image file and its label file, not yet read; an `rtpsp.data.sample.Entry`.

    Attributes:
        name: What errors call the pair.
        image: The image file.
        label: The label file.
        labels: What colours and ids of the label file mean (`rtpsp.data.class_ids`); None: it holds class ids.
    """

    name: str
    image: Path
    label: Path
    labels: LabelSet | None = None

    def load(self, planes: Planes = 3) -> Sample:
        """Read both files.

        Raises:
            DataError: One cannot be read, the label holds no class ids, their sizes differ, or the image lacks the
                fourth plane that is asked for.
        """
        image, truth = read_image(self.image, planes), self.read_truth()
        self.check_size(image, truth)
        return Sample(self.name, image, truth)

    def read_truth(self) -> ClassMap:
        """The label file as [H, W] class ids; whether they are ids of classes is not looked at.

        Raises:
            DataError: It cannot be read, or holds colours or ids without a meaning.
        """
        return read_class_ids(self.label, self.labels)

    def read_size(self, planes: Planes = 3) -> tuple[int, int]:
        """Rows and columns of the image, from its head.

        Raises:
            DataError: It cannot be read, or lacks the fourth plane that is asked for.
        """
        return read_size(self.image, planes)

    def check_size(self, image: Image, truth: ClassMap) -> None:
        """Make sure that what was read of the two files fits together.

        Raises:
            DataError: Their sizes differ.
        """
        if image.shape[:2] != truth.shape:
            raise DataError(
                f"label {self.label} is {truth.shape[0]}x{truth.shape[1]} (HxW), its image {self.image} is "
                f"{image.shape[0]}x{image.shape[1]}: they must have one size"
            )


def find_split(path: Path, splits: Sequence[str]) -> str | None:
    """The first of some splits for which a folder holds images and labels in one of the layouts above, or None."""
    for split in splits:
        if (path / split).is_dir() and (path / f"{split}annot").is_dir():
            return split
        if (path / f"{split}.txt").is_file():
            return split
        if all((path / part / split).is_dir() for part in ("images", "labels")):
            return split
        if all((path / part / split).is_dir() for part in CITYSCAPES):
            return split
    return splits[0] if all((path / part).is_dir() for part in ("images", "labels")) else None


def find_images(folder: Path) -> tuple[Path, ...]:
    """The image files of a folder by name, not those in folders within it.

    Raises:
        DataError: The folder cannot be read, or holds no image.
    """
    names = _names(folder)
    files = tuple(folder / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
    images = tuple(file for file in files if file.is_file())
    if images:
        return images
    within = next((name for name in names if (folder / name).is_dir()), None)
    expected = f"give {folder / within}, or '{folder}/**/*.png'" if within else "expected PNG, JPEG or the like"
    raise DataError(f"no images in {folder}, it holds {_listed(names)}: {expected}")


def find_pairs(path: Path, split: str) -> tuple[FilePair, ...]:
    """The pairs of a folder or a list, in the order of their names or of the list.

    Args:
        path: A folder in one of the layouts above, or a text file with pairs.
        split: Which part of a folder, e.g. ``val``; a list is taken whole.

    Raises:
        DataError: Nothing there, no known layout, or files without a partner.
    """
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise DataError(f"{path} is a video, which has no labels: give a folder of frames and their labels")
        return _from_list(path)
    if not path.is_dir():
        raise DataError(f"no data set at {path}: give a folder, a list of pairs, or sim://street")
    if (path / split).is_dir() and (path / f"{split}annot").is_dir():
        return _from_folders(path / split, path / f"{split}annot")
    if (path / f"{split}.txt").is_file():
        return _from_list(path / f"{split}.txt")
    images, labels = path / "images", path / "labels"
    if images.is_dir() and labels.is_dir():
        if (images / split).is_dir() or (labels / split).is_dir():
            images, labels = images / split, labels / split
        return _from_folders(images, labels)
    if all((path / part / split).is_dir() for part in CITYSCAPES):
        return _from_cityscapes(*(path / part / split for part in CITYSCAPES))
    raise DataError(
        f"{path} holds {_listed(_names(path))}; for split {split!r} expected folders {split}/ and {split}annot/, "
        f"or a list {split}.txt, or folders images/ and labels/ (or Cityscapes' leftImg8bit/{split}/ and "
        f"gtFine/{split}/): check the path, or name another split"
    )


def _from_folders(images: Path, labels: Path) -> tuple[FilePair, ...]:
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"no folder {folder} beside {labels if folder == images else images}: images need labels")
    image_of, label_of = _by_stem(images, IMAGE_SUFFIXES), _by_stem(labels, LABEL_SUFFIXES)
    if not image_of:
        raise DataError(f"no images in {images}, it holds {_listed(_names(images))}: check the path and the split")
    for present, absent, what in ((image_of, label_of, f"label (PNG) in {labels}"), (label_of, image_of, "image")):
        alone = [present[stem].name for stem in present if stem not in absent]
        if alone:
            folder = next(iter(present.values())).parent
            jpeg = present is image_of and any(Path(name).suffix.lower() in JPEG_SUFFIXES for name in _names(labels))
            hint = "JPEG changes ids and colours, export labels as PNG; " if jpeg else ""
            raise DataError(
                f"{folder}: no {what} for {_listed(alone)}: {hint}give every image a label of the same name, or a list "
                "of `image label` pairs"
            )
    return tuple(FilePair(image_of[stem].name, image_of[stem], label_of[stem]) for stem in image_of)


def _from_cityscapes(images: Path, labels: Path) -> tuple[FilePair, ...]:
    """Pairs by the names of Cityscapes' files, or by DensePASS' (``NAME_.png`` and ``NAME_labelTrainIds.png``)."""
    pairs: list[FilePair] = []
    for image in sorted(images.rglob("*")):
        if image.suffix.lower() not in IMAGE_SUFFIXES or image.name.startswith(".") or not image.is_file():
            continue
        inner = image.relative_to(images)
        stem = labels / inner.parent / inner.stem.removesuffix("_leftImg8bit").rstrip("_")
        named = [Path(f"{stem}{end}") for end in ("_gtFine_labelTrainIds.png", "_labelTrainIds.png")]
        pairs.append(FilePair(inner.as_posix(), image, next(filter(Path.is_file, named), named[0])))
    if not pairs:
        raise DataError(f"no images in {images} or its folders: check the path and the split")
    alone = [pair.name for pair in pairs if not pair.label.is_file()]
    if alone:
        raise DataError(
            f"{labels}: no *_labelTrainIds.png for {_listed(alone)}: make them of *_labelIds.png with "
            "csCreateTrainIdLabelImgs of the package cityscapesScripts"
        )
    return tuple(pairs)


def _from_list(path: Path) -> tuple[FilePair, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a text file of pairs ({error}): give a folder or a list") from error
    pairs: list[FilePair] = []
    for number, line in enumerate(lines, 1):
        # A tab allows names with blanks.
        words = [word.strip() for word in line.split("\t")] if "\t" in line else line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise DataError(
                f"{path}, line {number}: {line.strip()!r} has {len(words)} words, expected `image label`, two paths; "
                "separate them by a tab if names have blanks"
            )
        pairs.append(FilePair(words[0], path.parent / words[0], path.parent / words[1]))
    if not pairs:
        raise DataError(f"{path} lists no pairs: expected one `image label` pair of paths a line")
    absent = [str(file) for pair in pairs for file in (pair.image, pair.label) if not file.is_file()]
    if absent:
        raise DataError(f"{path} lists files that are not there: {_listed(absent)}; paths start at the list's folder")
    return tuple(pairs)


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name in _names(folder):
        file = folder / name
        if file.suffix.lower() not in suffixes or not file.is_file():
            continue
        if file.stem in files:
            raise DataError(f"{folder} holds {files[file.stem].name} and {name}: which one is meant? Remove the other")
        files[file.stem] = file
    return files


def _names(folder: Path) -> list[str]:
    try:
        # Hidden files are left out: macOS leaves ._a.png beside a.png.
        return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}") from error


def _listed(names: list[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
