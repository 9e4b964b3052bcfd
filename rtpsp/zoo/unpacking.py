"""Unpacks a model file that is shipped packed, once for each user."""

from __future__ import annotations

import gzip
import hashlib
import logging
import tempfile
import zlib
from pathlib import Path

from rtpsp.errors import MissingError, OutputError
from rtpsp.files import check_writable, sha256_of, write_atomically
from rtpsp.places import make_private, models_folder, private_folder

_log = logging.getLogger(__name__)

_whole: dict[Path, tuple[int, int]] = {}
"""Size in bytes and time of change in ns of the files whose digest was found right, so that it is taken once."""


def unpacked(packed: Path, digest: str) -> Path:
    """Where the unpacked file lies: in the user's cache, under its digest, and with the name it had before.

    It is renamed into place when it is whole: of two processes at once both write the same bytes, and neither sees half
    a file. One that is damaged is written anew. Where the cache cannot be written, a private folder among the system's
    temporary files serves.

    Args:
        packed: A gzip file, ``NAME.gz``.
        digest: sha256 of what is in it, in hex.

    Raises:
        MissingError: The packed file is missing or damaged.
        OutputError: Neither folder can be written.
    """
    name = Path(digest[:16], packed.stem)
    path = models_folder() / name
    if _is_whole(path, digest):
        return path
    try:
        check_writable(path, hint="")  # before the work of unpacking
    except OutputError as error:
        return _stand_in(packed, digest, name, error)
    data = _unpack(packed, digest)
    try:
        write_atomically(path, data, hint="")
    except OutputError as error:  # the disk is full
        return _stand_in(packed, digest, name, error)
    _log.info("unpacked %s to %s", packed.name, path)
    return path


def _stand_in(packed: Path, digest: str, name: Path, error: OutputError) -> Path:
    why = str(error).removesuffix(": ")
    try:
        folder = private_folder("models")
        make_private(folder.parent)  # before anything in it is trusted
        path = folder / name
        if not _is_whole(path, digest):
            write_atomically(path, _unpack(packed, digest), hint="", make_folder=True)
            _log.warning("%s: the shipped model is unpacked to %s", why, path)
    except (OSError, OutputError) as also:
        told = str(also).removesuffix(": ")
        raise OutputError(
            f"{why}, nor in {tempfile.gettempdir()} ({told}): let XDG_CACHE_HOME name a folder for the shipped model"
        ) from also
    return path


def _is_whole(path: Path, digest: str) -> bool:
    try:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if _whole.get(path) != stamp:
            if sha256_of(path) != digest:
                _log.warning("%s is damaged: it is unpacked anew", path)
                return False
            _whole[path] = stamp
    except OSError:  # it is not there, or a folder above may not be searched
        return False
    return True


def _unpack(packed: Path, digest: str) -> bytes:
    try:
        data = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise MissingError(f"{packed}: cannot be unpacked ({error}): install rtpsp again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise MissingError(
            f"{packed}: holds another model (sha256 {found[:16]}, expected {digest[:16]}): install rtpsp again"
        )
    return data
