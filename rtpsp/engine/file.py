"""The engine file: a header that anybody can read, and a payload that only its backend understands.

    offset 0     magic, 8 bytes
    offset 8     format version, uint32 little-endian
    offset 12    length of the header in bytes, uint32 little-endian
    offset 16    sha256 of the header, 32 bytes
    offset 48    header, UTF-8 JSON: the fields of `EngineHeader`, payload_length, payload_sha256
                 zeros up to the next multiple of 4096
    then         payload (lowered ONNX for CPU runtimes, a plan for TensorRT), to the end of the file

A file is written beside its place and renamed, so that no reader ever sees half of one. A digest covers every byte that
means something and the rest must be zero, so that no change of a file goes unseen. (A digest tells damage, not intent:
who can write the file can write the digest.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rtpsp import machine
from rtpsp.engine.table import BACKENDS
from rtpsp.engine.tensorrt_options import FLAGS, is_ampere, with_target
from rtpsp.errors import EngineFileError
from rtpsp.files import write_atomically
from rtpsp.header import EngineHeader
from rtpsp.recognise import kind_of, near

MAGIC = b"RTPSPENG"
FORMAT_VERSION = 2
ALIGNMENT = 4096
MAX_HEADER_BYTES = 1 << 24
_PREFIX = struct.Struct("<8sII32s")
_VERSION_AT = len(MAGIC)


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
            raise EngineFileError(f"{self.path}: {error.strerror}: {rebuild(self.header, self.path)}") from error
        if hashlib.sha256(payload).hexdigest() != self.sha256:
            raise EngineFileError(
                f"{self.path}: the payload is damaged, its sha256 is not the header's: "
                f"{rebuild(self.header, self.path)}"
            )
        return payload


def read_engine_file(path: Path) -> EngineFile:
    """Read and check the header of an engine file.

    Raises:
        EngineFileError: Not an engine file, cut short, damaged, or of a version that this rtpsp does not read.
    """
    if path.exists() and not path.is_file():  # to open a pipe would wait for its other end
        raise EngineFileError(f"{path} is not a file, an engine was expected: build one with 'rtpsp build-engine'")
    try:
        with path.open("rb") as file:
            values, end = _read_header(path, file)
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            padding = file.read(offset - end)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        meant = near(path) if isinstance(error, FileNotFoundError) else None
        hint = f"did you mean {meant}?" if meant else "an engine is made by 'rtpsp build-engine MODEL.onnx -o FILE'"
        raise EngineFileError(f"{path}: {error.strerror}: {hint}") from error
    try:
        header = EngineHeader.from_dict(values)
    except EngineFileError as error:
        raise EngineFileError(f"{path}: {error}") from error
    length, digest = values.get("payload_length"), values.get("payload_sha256")
    if type(length) is not int or length < 0 or not isinstance(digest, str):
        raise EngineFileError(
            f"{path}: payload_length is {length!r:.40}, expected a number of bytes: {rebuild(header, path)}"
        )
    if size != offset + length:
        what = "cut short" if size < offset + length else "something was appended"
        raise EngineFileError(
            f"{path}: {size} bytes, the header promises {offset + length}: {what}; {rebuild(header, path)}"
        )
    if any(padding):
        raise EngineFileError(f"{path}: {len(padding)} bytes behind the header are not zero: {rebuild(header, path)}")
    return EngineFile(path, header, offset, length, digest)


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int]:
    prefix = file.read(_PREFIX.size)
    if not prefix.startswith(MAGIC):
        kind = kind_of(prefix)
        if kind:
            raise EngineFileError(f"{path} is {kind.name}, an engine was expected: {kind.use.format(path)}")
        hint = f"rtpsp build-engine {path}" if path.suffix == ".onnx" else "rtpsp build-engine MODEL.onnx -o FILE"
        raise EngineFileError(f"{path} is not an rtpsp engine: make one of a model with '{hint}'")
    version = int.from_bytes(prefix[_VERSION_AT : _VERSION_AT + 4], "little")
    if version != FORMAT_VERSION:  # before anything else of it is read: nothing but magic and version stays where it is
        newer = "upgrade rtpsp, or build it again" if version > FORMAT_VERSION else "build it again"
        raise EngineFileError(f"{path}: engine format {version}, this rtpsp reads {FORMAT_VERSION}: {newer}")
    if len(prefix) < _PREFIX.size:
        raise EngineFileError(f"{path}: {len(prefix)} bytes, cut short within the header: build the engine again")
    length, digest = _PREFIX.unpack(prefix)[2:]
    text = file.read(min(length, MAX_HEADER_BYTES))
    if len(text) != length:
        raise EngineFileError(
            f"{path}: cut short, the header has {len(text)} of {length} bytes: build the engine again"
        )
    if hashlib.sha256(text).digest() != digest:
        raise EngineFileError(f"{path}: the header is damaged, its sha256 is another: build the engine again")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineFileError(f"{path}: the header is not JSON ({error}): build the engine again") from error
    if not isinstance(values, dict):
        raise EngineFileError(f"{path}: the header is a {type(values).__name__}, expected an object: build it again")
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
    head = _PREFIX.pack(MAGIC, FORMAT_VERSION, len(text), hashlib.sha256(text).digest()) + text
    padded = head.ljust(-(-len(head) // ALIGNMENT) * ALIGNMENT, b"\0")
    write_atomically(path, padded, payload, hint="name another file with -o", make_folder=True)


def rebuild(header: EngineHeader, path: Path, for_this_machine: bool = False) -> str:
    """What to do about an engine that does not serve: the command that builds it again from the same model.

    A plan is then built so that the GPU that is here runs it too.

    Args:
        header: What it was.
        path: Where it lies.
        for_this_machine: Leave the backend to this machine, since that one does not run here.
    """
    words = ["rtpsp", "build-engine"]
    if header.options.get("shipped") is not True:
        words.append(str(header.options.get("model", "MODEL.onnx")))
    if header.precision in ("fp32", "fp16", "int8"):
        words.append(f"--{header.precision}")
    if header.precision == "int8":
        words += _ranges(header.options.get("int8"))
    if header.options.get("confidence"):
        words.append("--confidence")
    if header.options.get("batch", 1) != 1:
        words += ["--batch", str(header.options["batch"])]
    if not for_this_machine:
        words += ["--backend", header.backend, *_of_the_builder(header)]
    words += ["-o", str(path)]
    return f"build {'one for this machine' if for_this_machine else 'it again'} with '{shlex.join(words)}'"


def _ranges(int8: Any) -> list[str]:
    """The option that gives INT8 the ranges it had; none for a model that comes with them."""
    cache = int8.get("cache") if isinstance(int8, dict) else None
    return ["--calib-cache", cache] if isinstance(cache, str) and cache.isprintable() else []


def _of_the_builder(header: EngineHeader) -> list[str]:
    """The options that tell TensorRT's builder what it was told; what no builder was ever told is left out.

    But for what would build one that this machine's GPU refuses again.
    """
    backend, plan = BACKENDS.get(header.backend), header.options.get("plan")
    if backend is None or not backend.plan:
        return []
    plan = plan if isinstance(plan, dict) else {}
    capability = next((gpu.compute_capability for gpu in machine.gpus()), None)
    asked = plan.get("targets")
    targets = tuple(
        target
        for target in (asked if isinstance(asked, list) else [])
        if isinstance(target, str) and re.fullmatch(r"\d+\.\d", target)
    )
    if capability is not None and header.backend == "tensorrt-rtx":
        targets = with_target(targets, capability)
    words = [word for target in targets for word in (FLAGS["targets"], f"sm{target.replace('.', '')}")]
    for name, unit in {"workspace": 1 << 20, "optimisation_level": 1, "aux_streams": 1}.items():
        if type(plan.get(name)) is int:
            words += [FLAGS[name], str(-(-plan[name] // unit))]
    hardware = plan.get("hardware")
    if hardware == "same" or (hardware == "ampere+" and (capability is None or is_ampere(capability))):
        words += [FLAGS["hardware"], hardware]
    switches = ("version_compatible", "tf32") if header.precision == "fp32" else ("version_compatible",)
    return words + [FLAGS[name] for name in switches if plan.get(name) is True]
