"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from rtpsp.errors import OutputError


def write_atomically(path: Path, *parts: bytes, hint: str, make_folder: bool = False) -> None:
    """Writes beside the target, then renames over it: no reader ever sees half a file, and a failure leaves nothing.

    Args:
        path: Where; an existing file is replaced.
        parts: Written one behind the other.
        hint: What the error tells the user to do, e.g. ``name another file with -o``.
        make_folder: Make the folder if it is not there, with those above it.

    Raises:
        OutputError: The folder is missing or cannot be written, or the disk is full.
    """
    # not by tempfile, whose files are private: what a user asked for has the mode that their umask gives any file
    part = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                for data in parts:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): {hint}") from error
