"""The names of files as people give them: looked up, and shown in messages."""

from __future__ import annotations

import os
from pathlib import Path

from rtpsp.errors import SourceError
from rtpsp.recognise import near
from rtpsp.redaction import scrub


def shown(name: str | Path) -> str:
    """A name as it may stand in a message of one line.

    A URI comes without its secrets, control characters are escaped, and a long one loses its middle.
    """
    text = scrub(str(name)) if "://" in str(name) else str(name)
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
    meant = near(given)
    if meant:
        hint = f"did you mean {shown(meant)}?"
    elif not os.path.isdir(given.parent):
        hint = f"there is no folder {shown(given.parent)}"
    else:
        hint = "check the path, or use --camera or sim://street"
    return SourceError(f"no file {shown(repr(path))}: {hint}")
