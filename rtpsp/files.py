"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from rtpsp.errors import OutputError


def write_atomically(path: Path, *parts: bytes, hint: str, make_folder: bool = False) -> None:
    """Writes beside the target, then renames over it: no reader ever sees half a file, and a failure leaves nothing.

    Args:
        path: Where; an existing file is replaced, or the one that a link leads to.
        parts: Written one behind the other.
        hint: What the error tells the user to do, e.g. ``name another file with -o``.
        make_folder: Make the folder if it is not there, with those above it.

    Raises:
        OutputError: The folder is missing or cannot be written, the disk is full, or a device or folder is there.
    """
    _check_replaceable(path, hint)
    target = Path(os.path.realpath(path))
    # not by tempfile, whose files are private: what a user asked for has the mode that their umask gives any file
    part = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    try:
        if make_folder:
            _make_folder(target.parent)
        try:
            with open(part, "xb") as file:
                for data in parts:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): {hint}") from error


def check_writable(path: Path, *, hint: str) -> None:
    """Makes sure, before hours of work, that `write_atomically` could write a file; makes its folder.

    Args:
        path: Where; nothing is left there.
        hint: What the error tells the user to do.

    Raises:
        OutputError: It could not.
    """
    _check_replaceable(path, hint)
    target = Path(os.path.realpath(path))
    probe = target.parent / f".{secrets.token_hex(8)}.probe"
    try:
        _make_folder(target.parent)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): {hint}") from error


def _check_replaceable(path: Path, hint: str) -> None:
    """A rename puts a file in the place of a device too: root would replace /dev/null for everybody."""
    if os.path.exists(path) and not os.path.isfile(path):  # Path's own raise where a folder above may not be searched
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        raise OutputError(f"{path}: cannot be written (it is {kind}, expected a file or nothing): {hint}")


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hex.

    It is `rtpsp.onnx_file.model_digest` of a model that is one file, such as the shipped ones, without its imports.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # the system says "File exists" of what is in the way of a folder
        raise NotADirectoryError(error.errno, "a file is where its folder should be") from error
