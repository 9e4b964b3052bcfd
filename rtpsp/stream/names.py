"""The names of files as people give them: looked up, and shown in messages."""

from __future__ import annotations

import difflib
import os
from itertools import islice
from pathlib import Path

from rtpsp.errors import SourceError

_LOOKED_AT = 5000
"""Files of a folder that a misspelt name is compared with; each takes some microseconds."""


def shown(name: str | Path) -> str:
    """A name as it may stand in a message of one line: control characters escaped, a long one without its middle."""
    text = str(name)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 200 else f"{text[:60]}…{text[-60:]}"


def expanded(path: str | Path) -> str:
    """A path with its ``~`` or ``~name`` as that person's home; as it is where nobody is called so."""
    try:
        return os.path.expanduser(path)
    except ValueError:  # a NUL, for which whoever opens it has the words
        return str(path)


def status_of(path: str) -> os.stat_result | None:
    """What lies at a path, None for nothing.

    Raises:
        SourceError: It cannot be looked up, or no path can look like this.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"{shown(path)}: {error.strerror}: check the path") from error
    except ValueError as error:  # a NUL, or a lone surrogate
        raise SourceError(f"{shown(path)} holds a character that no path can hold: check the path") from error


def nothing_at(path: str) -> SourceError:
    """The error for a path where nothing lies, with the name that was probably meant."""
    given = Path(path)
    hint = "check the path, or use --camera or sim://street"
    try:
        if not given.parent.is_dir():
            hint = f"there is no folder {shown(given.parent)}"
        else:
            with os.scandir(given.parent) as entries:
                names = {entry.name.lower(): entry.name for entry in islice(entries, _LOOKED_AT)}
            near = difflib.get_close_matches(given.name.lower(), names, n=1, cutoff=0.7)
            hint = f"did you mean {shown(given.parent / names[near[0]])}?" if near else hint
    except (OSError, ValueError):
        pass  # the folder cannot be read: no hint
    return SourceError(f"no file {shown(repr(path))}: {hint}")
