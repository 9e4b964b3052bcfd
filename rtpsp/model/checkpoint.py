"""State dicts of ours: read as data, checked against the architecture, and refused with the reason."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtpsp.errors import ModelError
from rtpsp.model.pspnet import ARCHS, PSPNet, build

WRAPPERS = ("state_dict", "model")  # keys under which training scripts keep the state dict
WRAPPER_PREFIX = "module."  # what nn.DataParallel puts before every key
AUXILIARY = "aux."  # training only: it may be missing
SHOWN = 3


def load_checkpoint(path: str | os.PathLike[str], arch: str, classes: int, output_stride: int = 8) -> PSPNet:
    """A trained PSPNet in eval mode, float32, on the CPU.

    Args:
        path: A state dict of ours, maybe in a dict under ``state_dict`` or ``model``.
        arch: Name in `rtpsp.model.pspnet.ARCHS`.
        classes: How many classes it tells apart.
        output_stride: 8 or 16; a state dict fits both, so it cannot be checked.

    Raises:
        ModelError: The file cannot be read, or is not a state dict of this architecture and class count.
        UsageError: Unknown architecture or stride.
    """
    model = build(arch, classes, output_stride)
    load_state(model, read_state_dict(path), str(path))
    return model.eval()


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name from a ``.pth`` file, floats as float32; no code of the file is run.

    Raises:
        ModelError: No such file, damaged, holding more than tensors and plain values, or not a state dict.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickle protocols; what matters is an error below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}): give a .pth checkpoint") from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: not a checkpoint of tensors alone; rtpsp runs no code from a checkpoint: "
            f"save it with torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # torch raises a dozen kinds for damaged bytes, AssertionError among them
        raise ModelError(f"{path}: damaged or not a PyTorch checkpoint: save or copy it again") from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        kind = "empty" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelError(f"{path}: {kind}, expected a state dict (tensors by name): save model.state_dict()")
    strange = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise ModelError(
            f"{path}: {_some(strange)} of the state dict are not tensors by name: save model.state_dict() alone"
        )
    return {
        key.removeprefix(WRAPPER_PREFIX): value.float() if value.is_floating_point() else value
        for key, value in content.items()
    }


def load_state(model: PSPNet, state: Mapping[str, Tensor], source: str = "checkpoint") -> None:
    """Loads a state dict strictly; only the auxiliary head may be missing.

    Args:
        model: Changed in place.
        state: Tensors by name, as from `read_state_dict`.
        source: What an error calls it.

    Raises:
        ModelError: What is missing, unexpected or of another shape, and which architecture it would fit; or what is no
            finite number.
    """
    problems = _problems(model, state)
    if problems:
        arch, classes = model.arch.name, model.classes
        raise ModelError(
            f"{source}: not a {arch} with {classes} classes: {'; '.join(problems)}: {_advice(arch, classes, state)}"
        )
    aux = all(key in state for key in model.state_dict() if key.startswith(AUXILIARY))
    chosen = {key: value for key, value in state.items() if aux or not key.startswith(AUXILIARY)}
    broken = [key for key, value in chosen.items() if not value.isfinite().all()]
    if broken:
        raise ModelError(
            f"{source}: {_some(broken)} with values that are infinite or no number: its training diverged, "
            f"give an earlier checkpoint"
        )
    model.load_state_dict(chosen, strict=aux)


def _problems(model: PSPNet, state: Mapping[str, Tensor]) -> list[str]:
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.startswith(AUXILIARY)]
    unexpected = [key for key in state if key not in wanted]
    other = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    problems = []
    if missing:
        problems.append(f"{_some(missing)} missing")
    if unexpected:
        problems.append(f"{_some(unexpected)} unexpected")
    if other:
        key = other[0]
        shapes = f"{key} is {list(state[key].shape)}, expected {list(wanted[key].shape)}"
        problems.append(f"{len(other)} of another shape ({shapes})")
    return problems


def _advice(arch: str, classes: int, state: Mapping[str, Tensor]) -> str:
    classifier = state.get("head.classifier.weight")
    found = classes if classifier is None else len(classifier)
    with torch.device("meta"):
        fitting = [name for name in ARCHS if not _problems(build(name, max(found, 1)), state)]
    if not fitting:
        if not set(state) & set(build(arch, classes).state_dict()):  # not one name in common
            return "its names are those of another code base, and rtpsp reads its own layout only: rename its entries"
        return "give the architecture that it was trained as"
    if fitting == [arch]:
        return f"it has {found} classes, give its own label set"
    return f"it is a {fitting[0]} with {found} classes"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} entries ({shown})" if len(names) > 1 else shown
