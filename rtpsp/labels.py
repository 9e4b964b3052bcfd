"""Label sets: class names, their colours, and the id that stands for *no class*.

Colours are RGB here, as every publication prints them; rendering turns them into BGR once.
"""

from __future__ import annotations

import logging
import os.path
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtpsp.errors import InputError, ModelError, UsageError
from rtpsp.label_sets import RGB as RGB
from rtpsp.label_sets import distinct_palette as distinct_palette
from rtpsp.label_sets import ids_text, parse_list, shown, why_no_name
from rtpsp.label_sets.meanings import check_files

_log = logging.getLogger(__name__)

MAX_LIST_BYTES = 1 << 20
"""A longer file is no list of classes but, say, the checkpoint."""


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of the classes a model tells apart; position is class id.

    Attributes:
        name: What the set is called, e.g. ``camvid``.
        names: One name a class.
        palette: One RGB colour a class, 0..255.
        ignore: The id that ground truth uses for *void*; such pixels count neither for nor against a model.
        source: Where names and colours were published.
        void: Colours that stand for void in colour-coded label files.
        ids: The id that label files give each class, where that is not its position; empty where it is.
        void_ids: Ids that stand for void in label files. Beside `ids` they are all that do; else `ignore` does too.
        also: Further colours of classes in label files, as (class id, colour): a finer set's classes become one.
        also_ids: Further ids of classes in label files, as (class id, id).
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[RGB, ...]
    ignore: int | None = None
    source: str = ""
    void: tuple[RGB, ...] = ()
    ids: tuple[int, ...] = ()
    void_ids: tuple[int, ...] = ()
    also: tuple[tuple[int, RGB], ...] = ()
    also_ids: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError(f"label set {self.name!r} is empty: give at least one class name")
        if len(self.names) != len(self.palette):
            raise InputError(
                f"label set {self.name!r} has {len(self.names)} names and {len(self.palette)} colours: give one a class"
            )
        colours = (*self.palette, *self.void)
        beyond = [colour for colour in colours if not all(0 <= channel <= 255 for channel in colour)]
        if beyond:
            raise InputError(f"label set {self.name!r} has colour {beyond[0]}, expected red, green, blue of 0 to 255")
        for name in self.names:
            if why := why_no_name(name):
                raise InputError(f"label set {self.name!r}: {why}")
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice:
            raise InputError(f"label set {self.name!r} names {', '.join(twice)} more than once: rename one")
        check_files(self)

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
            # left out where empty, so that a spec without them is the same bytes as before there were any
            **({"void": [list(colour) for colour in self.void]} if self.void else {}),
            **({"ids": list(self.ids)} if self.ids else {}),
            **({"void_ids": list(self.void_ids)} if self.void_ids else {}),
            **({"also": [[place, list(colour)] for place, colour in self.also]} if self.also else {}),
            **({"also_ids": [list(pair) for pair in self.also_ids]} if self.also_ids else {}),
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
            void=tuple((int(r), int(g), int(b)) for r, g, b in values.get("void", ())),
            ids=tuple(int(value) for value in values.get("ids", ())),
            void_ids=tuple(int(value) for value in values.get("void_ids", ())),
            also=tuple((int(place), (int(r), int(g), int(b))) for place, (r, g, b) in values.get("also", ())),
            also_ids=tuple((int(place), int(value)) for place, value in values.get("also_ids", ())),
        )


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

CITYSCAPES: LabelSet
"""Read from its file when it is first imported."""


_IN_FILES = (
    "ade20k", "atlas", "cityscapes", "dis5k", "mfnet", "nyuv2", "pascal-context59", "pascal-context60", "scannet20",
    "trans10k", "urbanlf", "voc",
)  # fmt: skip
_ALIASES = dict.fromkeys(("dada-seg", "densepass", "selma"), "cityscapes")
"""Data sets with the classes and train ids of another."""


class _PublishedSets(Mapping[str, LabelSet]):
    """The sets by name; those that lie in text files (`rtpsp.label_sets`) are read when they are first asked for."""

    def __init__(self) -> None:
        self._sets: dict[str, LabelSet | None] = dict.fromkeys(_IN_FILES)
        self._sets[CAMVID.name] = CAMVID
        self._sets.update(dict.fromkeys(_ALIASES))

    def __getitem__(self, name: str) -> LabelSet:
        if name in _ALIASES:
            return self[_ALIASES[name]]
        labels = self._sets[name]
        if labels is None:
            file = Path(__file__).with_name("label_sets") / f"{name}.txt"
            labels = self._sets[name] = _from_text(file.read_text(encoding="utf-8"), name, file.name)
        return labels

    def __contains__(self, name: object) -> bool:
        return name in self._sets  # Mapping's own would read the file

    def __iter__(self) -> Iterator[str]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)


LABEL_SETS: Mapping[str, LabelSet] = _PublishedSets()
"""Published sets by name. Void is 11 in CamVid's ground truth, the id behind its classes, and 255 in the others'.
Where published annotations have other ids than the classes' positions (ADE20K and NYUv2 count from 1), the set says so
in `LabelSet.ids`. The files say what void covers.
"""


