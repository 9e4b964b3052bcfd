"""The sources of a run by name, as a command line or a file lists them.

    # cameras of the yard, one a line
    gate  = rtsp://${CAM_USER}:${CAM_PASSWORD}@10.0.0.5/stream1
    north = rtsp://10.0.0.6/stream1        # what follows a blank and a # is a comment
    /dev/video0

A name is what stands before the first ``=``, if it looks like one; ``./a=b.mp4`` is a file. A source without a name is
called by its place: 1 is the first. Relative paths start where the command is run. ``${NAME}`` is the environment's
variable of that name, so that passwords stand neither in a file nor in a list of processes. In place of a user or a
password it is taken as it is and needs no percent signs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from rtpsp.errors import SourceError
from rtpsp.redaction import register_variable
from rtpsp.stream.names import expanded, shown

MAX_BYTES = 1 << 20
MOST = 64
"""Sources of one list: each has a thread and a decoder of its own."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
_NAMED = re.compile(r"([^=/\\:?]*)=(.*)", re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)@")


@dataclass(frozen=True)
class NamedSource:
    """A source of a run.

    Attributes:
        name: Short, and fit for a part of a file's name; unique in the run whatever a file system makes of capitals.
        uri: Where it is, with what the environment has filled in: it may hold a password.
    """

    name: str
    uri: str


def name_sources(uris: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[NamedSource, ...]:
    """Sources of a command line, called 1, 2, 3 …; variables are filled in where there is a ``://``.

    Raises:
        SourceError: A variable is not set.
    """
    filled = [_filled(uri, environment, partial(_wrong, "")) if "://" in uri else uri for uri in uris]
    return tuple(NamedSource(str(place), uri) for place, uri in enumerate(filled, 1))


def read_sources(path: str | Path, environment: Mapping[str, str] = os.environ) -> tuple[NamedSource, ...]:
    """Sources of a file.

    Args:
        path: A text as the module explains it; a ``~`` is the home.
        environment: Where variables are looked up.

    Raises:
        SourceError: The file cannot be read, has no source, or a line is none; no line is quoted, as it may hold
            secrets.
    """
    found: list[NamedSource] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(_text_of(path).splitlines(), 1):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        wrong = partial(_wrong, f"{shown(path)}, line {number}: ")
        name, uri = _split(text, wrong)
        name = name or str(len(found) + 1)
        first = lines.setdefault(name.casefold(), number)
        if first != number:
            raise wrong(f"{name!r} is the source of line {first} already, give it another name")
        found.append(NamedSource(name, _filled(uri, environment, wrong)))
        if len(found) > MOST:
            raise wrong(f"more than {MOST} sources, leave some of them to another run")
    if not found:
        raise SourceError(f"{shown(path)} names no source: write one a line, such as gate = rtsp://10.0.0.5/stream1")
    return tuple(found)


def _split(text: str, wrong: Callable[[str], SourceError]) -> tuple[str, str]:
    """The name, empty where there is none, and the rest."""
    named = _NAMED.fullmatch(text)
    if named is None:
        return "", text
    name, uri = named[1].strip(), named[2].strip()
    if _NAME.fullmatch(name) is None:
        raise wrong(
            "what stands before = is no name, expected letters, digits, dots, - and _, at most 64; of "
            "a file with = in its name write ./ before it"
        )
    if not uri:
        raise wrong(f"{name!r} has no source after =, expected a camera, a file or a URI")
    return name, uri


def _filled(uri: str, environment: Mapping[str, str], wrong: Callable[[str], SourceError]) -> str:
    user = _USER.match(_VARIABLE.sub(lambda found: "x" * len(found[0]), uri))  # a name may hold what ends an authority

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if not name.isidentifier():
            raise wrong("a ${…} holds no variable's name, expected one such as ${CAM_PASSWORD}")
        if name not in environment:
            raise wrong(f"the environment has no {name}: export it, or name another variable in ${{…}}")
        value = environment[name]
        register_variable(name, value)
        return quote(value, safe="") if user and user.start(1) <= found.start() < user.end(1) else value

    return _VARIABLE.sub(value_of, uri)


def _wrong(where: str, what: str) -> SourceError:
    return SourceError(f"{where}{what}")


def _text_of(path: str | Path) -> str:
    try:
        with open(expanded(path), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path can look like this"
        raise SourceError(f"{shown(path)}: {reason}; name a file of sources, one a line, with --sources") from error
    if len(data) > MAX_BYTES:
        raise SourceError(f"{shown(path)} has more than {MAX_BYTES} bytes, expected a list of sources, one a line")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{shown(path)}: byte {error.start} is not UTF-8, expected a list of sources") from error
