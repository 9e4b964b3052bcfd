"""The engine file: a header that anybody can read, and a payload that only its backend understands.

    offset 0     magic, 8 bytes
    offset 8     format version, uint32 little-endian
    offset 12    length of the header in bytes, uint32 little-endian
    offset 16    header, UTF-8 JSON: the fields of `EngineHeader`, payload_length, payload_sha256
    next multiple of 4096: payload (lowered ONNX for CPU runtimes), to the end of the file

A file is written beside its place and renamed, so that no reader ever sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rtpsp.errors import EngineFileError
from rtpsp.files import write_atomically
from rtpsp.spec import EngineHeader

MAGIC = b"RTPSPENG"
FORMAT_VERSION = 1
ALIGNMENT = 4096
MAX_HEADER_BYTES = 1 << 24
_PREFIX = struct.Struct("<8sII")


@dataclass(frozen=True)
class EngineFile:
    """An engine file whose header has been read and whose payload has not.

    Attributes:
        path: Where it lies.
        header: What it says of itself.
        offset: Where the payload begins, in bytes.
        length: How long the payload is, in bytes.
        sha256: Digest of the payload, in hex.
    """

    path: Path
    header: EngineHeader
    offset: int
    length: int
    sha256: str

    def payload(self) -> bytes:
        """Read the payload and check it against the header.

        Raises:
            EngineFileError: It is not the payload that was written.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                payload = file.read(self.length)
        except OSError as error:
            raise EngineFileError(f"{self.path}: {error.strerror}; build the engine again") from error
        if hashlib.sha256(payload).hexdigest() != self.sha256:
            raise EngineFileError(
                f"{self.path}: the payload's sha256 is not the header's: the file is damaged; build it again"
            )
        return payload


def read_engine_file(path: Path) -> EngineFile:
    """Read and check the header of an engine file.

    Raises:
        EngineFileError: Not an engine file, cut short, or of a version that this rtpsp does not read.
    """
    try:
        with path.open("rb") as file:
            values, end = _read_header(path, file)
    except OSError as error:
        raise EngineFileError(f"{path}: {error.strerror}; build it with 'rtpsp build-engine -o {path}'") from error
    header = EngineHeader.from_dict(values)
    offset = -(-end // ALIGNMENT) * ALIGNMENT
    length = values.get("payload_length")
    size = path.stat().st_size
    if not isinstance(length, int):
        raise EngineFileError(
            f"{path}: payload_length is {length!r}, expected a number of bytes: build the engine again"
        )
    if size != offset + length:
        raise EngineFileError(f"{path}: {size} bytes, the header promises {offset + length}: cut short; build it again")
    return EngineFile(path, header, offset, length, str(values.get("payload_sha256")))


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int]:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise EngineFileError(
            f"{path}: begins with {prefix[:8]!r}, not {MAGIC!r}: not an rtpsp engine; "
            f"an ONNX model becomes one by 'rtpsp build-engine {path}'"
        )
    _, version, length = _PREFIX.unpack(prefix)
    if version != FORMAT_VERSION:
        raise EngineFileError(
            f"{path}: engine format {version}, this rtpsp reads {FORMAT_VERSION}: upgrade rtpsp or build it again"
        )
    text = file.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise EngineFileError(f"{path}: the header is damaged ({error}): build the engine again") from error
    if len(text) != length or not isinstance(values, dict):
        raise EngineFileError(f"{path}: the header is cut short: build the engine again")
    return values, _PREFIX.size + length


def write_engine_file(path: Path, header: EngineHeader, payload: bytes) -> None:
    """Write an engine file, whole or not at all.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    values = {
        **header.to_dict(),
        "payload_length": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
    }
    text = json.dumps(values).encode()
    head = _PREFIX.pack(MAGIC, FORMAT_VERSION, len(text)) + text
    padded = head.ljust(-(-len(head) // ALIGNMENT) * ALIGNMENT, b"\0")
    write_atomically(path, padded, payload, hint="give a folder that can be written with -o", make_folder=True)