if not TYPE_CHECKING:  # a checker would take every name for one of this module's

    def __getattr__(name: str) -> LabelSet:
        if name == "CITYSCAPES":
            return LABEL_SETS["cityscapes"]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def to_label_set(name_or_path: str) -> LabelSet:
    """A published set by name, or a user's own list from a text file.

    A list has one class a line, in id order: ``name``, or ``name R G B``, or ``name #RRGGBB``. Blank lines and lines
    that begin with ``#`` are passed over, but for these, before the first class:

    - ``# ignore: 11``: the id of void in ground truth (``none`` if it has none; else 255, where that is no class);
    - ``# void: 0 0 0``: a colour that stands for void in colour-coded label files; one such line a colour;
    - ``# ids: 1-20``: what label files call the classes, in order, where that is not 0, 1, 2 ...: ``1-20`` where they
      count from 1, ``0 255`` in black and white masks, ``7 8 11-13`` for any ids;
    - ``# also: Road 128 0 192``: a further colour of a class in such files, ``# also id: Road 7`` a further id, one a
      line: labels of a finer set become these classes;
    - ``# void ids: 0``: what label files call void; beside ``ids`` nothing else is void there;
    - ``# source: ...``: where the list is from.

    A name that itself begins with ``#`` or a backslash is written with a backslash before it. Classes without a colour
    get one of `distinct_palette` that no other class has.

    Raises:
        UsageError: Neither a known set nor a file.
        InputError: The file cannot be read, is empty, repeats a name, or has a name, colour, id or void that is none.
    """
    if name_or_path in LABEL_SETS:
        return LABEL_SETS[name_or_path]
    if not os.path.isfile(name_or_path):
        import difflib

        known = ", ".join(sorted(LABEL_SETS))
        near = difflib.get_close_matches(name_or_path.lower(), LABEL_SETS, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(
            f"no label set or file {shown(name_or_path)}{meant}: use {known}, or a text file with a name a line"
        )
    path = Path(name_or_path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            raise InputError(f"label set {path} is larger than 1 MiB: expected UTF-8 text, a class a line")
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"label set {path} cannot be read ({error}): expected UTF-8 text, a class a line") from error
    labels = _from_text(text, path.stem, str(path))
    _warn_of_twins(labels, path)
    return labels


def to_label_list(labels: LabelSet, *, header: bool = False) -> str:
    """The text that `to_label_set` reads names and colours back from: ``name R G B``, a class a line, in id order.

    Args:
        labels: The set.
        header: Write before it all else that a set says: its source, its void and the ids of its label files. Masks of
            a model have the classes' positions, whatever those files have: a list beside masks goes without.
    """
    before: list[str] = []
    if header:
        before = [f"# ignore: {'none' if labels.ignore is None else labels.ignore}"]
        before += [f"# source: {labels.source}"] if labels.source else []
        before += ["# void: {} {} {}".format(*colour) for colour in labels.void]
        before += [f"# ids: {ids_text(labels.ids)}"] if labels.ids else []
        before += [f"# void ids: {ids_text(labels.void_ids)}"] if labels.void_ids else []
        before += ["# also: {} {} {} {}".format(labels.names[place], *colour) for place, colour in labels.also]
        before += [f"# also id: {labels.names[place]} {value}" for place, value in labels.also_ids]
    escaped = ("\\" + name if name.startswith(("#", "\\")) else name for name in labels.names)
    classes = [f"{name} {r} {g} {b}" for name, (r, g, b) in zip(escaped, labels.palette, strict=True)]
    return "".join(f"{line}\n" for line in (*before, *classes))


def check_count(labels: LabelSet, classes: int) -> None:
    """Make sure that a set names what a model answers.

    Args:
        labels: The classes as a user gave them.
        classes: How many classes the model gives.

    Raises:
        ModelError: It gives more or fewer.
    """
    extra = len(labels) - classes
    if not extra:
        return
    hint = (
        f"take {extra} out (a void that was not trained has no line; the last is {labels.names[-1]!r})"
        if extra > 0
        else f"add {-extra}, in id order (a background that was trained has a line)"
    )
    name = labels.source if Path(labels.source).stem == labels.name else labels.name
    raise ModelError(f"{name} names {len(labels)} classes, the model gives {classes}: {hint}")


def _from_text(text: str, name: str, file: str) -> LabelSet:
    listed = parse_list(text, file)
    given = set(listed.colours)
    given |= {*listed.void, *(colour for _, colour in listed.also)}
    spare = distinct_palette(2 * len(listed.names) + len(given)) if None in given else ()
    further = (colour for colour in spare[len(listed.names) :] if colour not in given)
    palette = tuple(
        colour or (spare[position] if spare[position] not in given else next(further))
        for position, colour in enumerate(listed.colours)
    )
    source = listed.source or Path(file).name
    return LabelSet(
        name, listed.names, palette, listed.ignore, source, listed.void, listed.ids, listed.void_ids, listed.also,
        listed.also_ids,
    )  # fmt: skip


def _warn_of_twins(labels: LabelSet, path: Path) -> None:
    first: dict[RGB, str] = {}
    for name, colour in zip(labels.names, labels.palette, strict=True):
        twin = first.setdefault(colour, name)
        if twin != name:
            _log.warning("%s: %s and %s have one colour, %s: pictures do not tell them apart", path, twin, name, colour)
