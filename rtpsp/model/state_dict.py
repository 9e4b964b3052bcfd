"""From the content of a checkpoint file to the state dict in it: wrappers taken off, and what lies beside it kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rtpsp.errors import ModelError
from rtpsp.model.inert import Placeholder
from rtpsp.model.state_file import StateFile, as_mapping

AVERAGES = ("state_dict_ema", "model_ema", "params_ema", "ema")
"""Averaged weights that their trainers evaluate: timm, torchvision's references, BasicSR, YOLO. mmengine's
``ema_state_dict`` is not among them: its ``state_dict`` is the average, the other one what the optimiser goes on with.
"""

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights", "module",
    "ema_state_dict",
)  # fmt: skip
"""Keys under which training scripts keep the state dict, in the order in which they are taken."""

RUN_STATE = {"averaged", "optimiser", "sums", "history"}
"""Entries that the state of a training of ours has (`rtpsp.model.run_folder`), together in no other file."""

MAX_WRAPPERS = 5
SHOWN = 3


@dataclass(frozen=True)
class State:
    """A state dict and where it was found.

    Attributes:
        tensors: By name as in the file; floats as float32.
        found: Keys that led to it, outermost first.
        others: Entries of the state dict that are no tensors.
        beside: What lay beside it in the mappings around it, by key.
        foreign: Names of the file's classes that were not looked up.
    """

    tensors: dict[str, Tensor]
    found: tuple[str, ...]
    others: tuple[str, ...]
    beside: Mapping[str, Any]
    foreign: tuple[str, ...]


def find_state(file: StateFile) -> State:
    """The state dict in a checkpoint file.

    Raises:
        ModelError: There is none, it is the state of a training under way, or a tensor is larger than what the file
            stores of it.
    """
    content, found, beside = file.content, [], dict[str, Any](file.metadata or {})
    mapping = as_mapping(content)
    if mapping and mapping.keys() >= RUN_STATE:
        raise ModelError(
            f"{file.path} is what --resume needs, weights before their average: take model.pth (or best.pth) beside it"
        )
    for _ in range(MAX_WRAPPERS):
        key = next((key for key in (*AVERAGES, *WRAPPERS) if mapping and as_mapping(mapping.get(key))), None)
        if key is None or mapping is None:
            break
        beside |= {str(name): value for name, value in mapping.items() if name != key}
        found.append(key)
        content = mapping[key]
        mapping = as_mapping(content)
    if not mapping:
        kind = f"a {type(content).__name__}" if mapping is None else "empty"
        raise ModelError(f"{file.path}: {kind}, expected a state dict (tensors by name): save model.state_dict()")
    tensors = {key: value for key, value in mapping.items() if isinstance(key, str) and isinstance(value, Tensor)}
    others = tuple(str(key) for key in mapping if key not in tensors)
    if not tensors:
        name, value = next(iter(mapping.items()))
        if isinstance(name, str):
            kind = value.qualified if isinstance(value, Placeholder) else type(value).__name__
            raise ModelError(f"{file.path}: entry {name!r} is {kind}, expected a tensor: save model.state_dict() alone")
        raise ModelError(
            f"{file.path}: {some(others)} of the state dict are not tensors by name: save model.state_dict() alone"
        )
    broken = [key for key, value in tensors.items() if not _is_whole(value)]
    if broken:
        raise ModelError(f"{file.path}: {some(broken)} are no plain tensors, or larger than stored: save it again")
    plain = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    return State(plain, tuple(found), others, beside, file.foreign)


def _is_whole(value: Tensor) -> bool:
    """A tensor of strides 0 may claim any size: made a plain one it would fill the memory."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def some(names: list[str] | tuple[str, ...]) -> str:
    """A few of many names, with their number."""
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} entries ({shown})" if len(names) > 1 else shown
