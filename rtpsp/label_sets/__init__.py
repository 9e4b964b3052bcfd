"""Published label sets as text files, a class a line, and the parser of such lists, which users write too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rtpsp.errors import InputError

RGB = tuple[int, int, int]

MAX_NAME = 200
"""Characters of a class name."""

_SEPARATED = re.compile(
    r"(?:[0-9]+\s*[,;]\s*)?(?P<name>[^,;]+?)\s*[,;]\s*"
    r"(?P<colour>[0-9]{1,3}\s*[,;]\s*[0-9]{1,3}\s*[,;]\s*[0-9]{1,3}|#[0-9A-Fa-f]{6})"
)
"""A line of a table: a name and a colour, and perhaps an id before them, with commas or semicolons between."""

MAX_FILE_ID = 65535
"""The largest id of a label file: PNG has samples of 16 bits at most."""


@dataclass(frozen=True)
class ClassList:
    """What a text file says.

    Attributes:
        names: One name a class, in id order.
        colours: One colour a class, None where the file gives none.
        ignore: The id of void in ground truth.
        source: Where the list is from; empty where the file does not say.
        void: Colours that stand for void in colour-coded label files.
        ids: The id that label files give each class; empty where that is its position.
        void_ids: Ids that stand for void in label files.
        also: Further colours of classes in label files, with the class ids.
        also_ids: Further ids of classes in label files, with the class ids.
    """

    names: tuple[str, ...]
    colours: tuple[RGB | None, ...]
    ignore: int | None
    source: str
    void: tuple[RGB, ...] = ()
    ids: tuple[int, ...] = ()
    void_ids: tuple[int, ...] = ()
    also: tuple[tuple[int, RGB], ...] = ()
    also_ids: tuple[tuple[int, int], ...] = ()


def parse_list(text: str, file: str) -> ClassList:
    """A list in the form that `rtpsp.labels.to_label_set` describes.

    Args:
        text: The file's content.
        file: What errors call it.

    Raises:
        InputError: It is empty, repeats a name, or has a name, colour or void that is none.
    """
    names: list[str] = []
    colours: list[RGB | None] = []
    first: dict[str, int] = {}
    header: dict[str, str] = {}
    void: list[RGB] = []
    also: list[tuple[str, str, str]] = []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line, where = line.strip(), f"{file}, line {number}"
        if line.startswith("#") or not line:
            key, _, value = line[1:].partition(":")
            if not names and key.strip() == "void":
                void.append(_parse_void(value.strip(), where))
            elif not names and key.strip() in ("also", "also id"):
                also.append((key.strip(), value.strip(), where))
            elif not names and key.strip() in ("ignore", "source", "ids", "void ids"):
                header[key.strip()] = value.strip()
            continue
        label, colour = _parse_line(line.removeprefix("\\"), where)
        if why := why_no_name(label):
            raise InputError(f"{where}: {why}")
        before = first.setdefault(_bare(label), number)
        if before != number:
            raise InputError(
                f"{file}: lines {before} and {number} both name {shown(label)}, but for case and blanks: rename one"
            )
        names.append(label)
        colours.append(colour)
    if not names:
        raise InputError(f"{file}: label set {Path(file).stem!r} is empty: give at least one class name")
    ignore = _parse_ignore(header.get("ignore", ""), names, file)
    ids = _parse_ids(header.get("ids", ""), "ids", file)
    if ids and len(ids) != len(names):
        raise InputError(f"{file}: {len(ids)} ids for {len(names)} classes: give one a class, in order, as 1-20")
    void_ids = _parse_ids(header.get("void ids", ""), "void ids", file)
    places = {_bare(name): place for place, name in enumerate(names)}
    also_colours = tuple(_parse_also(value, places, where) for key, value, where in also if key == "also")
    also_ids = tuple(_parse_also_id(value, places, where) for key, value, where in also if key == "also id")
    return ClassList(
        tuple(names), tuple(colours), ignore, header.get("source", ""), tuple(void), ids, void_ids, also_colours,
        also_ids,
    )  # fmt: skip


def _bare(name: str) -> str:
    """What tells names apart: neither case nor blanks."""
    return "".join(name.casefold().split())


def _parse_line(line: str, where: str) -> tuple[str, RGB | None]:
    words = line.rsplit(None, 1)
    if len(words) == 2 and words[1].startswith("#"):
        try:
            red, green, blue = bytes.fromhex(words[1][1:])
        except ValueError:
            raise InputError(f"{where}: colour {shown(words[1])} of {shown(words[0])} is not #RRGGBB") from None
        return words[0], (red, green, blue)
    words = line.rsplit(None, 3)
    if len(words) == 4 and all(word.isascii() and word.isdecimal() for word in words[1:]):
        if any(len(word) > 9 or int(word) > 255 for word in words[1:]):
            raise InputError(f"{where}: colour {shown(' '.join(words[1:]))} of {shown(words[0])} is beyond 255")
        red, green, blue = (int(word) for word in words[1:])
        return words[0], (red, green, blue)
    if table := _SEPARATED.fullmatch(line):
        meant = " ".join((table["name"], *re.split(r"[,;\s]+", table["colour"])))
        raise InputError(f"{where}: {shown(line)} looks like a name and a colour: write `{meant}`")
    return line, None


def _parse_ignore(value: str, names: list[str], file: str) -> int | None:
    if not value:
        return 255 if len(names) <= 255 else None  # beyond that, 255 is a class
    if value == "none":
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 6 and int(value) <= MAX_FILE_ID):
        raise InputError(f"{file}: ignore is {shown(value)}, expected the id of void, 0 to {MAX_FILE_ID}, or none")
    if int(value) < len(names):
        raise InputError(f"{file}: ignore is {value}, the id of {names[int(value)]!r}: give the id of void, or none")
    return int(value)


def _parse_void(value: str, where: str) -> RGB:
    _, colour = _parse_line(f"void {value}", where)
    if colour is None:
        raise InputError(f"{where}: void is {shown(value)}, expected R G B or #RRGGBB, one such line a colour")
    return colour


def _parse_also(value: str, places: dict[str, int], where: str) -> tuple[int, RGB]:
    name, colour = _parse_line(value, where)
    if colour is None:
        raise InputError(f"{where}: also is {shown(value)}, expected a class and a colour, as `Road 128 0 192`")
    return _place(name, places, where), colour


def _parse_also_id(value: str, places: dict[str, int], where: str) -> tuple[int, int]:
    name, _, word = value.rpartition(" ")
    ids = _parse_ids(word, "also id", where)
    if not name.strip() or len(ids) != 1:
        raise InputError(f"{where}: also id is {shown(value)}, expected a class and an id, as `Road 7`")
    return _place(name.strip(), places, where), ids[0]


def _place(name: str, places: dict[str, int], where: str) -> int:
    if _bare(name) not in places:
        raise InputError(f"{where}: {shown(name)} is no class of the list: write a name that has a line below")
    return places[_bare(name)]


def _parse_ids(value: str, what: str, file: str) -> tuple[int, ...]:
    ids: list[int] = []
    for word in value.split():
        first, _, last = word.partition("-")
        ends = [first, last or first]
        plain = all(end.isascii() and end.isdecimal() and len(end) < 6 and int(end) <= MAX_FILE_ID for end in ends)
        if not plain or int(ends[0]) > int(ends[1]):
            raise InputError(f"{file}: {what} has {shown(word)}, expected ids of 0 to {MAX_FILE_ID}, as 0 255 or 1-20")
        ids.extend(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(ids)


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


def ids_text(ids: tuple[int, ...]) -> str:
    """Ids as a list's header gives them: runs of three and more as ``1-12``, blanks between."""
    runs: list[list[int]] = []
    for value in ids:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs)


def why_no_name(name: str) -> str:
    """What is wrong with a class name, in words; empty if nothing is."""
    if not name or name != name.strip():
        return f"name {shown(name)} is blank or begins or ends with a blank: give it without"
    if len(name) > MAX_NAME:
        return f"name {shown(name)} has {len(name)} characters: give at most {MAX_NAME}"
    odd = [letter for letter in name if not letter.isprintable()]
    return f"name {shown(name)} has U+{ord(odd[0]):04X}, which does not print: leave it out" if odd else ""


def shown(text: str) -> str:
    """Text of a user's as an error quotes it: on one line, and cut where it is long."""
    return repr(text if len(text) <= 60 else text[:60] + "...")
