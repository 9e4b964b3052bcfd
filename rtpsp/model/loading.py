"""Weights into a network: checked against it, and refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rtpsp.errors import ModelError
from rtpsp.labels import LabelSet
from rtpsp.model.arch import ARCHS
from rtpsp.model.pspnet import PSPNet, build
from rtpsp.model.state_dict import some

AUXILIARY = "aux."  # training only: it may be missing
COUNTER = "num_batches_tracked"  # of batch norms; no inference reads it, and old files have none
LISTED = 5


def load_state(model: PSPNet, state: Mapping[str, Tensor], source: str = "checkpoint") -> None:
    """Loads a state dict of our names strictly; only the auxiliary head and counters of batches may be missing.

    Args:
        model: Changed in place.
        state: Tensors by name.
        source: What an error calls it.

    Raises:
        ModelError: What is missing, unexpected or of another shape, and which architecture it would fit; or what is no
            finite number.
    """
    check_fit(model, state, source)
    aux = all(key in state for key in model.state_dict() if key.startswith(AUXILIARY) and not key.endswith(COUNTER))
    chosen = {key: value for key, value in state.items() if aux or not key.startswith(AUXILIARY)}
    check_finite(chosen, source)
    model.load_state_dict(chosen, strict=False)  # what it could complain of is told above


def check_fit(model: PSPNet, state: Mapping[str, Tensor], source: str) -> None:
    """Make sure that a state dict of our names is one of this network.

    Args:
        model: May lie on the meta device: what a file claims of itself costs no memory then.
        state: As in `load_state`.
        source: As there.

    Raises:
        ModelError: As there, but for values.
    """
    problems = _problems(model, state)
    if problems:
        arch, classes = model.arch.name, model.classes
        raise ModelError(
            f"{source}: not a {arch} with {classes} classes: {'; '.join(problems)}: {_advice(arch, classes, state)}"
        )


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Make sure that weights are numbers.

    Raises:
        ModelError: Some are not.
    """
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise ModelError(
            f"{source}: {some(broken)} with values that are infinite or no number: its training diverged, "
            f"give an earlier checkpoint"
        )


def names_of(labels: LabelSet) -> str:
    """The first classes of a set by name."""
    return ", ".join(labels.names[:LISTED]) + ", ..." * (len(labels) > LISTED)


def unknown(tensors: Mapping[str, Tensor], *, to_begin: bool = False) -> str:
    """What a state dict of no known layout looks like, in one line.

    Args:
        tensors: By name.
        to_begin: A training was to begin with it, for which a backbone does and an ONNX model does not.
    """
    shown = ", ".join(f"{name} {list(value.shape)}" for name, value in list(tensors.items())[:LISTED])
    count = "one tensor" if len(tensors) == 1 else f"{len(tensors)} tensors"
    backbones = " and ResNets in torchvision's naming" if to_begin else ""
    or_else = "" if to_begin else ", or export it to ONNX and give that to rtpsp build-engine"
    return (
        f"{count} of a layout that rtpsp does not know: {shown}{', ...' * (len(tensors) > LISTED)}: its "
        f"names are those of another code base; known are PSPNets of rtpsp, hszhao/semseg, mmsegmentation and "
        f"segmentation_models_pytorch{backbones}: rename its entries{or_else}"
    )


def _problems(model: PSPNet, state: Mapping[str, Tensor]) -> list[str]:
    wanted = model.state_dict()
    missing = [
        key for key in wanted if key not in state and not key.startswith(AUXILIARY) and not key.endswith(COUNTER)
    ]
    unexpected = [key for key in state if key not in wanted]
    other = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    problems = []
    if missing:
        problems.append(f"{some(missing)} missing")
    if unexpected:
        problems.append(f"{some(unexpected)} unexpected")
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
        own = set(build(arch, classes).state_dict())
    if not fitting:
        if not set(state) & own:  # not one name in common
            return unknown(state)
        return "give the architecture that it was trained as"
    if fitting == [arch]:
        return f"it has {found} classes, give its own label set"
    return f"it is a {fitting[0]} with {found} classes"
