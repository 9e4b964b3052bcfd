"""Published label sets as text files, a class a line, and the parser of such lists, which users write too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtpsp.errors import InputError

RGB = tuple[int, int, int]

MAX_NAME = 200
"""Characters of a class name."""


@dataclass(frozen=True)
class ClassList:
    """What a text file says.

    Attributes:
        names: One name a class, in id order.
        colours: One colour a class, None where the file gives none.
        ignore: The id of void in ground truth.
        source: Where the list is from; empty where the file does not say.
    """

    names: tuple[str, ...]
    colours: tuple[RGB | None, ...]
    ignore: int | None
    source: str


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
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line, where = line.strip(), f"{file}, line {number}"
        if line.startswith("#") or not line:
            key, _, value = line[1:].partition(":")
            if not names and key.strip() in ("ignore", "source"):
                header[key.strip()] = value.strip()
            continue
        label, colour = _parse_line(line.removeprefix("\\"), where)
        if why := why_no_name(label):
            raise InputError(f"{where}: {why}")
        before = first.setdefault("".join(label.casefold().split()), number)
        if before != number:
            raise InputError(
                f"{file}: lines {before} and {number} both name {shown(label)}, but for case and blanks: rename one"
            )
        names.append(label)
        colours.append(colour)
    if not names:
        raise InputError(f"{file}: label set {Path(file).stem!r} is empty: give at least one class name")
    ignore = _parse_ignore(header.get("ignore", ""), names, file)
    return ClassList(tuple(names), tuple(colours), ignore, header.get("source", ""))


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
    return line, None


def _parse_ignore(value: str, names: list[str], file: str) -> int | None:
    if not value:
        return 255 if len(names) <= 255 else None  # beyond that, 255 is a class
    if value == "none":
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise InputError(f"{file}: ignore is {shown(value)}, expected the id of void, or none")
    if int(value) < len(names):
        raise InputError(f"{file}: ignore is {value}, the id of {names[int(value)]!r}: give the id of void, or none")
    return int(value)


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
