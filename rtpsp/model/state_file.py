"""Checkpoint files: what lies in them, read without running any of it.

Read are the files of ``torch.save``, as zip archives and as they were before, and safetensors. See `rtpsp.model.inert`
for what becomes of the classes of training frameworks.
"""

from __future__ import annotations

import codecs
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtpsp.errors import MissingError, ModelError
from rtpsp.model.inert import Placeholder, Reader, UnsafeCheckpoint, survey
from rtpsp.recognise import HEAD_BYTES, kind_of, near

MAX_EXPANSION = 4
"""An archive unpacks to as many times its size at most: torch stores tensors as they are, and those hardly shrink."""

TEXT_BYTES = 4096
"""So much of a file is looked at to tell text."""

LEGACY_PICKLES = 5
"""Magic number, version, system, content, keys of the storages that follow."""

_AGAIN = "save or copy it again"


@dataclass(frozen=True)
class StateFile:
    """What a checkpoint file holds.

    Attributes:
        path: The file.
        content: Usually a mapping; tensors are on the CPU. Objects of foreign classes are `Placeholder`.
        foreign: Names of the classes that were not looked up, sorted.
        metadata: Of a safetensors file; empty for others.
    """

    path: Path
    content: Any
    foreign: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None


def read_file(path: str | os.PathLike[str]) -> StateFile:
    """Reads a checkpoint file.

    Args:
        path: A file of ``torch.save`` or a safetensors file.

    Raises:
        ModelError: No such file, damaged, of another kind, or one that would run code.
        MissingError: It is a safetensors file and the package safetensors is missing.
    """
    path = Path(path)
    with _explained(path):
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size
            if _is_safetensors(head, size):
                return _read_safetensors(path)
            if head[:4] == b"PK\x03\x04":
                _survey_archive(path, size)
            elif tarfile.is_tarfile(path):
                raise ModelError(f"{path}: a checkpoint of PyTorch before 0.1.10: save it again with a later release")
            elif head[:1] != b"\x80":
                raise ModelError(f"{path}: {_other_kind(path, head, file.read(TEXT_BYTES))}")
            else:
                file.seek(0)
                for _ in range(LEGACY_PICKLES):
                    survey(file)
        return _load(path)


def _other_kind(path: Path, head: bytes, more: bytes) -> str:
    """What a file is that is no checkpoint, and what to do about it."""
    kind = kind_of(head)
    if kind:
        return f"{kind.name}: {kind.use.format(path)}"
    if path.suffix.lower() == ".onnx":
        return "an ONNX model; a checkpoint is a .pth or .safetensors file: give the one that it was exported from"
    if _is_text(head + more):
        return "is text; a checkpoint is what torch.save writes, or safetensors: check the path"
    return f"not a checkpoint of PyTorch: {_AGAIN}"


def _is_text(data: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)  # a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says of anything that goes wrong what it means for a file.

    Raises:
        ModelError: As `read_file`.
    """
    try:
        yield
    except (ModelError, MissingError):
        raise
    except UnsafeCheckpoint as error:
        raise ModelError(
            f"{path}: its pickle names {error}, a function of Python's library: rtpsp runs no code from a checkpoint: "
            f"save it with torch.save(model.state_dict(), path)"
        ) from error
    except OSError as error:
        meant = near(path) if isinstance(error, FileNotFoundError) else None
        hint = f"did you mean {meant}?" if meant else "give a .pth or .safetensors checkpoint"
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}): {hint}") from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: damaged, or not a checkpoint of tensors: save it with torch.save(model.state_dict(), path)"
        ) from error
    except MemoryError as error:
        raise ModelError(f"{path}: damaged, it asks for more memory than there is: {_AGAIN}") from error
    except Exception as error:  # torch and zipfile raise a dozen kinds for damaged bytes, AssertionError among them
        raise ModelError(f"{path}: damaged or not a PyTorch checkpoint: {_AGAIN}") from error


def _survey_archive(path: Path, size: int) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise ModelError(
                f"{path}: a TorchScript program, whose graph is code: save the model's state_dict(), or export it to "
                f"ONNX and give that to rtpsp build-engine"
            )
        whole = sum(entry.file_size for entry in archive.infolist())
        if whole > MAX_EXPANSION * size:
            raise ModelError(f"{path}: {size} bytes that unpack to {whole}: damaged, {_AGAIN}")
        pickles = [name for name in names if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise ModelError(f"{path}: an archive, but not one of torch.save: unpack it and give the checkpoint")
        with archive.open(pickles[0]) as file:
            survey(file)


def _load(path: Path) -> StateFile:
    options: dict[str, Any] = {"map_location": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on pickle protocols and sources of classes; what matters is an error
        try:
            return StateFile(path, torch.load(path, weights_only=True, **options))
        except pickle.UnpicklingError:
            # A class that torch does not know, or damage, which is found again. Programs of TorchScript and the oldest
            # format, which torch would run or unpack for any other reader, have raised something else by now.
            reader = Reader()
            content = torch.load(path, pickle_module=reader, weights_only=False, **options)
    return StateFile(path, content, tuple(sorted(reader.foreign)))


def _is_safetensors(head: bytes, size: int) -> bool:
    """Its first eight bytes are the length of a header of JSON (github.com/huggingface/safetensors, Format)."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _read_safetensors(path: Path) -> StateFile:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise MissingError(f"{path}: reading it needs the package safetensors: pip install safetensors") from error
    with safe_open(path, framework="pt", device="cpu") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        return StateFile(path, content, metadata=file.metadata() or {})


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """A mapping's content, also of one whose class is foreign, and a pickled module's tensors by name; else None."""
    if isinstance(value, dict):  # of an OrderedDict a file may hide methods behind attributes
        return dict(dict.items(value))
    if not isinstance(value, Placeholder):
        return None
    state = as_mapping(value.state) if isinstance(value.state, dict) else None
    if state and "_modules" in state and "_parameters" in state:
        return dict(_tensors_of(value, "", 0))
    return value.items or state or None


def _tensors_of(module: Placeholder, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Parameters and buffers of a pickled ``torch.nn.Module``, as its ``state_dict`` names them."""
    state = (as_mapping(module.state) if isinstance(module.state, dict) else None) or {}
    for kind in ("_parameters", "_buffers"):
        for name, value in (as_mapping(state.get(kind)) or {}).items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value
    for name, inner in (as_mapping(state.get("_modules")) or {}).items():
        if isinstance(inner, Placeholder) and depth < 50:
            yield from _tensors_of(inner, f"{prefix}{name}.", depth + 1)
